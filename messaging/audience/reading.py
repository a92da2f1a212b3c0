"""A contacts file as a table of text: every other format will end in a `Sheet` too."""

import csv
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path

import polars as pl

from messaging.audience.cleaning import INVISIBLE, cleaned, stripped
from messaging.audience.reasons import Reason
from messaging.errors import InputError
from messaging.storage.imports import REFUSED_COLUMNS

# One cell may be long: the file as a whole is in memory anyway.
csv.field_size_limit(sys.maxsize)

# Quotes only around whole cells, and line ends that are no lone CR: what Polars and the csv module read
# alike.  Polars would join lines at a stray quote, or not notice lone CRs.
_REGULAR = re.compile(rb'(?:(?:"(?:[^"]++|"")*+"|[^",\r\n]*+)(?:,|\r?\n))*+(?:"(?:[^"]++|"")*+"|[^",\r\n]*+)')
_ADDRESS = re.compile(r"\S@\S")
_BOM = "\ufeff"
_RECORDS_AT_ONCE = 50_000  # so that the csv module's lists of text never hold the whole file


@dataclass(frozen=True, slots=True)
class Sheet:
    """A file's rows as text, before anyone judged them."""

    file_name: str
    sha256: str
    header: list[str]
    rows: pl.DataFrame
    """`row_number` as a spreadsheet counts (the header is 1), one column `cell(i)` per header column,
    `extra` (cells beyond the header, else null) and `flaw` (a Reason when the row cannot be read)."""


def cell(index: int) -> str:
    """Name the column of `Sheet.rows` that holds the header's column `index`.

    Headers are a stranger's text, so they name nothing in our tables.
    """
    return f"cell_{index}"


def read_csv(path: Path) -> Sheet:
    """Read a CSV file in UTF-8 with a header row; entirely empty rows are left out.

    Raises:
        InputError: The file is not there, not such a file, or has no rows; the text says what to do.
    """
    content = _content(path)
    name = path.name.encode(errors="replace").decode()  # file systems allow names that are no text
    try:
        text = content.decode().removeprefix(_BOM)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f'{name} is not UTF-8 text (line {line}): save it as "CSV UTF-8"') from None
    if not text or text.isspace():
        raise InputError(f"{name} is empty: it needs a header row and a row per contact")
    records = _read_fast(content) if _REGULAR.fullmatch(content) else None
    if records is None:
        records = _read_carefully(text)
    header = _header(records, name)
    records, header = _without_ours(records, header)
    rows = records.slice(1).filter(
        pl.any_horizontal(stripped(pl.col(cell(i))).is_not_null() for i in range(len(header)))
        | pl.col("flaw").is_not_null()
    )
    if rows.is_empty():
        raise InputError(f"{name} has a header but no rows: there is nobody to import")
    return Sheet(name, sha256(content).hexdigest(), header, rows)


def _content(path: Path) -> bytes:
    if not path.exists():
        raise InputError(f"there is no file {path}: check the path")
    if not path.is_file():
        raise InputError(f"{path} is not a file: name one CSV file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions") from None


def _read_fast(content: bytes) -> pl.DataFrame | None:
    """Read a regular file with Polars, or return None when some row is longer than the header."""
    try:
        # No inference: it would eat the leading zeros of phone numbers.
        records = pl.read_csv(
            content, has_header=False, infer_schema=False, row_index_name="row_number", row_index_offset=1
        )
    except pl.exceptions.PolarsError:
        return None
    records.columns = ["row_number", *(cell(i) for i in range(records.width - 1))]
    return records.with_columns(extra=pl.lit(None, pl.List(pl.String)), flaw=pl.lit(None, pl.String))


def _read_carefully(text: str) -> pl.DataFrame:
    """Read an irregular file with the csv module, about six times slower, losing no cell of any row."""
    records = _records(text)
    header, _ = next(records)
    cells = {cell(i): pl.String() for i in range(len(header))}
    schema = pl.Schema(
        {"row_number": pl.UInt32(), **cells, "extra": pl.List(pl.String()), "flaw": pl.String()}
    )
    rows = (_row(number, len(header), *record) for number, record in enumerate(records, start=2))
    parts = [pl.DataFrame([_row(1, len(header), header, None)], schema, orient="row")]
    while part := list(islice(rows, _RECORDS_AT_ONCE)):
        parts.append(pl.DataFrame(part, schema, orient="row"))
    return pl.concat(parts)


def _row(number: int, width: int, cells: list[str], flaw: Reason | None) -> tuple[object, ...]:
    """Fit a record to the header: short ones are filled up, blank cells beyond it mean nothing."""
    extra = cells[width:] if any(beyond.strip(INVISIBLE) for beyond in cells[width:]) else None
    filled = cells[:width] + [None] * (width - len(cells))
    return (number, *filled, extra, flaw or (Reason.TOO_MANY_CELLS if extra else None))


def _records(text: str) -> Iterator[tuple[list[str], Reason | None]]:
    """Split text into records; a quote that is never closed spoils its own line only."""
    lines = io.StringIO(text, newline="").readlines()
    start = 0
    while start < len(lines):
        # A list iterator would start over; this one is cheap to begin anywhere.
        reader = csv.reader((lines[i] for i in range(start, len(lines))), strict=True)
        done = 0
        try:
            for record in reader:
                yield record, None
                done = reader.line_num
        except csv.Error:
            yield _line_alone(lines[start + done])
            start += done + 1
        else:
            return


def _line_alone(line: str) -> tuple[list[str], Reason | None]:
    """Read one line whose quotes break the rules, as leniently as loses nothing."""
    probe = list(csv.reader([line.rstrip("\r\n") + "\n", "next"]))
    if probe[-1] == ["next"]:
        return probe[0], None
    return line.rstrip("\r\n").split(","), Reason.QUOTE_NOT_CLOSED


def _without_ours(records: pl.DataFrame, header: list[str]) -> tuple[pl.DataFrame, list[str]]:
    """Drop what `write_refused` put first: whoever mends its file and imports it means the rest."""
    ours = len(REFUSED_COLUMNS)
    if tuple(header[:ours]) != REFUSED_COLUMNS:
        return records, header
    kept = {cell(place): cell(place - ours) for place in range(ours, len(header))}
    return records.drop(cell(place) for place in range(ours)).rename(kept), header[ours:]


def _header(records: pl.DataFrame, name: str) -> list[str]:
    """Return the names of the columns; one without a name is called by its place."""
    first = records.head(1).select(pl.selectors.starts_with("cell_"))
    names = first.select(cleaned(pl.all())).row(0) if first.width else ()
    header = [given or f"Column {place}" for place, given in enumerate(names, start=1)]
    if not any(names):
        raise InputError(f"{name} begins with an empty row: the first row must name the columns")
    if any(_ADDRESS.search(column) for column in header):
        raise InputError(f"{name} has no header: its first row holds an address, it must name the columns")
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise InputError(f"{name} has more than one column {twice[0]!r}: give each column its own name")
    return header
