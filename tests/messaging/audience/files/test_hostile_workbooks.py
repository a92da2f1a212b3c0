"""Workbooks made to harm or merely broken: the process that asks stays alive and gets rows or a sentence."""

import io
import re
import struct
import zipfile
import zlib

import openpyxl
import pytest

from messaging.audience.files.layout import ReadOptions
from messaging.audience.files.opening import open_file
from messaging.errors import InputError

SHEET = "xl/worksheets/sheet1.xml"
ROWS = [["Name", "Email"], ["Ana", "ana@example.org"], ["Bob", "bob@example.org"]]
READ = [(2, "Ana", "ana@example.org"), (3, "Bob", "bob@example.org")]
_LOCAL, _CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


def _xlsx(rows=ROWS, title="Sheet"):
    workbook = openpyxl.Workbook()
    workbook.active.title = title
    for row in rows:
        workbook.active.append(row)
    file = io.BytesIO()
    workbook.save(file)
    return file.getvalue()


def _patched(content, parts):
    """Change parts of a workbook, or add them."""
    given = zipfile.ZipFile(io.BytesIO(content))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name in {*given.namelist(), *parts}:
            change = parts.get(name, lambda text: text)
            made.writestr(name, change(given.read(name) if name in given.namelist() else b""))
    return out.getvalue()


def _with_cell(reference, row=None, content="<is><t>x</t></is>"):
    """Add a cell somewhere below the others."""
    number = row or re.sub(r"\D", "", reference)
    cell = f'<row r="{number}"><c r="{reference}" t="inlineStr">{content}</c></row></sheetData>'
    return _patched(_xlsx(), {SHEET: lambda xml: xml.replace(b"</sheetData>", cell.encode())})


def _with_declared_size(content, size):
    """Let the directory and the part's own header say that the sheet inflates to `size` bytes."""
    changed = bytearray(content)
    for signature, place, name_place in ((_LOCAL, 22, 30), (_CENTRAL, 24, 46)):
        at = 0
        while (at := changed.find(signature, at)) >= 0:
            if changed[at + name_place :].startswith(SHEET.encode()):
                changed[at + place : at + place + 4] = struct.pack("<I", size)
            at += 4
    return bytes(changed)


def _with_overlap(content):
    """Let two entries of the directory share the bytes of one part (CVE-2024-0450)."""
    end = content.rindex(b"PK\x05\x06")
    first = content.index(_CENTRAL)
    length = 46 + sum(struct.unpack("<HHH", content[first + 28 : first + 34]))
    fields = list(struct.unpack("<4s4H2IH", content[end:]))
    fields[3] += 1
    fields[4] += 1
    fields[5] += length
    return content[:end] + content[first : first + length] + struct.pack("<4s4H2IH", *fields)


def _laughing(xml):
    entities = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9))
    head, _, rest = xml.partition(b"<worksheet")
    declared = f'<!DOCTYPE worksheet [<!ENTITY e0 "ha">{entities}]>'.encode()
    return head + declared + b"<worksheet" + rest.replace(b"ana@example.org", b"&e9;")


def _reading_a_file(xml):
    head, _, rest = xml.partition(b"<worksheet")
    declared = b'<!DOCTYPE worksheet [<!ENTITY file SYSTEM "file:///etc/passwd">]>'
    return head + declared + b"<worksheet" + rest.replace(b"ana@example.org", b"&file;")


def _protected():
    """An OLE file with the stream names of a workbook with a password."""
    names = "EncryptionInfo".encode("utf-16-le") + b"\0" * 36 + "EncryptedPackage".encode("utf-16-le")
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 504 + names + b"\0" * 1_000


