"""Imports: what each file brought, and the rows that were refused."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString, cast

from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, func, insert, null, select, update

from messaging.errors import InputError
from messaging.private_file import open_private
from messaging.spreadsheets import harmless
from messaging.storage.tables import audiences, imports, refused_rows
from schemas.contacts import ImportReport
from schemas.reasons import REFUSED_COLUMNS
from schemas.states import ImportState

if TYPE_CHECKING:
    import psycopg

EXTRA_CELLS = ""  # the key of a refused row's cells beyond the header; no column is named so

_ROWS_AT_ONCE = 1_000

# Columns of `imports` that a report has under the same name.
_REPORTED = ("rows", "imported", "refused", "duplicates", "without_consent", "columns", "warnings",
    "contract", "seconds")  # fmt: skip
_READ_AS = {"format", "encoding", "refused_file", "contract_page", "problem"}  # and in its `read_as`


def add_import(connection: Connection, **values: object) -> int:
    """Record that an import began and return its id; `values` are columns of `imports`."""
    import_id: int = connection.execute(insert(imports).values(**values).returning(imports.c.id)).scalar_one()
    return import_id


def add_repeat(connection: Connection, audience_id: int, *, file_name: str, sha256: str, source: str) -> None:
    """Remember that the bytes of an earlier import came from here too, so that a watcher knows it."""
    if source and source not in known_sources(connection, audience_id):
        values = {"file_name": file_name, "sha256": sha256, "source": source, "state": ImportState.REPEATED}
        connection.execute(insert(imports).values(audience_id=audience_id, **values))


def finish(
    connection: Connection, report: ImportReport, summary: Mapping[str, Any], notes: Sequence[str]
) -> None:
    """Record what became of an import.

    `summary` is what the audience's next import is held against; `notes` may show cells.
    """
    values = report.model_dump(mode="json", include=set(_REPORTED))
    if report.contract is None:
        values["contract"] = null()  # not JSON's null
    connection.execute(
        update(imports)
        .where(imports.c.id == report.import_id)
        .values(
            state=ImportState.LOADED if report.loaded else ImportState.STOPPED,
            read_as=report.model_dump(include=_READ_AS) | {"notes": list(notes)},
            summary=dict(summary),
            new_contacts=report.new,
            **values,
        )
    )


def note_problem(engine: Engine, report: ImportReport) -> None:
    """Record what an import could not write for people after its load, and where nothing lies."""
    changed = imports.c.read_as.concat(report.model_dump(mode="json", include=_READ_AS))
    with engine.begin() as connection:
        connection.execute(update(imports).where(imports.c.id == report.import_id).values(read_as=changed))


def find_same(
    connection: Connection, audience_id: int, sha256: str, request: Mapping[str, object]
) -> ImportReport | None:
    """Return what an earlier import of the same bytes into this audience, asked the same, loaded."""
    same = select(imports, audiences.c.name).join(audiences)
    same = same.where(*_loaded_into(audience_id), imports.c.sha256 == sha256, imports.c.request == request)
    row = connection.execute(same.order_by(imports.c.id.desc()).limit(1)).mappings().one_or_none()
    return None if row is None else _report(connection, row)


def find_report(engine: Engine, import_id: int) -> tuple[ImportReport, list[str]]:
    """Return what an import reported, and its notes, which may show cells.

    Raises:
        InputError: There is no such import.
    """
    with engine.connect() as connection:
        found = select(imports, audiences.c.name).join(audiences).where(imports.c.id == import_id)
        row = connection.execute(found).mappings().one_or_none()
        if row is None:
            raise InputError(f"there is no import {import_id}")
        return _report(connection, row), row["read_as"]["notes"]


def _report(connection: Connection, row: RowMapping) -> ImportReport:
    reasons = select(refused_rows.c.reason, func.count()).where(refused_rows.c.import_id == row["id"])
    reasons = reasons.group_by(refused_rows.c.reason).order_by(func.count().desc(), refused_rows.c.reason)
    return ImportReport(
        import_id=row["id"],
        audience=row["name"],
        loaded=row["state"] == ImportState.LOADED,
        new=row["new_contacts"],
        reasons=dict(connection.execute(reasons).tuples().all()),
        **{name: row["read_as"].get(name, "") for name in _READ_AS},
        **{name: row[name] for name in ("file_name", *_REPORTED)},
    )


def last_summary(connection: Connection, audience_id: int) -> dict[str, Any] | None:
    """Return the summary of the last import that was loaded into this audience."""
    last = select(imports.c.summary).where(*_loaded_into(audience_id), imports.c.summary.is_not(None))
    found: dict[str, Any] | None = connection.execute(last.order_by(imports.c.id.desc()).limit(1)).scalar()
    return found


def known_sources(connection: Connection, audience_id: int) -> set[str]:
    """Return where the files came from that this audience was given, those its contract stopped too."""
    known = select(imports.c.source).where(imports.c.audience_id == audience_id, imports.c.source != "")
    return set(connection.execute(known).scalars())


def _loaded_into(audience_id: int) -> list[ColumnElement[bool]]:
    return [imports.c.audience_id == audience_id, imports.c.state == ImportState.LOADED]


def copy_csv(connection: Connection, statement: LiteralString, rows: bytes) -> int:
    """Run a COPY ... FROM STDIN in the connection's transaction and return the number of rows."""
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    with driver.cursor() as cursor:
        with cursor.copy(statement) as copy:
            copy.write(rows)
        return cursor.rowcount


def write_refused(engine: Engine, import_id: int, path: Path) -> int:
    """Write an import's refused rows as CSV for a person to mend; return how many.

    The file's own columns follow `row_number` and `reason`. Only the owner can read it: it holds people.

    Raises:
        InputError: There is no such import, or the file cannot be written.
    """
    with engine.connect() as connection:
        columns = connection.execute(select(imports.c.columns).where(imports.c.id == import_id)).scalar()
        if columns is None:
            raise InputError(f"there is no import {import_id}")
        header = [column["column"] for column in columns]
        refused = (
            select(refused_rows.c.row_number, refused_rows.c.reason, refused_rows.c.cells)
            .where(refused_rows.c.import_id == import_id)
            .order_by(refused_rows.c.row_number)
        )
        try:
            # The BOM is for Excel, which else guesses.
            with open_private(path, "utf-8-sig") as file:
                writer = csv.writer(file)
                writer.writerow([*REFUSED_COLUMNS, *map(harmless, header)])
                count = 0
                for row in connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(refused):
                    writer.writerow([row.row_number, row.reason, *map(harmless, _cells(row.cells, header))])
                    count += 1
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror}): name another place") from None
    return count


def _cells(cells: Mapping[str, Any], header: Sequence[str]) -> list[str]:
    return [*(cells[column] for column in header), *cells.get(EXTRA_CELLS, [])]
