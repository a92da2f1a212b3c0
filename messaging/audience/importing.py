"""A contacts file into the ledger: read, find the columns, judge, merge, load."""

import io
import time
from pathlib import Path

import polars as pl
from sqlalchemy import Engine

from messaging.audience.columns import Columns, find_columns
from messaging.audience.judging import judge
from messaging.audience.merging import merge_contacts, refused_rows
from messaging.audience.phones import check_region
from messaging.audience.reading import read_csv
from messaging.storage import audiences
from messaging.storage.contacts import add_contacts
from messaging.storage.failing import database_errors
from messaging.storage.imports import add_import, add_refused_rows
from schemas.contacts import ImportReport, ImportRequest


def import_file(engine: Engine, request: ImportRequest) -> ImportReport:
    """Import a contacts file into an audience, all or nothing; refused rows are kept with their reason.

    Calling again with the same file adds nothing but the record of the import.

    Raises:
        InputError: The file or the request cannot be used; nothing was written.
        DatabaseError: The ledger did not take it; nothing was written, so calling again is safe.
    """
    started = time.perf_counter()
    check_region(request.region or None)
    sheet = read_csv(Path(request.file))
    columns = find_columns(sheet.header, request.columns, sheet.file_name)
    judged = judge(sheet, columns, request.region or None)
    contacts, attributes = merge_contacts(judged, columns)
    refused = refused_rows(judged, columns)
    counts = {
        "rows": judged.height,
        "imported": contacts.height,
        "refused": refused.height,
        "duplicates": judged.height - contacts.height - refused.height,
    }
    with (
        database_errors(f"the ledger did not take {sheet.file_name}; nothing was written"),
        engine.begin() as connection,
    ):
        audience_id = audiences.ensure(connection, request.audience)
        import_id = add_import(
            connection,
            audience_id=audience_id,
            file_name=sheet.file_name,
            sha256=sheet.sha256,
            columns=_read_as(columns, attributes),
            attributes=attributes,
            **counts,
        )
        add_refused_rows(connection, _csv(refused.select(pl.lit(import_id), pl.all())))
        add_contacts(
            connection,
            _csv(contacts),
            audience_id=audience_id,
            import_id=import_id,
            consent=request.consent or None,
        )
    return ImportReport(
        import_id=import_id,
        audience=request.audience,
        reasons=dict(refused["reason"].value_counts(sort=True).iter_rows()),
        columns={role: columns.header[place] for role, place in columns.roles.items()},
        attributes=attributes,
        seconds=time.perf_counter() - started,
        **counts,
    )


def _read_as(columns: Columns, attributes: list[str]) -> list[dict[str, str]]:
    """Say of each column what it was read as, in the file's order."""
    roles = {place: role for role, place in columns.roles.items()}
    unused = {column: "attribute" if column in attributes else "empty" for column in columns.header}
    return [
        {"column": column, "as": roles.get(place, unused[column])}
        for place, column in enumerate(columns.header)
    ]


def _csv(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_csv(buffer, include_header=False)
    return buffer.getvalue()
