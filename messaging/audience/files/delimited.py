"""Text whose cells stand between delimiters: CSV, TSV and their kin, a block at a time."""

import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import polars as pl

from messaging.audience.cleaning import INVISIBLE, stripped
from messaging.audience.files.encodings import BLOCK_BYTES, Text, legible
from messaging.audience.files.heading import (
    Heading,
    bounded,
    find_heading,
    is_known,
    rows_frame,
    without_ours,
)
from messaging.audience.files.layout import CHUNK_ROWS, MAX_COLUMNS, Layout, Reading, cell
from messaging.errors import InputError
from schemas.reasons import Reason

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_NO_DELIMITER = "\x1f"  # a cell per line: what no text holds

LONGEST_LINE = 4 << 20  # bytes; more than any contact's row
LONGEST_QUOTED = 1 << 20  # bytes after which a quote is one that is never closed
_SAMPLE = 256 << 10  # bytes looked at for delimiter and header
_RECORDS_COMPARED = 200
_LONG = 5  # words; a part of a sentence, and no name of a column
_CAREFUL_BYTES = 4 << 10  # read with care around a flaw before the fast way is tried again
_CELLS_AT_ONCE = 4_000_000  # a wide header above a million empty lines must not fill the memory

# The csv module's own bound would stop the file; long cells are judged row by row, and blocks are bounded.
csv.field_size_limit(sys.maxsize)

_NUL, _FOR_NUL = b"\0", "\ufffd".encode()  # PostgreSQL cannot keep NUL
_ADDRESS = re.compile(r"[^\s@,;|<>]+@[^\s@,;|<>]+\.[^\s@,;|<>]+")
_BARE_NUMBER = re.compile(r"\+?[\d\s().\-/\u2010-\u2015\xa0]{6,}")
_EXCEL_SAYS = re.compile(r'"?sep=([\t !#-/:-@\[-`{-~])"?\r?\n', re.IGNORECASE)
_UNCLOSED = re.compile(rb'"[^"]*+(?:""[^"]*+)*+')
_LINE_END = re.compile(rb"\r\n?|\n")

Record = tuple[list[str], Reason | None]


@dataclass(frozen=True, slots=True)
class Shape:
    """How a text's cells are told apart, and where its header stands."""

    delimiter: str
    """`\x1f` when each line is one cell."""
    heading: Heading
    is_table: bool
    """Whether it is a list rather than prose that holds addresses somewhere."""
    said_bytes: int = 0
    """Length of a first line that names the delimiter, as Excel writes it."""
    is_spaced: bool = False
    """Whether a space after the delimiter belongs to no cell, as in `"Name", "Email"`."""


def find_shape(text: Text, name: str) -> Shape:
    """Tell a text's delimiter by which one splits its first records most alike, and find its header.

    The csv module's Sniffer is not asked: it was no better on 90 samples, and hostile text makes its regular
    expressions take for ever.

    Raises:
        InputError: It has far too many columns.
    """
    sample = text.head[:_SAMPLE]
    is_cut = len(text.head) > _SAMPLE
    if is_cut:
        sample = sample[: max(sample.rfind(b"\n"), sample.rfind(b"\r")) + 1] or sample
    shown = legible(sample.replace(_NUL, _FOR_NUL).decode(errors="surrogateescape"))
    if said := _EXCEL_SAYS.match(shown):
        shown, is_spaced = shown[said.end() :], _is_spaced(shown, said[1])
        records = _first_records(shown, said[1], is_cut=is_cut)
        said_bytes = len(said[0].encode())
        return Shape(
            said[1], _heading(records, name), is_table=True, said_bytes=said_bytes, is_spaced=is_spaced
        )
    splits = {delimiter: _first_records(shown, delimiter, is_cut=is_cut) for delimiter in DELIMITERS}
    scores = {delimiter: _agreement(records) for delimiter, records in splits.items()}
    delimiter = max(scores, key=scores.__getitem__)
    if not scores[delimiter]:
        delimiter = _NO_DELIMITER
    records = splits.get(delimiter) or _first_records(shown, delimiter, is_cut=is_cut)
    heading = _heading(records, name)
    is_table = _is_table(records, heading, delimiter)
    return Shape(delimiter, heading, is_table, is_spaced=_is_spaced(shown, delimiter))


