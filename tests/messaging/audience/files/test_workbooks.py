"""Workbooks: what a person sees in a spreadsheet is what is read, whichever reader reads it."""

import base64
import datetime as dt
import io
import re
import zipfile
import zlib

import openpyxl
import pytest

from messaging.audience.files import workbooks
from messaging.audience.files.layout import CHUNK_ROWS, MAX_CELL, MAX_COLUMNS, Layout, ReadOptions
from messaging.errors import InputError

SHEET = "xl/worksheets/sheet1.xml"
FAR_CELL = '<row r="140000"><c r="AZ140000" s="0"/></row>'  # empty, as a formatted column leaves it

# Two sheets that xlwt 1.3.0 wrote: a table from B3 on, with an empty row, a date, a moment and a text 007.
XLS = zlib.decompress(
    base64.b64decode(
        "eNrtWE1oE1EQnrebTZOapulPqq1aQsGqtYWKB0WoaSvagxiqPfiDYPOzmFCzkRiFerDVmqMg6EXxUqigl6oXf6gHexMRKnoQBKGt"
        "4MWToOChzTozu6utZqUBW6jsF968eTNvZt++N+/Ny76eqpoefdgwA79hD8hQ0L3gXiATWLxWIwCo13VirdqDRXewquD14EK6FZio"
        "eFVGa0jrPQMSPHBNIgWYxXICzkAko6mhFUQ3jyEqaAwdwoWxJ8FtLH6o53FVM40zrWF6n/s+Y9rJkqtMO7DvtDgOU+FIyy4zjo9K"
        "TazzIxXwmG3es2Q7BOEFxfHQNWH0VaArm4qedhSrXdHo8sEYYJT3qJqapXYQ7tA5NohoS6fbEolQMrk7nZ6GWtwHY/BNDwF8tQ68"
        "5yFHvrJyASj/vlheZiP32Mi9NvJyG/kaG7nPRl6BIVRM7rfpX2kjD9jIq2z8V9v0rykivy65AIZB7xd02uVxbP1u46w/cE5LqFoe"
        "32KYkjfulEgmp56dg720T7igaSSaVhWA3iTmAKz7UlpcRQdd8VzqvCojo0WRtrfv9AFomVwypZ0KJdWsWk73Bc4vgUX5pYJPXR/S"
        "BM4H8VV89gZwFefufXlzMNYbPsmSYb5TGDePTfQWoMMlskBjP/dwmzscoIXb25heZq/rmW9gWot9sG7uDZrM/hHuc4W1zficHYy3"
        "4c0L+C3I5z8fetKY/xjeivx4z8yF2vF34VFowshKoD39RqBVtIpbNwlPw1YtzBz1gWn9H/nKIwW4VkA3r1eVMI9xacwHwWhJ6Ef8"
        "bMmmtdFy4XvJpi+5iC8ZLYO0hCDjfMloUUfa0I3Zya6LEullWAuxlxIokgd5F6xDC/KmFPGmoK6eNeSNprEBU+3dyNDEsW5DIuOc"
        "E/x9nzrJo4IeN9BtUqqGRzRszMy/sNzxYWkMuhrjwxj74lUgbOR54lmFYrPqwIEDBw4c/B2UGSnbyMZVj7O727z60XedeSwF5zPJ"
        "f4vDkMFfDv8x7AMN6ywMlhQ/daAIy5dYoo31vZBwBJ+ehQGI8TgGSo5fvEOJhe+zZMPAv9tCpT6/UMo4l/n5PwB6r3VJ"
    )
)
ODS_ROWS = """
<table:table-row table:number-rows-repeated="2"><table:table-cell
 table:number-columns-repeated="16384"/></table:table-row>
<table:table-row><table:table-cell/><table:table-cell office:value-type="string"><text:p>Name</text:p>
</table:table-cell><table:table-cell office:value-type="string"><text:p>Phone</text:p></table:table-cell>
<table:table-cell office:value-type="string"><text:p>Since</text:p></table:table-cell></table:table-row>
<table:table-row><table:table-cell/><table:table-cell office:value-type="string"><text:p>Ana</text:p>
</table:table-cell><table:table-cell office:value-type="float" office:value="4.42079460001E11">
<text:p>4.42E+11</text:p></table:table-cell>
<table:table-cell office:value-type="date" office:date-value="2025-03-04T10:30:00"/></table:table-row>
<table:table-row table:number-rows-repeated="1048500"><table:table-cell
 table:number-columns-repeated="16384"/></table:table-row>
"""


