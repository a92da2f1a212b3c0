"""Which record names the columns, and records made rows."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, pairwise

import polars as pl

from messaging.audience.cleaning import INVISIBLE, cleaned, stripped
from messaging.audience.files.languages import words
from messaging.audience.files.layout import MAX_CELL, MAX_COLUMNS, Reading, cell, row_schema
from messaging.audience.words import words_of
from schemas.reasons import REFUSED_COLUMNS, Reason

LINES_LOOKED_AT = 50  # a header further down is none
LONGEST_NAME = 200
SHOWN_OF_A_LONG_CELL = 1_000

_ADDRESS = re.compile(r"\S@\S")
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Heading:
    """Where a file names its columns."""

    index: int | None
    """The record that does, among those looked at; None when the file has no header."""
    names: list[str]


def find_heading(records: Sequence[Sequence[str | None]]) -> Heading:
    """Tell which of a file's first records names the columns; what stands above it is a title or a remark.

    A record that holds an address or a number is somebody's row. Among the others, the first that fills at
    least half of the file's width and knows a header's words is the header; without such a word, the first
    that names each column in which the records below hold addresses and numbers.
    """
    looked_at = [[(text or "").strip(INVISIBLE) for text in record] for record in records[:LINES_LOOKED_AT]]
    width = _usual_width(looked_at)
    rows_above = 0
    unsaid: int | None = None
    for index, record in enumerate(looked_at):
        filled = sum(map(bool, record))
        wide_enough = filled and 2 * filled >= width
        if any(map(_is_value, record)):
            rows_above += bool(wide_enough)
            continue
        if not wide_enough:
            continue
        known = sum(map(is_known, record))
        below = looked_at[index + 1 :]
        # Below a row of somebody one word may be somebody's too; below remarks with dates and sums it is not.
        is_likely = known > min(rows_above, width - 1) and rows_above <= 1
        if is_likely or (known and len(below) > rows_above and _names_the_values(record, below)):
            return Heading(index, column_names(record))
        if unsaid is None and not rows_above and _names_the_values(record, looked_at[index + 1 :]):
            unsaid = index
    if unsaid is not None:
        return Heading(unsaid, column_names(looked_at[unsaid]))
    widest = max(map(_width, looked_at), default=0)
    return Heading(None, [f"Column {place}" for place in range(1, widest + 1)])


def _width(record: Sequence[str]) -> int:
    return max((place for place, text in enumerate(record, start=1) if text), default=0)


def _usual_width(records: Sequence[Sequence[str]]) -> int:
    widths = Counter(width for record in records if (width := _width(record)))
    return max(widths, key=lambda width: (widths[width], width), default=0)


def _is_value(text: str) -> bool:
    """Say whether the cell holds an address, a phone number, a date: what no column is called."""
    if _ADDRESS.search(text):
        return True
    digits = sum(map(str.isdigit, text))
    return digits >= 6 and digits >= sum(map(str.isalpha, text))  # noqa: PLR2004 - no year, no "Phone 2"


def _is_figure(text: str) -> bool:
    return bool(text) and not any(map(str.isalpha, text))


def is_known(text: str) -> bool:
    """Say whether the text holds a word that headers hold."""
    if len(text) > LONGEST_NAME:
        return False
    parts = _WORD.findall(_plain(text))
    # `E-Mail` is a word of two parts; Chinese, Japanese and Korean write several words as one.
    candidates = {*parts, "".join(parts), *map("".join, pairwise(parts))}
    known, inside = _known_words()
    return not known.isdisjoint(candidates) or any(word in part for part in parts for word in inside)


@cache
def _known_words() -> tuple[set[str], set[str]]:
    """Return words of headers, and those that are found inside longer ones."""
    listed = [*chain(*words_of("header", "says").values()), *words()["columns"]["others"].split(",")]
    known = {"".join(_WORD.findall(_plain(word))) for word in listed}
    return known, {word for word in known if word > "\u2e80"}


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(sign for sign in decomposed if not unicodedata.combining(sign))


def _names_the_values(record: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Say whether columns mostly hold values or figures below, and each of these has a name in the record."""
    if any(map(_is_figure, record)):
        return False
    named = False
    for place in range(max(map(len, below), default=0)):
        texts = [row[place] for row in below if place < len(row) and row[place]]
        values = sum(_is_value(text) or _is_figure(text) for text in texts)
        holds_values = 2 * values > len(texts) and 3 * values > sum(map(any, below))
        if holds_values and (place >= len(record) or not record[place]):
            return False
        named = named or holds_values
    return named


