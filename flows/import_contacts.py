"""Contacts from files into an audience."""

from pathlib import PurePosixPath
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from schemas.contacts import ImportReport, ImportRequest
from tasks.importing import find_files, import_each


def _run_name() -> str:
    request: Any = flow_run.parameters["request"]
    first, *others = request.files if isinstance(request, ImportRequest) else request["files"]
    audience = request.audience if isinstance(request, ImportRequest) else request["audience"]
    more = f"-and-{len(others)}-more" if others else ""
    return f"import-{PurePosixPath(first).name}{more}-into-{audience}"


@flow(name="import-contacts", flow_run_name=_run_name)
async def import_contacts(request: ImportRequest) -> list[ImportReport]:
    """Read contacts files, take every good row into an audience, keep every bad one with its reason."""
    return await import_each(request, await find_files(request.files))