def _repeating_ods():
    cell = (
        '<table:table-row table:number-rows-repeated="1048576"><table:table-cell office:value-type="string" '
        'table:number-columns-repeated="16384"><text:p>x</text:p></table:table-cell></table:table-row>'
    )
    spaces = " ".join(
        f'xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{prefix}:1.0"'
        for prefix in ("office", "table", "text")
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        made.writestr(
            "content.xml",
            f"<office:document-content {spaces}><office:body><office:spreadsheet>"
            f'<table:table table:name="a">{cell}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
    return out.getvalue()


def _rows_of(path, sheet=None):
    with open_file(path, ReadOptions(sheet=sheet)) as reading:
        rows = [row for chunk in reading.chunks for row in chunk.iter_rows(named=True)]
        return reading.layout, rows


def _noise(size):
    """Spaces and line ends that do not shrink to a hundredth: a comment of checksums."""
    words = (f"{zlib.crc32(str(i).encode()):08x} " for i in range(size // 9))
    return b"<!-- " + "".join(words).encode() + b"-->"


def _zipped_sheet():
    content = _xlsx()
    info = zipfile.ZipFile(io.BytesIO(content)).getinfo(SHEET)
    start = info.header_offset + 30 + len(SHEET)
    return content[start : start + info.compress_size]


REFUSED = {
    "bomb": (
        lambda: _patched(_xlsx(), {SHEET: lambda xml: xml + b" " * 30_000_000}),
        "a part unpacks to more than 100 times its size",
    ),
    "bomb among other parts": (
        lambda: _patched(_xlsx(), {"xl/media/image1.png": lambda _: b"\0" * 30_000_000}),
        "a part unpacks to more than 100 times its size",
    ),
    "bomb that says so": (
        lambda: _with_declared_size(_xlsx(), 2_000_000_000),
        "it unpacks to more than a gigabyte",
    ),
    "bomb that says less": (
        lambda: _with_declared_size(_patched(_xlsx(), {SHEET: lambda xml: xml + b" " * 30_000_000}), 1_000),
        "is damaged or cut short",
    ),
    "parts that overlap": (lambda: _with_overlap(_xlsx()), "its parts overlap"),
    "too many parts": (
        lambda: _patched(_xlsx(), {f"xl/media/{i}": lambda _: b"" for i in range(1_000)}),
        "parts",
    ),
    "billion laughs": (lambda: _patched(_xlsx(), {SHEET: _laughing}), "it declares XML entities"),
    "billion laughs in UTF-16": (
        lambda: _patched(_xlsx(), {SHEET: lambda xml: _laughing(xml).decode().encode("utf-16")}),
        "it declares XML entities",
    ),
    "billion laughs far from the beginning": (
        lambda: _patched(_xlsx(), {SHEET: lambda xml: _noise(2_000_000) + _laughing(xml)}),
        "it declares XML entities",
    ),
    "entity that is a file": (
        lambda: _patched(_xlsx(), {SHEET: _reading_a_file}),
        "it declares XML entities",
    ),
    "password": (_protected, "is protected by a password: save it without one"),
    "cut off": (lambda: _xlsx()[:3_000], "damaged"),
    "cut off within its directory": (lambda: _xlsx()[:-30], "damaged"),
    "a byte changed": (lambda: _xlsx().replace(_zipped_sheet(), _zipped_sheet()[::-1]), "damaged"),
    "cell that no sheet has": (lambda: _with_cell("ZZZZZ99999999999"), "cannot be read as a workbook"),
    "cell far below its row": (lambda: _with_cell("XFD999999", 4), "needs more than a gigabyte of memory"),
    "empty": (lambda: _xlsx([]), "is empty"),
    "header only": (lambda: _xlsx(ROWS[:1]), "has a header but no rows"),
    "16,384 columns": (lambda: _xlsx([[f"c{i}" for i in range(16_384)]] * 3), "has 16,384 columns"),
    "cells repeated without end": (_repeating_ods, "cannot be read as a workbook"),
    "old format, cut off": (
        lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\xff" * 600,
        "cannot be read as a workbook",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_workbook_that_cannot_be_read_is_refused_with_a_sentence(kind, tmp_path):
    make, sentence = REFUSED[kind]
    path = tmp_path / "list.xlsx"
    path.write_bytes(make())
    with pytest.raises(InputError, match=re.escape(sentence)) as refused:
        _rows_of(path)
    assert "list.xlsx" in str(refused.value)
    assert "example.org" not in str(refused.value)


GOOD = {
    "dimension that lies": lambda: _patched(
        _xlsx(),
        {SHEET: lambda xml: re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="A1:XFD1048576"', xml)},
    ),
    "formats down to the last cell": lambda: _with_cell("XFD1048576", content=""),
    "cells without references": lambda: _patched(
        _xlsx(), {SHEET: lambda xml: re.sub(rb' r="[A-Z]*\d+"', b"", xml)}
    ),
    "references in single quotes": lambda: _patched(
        _xlsx(), {SHEET: lambda xml: re.sub(rb' r="([A-Z]*\d+)"', rb" r='\1'", xml)}
    ),
}


@pytest.mark.parametrize("kind", GOOD)
def test_an_odd_workbook_that_harms_nobody_is_read_right(kind, tmp_path):
    path = tmp_path / "list.xlsx"
    path.write_bytes(GOOD[kind]())
    layout, rows = _rows_of(path)
    assert layout.header == ["Name", "Email"]
    assert [(row["row_number"], row["cell_0"], row["cell_1"]) for row in rows] == READ


@pytest.mark.parametrize(("reference", "row"), [("XFD1048576", 1_048_576), ("XFD1048576", 4)])
def test_a_cell_at_the_far_end_of_a_sheet_costs_its_own_row_only(reference, row, tmp_path):
    path = tmp_path / "list.xlsx"
    path.write_bytes(_with_cell(reference, row))
    layout, rows = _rows_of(path)
    assert layout.header[:2] == ["Name", "Email"]
    assert [(row["row_number"], row["cell_0"], row["cell_1"]) for row in rows[:2]] == READ
    assert rows[2]["cell_0"] is None


def test_a_line_end_hidden_in_a_cell_is_a_line_end_and_no_more(tmp_path):
    path = tmp_path / "list.xlsx"
    path.write_bytes(_xlsx([["Name", "Email"], ["Ana_x000D__x000A_Bcc: x@example.org", "ana@example.org"]]))
    _, [row] = _rows_of(path)
    assert row["cell_0"] == "Ana\r\nBcc: x@example.org"


def test_names_of_columns_and_sheets_are_a_stranger_s_text_and_nothing_else(tmp_path):
    header = ['"; DROP TABLE contacts; --', "__class__", "Email"]
    named = _patched(
        _xlsx([header, ["a", "b", "ana@example.org"]], title="Sheet"),
        {"xl/workbook.xml": lambda xml: xml.replace(b'name="Sheet"', b'name="../../etc/passwd"')},
    )
    path = tmp_path / "list.xlsx"
    path.write_bytes(named)
    layout, [row] = _rows_of(path, sheet="../../etc/passwd")
    assert layout.format == "Excel workbook, sheet '../../etc/passwd'"
    assert layout.header == header
    assert row["cell_2"] == "ana@example.org"
