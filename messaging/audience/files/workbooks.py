"""Workbooks of Excel and LibreOffice: by calamine when they are as usual, by openpyxl when they are odd."""

import datetime as dt
import io
import posixpath
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import chain, islice
from typing import BinaryIO, TypeVar
from xml.etree import ElementTree as ET

import fastexcel
import openpyxl  # type: ignore[import-untyped]
import polars as pl
from openpyxl.cell.cell import ERROR_CODES  # type: ignore[import-untyped]
from openpyxl.utils.escape import unescape  # type: ignore[import-untyped]

from messaging.audience.cleaning import stripped
from messaging.audience.files.bounds import allow_large_sheet
from messaging.audience.files.heading import LINES_LOOKED_AT, bounded, find_heading, rows_frame, without_ours
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

_MB = 1_048_576
_MAX_PARTS = 1_000
_MAX_INFLATED = 1_024 * _MB  # a full sheet of a million rows and eight columns has 310 MB
_MAX_RATIO = 100
_RATIO_COUNTS_FROM = 10 * _MB  # a small part harms nobody, and styles compress well
_LOCAL_HEADER = 30  # bytes before a part's name, in the zip format
_BLOCK = _MB
_OVERLAP = 512  # of two blocks, so that no tag is cut in two; longer ones are no cell's

# calamine keeps the whole rectangle around a sheet's cells, about 100 bytes for a cell with text, and aborts
# the process when there is no memory for it: one cell at XFD1048576 asks for 512 GiB.
_LARGE_GRID = 6_000_000  # 700 MB and, on a busy machine, 20 seconds: above it, more memory is asked for
MAX_CELLS = 12_000_000  # all 1,048,576 rows of a sheet of eleven columns
_MAX_CELLS_AT_ONCE = 2_000_000  # of a chunk
_ROWS_PEEKED_AT = 200  # by which a sheet is chosen
_SHEETS_LISTED = 20

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_BIFF8_GLOBALS = b"\x09\x08\x10\x00\x00\x06\x05\x00"
_BOF_LENGTH = 20
_FILEPASS = b"\x2f\x00"
_WRITEPROTECT = b"\x86\x00\x00\x00"

# As programs write them, and in any way that XML allows, which takes four times as long. A row's number in a
# cell's reference is looked at only when it is out of the ordinary: a sheet may have millions.
_CELL_REFERENCE = re.compile(rb'<c r="([A-Z]+(?:\d{7,})?)')
_ROW_REFERENCE = re.compile(rb'<row r="(\d+)')
_ANY_CELL_REFERENCE = re.compile(rb"""\sr=["']([A-Za-z]+(?:\d{7,})?)""")
_ANY_ROW_REFERENCE = re.compile(rb"""\sr=["'](\d+)["']""")
_NO_VALUE = re.compile(
    rb"<(?:\w+:)?c\s([^>]*)><(?:\w+:)?f(?:\s[^>]*)?(?:/>|>[^<]*</(?:\w+:)?f>)"
    rb"(?:<(?:\w+:)?v(?:></(?:\w+:)?v>|\s?/>))?</(?:\w+:)?c>"
)

_MOMENT = r"^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d+)?)$"
_MIDNIGHT = r"^(\d{4}-\d\d-\d\d) 00:00:00$"
_NO_DAY = r"^1899-12-3[01] (\d\d:\d\d:\d\d(?:\.\d+)?)$"

_ADDRESS = re.compile(r"\S@\S")
_PHONE = re.compile(r"[+(]?\d[\d\s()./+-]{5,24}")

_KINDS = {
    "xl/workbook.xml": "Excel workbook",
    "xl/workbook.bin": "Excel binary workbook",
    "content.xml": "OpenDocument spreadsheet",
}
_MANIFEST = "META-INF/manifest.xml"
_Record = tuple[int, Sequence[str | None]]
_T = TypeVar("_T")