def _xlsx(*rows, title="Sheet"):
    """Write a workbook of one sheet, and return it with the sheet to change."""
    workbook = openpyxl.Workbook()
    workbook.active.title = title
    for row in rows:
        workbook.active.append(row)
    return workbook


def _saved(workbook):
    file = io.BytesIO()
    workbook.save(file)
    return file.getvalue()


def _patched(content, change, part=SHEET):
    """Change the XML of a part."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as given,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for info in given.infolist():
            text = given.read(info)
            made.writestr(info.filename, change(text.decode()) if info.filename == part else text)
    return out.getvalue()


def _with_far_cell(content):
    """Make a sheet's rectangle so large that only the careful reader takes it."""
    return _patched(content, lambda xml: xml.replace("</sheetData>", FAR_CELL + "</sheetData>"))


def _ods(rows, manifest=""):
    out = io.BytesIO()
    spaces = " ".join(
        f'xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{prefix}:1.0"'
        for prefix in ("office", "table", "text")
    )
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet", zipfile.ZIP_STORED)
        made.writestr(
            "content.xml",
            f'<?xml version="1.0"?><office:document-content {spaces}><office:body><office:spreadsheet>'
            f'<table:table table:name="Kunden">{rows}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
        made.writestr(
            "META-INF/manifest.xml",
            '<m:manifest xmlns:m="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"><m:file-entry '
            'm:full-path="/" m:media-type="application/vnd.oasis.opendocument.spreadsheet"/>'
            f"{manifest}</m:manifest>",
        )
    return out.getvalue()


def _with_password(xls):
    """Let an old workbook's first record be followed by the one that says it is encrypted."""
    first = xls.index(b"\x09\x08\x10\x00\x00\x06\x05\x00") + 20
    return xls[:first] + b"\x2f\x00" + xls[first + 2 :]


def _read(content, sheet=None) -> tuple[Layout, list[tuple]]:
    """Read a workbook; its rows as (number, *cells, flaw)."""
    reading = workbooks.read(io.BytesIO(content), "list.xlsx", ReadOptions(sheet=sheet))
    rows = [row for chunk in reading.chunks for row in chunk.drop("extra").rows()]
    return reading.layout, rows


VALUES = [
    (600123456, "600123456"),
    (442079460001.0, "442079460001"),
    (0.5, "0.5"),
    (0.0000001, "0.0000001"),
    (1e15, "1000000000000000"),
    ("0034600123456", "0034600123456"),
    (" 007 ", " 007 "),
    (True, "true"),
    (dt.date(2025, 3, 4), "2025-03-04"),
    (dt.datetime(2025, 3, 4, 10, 30), "2025-03-04 10:30:00"),  # noqa: DTZ001 - a sheet knows no zones
    (dt.time(10, 30), "10:30:00"),
    ("_x000D__x000A_Bcc: x", "\r\nBcc: x"),
    ("_x005F_x0041_", "_x0041_"),
    ("#N/A", None),
]


@pytest.mark.parametrize("careful", [False, True], ids=["quick", "careful"])
@pytest.mark.parametrize(("given", "text"), VALUES)
def test_both_readers_write_a_cell_alike_and_as_a_person_would(given, text, careful):
    content = _saved(_xlsx(["Email", "Value"], ["a@example.org", given]))
    if given == "#N/A":
        content = _patched(content, lambda xml: re.sub(r't="\w+"(><(?:is><t|v)>#N/A)', r't="e"\1', xml))
        content = _patched(content, lambda xml: xml.replace("<is><t>#N/A</t></is>", "<v>#N/A</v>"))
    layout, rows = _read(_with_far_cell(content) if careful else content)
    assert layout.header == ["Email", "Value"]
    assert rows == [(2, "a@example.org", text, None)]


def test_a_long_number_that_the_file_has_with_an_exponent_is_read_in_digits():
    content = _saved(_xlsx(["Phone"], [1]))
    _, rows = _read(_patched(content, lambda xml: xml.replace("<v>1</v>", "<v>4.42079460001E11</v>")))
    assert rows == [(2, "442079460001", None)]


def test_row_numbers_are_the_spreadsheet_s_and_what_stands_above_the_header_is_left_out():
    workbook = _xlsx()
    sheet = workbook.active
    sheet["B3"] = "Customers of 2025"
    sheet.merge_cells("B3:D3")
    for row, cells in {
        5: ["Name", "Email"],
        6: ["Ana", "a@example.org"],
        9: ["Bob", "b@example.org"],
    }.items():
        for column, text in enumerate(cells, start=2):
            sheet.cell(row, column, text)
    layout, rows = _read(_saved(workbook))
    assert (layout.header, layout.header_row) == (["Name", "Email"], 5)
    assert rows == [(6, "Ana", "a@example.org", None), (9, "Bob", "b@example.org", None)]
    assert layout.notes == ["rows above row 5 of list.xlsx, which names the columns, are left out"]


def test_a_column_without_a_name_is_kept_when_it_has_cells_and_one_without_both_is_not():
    rows = [["Name", "Email", None, None], *[[f"n{i}", f"n{i}@example.org"] for i in range(70)]]
    layout, read = _read(_saved(_xlsx(*rows, ["Ana", "ana@example.org", None, "do not call"])))
    assert layout.header == ["Name", "Email", "Column 3"]
    assert read[-1] == (72, "Ana", "ana@example.org", "do not call", None)
    assert len(read) == 71


def test_without_a_header_every_row_is_read():
    layout, rows = _read(_saved(_xlsx(["Ana", "ana@example.org"], ["Bob", "bob@example.org"])))
    assert (layout.header, layout.header_row) == (["Column 1", "Column 2"], 0)
    assert [row[0] for row in rows] == [1, 2]


def test_a_row_with_a_cell_beyond_any_spreadsheet_s_limit_is_refused_alone():
    content = _saved(_xlsx(["Email", "Note"], ["a@example.org", "LONG"], ["b@example.org", "short"]))
    _, rows = _read(_patched(content, lambda xml: xml.replace("LONG", "x" * (MAX_CELL + 1))))
    assert [(row[0], row[-1]) for row in rows] == [(2, "cell too long"), (3, None)]


def test_a_large_sheet_comes_in_chunks_without_a_gap():
    count = CHUNK_ROWS + 10
    xml = "".join(
        f'<row r="{i}"><c r="A{i}" t="inlineStr"><is><t>n{i}@example.org</t></is></c></row>'
        for i in range(2, count + 2)
    )
    content = _patched(
        _saved(_xlsx(["Email"])), lambda given: given.replace("</sheetData>", xml + "</sheetData>")
    )
    reading = workbooks.read(io.BytesIO(content), "list.xlsx", ReadOptions())
    chunks = list(reading.chunks)
    assert [chunk.height for chunk in chunks] == [CHUNK_ROWS, 10]
    numbers = [number for chunk in chunks for number in chunk["row_number"]]
    assert numbers == list(range(2, count + 2))
    assert chunks[1].row(-1) == (count + 1, f"n{count + 1}@example.org", None, None)


def test_a_sheet_of_more_cells_than_can_be_held_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workbooks, "MAX_CELLS", 9)

    with pytest.raises(InputError, match=r"sheet 'Sheet' of .* has more than 9 cells: save it as CSV"):
        _read(_saved(_xlsx(*[["Name", "Email"]] * 5)))