def _dialect(delimiter: str, *, is_spaced: bool) -> csv.Dialect:
    """Return how the csv module is to tell cells apart."""
    dialect = csv.excel()
    dialect.delimiter, dialect.skipinitialspace = delimiter, is_spaced
    return dialect


def _is_spaced(shown: str, delimiter: str) -> bool:
    """Say whether the first line with quotes has whole cells in quotes that stand behind a space."""
    sign = re.escape(delimiter)
    quoted = rf"""(?:^|{sign}) +"[^"\r\n]*" *(?={sign}|[\r\n]|\Z)"""
    first = re.search(r"^.*\".*$", shown, re.MULTILINE)
    return first is not None and re.search(quoted, first[0]) is not None


def _first_records(shown: str, delimiter: str, *, is_cut: bool) -> list[list[str]]:
    lines = _lines(shown)
    dialect = _dialect(delimiter, is_spaced=_is_spaced(shown, delimiter))
    records = list(islice(_records(lines, dialect, []), _RECORDS_COMPARED))
    # A quote that is open where the sample ends is most likely closed below, unless all stands in it.
    if not is_cut or len(records) == 1:
        records = list(islice(_records(lines, dialect), _RECORDS_COMPARED))
    return [cells[: MAX_COLUMNS + 1] for cells, _ in records]


def _heading(records: Sequence[Sequence[str]], name: str) -> Heading:
    heading = find_heading(records)
    if len(heading.names) > MAX_COLUMNS:
        raise InputError(f"{name} has more than {MAX_COLUMNS:,} columns: that is no list of contacts")
    return heading


def _agreement(records: Sequence[Sequence[str]]) -> float:
    """Score how alike a delimiter splits the records; 0 when it does not split most of them.

    More columns beat fewer (prices with a comma in a list with semicolons), whole addresses beat parts of
    them, and the delimiter of a header beats one that begins below it.
    """
    widths = [len(record) for record in records if any(record)]
    split = Counter(width for width in widths if width > 1)
    if not split:
        return 0.0
    usual = max(split, key=lambda width: (split[width], width))
    first = widths.index(usual)  # above the header stand titles and remarks
    wide = sum(1 for width in widths[first:] if width > 1) / len(widths[first:])
    if wide < 0.5 or first > len(widths) / 2:  # noqa: PLR2004
        return 0.0
    alike = split[usual] / len(widths[first:])
    texts = [text.strip(INVISIBLE) for record in records for text in record if "@" in text]
    whole = sum(1 for text in texts if _ADDRESS.fullmatch(text)) / len(texts) if texts else 0.5
    named = any(map(is_known, next(record for record in records if len(record) == usual and any(record))))
    return (alike + wide + whole + named) * (1 + min(usual, 12) / 12) - 0.1 * bool(first)


def _is_table(records: Sequence[Sequence[str]], heading: Heading, delimiter: str) -> bool:
    """Say whether a header names the columns, the records are split alike, or each line is an address."""
    filled = [record for record in records if any(text.strip(INVISIBLE) for text in record)]
    texts = [bare for record in filled for text in record if (bare := text.strip(INVISIBLE))]
    if delimiter == _NO_DELIMITER:
        addresses = sum(1 for text in texts if _ADDRESS.fullmatch(text) or _BARE_NUMBER.fullmatch(text))
        return 2 * addresses > len(texts) or (len(texts) == 1 and is_known(texts[0]))
    names = heading.names if heading.index is not None and max(map(_words_in, heading.names)) <= _LONG else []
    if any(map(is_known, names)):
        return True
    with_address = [text for text in texts if "@" in text]
    apart = sum(1 for text in with_address if _ADDRESS.fullmatch(text))
    usual = max(Counter(map(len, filled)).values(), default=0)
    # `Ada <ada@example.org>` and sentences are prose; a delimiter too many here and there is not.
    return 2 * apart >= len(with_address) and usual >= 0.8 * len(filled)