def read(file: BinaryIO, name: str, options: ReadOptions) -> Reading:
    """Read the sheet that was asked for, or the one that looks most like contacts.

    Cells are text as a person would write them: whole numbers without a fraction and never with an exponent,
    dates as 2025-03-04 with the time only when it is not midnight, true and false, formulas as the value
    stored with them, errors such as #N/A as empty. A column with neither a name nor a cell is left out.

    Raises:
        InputError: It is no workbook, protected, hostile, damaged or has no rows; the text says what to do.
    """
    workbook = _Workbook(file.read(), name)
    sheet, notes = _choose(workbook, name, options.sheet)
    table = workbook.table(sheet)
    if not table.head:
        raise InputError(f"{_of(sheet, name)} is empty: it needs a header row and a row per contact")
    heading = find_heading([cells for _, cells in table.head])
    width = table.width
    if width > MAX_COLUMNS:
        raise InputError(
            f"{_of(sheet, name)} has {width:,} columns, more than {MAX_COLUMNS:,}: "
            "delete those that are no part of the list"
        )
    header_row = 0 if heading.index is None else table.head[heading.index][0]
    if header_row > table.head[0][0]:
        notes.append(f"rows above row {header_row} of {name}, which names the columns, are left out")
    if not header_row:
        notes.append(f"{name} has no header row: its columns are called Column 1 and so on")
    # A spreadsheet's cells stand where they stand, so a column beyond the header's names is one all the same.
    header = heading.names + [f"Column {place}" for place in range(len(heading.names) + 1, width + 1)]
    chunks = (chunk for chunk in table.chunks(header_row, width) if not chunk.is_empty())
    first = next(chunks, None)
    if first is None:
        raise InputError(f"{_of(sheet, name)} has a header but no rows: there is nobody to import")
    if workbook.has_formulas_without_value(sheet):
        notes.append("formulas without a stored value are read as empty: open and save the file in Excel")
    layout = Layout(f"{workbook.kind}, sheet {sheet!r}", header, header_row, notes=notes)
    return without_ours(Reading(layout, chain([first], chunks)))


@dataclass(frozen=True, slots=True)
class _Table:
    """A sheet from which empty rows at its beginning are gone; row numbers count them."""

    head: list[_Record]
    width: int
    chunks: Callable[[int, int], Iterator[pl.DataFrame]]
    """Rows below the one of this number, as wide as this."""


@dataclass(slots=True)
class _Extent:
    """What a sheet's XML says before any parser sees it."""

    last_row: int = 0
    last_column: int = 0
    cells: int = 0
    """About how many there are."""
    no_values: bool = False
    """Some formula has no stored value: a program wrote it and no spreadsheet has calculated it."""

    @property
    def grid(self) -> int:
        """Cells of the rectangle around those there are."""
        return self.last_row * self.last_column

    def look_at(self, xml: bytes) -> None:
        for reference in set(_CELL_REFERENCE.findall(xml) or _ANY_CELL_REFERENCE.findall(xml)):
            letters = reference.rstrip(b"0123456789")
            self.last_column = max(self.last_column, _column_number(letters))
            if letters != reference:
                self.last_row = max(self.last_row, int(reference[len(letters) :]))
        self.cells += xml.count(b"</c>")
        rows = _ROW_REFERENCE.findall(xml) or _ANY_ROW_REFERENCE.findall(xml)
        self.last_row = max(self.last_row, max(map(int, rows), default=0))
        if not self.no_values and (b"<f" in xml or b":f" in xml):
            # A formula may well give an empty text: then its cell says that it is a text.
            self.no_values = any(b't="str"' not in found[1] for found in _NO_VALUE.finditer(xml))


