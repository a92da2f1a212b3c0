"""A contacts file into the ledger: read, judge row by row, hold it against the contract, merge."""

import hashlib
import io
import os
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from sqlalchemy import Connection, Engine

from messaging.audience.contract import evaluation, is_asked, metrics
from messaging.audience.progress import tracked
from messaging.audience.screening import Screening, screened
from messaging.audience.sources import FoundFile, new_files
from messaging.audience.staging import contacts_of, refused_of
from messaging.errors import DatabaseError, InputError, MessagingError
from messaging.private_file import open_private
from messaging.reports.contract_page import contract_html
from messaging.storage import audiences, imports
from messaging.storage.failing import cancel_statement, database_errors
from messaging.storage.staging import Merged, Staging
from schemas.contacts import ImportOptions, ImportReport, OnDuplicate, WatchRequest

_LONGEST_STEM = 60  # characters of a file's name, at most four bytes each: systems allow 255 bytes
_REFUSED, _CONTRACTS = "refused", "contracts"  # folders of what an import writes for people
# What two imports of the same bytes must also have in common for the second to have nothing to do.
_ASKED = set(ImportOptions.model_fields) - {"audience", "again", "accept_breach"}


@dataclass(frozen=True, slots=True)
class _Origin:
    """Which bytes are imported, and on whose word."""

    path: Path
    sha256: str
    source: str
    actor: str


def import_file(  # noqa: PLR0913 - the last two are for the record
    engine: Engine, options: ImportOptions, path: Path, *, folder: Path, source: str = "", actor: str = ""
) -> ImportReport:
    """Import a contacts file into an audience, all or nothing; refused rows are kept with their reason.

    The same file with the same options again does nothing, and the report says so. Refused rows and the
    contract's page are written under `folder`. `source` names the file and its version where it came from;
    `actor` is who accepts a breach of the contract.

    What cannot be written there does not undo a load: it is the report's `problem`.

    Raises:
        InputError: The file or the options cannot be used; nothing was written.
        ContractError: The contract could not be judged; nothing was written, so calling again is safe.
        DatabaseError: The ledger did not take it; nothing was written, so calling again is safe.
    """
    started = time.perf_counter()
    _make_folders(folder)
    origin = _Origin(path, _digest(path), source, actor)
    failure = f"the ledger did not take {path.name}; nothing was written"
    with database_errors(failure), engine.begin() as connection:
        audiences.refuse_filter(connection, options.audience)
        known = audiences.find(connection, options.audience)
        if known is not None and not options.again:
            before = imports.find_same(connection, known, origin.sha256, _asked(options))
            if before is not None:
                imports.add_repeat(
                    connection, known, file_name=path.name, sha256=origin.sha256, source=origin.source
                )
                return before.model_copy(update={"repeats": before.import_id, "seconds": 0.0})
    with (
        tracked(path) as progress,
        screened(path, options, progress) as screening,
        database_errors(failure),
        engine.begin() as connection,
    ):
        keep_cells = options.on_duplicate is OnDuplicate.REFUSE
        staging = Staging(connection, keep_cells=keep_cells)
        progress.cancels_by(lambda: cancel_statement(connection))
        _stage(screening, staging, keep_cells=keep_cells)
        progress.merges()
        report, last = _load(connection, staging, screening, options, origin)
        seconds = time.perf_counter() - started
        report = report.model_copy(update={"seconds": seconds, **_places(report, folder)})
        summary = screening.summary.as_dict()
        imports.finish(connection, report, summary, screening.notes)
        progress.go_on()
    return _with_files(engine, report, summary, last)


def new_sources(engine: Engine, request: WatchRequest) -> list[FoundFile]:
    """Return the files of a watched folder that its audience has not been given yet.

    Raises:
        InputError: The folder cannot be read.
    """
    with database_errors(), engine.begin() as connection:
        audience_id = audiences.find(connection, request.audience)
        known = imports.known_sources(connection, audience_id) if audience_id is not None else set()
    return new_files(request.folder, request.pattern, known)


def _stage(screening: Screening, staging: Staging, *, keep_cells: bool) -> None:
    """Judge one chunk while the database takes the one before."""
    with ThreadPoolExecutor(1) as copier:
        copying: Future[None] | None = None
        for judged in screening.judged:
            contacts = _csv(contacts_of(judged, screening.columns, keep_cells=keep_cells))
            refused = _csv(refused_of(judged, screening.columns))
            if copying is not None:
                copying.result()
            copying = copier.submit(_copy, staging, contacts, refused)
        if copying is not None:
            copying.result()


def _copy(staging: Staging, contacts: bytes, refused: bytes) -> None:
    staging.add_contacts(contacts)
    staging.add_refused(refused)