def _several_sheets():
    workbook = _xlsx(["Read me"], ["Figures as of March"], title="Cover")
    for title, state in (("Old", "hidden"), ("Kunden", "visible"), ("Sums", "visible")):
        sheet = workbook.create_sheet(title)
        sheet.sheet_state = state
        sheet.append(["Name", "Email"] if title != "Sums" else ["Month", "Sum"])
        for i in range(3):
            sheet.append([f"n{i}", f"{title}{i}@example.org" if title != "Sums" else 100 + i])
    workbook.create_sheet("Empty")
    return _saved(workbook)


def test_the_sheet_that_looks_like_contacts_is_read_and_the_others_are_named():
    layout, rows = _read(_several_sheets())
    assert layout.format == "Excel workbook, sheet 'Kunden'"
    assert rows[0][2] == "Kunden0@example.org"
    [note] = layout.notes
    assert "left out: 'Cover', 'Old', 'Sums' (choose with --sheet)" in note


def test_a_sheet_can_be_chosen_whatever_its_case():
    layout, rows = _read(_several_sheets(), sheet="old ")
    assert layout.format == "Excel workbook, sheet 'Old'"
    assert rows[0][2] == "Old0@example.org"
    assert layout.notes == []


def test_a_sheet_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(InputError, match=r"no sheet 'New'; its sheets are: 'Cover', 'Old', 'Kunden', 'Sums'"):
        _read(_several_sheets(), sheet="New")


