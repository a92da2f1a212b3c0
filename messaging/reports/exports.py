"""Exports: contacts, attempts and events as CSV for people, or as Parquet for a warehouse."""

import tempfile
from pathlib import Path
from typing import Final

import polars as pl
from sqlalchemy import Engine

from messaging.errors import InputError
from messaging.spreadsheets import FORMULA, PHONE
from messaging.storage.exports import EXPORTS, Type, copy_out
from schemas.export import ExportKind

FORMATS: Final = (".csv", ".parquet")

_READ_AS: Final[dict[Type, pl.DataType]] = {
    "text": pl.String(),
    "json": pl.String(),
    "integer": pl.Int64(),
    "boolean": pl.String(),  # PostgreSQL writes t and f
    "time": pl.Int64(),
}


def write_export(engine: Engine, kind: ExportKind, path: Path, chosen: int | None) -> int:
    """Write an export to a new file, which only its owner can read, and return how many rows it has.

    `chosen` is the id of a campaign, or of an audience for contacts; None: all. The columns are those of
    docs/exports.md. In a CSV what a spreadsheet would run gets a quote before it; Parquet holds the values as
    they are. The file appears when it is whole. Memory does not grow with the rows.

    Raises:
        InputError: The name has no known ending, or the file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path} ends in neither {' nor '.join(FORMATS)}: its ending says the format")
    try:
        # Beside the file, so that there is room for it and it can be moved in one step; only we enter it.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".outflow-export-") as folder:
            raw, whole = Path(folder, "raw.csv"), Path(folder, "whole")
            with raw.open("wb") as file, engine.begin() as connection:
                rows = copy_out(connection, kind, chosen, file)
            if path.suffix.lower() == ".csv":
                # The BOM is for Excel, which else guesses.
                _harmless(_typed(kind, raw), kind).sink_csv(whole, include_bom=True)
            else:
                _typed(kind, raw).sink_parquet(whole, compression="zstd")
            whole.chmod(0o600)
            whole.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): name another place") from None
    return rows


def _typed(kind: ExportKind, raw: Path) -> pl.LazyFrame:
    columns = EXPORTS[kind].columns
    read = pl.scan_csv(raw, schema={column.name: _READ_AS[column.type] for column in columns})
    return read.with_columns(
        *(
            pl.from_epoch(column.name, time_unit="us").dt.replace_time_zone("UTC")
            for column in columns
            if column.type == "time"
        ),
        *((pl.col(column.name) == "t").alias(column.name) for column in columns if column.type == "boolean"),
    )


def _harmless(frame: pl.LazyFrame, kind: ExportKind) -> pl.LazyFrame:
    texts = [column.name for column in EXPORTS[kind].columns if column.type in {"text", "json"}]
    return frame.with_columns(
        pl.when(pl.col(name).str.contains(FORMULA) & ~pl.col(name).str.contains(PHONE))
        .then("'" + pl.col(name))
        .otherwise(pl.col(name))
        .alias(name)
        for name in texts
    )
