"""What a reader of files takes and gives: options in; a layout and chunks of rows out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import polars as pl

CHUNK_ROWS = 50_000  # rows of one chunk at most: memory is bounded by a few chunks
MAX_COLUMNS = 1_024  # more is no list of contacts; Salesforce allows 800 custom fields
MAX_CELL = 32_767  # characters, a spreadsheet's own limit; a row with a longer cell is refused
LONGEST_WAIT = (
    30.0  # seconds without a chunk, then a file is called hostile; up to four times for a large one
)
MEMORY_MB = 1_024  # of the process that reads; twice as much for a full sheet


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the person said about a file; None: find out."""

    encoding: str | None = None
    """Name of a codec, for text files."""
    sheet: str | None = None
    """Name of a sheet, for workbooks."""
    region: str | None = None
    """Country of phone numbers without a country code, for free text."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What was understood of a file before its rows."""

    format: str
    """In words: `CSV, cells separated by ;` or `Excel workbook, sheet 'Kunden'`."""
    header: list[str]
    """Names of the columns, cleaned, each once; a column without a name is called `Column 3`."""
    header_row: int
    """The header's row number as a spreadsheet counts, the first is 1; 0: the file has none."""
    encoding: str | None = None
    """Name of the codec of a text file."""
    notes: list[str] = field(default_factory=list)
    """What the person should know, in sentences: an encoding that was a guess, with a sample; lines left out.
    They may show cells, so they are for the terminal and never for Prefect."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A file as its reader in the bounded process gives it."""

    layout: Layout
    chunks: Iterator[pl.DataFrame]
    """Frames of `row_schema(len(layout.header))`, entirely empty rows left out."""
    share: Callable[[], float] = lambda: 0.0
    """Which share of the file has been read so far, from 0 to 1."""


def cell(index: int) -> str:
    """Name the column of a chunk that holds the header's column `index`.

    Headers are a stranger's text, so they name nothing in our tables.
    """
    return f"cell_{index}"


def row_schema(width: int) -> pl.Schema:
    """Return the columns of a chunk.

    `row_number` as a spreadsheet counts (a quoted line end does not count), one column `cell(i)` per header
    column, null where the row has none; `extra`: cells with text beyond the header, else null; `flaw`: a
    `Reason` when the row cannot be read, else null.
    """
    cells = {cell(i): pl.String() for i in range(width)}
    return pl.Schema({"row_number": pl.UInt32(), **cells, "extra": pl.List(pl.String()), "flaw": pl.String()})