def _words_in(text: str) -> int:
    return len(text.split())


def read(text: Text, name: str, shape: Shape) -> Reading:
    """Return the layout and the rows of a table.

    Raises:
        InputError: Nothing is in it.
    """
    if not legible(text.head.decode(errors="surrogateescape")).strip(INVISIBLE):
        raise InputError(f"{name} is empty: it needs a header row and a row per contact")
    header = shape.heading.names
    header_row = 0 if shape.heading.index is None else shape.heading.index + 1
    notes = [*text.notes]
    if header_row > 1:
        above = "row" if header_row == 2 else f"{header_row - 1} rows"  # noqa: PLR2004
        notes.append(f"the first {above} of {name} stand above the header and are left out")
    if not header_row:
        notes.append(f"{name} has no header row: its columns are called Column 1 and so on")
    separator = DELIMITERS.get(shape.delimiter, f"the sign {shape.delimiter}")
    layout = Layout(
        format="text, one cell per line"
        if shape.delimiter == _NO_DELIMITER
        else f"CSV, cells separated by {separator}",
        header=header,
        header_row=header_row,
        encoding=text.encoding,
        notes=notes,
    )
    chunks = (chunk for chunk in _chunks(text, shape, header_row) if not chunk.is_empty())
    first = next(chunks, None)
    if first is None:
        raise InputError(f"{name} has a header but no rows: there is nobody to import")
    return without_ours(Reading(layout, chain([first], chunks)))


def _chunks(text: Text, shape: Shape, header_row: int) -> Iterator[pl.DataFrame]:
    width = len(shape.heading.names)
    dialect = _dialect(shape.delimiter, is_spaced=shape.is_spaced)
    frames = _Rows(dialect, width).frames(_after(text.blocks, shape.said_bytes))
    for rows in _gathered(frames):
        below = rows
        if rows.height and rows["row_number"][0] <= header_row:
            below = rows.filter(pl.col("row_number") > header_row)
        yield from below.iter_slices(CHUNK_ROWS)


