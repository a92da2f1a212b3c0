"""Parquet files, slice by slice."""

import json
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

import polars as pl

from messaging.audience.files.heading import bounded, column_names
from messaging.audience.files.layout import (
    CHUNK_ROWS,
    MAX_COLUMNS,
    Layout,
    Reading,
    ReadOptions,
    cell,
    row_schema,
)
from messaging.errors import InputError
from schemas.reasons import Reason

_FIRST_ROW = 2  # as if the names of the columns were a header's row, so that numbers fit what a CSV of it has
_TOO_LARGE_FOR_DIGITS = 1e38  # what a 128-bit whole number holds


def read(file: BinaryIO, name: str, options: ReadOptions) -> Reading:  # noqa: ARG001 - as all readers
    """Read all columns as text: dates as 2025-03-04, whole numbers without a fraction, lists as JSON.

    Row numbers count from 2, as if the names of the columns were row 1.

    Raises:
        InputError: It is no Parquet file, is damaged or has no rows; the text says what to do.
    """
    try:
        table = pl.scan_parquet(file)
        given = table.collect_schema().names()
        if len(given) > MAX_COLUMNS:
            raise InputError(
                f"{name} has {len(given):,} columns, more than {MAX_COLUMNS:,}: "
                "leave out those that are no part of the list"
            )
        chunks = _chunks(table, name, len(given))
        first = next(chunks, None) if given else None
    except pl.exceptions.PolarsError as error:
        raise _damaged(name) from error
    if first is None:
        raise InputError(f"{name} has no rows: there is nobody to import")
    layout = Layout("Parquet", column_names(given), header_row=0)
    return Reading(layout, chain([first], chunks))


def _chunks(table: pl.LazyFrame, name: str, width: int) -> Iterator[pl.DataFrame]:
    schema = row_schema(width)
    start = 0
    while True:
        try:
            part = table.slice(start, CHUNK_ROWS).collect()
        except pl.exceptions.PolarsError as error:
            raise _damaged(name) from error
        if part.is_empty():
            return
        cells = pl.DataFrame([_as_text(column).alias(cell(i)) for i, column in enumerate(part)])
        numbers = pl.int_range(start + _FIRST_ROW, start + _FIRST_ROW + part.height, dtype=pl.UInt32)
        rows = cells.with_columns(
            row_number=numbers, extra=pl.lit(None, pl.List(pl.String)), flaw=_flaw(part, cells)
        )
        rows = bounded(rows.select(list(schema)))
        if not rows.is_empty():
            yield rows
        start += part.height


def _as_text(column: pl.Series) -> pl.Series:
    """Write a column's values as a person would; null where a value is no text."""
    kind = column.dtype
    if kind.is_float():
        in_digits = column.is_finite() & (column == column.floor()) & (column.abs() < _TOO_LARGE_FOR_DIGITS)
        digits = column.cast(pl.Int128, strict=False).cast(pl.String)
        text = column.fill_nan(None).cast(pl.String)
        return text.zip_with(~in_digits.fill_null(value=False), digits)
    if kind.is_decimal():
        return column.cast(pl.String).str.replace(r"\.0+$", "")
    if isinstance(kind, pl.Datetime):
        zone = "" if kind.time_zone is None else "%:z"
        moments = column.dt.to_string(f"%Y-%m-%d %H:%M:%S%.f{zone}")
        return moments.str.replace(r" 00:00:00$", "")
    if kind == pl.Duration:
        return column.dt.to_string("iso")
    if kind == pl.Binary or kind.is_nested():  # rare in contacts, so a loop does
        return pl.Series([_value_as_text(value) for value in column], dtype=pl.String)
    return column.cast(pl.String)


def _flaw(part: pl.DataFrame, cells: pl.DataFrame) -> pl.Series:
    lost = pl.repeat(False, part.height, dtype=pl.Boolean, eager=True)  # noqa: FBT003 - a value
    for given, text in zip(part, cells, strict=True):
        if given.dtype == pl.Binary:
            lost |= given.is_not_null() & text.is_null()
    return pl.select(pl.when(lost).then(pl.lit(Reason.NOT_IN_ENCODING.value))).to_series()


def _value_as_text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bytes):  # text, in files of old programs
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    plain = value.to_list() if isinstance(value, pl.Series) else value
    return json.dumps(plain, ensure_ascii=False, default=str)


def _damaged(name: str) -> InputError:
    return InputError(f"{name} is damaged or no Parquet file: write it anew, or as CSV")
