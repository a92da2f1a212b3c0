"""Imports from a terminal: a flow run per file, so that one that cannot be used stops no other."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from flows.import_contacts import import_contacts
from messaging.errors import ContractBreach, MessagingError
from messaging.storage import imports
from messaging.storage.engine import engine
from schemas.contacts import ImportReport, ImportRequest


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one file."""

    file: str
    report: ImportReport | None = None
    notes: list[str] = field(default_factory=list)
    """What the person should know of how the file was read; they may show cells."""
    error: MessagingError | None = None


async def import_each(requests: Sequence[ImportRequest]) -> list[Imported]:
    """Import one file per request, in order."""
    return [await _import(request) for request in requests]


async def _import(request: ImportRequest) -> Imported:
    [file] = request.files
    try:
        [report] = await import_contacts(request)
    except ContractBreach as error:
        report, notes = imports.find_report(engine(), error.import_id)
        return Imported(file, report, notes, error)
    except MessagingError as error:
        return Imported(file, error=error)
    return Imported(file, *imports.find_report(engine(), report.import_id))