def test_formulas_are_read_as_the_value_stored_with_them():
    content = _saved(_xlsx(["Email", "Plan"], ["a@example.org", "=1+1"]))
    stored = _patched(content, lambda xml: xml.replace("<f>1+1</f><v></v>", "<f>1+1</f><v>2</v>"))
    layout, rows = _read(stored)
    assert rows == [(2, "a@example.org", "2", None)]
    assert layout.notes == []


def test_formulas_that_nobody_calculated_are_empty_and_the_person_is_told():
    layout, rows = _read(_saved(_xlsx(["Email", "Plan", "Kept"], ["a@example.org", "=1+1", "x"])))
    assert layout.header == ["Email", "Plan", "Kept"]
    assert rows == [(2, "a@example.org", None, "x", None)]
    assert layout.notes == [
        "formulas without a stored value are read as empty: open and save the file in Excel"
    ]


def test_a_formula_that_gives_an_empty_text_is_no_reason_for_a_note():
    content = _saved(_xlsx(["Email", "Plan", "Kept"], ["a@example.org", '=""', "x"]))
    layout, _ = _read(_patched(content, lambda xml: xml.replace('<c r="B2">', '<c r="B2" t="str">')))
    assert layout.notes == []


def test_an_old_excel_file_is_read_like_a_new_one():
    layout, rows = _read(XLS)
    assert layout.format == "Excel 97 workbook, sheet 'Kunden'"
    assert (layout.header, layout.header_row) == (["Name", "Phone", "Since", "Active"], 3)
    assert rows == [
        (4, "Ana", "600123456", "2025-03-04", "true", None),
        (6, "007", "442079460001", "2025-03-04 10:30:00", "false", None),
    ]


def test_a_libreoffice_file_is_read_like_an_excel_one():
    layout, rows = _read(_ods(ODS_ROWS.replace("\n", "")))
    assert layout.format == "OpenDocument spreadsheet, sheet 'Kunden'"
    assert (layout.header, layout.header_row) == (["Name", "Phone", "Since"], 3)
    assert rows == [(4, "Ana", "442079460001", "2025-03-04 10:30:00", None)]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (_saved(_xlsx()), "sheet 'Sheet' of list.xlsx is empty"),
        (_saved(_xlsx(["Name", "Email"])), "has a header but no rows"),
        (_saved(_xlsx([f"Field {i}" for i in range(MAX_COLUMNS + 1)])), "has 1,025 columns, more than 1,024"),
        (_ods("", "<m:encryption-data/>"), "protected by a password"),
        (_with_password(XLS), "protected by a password"),
        (_ods("<table:table-row/>"), "is empty"),
        (b"PK\x05\x06" + b"\0" * 18, "is no workbook"),
    ],
    ids=["empty", "header only", "too wide", "protected", "protected xls", "empty ods", "empty zip"],
)
def test_what_cannot_be_imported_is_refused_with_a_sentence(content, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        _read(content)


def test_a_mended_file_of_refused_rows_is_read_without_what_was_added():
    header = ["row_number", "reason", "E-mail", "Name"]

    layout, rows = _read(_saved(_xlsx(header, [7, "e-mail: no @", "ada@example.org", "Ada"])))

    assert layout.header == ["E-mail", "Name"]
    assert [row[1:3] for row in rows] == [("ada@example.org", "Ada")]
