"""Imports: what each file brought, and the rows that were refused."""

import csv
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString, cast

from sqlalchemy import Connection, Engine, insert, select

from messaging.errors import InputError
from messaging.storage.tables import imports, refused_rows

if TYPE_CHECKING:
    import psycopg

REFUSED_COLUMNS = ("row_number", "reason")  # what `write_refused` puts before the file's own columns
EXTRA_CELLS = ""  # the key of a refused row's cells beyond the header; no column is named so

# What a spreadsheet takes for a formula, phone numbers such as +49 151 234567 apart.
_FORMULA = re.compile(r"[=+\-@\t\r]")
_PHONE = re.compile(r"\+[\d\s().\-/]+")
_ROWS_AT_ONCE = 1_000


def add_import(connection: Connection, **values: object) -> int:
    """Record an import and return its id; `values` are the columns of `imports`.

    `columns` is a list in the file's order: `{"column": header, "as": what it was read as}`.
    """
    import_id: int = connection.execute(insert(imports).values(**values).returning(imports.c.id)).scalar_one()
    return import_id


def add_refused_rows(connection: Connection, rows: bytes) -> None:
    """Keep refused rows, given as CSV without a header: import_id, row_number, reason, cells."""
    copy_csv(connection, "COPY refused_rows FROM STDIN WITH (FORMAT csv, ENCODING 'UTF8')", rows)


def copy_csv(connection: Connection, statement: LiteralString, rows: bytes) -> None:
    """Run a COPY ... FROM STDIN in the connection's transaction."""
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(rows)


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
            # A new file: an old one would keep its permissions.  The BOM is for Excel, which else guesses.
            path.unlink(missing_ok=True)
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(opened, "w", encoding="utf-8-sig", newline="") as file:
                writer = csv.writer(file)
                writer.writerow([*REFUSED_COLUMNS, *map(_harmless, header)])
                count = 0
                for row in connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(refused):
                    writer.writerow([row.row_number, row.reason, *map(_harmless, _cells(row.cells, header))])
                    count += 1
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror}): name another place") from None
    return count


def _cells(cells: Mapping[str, Any], header: Sequence[str]) -> list[str]:
    return [*(cells[column] for column in header), *cells.get(EXTRA_CELLS, [])]


def _harmless(cell: str) -> str:
    """Put a quote before what a spreadsheet would run."""
    return f"'{cell}" if _FORMULA.match(cell) and not _PHONE.fullmatch(cell) else cell
