"""Contacts in."""

import asyncio
import contextlib
import getpass
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from prefect import task
from prefect.artifacts import (
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.blocks.core import Block
from prefect.cache_policies import NO_CACHE
from prefect.filesystems import ReadableFileSystem, WritableFileSystem

from messaging.audience import importing, sources
from messaging.audience.contract import breach_sentence
from messaging.audience.progress import running
from messaging.audience.sources import FoundFile
from messaging.errors import ContractBreach, InputError, MessagingError
from messaging.reports.import_markdown import import_markdown
from messaging.settings import settings
from messaging.storage.engine import engine
from schemas.contacts import ImportOptions, ImportReport, WatchRequest
from tasks.guarding import guarded, in_thread

if TYPE_CHECKING:
    from uuid import UUID

_log = logging.getLogger("messaging.progress")  # the tree that Prefect forwards to the run's page

PROGRESS_SECONDS = 5.0  # a shorter import shows none
_BLOCK = "block:"
_MOST_EXPLAINED, _MOST_NAMED = 5, 50  # files that failed, in an error


@task(cache_policy=NO_CACHE)
async def find_files(references: list[str]) -> list[FoundFile]:
    """Return the files that paths and patterns name."""
    return [FoundFile(reference, "") for reference in await in_thread(sources.find_files, references)]


@task(task_run_name="new-files-of-{request.folder}", cache_policy=NO_CACHE)
async def find_new_files(request: WatchRequest) -> list[FoundFile]:
    """Return the files of a folder that its audience has not been given yet."""
    return await in_thread(lambda: importing.new_sources(engine(), request))


async def import_each(options: ImportOptions, files: list[FoundFile]) -> list[ImportReport]:
    """Import files one after the other, a task run each; then raise what failed.

    One file that cannot be used, or breaks the contract, does not stop the others.
    """
    reports: list[ImportReport] = []
    failures: list[tuple[str, MessagingError]] = []
    for file in files:
        try:
            report = await import_file(options, file)
            await report_import(report)
        except MessagingError as error:
            failures.append((file.name, error))
            continue
        reports.append(report)
        if report.problem:
            _log.warning("%s: %s", file.name, report.problem)
        if report.contract is not None and not report.loaded and not report.contract.holds:
            failures.append((file.name, ContractBreach(breach_sentence(report), report.import_id)))
    if failures:
        raise failures[0][1] if len(files) == 1 else _several(failures, len(files))
    return reports


def _several(failures: list[tuple[str, MessagingError]], files: int) -> MessagingError:
    """Say which of several files failed, and why the first ones did."""
    explained = failures[:_MOST_EXPLAINED]
    said = "; ".join(str(error) if name in str(error) else f"{name}: {error}" for name, error in explained)
    if len(failures) > _MOST_EXPLAINED:
        said += "; and " + ", ".join(name for name, _ in failures[_MOST_EXPLAINED:_MOST_NAMED])
        said += f" and {len(failures) - _MOST_NAMED} more" if len(failures) > _MOST_NAMED else ""
    return InputError(f"{len(failures)} of {files} files failed: {said}")


@task(task_run_name="import-{file.name}-into-{options.audience}", cache_policy=NO_CACHE)
async def import_file(options: ImportOptions, file: FoundFile) -> ImportReport:
    """Read, judge and load one contacts file."""
    async with _here(file.reference) as path, _progress(path):
        return await in_thread(
            lambda: importing.import_file(
                engine(), options, path, folder=settings().home, source=file.source, actor=getpass.getuser()
            )
        )


@task(task_run_name="report-import-{report.import_id}", cache_policy=NO_CACHE)
async def report_import(report: ImportReport) -> None:
    """Show what was understood, counted and held against the contract, as artifacts."""
    key = f"import-{report.import_id}"
    await acreate_markdown_artifact(
        import_markdown(report), key=key, description=f"Import {report.import_id}"
    )
    reasons = [{"reason": reason, "rows": rows} for reason, rows in report.reasons.items()]
    reasons += [{"reason": f"taken: {found.warning}", "rows": found.rows} for found in report.warnings]
    if reasons:
        await acreate_table_artifact(reasons, key=f"{key}-reasons", description="Why rows were refused")


@asynccontextmanager
async def _here(reference: str) -> AsyncIterator[Path]:
    """Give a path on this machine: the file's own, or a copy of what a block or a bucket holds."""
    with guarded():
        if not reference.startswith(_BLOCK):
            with contextlib.ExitStack() as stack:
                fetching = sources.fetched(reference)
                yield await asyncio.to_thread(stack.enter_context, fetching)
            return
        kind, _, rest = reference.removeprefix(_BLOCK).partition("/")
        name, _, path = rest.partition("/")
        try:
            block: object = await Block.aload(f"{kind}/{name}")
        except ValueError:
            raise InputError(f"there is no block {kind}/{name}: write block:TYPE/NAME/PATH") from None
        if not isinstance(block, ReadableFileSystem | WritableFileSystem) or not path:
            raise InputError(f"{reference} names no file of a storage block: write block:TYPE/NAME/PATH")
        try:
            content: bytes = await block.read_path(path)  # in a running loop Prefect gives the coroutine
        except (ValueError, OSError) as error:
            raise InputError(f"{reference} cannot be read ({type(error).__name__}): check the path") from None
        with sources.private_copy(PurePosixPath(path).name) as copy:
            await asyncio.to_thread(copy.write_bytes, content)
            yield copy


@asynccontextmanager
async def _progress(path: Path) -> AsyncIterator[None]:
    """Keep a progress artifact up to date while a long import runs."""
    watch = asyncio.create_task(_watch(path))
    try:
        yield
    except asyncio.CancelledError:
        for progress in running():
            if progress.path == path:
                await asyncio.to_thread(progress.stop)
        raise
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch


async def _watch(path: Path) -> None:
    artifact: UUID | None = None
    try:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            for progress in running():
                if progress.path != path:
                    continue
                told = f"{progress.doing}: {progress.rows:,} rows judged"
                if artifact is None:
                    artifact = await acreate_progress_artifact(progress.percent, description=told)
                else:
                    await aupdate_progress_artifact(artifact, progress.percent, told)
    except Exception as error:  # noqa: BLE001 - no display may stop the import
        _log.warning("the progress of the import could not be shown (%s)", type(error).__name__)