class _Workbook:
    """Sheets of a workbook that is safe to be read."""

    def __init__(self, content: bytes, name: str) -> None:
        self._content = content
        self._name = name
        self._extents: dict[str, _Extent] = {}
        if content.startswith(_OLE):
            _refuse_protected(content, name)
            self.kind = "Excel 97 workbook"
        else:
            self.kind, self._extents = _inspect(content, name)
        self._quick = _quietly(lambda: fastexcel.read_excel(content))
        self._careful: openpyxl.Workbook | None = None
        self.sheets = self._quick.sheet_names if self._quick else self._opened_carefully().sheetnames

    def peek(self, sheet: str) -> tuple[bool, list[_Record]]:
        """Return whether the sheet is hidden, and its first rows."""
        loaded = self._loaded(sheet, _ROWS_PEEKED_AT)
        if loaded is not None:
            return loaded.visible != "visible", _head(_frame(loaded))
        if self.kind != _KINDS["xl/workbook.xml"]:
            return False, []  # a sheet of diagrams, or one that nobody can read
        worksheet = self._opened_carefully()[sheet]
        return worksheet.sheet_state != "visible", list(islice(self._records(sheet), LINES_LOOKED_AT))

    def table(self, sheet: str) -> _Table:
        """Read a sheet."""
        extent = self._extent(sheet)
        if extent.cells > MAX_CELLS:
            raise InputError(
                f"{_of(sheet, self._name)} has more than {MAX_CELLS:,} cells: save it as CSV, of which any "
                "number of rows is read, or delete columns that are no part of the list"
            )
        loaded = self._loaded(sheet, None)
        if loaded is None:
            return self._careful_table(sheet)
        frame = _frame(loaded)
        self._quick = None  # it holds the file's texts once more
        return _Table(_head(frame), frame.width - 1, partial(_chunks, frame))

    def has_formulas_without_value(self, sheet: str) -> bool:
        """Say whether cells are empty because nobody has calculated them."""
        return self._extent(sheet).no_values

    def _loaded(self, sheet: str, n_rows: int | None) -> fastexcel.ExcelSheet | None:
        """Load a sheet with calamine, or return None when it had better not, or refuses."""
        quick, extent = self._quick, self._extent(sheet)
        if quick is None or extent.grid > MAX_CELLS:
            return None
        if extent.grid > _LARGE_GRID:
            allow_large_sheet()
        return _quietly(
            lambda: quick.load_sheet(
                sheet,
                header_row=None,
                skip_rows=0,  # else rows would count from the first that is filled
                n_rows=n_rows,
                dtypes="string",
                whitespace_as_null=True,
            )
        )

    def _extent(self, sheet: str) -> _Extent:
        return self._extents.get(sheet) or _Extent()

    def _careful_table(self, sheet: str) -> _Table:
        records = self._records(sheet)
        head = list(islice(records, LINES_LOOKED_AT))
        # calamine's frames have no column without a cell; here nobody knows what comes below the first rows.
        kept = sorted({place for _, cells in head for place, text in enumerate(cells) if text})
        head = [(number, _picked(cells, kept)) for number, cells in head]
        below = ((number, _picked(cells, kept)) for number, cells in records)

        def chunks(header_row: int, width: int) -> Iterator[pl.DataFrame]:
            rows = ((number, cells, None) for number, cells in chain(head, below) if number > header_row)
            while part := list(islice(rows, _rows_at_once(width))):
                yield rows_frame(part, width)

        return _Table(head, len(kept), chunks)

    def _records(self, sheet: str) -> Iterator[_Record]:
        """Read the rows of a sheet that are not empty, one at a time, about seven times slower."""
        worksheet = self._opened_carefully()[sheet]
        if not hasattr(worksheet, "iter_rows"):
            return  # a sheet of diagrams
        worksheet.reset_dimensions()  # a file may claim 16,384 columns and have three
        try:
            for number, values in enumerate(worksheet.iter_rows(values_only=True), start=1):
                cells = [None if value is None else _text(value) for value in values]
                if any(cells):
                    yield number, cells
        except MemoryError:
            raise
        except Exception as error:
            raise _unreadable(self._name) from error

    def _opened_carefully(self) -> openpyxl.Workbook:
        if self._careful is None:
            if self.kind != _KINDS["xl/workbook.xml"]:
                raise _unreadable(self._name)
            try:
                with warnings.catch_warnings(action="ignore"):  # about styles and the like
                    self._careful = openpyxl.load_workbook(
                        io.BytesIO(self._content), read_only=True, data_only=True, keep_links=False
                    )
            except MemoryError:
                raise
            except Exception as error:  # its parts may contradict each other in any way
                raise _unreadable(self._name) from error
        return self._careful