def _gathered(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Put small frames together: each chunk costs whoever takes it."""
    held: list[pl.DataFrame] = []
    for frame in frames:
        held_rows = sum(each.height for each in held)
        held_bytes = sum(each.estimated_size() for each in held)
        if held and (
            held_rows + frame.height > CHUNK_ROWS or held_bytes + frame.estimated_size() > BLOCK_BYTES
        ):
            yield pl.concat(held)
            held = []
        held.append(frame)
    if held:
        yield pl.concat(held)


def _after(blocks: Iterator[bytes], said_bytes: int) -> Iterator[bytes]:
    yield next(blocks, b"")[said_bytes:]
    yield from blocks


class _Rows:
    """Rows of one text: read by Polars as far as they are regular, and with care where they are not.

    A row is called by its record's number, as a spreadsheet counts: line ends in quotes do not count.
    """

    def __init__(self, dialect: csv.Dialect, width: int) -> None:
        """`width`: columns of the header."""
        self._dialect = dialect
        self._delimiter = delimiter = dialect.delimiter
        self._width = width
        self._next_number = 1
        # Quotes only around whole cells: what Polars and the csv module read alike.  It leaps from quote to
        # quote, so text without quotes costs next to nothing.
        sign = re.escape(delimiter.encode())
        self._regular = re.compile(
            rb'[^"]*+(?:(?<![^%b\n])"[^"]*+(?:""[^"]*+)*+"(?![^%b\r\n])[^"]*+)*+' % (sign, sign)
        )

    def frames(self, blocks: Iterator[bytes]) -> Iterator[pl.DataFrame]:
        """Yield the rows of all blocks, in frames of any height."""
        rest = b""
        is_skipping = False  # the rest of a line that is too long
        blocks = filter(None, blocks)  # a decoder may have nothing to say yet
        block = next(blocks, b"")
        while block:
            following = next(blocks, b"")
            if is_skipping and (line_end := _LINE_END.search(block)):
                block, is_skipping = block[line_end.end() :], False
            if not is_skipping:
                rest = yield from self._block(rest + block.replace(_NUL, _FOR_NUL), is_last=not following)
                if len(rest) > LONGEST_LINE and following:
                    yield self._too_long(rest)
                    rest, is_skipping = b"", True
            block = following

    def _block(self, data: bytes, *, is_last: bool) -> Generator[pl.DataFrame, None, bytes]:
        """Yield the rows of a block and return what is not whole yet."""
        lone = data.count(b"\r") - data.count(b"\r\n") if b"\r" in data else 0
        if lone > (data.endswith(b"\r") and not is_last):
            # A line end for the csv module, a character for Polars.
            return (yield from self._read_carefully(data, is_last=is_last))
        start, careful_bytes = 0, _CAREFUL_BYTES
        while start < len(data):
            end, is_waiting = self._regular_end(data, start, is_last=is_last)
            if end > start:
                yield from self._whole_records(data[start:end])
            if is_waiting:
                return data[end:]
            # Care for the lines around the flaw; for more of them when the next flaw is near.
            careful_bytes = _CAREFUL_BYTES if end - start > 8 * _CAREFUL_BYTES else 2 * careful_bytes
            start = data.find(b"\n", end + careful_bytes) + 1 or len(data)
            is_end = start == len(data)
            rest = yield from self._read_carefully(data[end:start], is_last=is_last and is_end)
            if is_end:
                return rest
            start -= len(rest)
        return b""

    def _regular_end(self, data: bytes, start: int, *, is_last: bool) -> tuple[int, bool]:
        """Return where regular records end, and whether what follows may only not be whole yet."""
        matched = self._regular.match(data, start) if data.find(b'"', start) >= 0 else None
        reached = matched.end() if matched else len(data)
        if reached == len(data):
            return (reached if is_last else _last_record_end(data, start, reached)), True
        is_opened = reached == start or data[reached - 1 : reached] in (self._delimiter.encode(), b"\n")
        is_open = is_opened and _UNCLOSED.fullmatch(data, reached) is not None
        may_close = is_open and not is_last and len(data) - reached <= LONGEST_QUOTED
        return _last_record_end(data, start, reached), may_close

    def _whole_records(self, content: bytes) -> Iterator[pl.DataFrame]:
        if not content.strip(b"\r\n"):  # millions of empty lines must not become millions of empty rows
            self._next_number += content.count(b"\n")
            return
        lines = content.count(b"\n") + 1
        if lines * self._width > _CELLS_AT_ONCE and b'"' not in content:
            middle = content.find(b"\n", len(content) // 2) + 1 or content.rfind(b"\n", 0, -1) + 1
            if 0 < middle < len(content):
                yield from self._whole_records(content[:middle])
                yield from self._whole_records(content[middle:])
                return
        rows = self._read_fast(content)
        if rows is None:
            yield from self._read_carefully(content, is_last=True)
        else:
            self._next_number += rows.height
            yield bounded(rows, may_hold_nul=False)

    def _read_fast(self, content: bytes) -> pl.DataFrame | None:
        """Read regular records with Polars; None when some are longer than the header, or no text."""
        cells = [cell(place) for place in range(self._width)]
        if (content.count(b"\n") + 1) * self._width > _CELLS_AT_ONCE:
            return None
        try:
            # No inference: it would eat the leading zeros of phone numbers.
            rows = pl.read_csv(
                content,
                has_header=False,
                infer_schema=False,
                schema=dict.fromkeys([*cells, "beyond"], pl.String),
                missing_columns="insert",
                separator=self._delimiter,
                row_index_name="row_number",
                row_index_offset=self._next_number,
            )
        except pl.exceptions.PolarsError:
            return None
        beyond = pl.col("beyond")
        if rows["beyond"].null_count() == rows.height:
            extra, flaw = pl.lit(None, pl.List(pl.String)), pl.lit(None, pl.String)
        else:
            is_too_long = stripped(beyond).is_not_null()
            extra = pl.when(is_too_long).then(pl.concat_list(beyond))
            flaw = pl.when(is_too_long).then(pl.lit(Reason.TOO_MANY_CELLS.value))
        return rows.select("row_number", *cells, extra=extra, flaw=flaw)

    def _read_carefully(self, content: bytes, *, is_last: bool) -> Generator[pl.DataFrame, None, bytes]:
        """Read with the csv module, about six times slower, losing no cell; return what is not whole yet."""
        try:
            text, is_text = content.decode(), True
        except UnicodeDecodeError:
            text, is_text = content.decode(errors="surrogateescape"), False
        lines = _lines(text)
        # A CR at the end may be half of a line end.
        cut = lines.pop() if lines and not is_last and not lines[-1].endswith("\n") else ""
        left: list[str] = []
        records = _records(lines, self._dialect, None if is_last else left, LONGEST_QUOTED - len(cut))
        rows_at_once = min(CHUNK_ROWS, _CELLS_AT_ONCE // max(1, self._width))
        while batch := list(islice(records, rows_at_once)):
            if not is_text:
                batch = [_told(record) for record in batch]
            numbered = ((number, *record) for number, record in enumerate(batch, start=self._next_number))
            yield rows_frame(numbered, self._width)
            self._next_number += len(batch)
        return "".join([*left, cut]).encode(errors="surrogateescape")

    def _too_long(self, line: bytes) -> pl.DataFrame:
        cells = line.decode(errors="surrogateescape").split(self._delimiter, self._width)[: self._width]
        number = self._next_number
        self._next_number += 1
        return rows_frame([(number, [legible(text) for text in cells], Reason.CELL_TOO_LONG)], self._width)


def _last_record_end(data: bytes, start: int, reached: int) -> int:
    """Return where the last whole record before `reached` ends: at a line end that is not in quotes."""
    line_end, upto, quotes = data.rfind(b"\n", start, reached), reached, 0
    while line_end >= 0:
        quotes += data.count(b'"', line_end, upto)
        if quotes % 2 == 0:
            return line_end + 1
        line_end, upto = data.rfind(b"\n", start, line_end), line_end
    return start


def _told(record: Record) -> Record:
    """Tell bytes that are no text, and show them."""
    cells, flaw = record
    shown = [legible(text) for text in cells]
    return shown, flaw or (None if shown == cells else Reason.NOT_IN_ENCODING)


def _lines(text: str) -> list[str]:
    return io.StringIO(text, newline="").readlines()


def _records(
    lines: Sequence[str],
    dialect: csv.Dialect,
    left: list[str] | None = None,
    longest_quoted: int = LONGEST_QUOTED,
) -> Iterator[Record]:
    """Split lines into records; a quote that is never closed spoils its own line only.

    A quote that the lines to come may close, within `longest_quoted` characters, leaves its lines in `left`.
    """
    start = 0
    while start < len(lines):
        # A list iterator would start over; this one is cheap to begin anywhere.
        reader = csv.reader((lines[i] for i in range(start, len(lines))), dialect, strict=True)
        done = 0
        try:
            for record in reader:
                yield record, None
                done = reader.line_num
        except csv.Error:
            start += done
            is_open = start + reader.line_num - done == len(lines)
            if left is not None and is_open and sum(map(len, lines[start:])) <= longest_quoted:
                left.extend(lines[start:])
                return
            yield _line_alone(lines[start], dialect)
            start += 1
        else:
            return


def _line_alone(line: str, dialect: csv.Dialect) -> Record:
    """Read one line whose quotes break the rules, as leniently as loses nothing."""
    probe = list(csv.reader([line.rstrip("\r\n") + "\n", "next"], dialect))
    if probe[-1] == ["next"]:
        return probe[0], None
    return line.rstrip("\r\n").split(dialect.delimiter), Reason.QUOTE_NOT_CLOSED