def _load(
    connection: Connection, staging: Staging, screening: Screening, options: ImportOptions, origin: _Origin
) -> tuple[ImportReport, dict[str, Any] | None]:
    """Merge what is staged, unless the contract says no; keep the refused rows either way.

    Also returns the summary of the audience's import before.
    """
    summary = screening.summary
    audience_id = audiences.ensure(connection, options.audience)
    contract = audiences.contract(connection, audience_id)
    last = imports.last_summary(connection, audience_id)
    asked = is_asked(contract, summary.rows, last["rows"] if last else None)
    import_id = imports.add_import(
        connection,
        audience_id=audience_id,
        file_name=origin.path.name,
        sha256=origin.sha256,
        source=origin.source,
        request=_asked(options),
    )
    # Great Expectations takes seconds to start, so it does while the database merges.
    with evaluation(contract) if asked else nullcontext() as judge:
        savepoint = connection.begin_nested()
        merged = staging.merge(
            audience_id=audience_id, import_id=import_id, on_duplicate=options.on_duplicate
        )
        summary.imported, summary.duplicates = merged.imported, merged.duplicates
        if merged.differing:
            screening.columns.notes.append(_differing(merged.differing))
        summary.reasons.update(merged.refused)
        result = judge.result(metrics(contract, summary.as_dict(), last)) if judge else None
    loaded = result is None or result.holds or bool(options.accept_breach)
    if loaded:
        savepoint.commit()
    else:
        savepoint.rollback()
        summary.reasons.subtract(merged.refused)
        merged = Merged(0, 0, merged.duplicates, {}, 0)
    staging.keep_refused(import_id)
    if result is not None and not result.holds and loaded:
        result = result.model_copy(
            update={"accepted_by": origin.actor, "accepted_because": options.accept_breach}
        )
    report = ImportReport(
        import_id=import_id,
        audience=options.audience,
        file_name=origin.path.name,
        format=screening.layout.format,
        encoding=screening.layout.encoding or "",
        loaded=loaded,
        rows=summary.rows,
        imported=merged.imported,
        new=merged.new,
        refused=summary.refused,
        duplicates=merged.duplicates,
        reasons=dict((+summary.reasons).most_common()),
        warnings=summary.warned(),
        columns=screening.read_columns(),
        without_consent=merged.without_consent,
        contract=result,
        seconds=0.0,
    )
    return report, last


def _with_files(
    engine: Engine, report: ImportReport, summary: Mapping[str, Any], last: Mapping[str, Any] | None
) -> ImportReport:
    """Write what people read, and return the report with what could not be written."""
    missing: dict[str, str] = {}
    try:
        if report.refused_file:
            with database_errors():
                imports.write_refused(engine, report.import_id, Path(report.refused_file))
    except MessagingError as error:
        missing["refused_file"] = f"the refused rows are kept in the ledger only: {error}"
    try:
        if report.contract_page:
            with open_private(Path(report.contract_page)) as page:
                page.write(contract_html(report, summary, last))
    except OSError as error:
        missing["contract_page"] = f"the contract's page cannot be written ({error.strerror})"
    if not missing:
        return report
    stands = "the file is loaded, but " if report.loaded else ""
    report = report.model_copy(
        update={**dict.fromkeys(missing, ""), "problem": stands + "; ".join(missing.values())}
    )
    with suppress(DatabaseError), database_errors():
        imports.note_problem(engine, report)
    return report


def _places(report: ImportReport, folder: Path) -> dict[str, str]:
    """Say where the refused rows and the contract's page will lie."""
    name = f"{report.import_id}-{Path(report.file_name).stem[:_LONGEST_STEM]}"
    return {
        "refused_file": str(folder / _REFUSED / f"{name}.csv") if report.refused else "",
        "contract_page": str(folder / _CONTRACTS / f"{name}.html") if report.contract else "",
    }


def _make_folders(folder: Path) -> None:
    """Make the folders of what is written after the load, so that it does not fail then."""
    for place in (folder / _REFUSED, folder / _CONTRACTS):
        try:
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise InputError(f"{place} cannot be made ({error.strerror}): set OUTFLOW_HOME") from None
        if not os.access(place, os.W_OK | os.X_OK):
            raise InputError(f"{place} cannot be written to: set OUTFLOW_HOME")


def _differing(rows: int) -> str:
    some = "1 row repeats" if rows == 1 else f"{rows:,} rows repeat"
    return (
        f"{some} the address of a row above with another name or another value in some column: the first was "
        "kept; with --on-duplicate update the last is"
    )


def _asked(options: ImportOptions) -> dict[str, object]:
    return options.model_dump(mode="json", include=_ASKED)


def _csv(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_csv(buffer, include_header=False)
    return buffer.getvalue()


def _digest(path: Path) -> str:
    """Return the file's SHA-256, or nothing when it cannot be read: the reader will say why."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