def _choose(workbook: _Workbook, name: str, wanted: str | None) -> tuple[str, list[str]]:
    """Return the sheet to read and what to say about the others."""
    sheets = workbook.sheets
    if wanted is not None:
        for sheet in sheets:
            if sheet.strip().casefold() == wanted.strip().casefold():
                return sheet, []
        raise InputError(f"{name} has no sheet {wanted!r}; its sheets are: {_listed(sheets)}")
    if len(sheets) == 1:
        return sheets[0], []
    if not sheets:
        raise InputError(f"{name} has no sheet: it needs one with a header row and a row per contact")
    looks = {sheet: workbook.peek(sheet) for sheet in sheets}
    if not any(records for _, records in looks.values()):
        raise InputError(f"{name} is empty: it needs a header row and a row per contact")

    def preference(sheet: str) -> tuple[bool, bool, bool, float]:
        hidden, records = looks[sheet]
        score = _addresses_in(records)
        return score > 0, not hidden, bool(records), score

    best = max(sheets, key=preference)  # the first of equals
    left_out = [sheet for sheet in sheets if sheet != best and looks[sheet][1]]
    if not left_out:
        return best, []
    note = f"sheet {best!r} looks most like contacts and was read; left out: {_listed(left_out)}"
    return best, [f"{note} (choose with --sheet)"]


def _addresses_in(records: Sequence[_Record]) -> float:
    """Count rows with an address or, at half the weight, a number; a header breaks ties."""
    rows = 0.0
    for _, cells in records:
        texts = [text for text in cells if text]
        if any(_ADDRESS.search(text) for text in texts):
            rows += 1
        elif any(_PHONE.fullmatch(text.strip()) for text in texts):
            rows += 0.5
    return rows and rows + 0.25 * (find_heading([cells for _, cells in records]).index is not None)


def _frame(sheet: fastexcel.ExcelSheet) -> pl.DataFrame:
    """Return all rows with their numbers, without columns that hold nothing at all."""
    given = pl.DataFrame(sheet)
    kept = [series for series in given if series.null_count() < given.height]
    frame = pl.DataFrame([series.alias(cell(i)) for i, series in enumerate(kept)])
    return frame.with_row_index("row_number", offset=1)


def _head(frame: pl.DataFrame) -> list[_Record]:
    filled = pl.any_horizontal(stripped(pl.selectors.starts_with("cell_")).is_not_null())
    parts = frame.iter_slices(_ROWS_PEEKED_AT)
    rows = (row for part in parts for row in part.filter(filled).iter_rows())
    return [(number, cells) for number, *cells in islice(rows, LINES_LOOKED_AT)]


def _chunks(frame: pl.DataFrame, header_row: int, width: int) -> Iterator[pl.DataFrame]:
    schema = row_schema(width)
    missing = [pl.lit(None, kind).alias(name) for name, kind in schema.items() if name not in frame.columns]
    at_once = _rows_at_once(width)
    for start in range(header_row, frame.height, at_once):
        rows = frame.slice(start, at_once).with_columns(missing)
        yield bounded(_with_plain_dates(rows).select(list(schema)))