def column_names(record: Sequence[str]) -> list[str]:
    """Clean the names of columns and make each the only one of its name."""
    names: list[str] = []
    taken: set[str] = set()
    for place, given in enumerate(
        pl.select(cleaned(pl.lit(pl.Series(record, dtype=pl.String)))).to_series(), start=1
    ):
        name = given[:LONGEST_NAME] if given else f"Column {place}"
        unique, times = name, 1
        while unique in taken:
            times += 1
            unique = f"{name} {times}"
        taken.add(unique)
        names.append(unique)
    return names


def without_ours(reading: Reading) -> Reading:
    """Drop what the file of refused rows has first: whoever mends and imports it means the rest."""
    header, ours = reading.layout.header, len(REFUSED_COLUMNS)
    if tuple(header[:ours]) != REFUSED_COLUMNS:
        return reading
    kept = {cell(place): cell(place - ours) for place in range(ours, len(header))}
    chunks = (bounded(chunk.drop(map(cell, range(ours))).rename(kept)) for chunk in reading.chunks)
    return replace(reading, layout=replace(reading.layout, header=header[ours:]), chunks=chunks)


def rows_frame(numbered: Iterable[tuple[int, Sequence[str | None], str | None]], width: int) -> pl.DataFrame:
    """Make rows (number, cells, flaw) a frame of `row_schema(width)`, as `bounded` leaves it."""
    filler = [None] * width
    rows: list[tuple[object, ...]] = []
    for number, cells, flaw in numbered:
        if not flaw and not any(cells):
            continue
        if len(cells) == width:
            rows.append((number, *cells, None, flaw))
        elif len(cells) < width:
            rows.append((number, *cells, *filler[len(cells) :], None, flaw))
        else:
            extra = _extra(cells[width:])
            rows.append((number, *cells[:width], extra, Reason.TOO_MANY_CELLS if extra else flaw))
    schema = row_schema(width)
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    named = zip(schema.items(), columns, strict=True)
    return bounded(pl.DataFrame([pl.Series(name, values, kind) for (name, kind), values in named]))


def _extra(beyond: Sequence[str | None]) -> list[str] | None:
    """Return the cells beyond the header up to the last with text; a million of them are cut."""
    last = max(
        (place for place, text in enumerate(beyond, start=1) if text and text.strip(INVISIBLE)), default=0
    )
    if not last:
        return None
    texts = [_cut(text or "") for text in beyond[: min(last, MAX_COLUMNS)]]
    return [*texts, "…"] if last > MAX_COLUMNS else texts


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CELL else text[:SHOWN_OF_A_LONG_CELL] + "…"


def bounded(rows: pl.DataFrame, *, may_hold_nul: bool = True) -> pl.DataFrame:
    """Make a chunk's cells safe to keep: none empty, with NUL or too long; no row entirely empty.

    PostgreSQL cannot keep NUL, so U+FFFD stands for it. A row with a cell longer than `MAX_CELL` is flawed
    and shows that cell's beginning.
    """
    cells = pl.selectors.starts_with("cell_")
    if rows.is_empty():
        return rows
    found = rows.select(
        empty=pl.any_horizontal((cells == "").any()),
        nul=pl.any_horizontal(cells.str.contains("\0", literal=True).any()) if may_hold_nul else False,
        long=pl.any_horizontal((cells.str.len_bytes() > MAX_CELL).any()),
    ).row(0, named=True)
    if found["empty"]:
        rows = rows.with_columns(pl.when(cells != "").then(cells))
    if found["nul"]:
        rows = rows.with_columns(cells.str.replace_all("\0", "\ufffd", literal=True))
    if found["long"]:
        too_long = cells.str.len_chars() > MAX_CELL
        shown = cells.str.slice(0, SHOWN_OF_A_LONG_CELL) + "…"
        flaw = pl.when(pl.any_horizontal(too_long)).then(pl.lit(Reason.CELL_TOO_LONG.value))
        rows = rows.with_columns(flaw=pl.coalesce("flaw", flaw)).with_columns(
            pl.when(too_long).then(shown).otherwise(cells)
        )
    return _without_empty_rows(rows)


def _without_empty_rows(rows: pl.DataFrame) -> pl.DataFrame:
    # Hardly any row has a first cell that is empty, and to compare is cheaper than to strip.
    first = pl.col(cell(0))
    doubtful = rows.select(first.is_null() | (first < "!") | (first > "~")).to_series()
    if not doubtful.any():
        return rows
    cells = pl.selectors.starts_with("cell_")
    is_empty = pl.all_horizontal(stripped(cells).is_null(), pl.col("flaw").is_null())
    empty = rows.filter(doubtful).filter(is_empty)["row_number"]
    return rows.filter(~pl.col("row_number").is_in(empty.implode())) if len(empty) else rows
