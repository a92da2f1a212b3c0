"""Tables of people for people: CSV in which no spreadsheet finds a formula, or Parquet as it is.

Files are new and readable by their owner only.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

import polars as pl
from polars.io.plugins import register_io_source

from messaging.errors import InputError
from messaging.private_file import open_private

CSV: Final = ".csv"
PARQUET: Final = ".parquet"

# What a spreadsheet takes for a formula, phone numbers such as +49 151 234567 apart (OWASP, CSV Injection).
_FORMULA = r"\A[=+\-@\t\r]"
_MOMENT = "%Y-%m-%dT%H:%M:%SZ"
_PHONE = r"\A\+[\d\s().\-/]+\z"


def check_file(path: Path) -> None:
    """Accept a file that a table can be written to.

    Raises:
        InputError: It has no folder, or its name ends otherwise.
    """
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}: name another place")
    if path.suffix.lower() not in {CSV, PARQUET}:
        raise InputError(f"{path.name} is neither CSV nor Parquet: name a file that ends in .csv or .parquet")


def write_pages(path: Path, pages: Iterator[pl.DataFrame], schema: pl.Schema) -> int:
    """Write a table page by page and return its rows; a file that is not whole does not stay.

    Raises:
        InputError: The file cannot be written.
    """
    check_file(path)
    write = _write_csv if path.suffix.lower() == CSV else _write_parquet
    try:
        # The BOM is for Excel, which else guesses.
        with open_private(path, "utf-8-sig") as file:
            try:
                return write(file, pages, schema)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): name another place") from None


def harmless(cells: pl.Expr) -> pl.Expr:
    """Put a quote before what a spreadsheet would run."""
    runs = cells.str.contains(_FORMULA) & ~cells.str.contains(_PHONE)
    return pl.when(~runs).then(cells).otherwise(pl.concat_str(pl.lit("'"), cells))


def _write_csv(file: TextIO, pages: Iterator[pl.DataFrame], schema: pl.Schema) -> int:
    file.write(schema.to_frame().write_csv())
    texts = [harmless(pl.col(name)) for name, kind in schema.items() if kind == pl.String]
    rows = 0
    for page in pages:
        rows += page.height
        file.write(page.with_columns(texts).write_csv(include_header=False, datetime_format=_MOMENT))
    return rows


def _write_parquet(file: TextIO, pages: Iterator[pl.DataFrame], schema: pl.Schema) -> int:
    rows = 0

    def source(*_: object) -> Iterator[pl.DataFrame]:
        nonlocal rows
        for page in pages:
            rows += page.height
            yield page

    register_io_source(source, schema=schema).sink_parquet(file.buffer)
    return rows