def _rows_at_once(width: int) -> int:
    return min(CHUNK_ROWS, max(1, _MAX_CELLS_AT_ONCE // max(1, width)))


def _with_plain_dates(rows: pl.DataFrame) -> pl.DataFrame:
    """Write calamine's moments as a person would: no midnight, no day that is only the calendar's first."""
    cells = pl.selectors.starts_with("cell_")
    moments = rows.select((cells.str.contains(_MOMENT)).any())
    columns = [series.name for series in moments if series.any()]
    return rows.with_columns(
        pl.col(columns).str.replace(_MOMENT, "$1 $2").str.replace(_MIDNIGHT, "$1").str.replace(_NO_DAY, "$1")
    )


def _text(value: object) -> str:
    """Write a cell of openpyxl's as calamine does."""
    match value:
        case str():
            return "" if value in ERROR_CODES else unescape(value)
        case bool():
            return str(value).lower()
        case float():
            return format(Decimal(repr(value)), "f").removesuffix(".0")
        case dt.datetime():
            at_midnight = value.time() == dt.time.min
            return value.date().isoformat() if at_midnight else value.isoformat(" ", _precision(value))
        case dt.time():
            return value.isoformat(_precision(value))
    return str(value)


def _precision(value: dt.datetime | dt.time) -> str:
    return "milliseconds" if value.microsecond else "seconds"


def _picked(cells: Sequence[str | None], places: Sequence[int]) -> Sequence[str | None]:
    """Return the cells at these places, and behind them those with text that stand elsewhere."""
    picked = [cells[place] if place < len(cells) else None for place in places]
    if len(cells) <= len(places) and places[: len(cells)] == list(range(len(cells))):
        return picked
    among = set(places)
    return picked + [text for place, text in enumerate(cells) if text and place not in among]


def _inspect(content: bytes, name: str) -> tuple[str, dict[str, _Extent]]:
    """Return the kind of workbook and its sheets' extents, before any parser sees it.

    Raises:
        InputError: It is damaged, protected, no workbook, or made to harm.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as package:
            names = package.namelist()
            kind = next((kind for part, kind in _KINDS.items() if part in names), None)
            if kind is None:
                raise InputError(f"{name} is no workbook: save it as .xlsx or CSV")
            _refuse_bombs(package, name)
            extents = _inflate(package, name)
            if _MANIFEST in names and b"encryption-data" in package.read(_MANIFEST):
                raise _protected(name)
            return kind, _by_sheet(package, extents)
    except _DAMAGE as error:
        raise InputError(
            f"{name} is damaged or cut short: get it anew, or open it and save it again"
        ) from error
    except RuntimeError:
        raise _protected(name) from None  # zipfile's word for a part that needs a password


def _inflate(package: zipfile.ZipFile, name: str) -> dict[str, _Extent]:
    """Unpack each part once, which also checks its sum, and look at what sheets say of their extent."""
    extents: dict[str, _Extent] = {}
    inflated = 0
    for part in package.infolist():
        extent = extents[part.filename] = _Extent()
        for xml in _blocks(package, part):
            inflated += len(xml)
            if inflated > _MAX_INFLATED:
                raise _harmful(name, "it unpacks to more than a gigabyte")
            if part.filename.endswith((".xml", ".rels")):
                _refuse_declarations(part.filename, xml, name)
            if part.filename.startswith("xl/worksheets/"):
                extent.look_at(xml)
    return extents


_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, KeyError, OSError)


def _blocks(package: zipfile.ZipFile, part: zipfile.ZipInfo) -> Iterator[bytes]:
    """Inflate a part block by block, each with the end of the one before it."""
    end = b""
    with package.open(part) as inflating:
        while block := inflating.read(_BLOCK):
            yield end + block
            end = block[-_OVERLAP:]


def _refuse_bombs(package: zipfile.ZipFile, name: str) -> None:
    """Refuse by what the zip's directory says; sizes that lie are caught when the parts are inflated."""
    parts = package.infolist()
    if len(parts) > _MAX_PARTS:
        raise _harmful(name, f"it has {len(parts):,} parts")
    if sum(part.file_size for part in parts) > _MAX_INFLATED:
        raise _harmful(name, "it unpacks to more than a gigabyte")
    for part in parts:
        if part.file_size > max(_RATIO_COUNTS_FROM, _MAX_RATIO * part.compress_size):
            raise _harmful(name, f"a part unpacks to more than {_MAX_RATIO} times its size")
    # Python 3.11.7 does not look whether parts share their bytes (CVE-2024-0450).
    ordered = sorted(parts, key=lambda part: part.header_offset)
    starts = [part.header_offset for part in ordered[1:]] + [package.start_dir]
    for part, start in zip(ordered, starts, strict=True):
        if part.header_offset + _LOCAL_HEADER + len(part.orig_filename) + part.compress_size > start:
            raise _harmful(name, "its parts overlap")


def _refuse_declarations(part: str, xml: bytes, name: str) -> None:
    """Refuse declarations of entities: no spreadsheet writes them, and by them XML attacks its readers."""
    plain = xml.replace(b"\0", b"") if b"\0" in xml[:_OVERLAP] else xml  # UTF-16
    # OpenOffice 2 wrote a document type without entities into this part.
    has_type = b"<!DOCTYPE" in plain and part != _MANIFEST
    if has_type or b"<!ENTITY" in plain:
        raise _harmful(name, "it declares XML entities")


def _by_sheet(package: zipfile.ZipFile, extents: dict[str, _Extent]) -> dict[str, _Extent]:
    """Find each sheet's part; a sheet whose part is not told by the usual ways has the largest extent."""
    worst = _Extent(
        max((extent.last_row for extent in extents.values()), default=0),
        max((extent.last_column for extent in extents.values()), default=0),
    )
    try:
        book = ET.fromstring(package.read("xl/workbook.xml"))  # noqa: S314 - without entities, see above
        relations = ET.fromstring(package.read("xl/_rels/workbook.xml.rels"))  # noqa: S314
    except (KeyError, ET.ParseError):
        return {}
    targets = {
        relation.get("Id"): posixpath.normpath(posixpath.join("/xl", relation.get("Target", ""))).lstrip("/")
        for relation in relations
    }
    found: dict[str, _Extent] = {}
    for sheet in book.iterfind(".//{*}sheet"):
        identity = next((value for key, value in sheet.items() if key.endswith("}id")), None)
        found[sheet.get("name", "")] = extents.get(targets.get(identity, ""), worst)
    return found


def _refuse_protected(content: bytes, name: str) -> None:
    """Refuse a workbook that a password encrypts: a whole one within OLE, or the stream of an old one."""
    if "EncryptedPackage".encode("utf-16-le") in content:
        raise _protected(name)
    start = content.find(_BIFF8_GLOBALS)
    if start >= 0 and content[start + _BOF_LENGTH :].removeprefix(_WRITEPROTECT)[:2] == _FILEPASS:
        raise _protected(name)


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = 26 * number + letter - 64
    return number


def _of(sheet: str, name: str) -> str:
    return f"sheet {sheet!r} of {name}"


def _listed(sheets: Sequence[str]) -> str:
    listed = ", ".join(repr(sheet) for sheet in sheets[:_SHEETS_LISTED])
    return listed if len(sheets) <= _SHEETS_LISTED else f"{listed} and {len(sheets) - _SHEETS_LISTED:,} more"


def _protected(name: str) -> InputError:
    return InputError(f"{name} is protected by a password: save it without one")


def _harmful(name: str, why: str) -> InputError:
    return InputError(f"{name} is not read, it could harm this machine: {why}. Save its list as CSV")


def _unreadable(name: str) -> InputError:
    return InputError(f"{name} cannot be read as a workbook: open it and save it again as .xlsx, or as CSV")


def _quietly(load: Callable[[], _T]) -> _T | None:
    """Return None when calamine refuses, or panics, which is no Exception."""
    try:
        return load()
    except fastexcel.FastExcelError:
        return None
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        return None
