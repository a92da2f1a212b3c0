import csv
import io
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.audience.cleaning import INVISIBLE
from messaging.audience.files import delimited
from messaging.audience.files.child import read
from messaging.audience.files.delimited import Shape
from messaging.audience.files.encodings import Text
from messaging.audience.files.heading import Heading
from messaging.audience.files.layout import CHUNK_ROWS, MAX_CELL, Reading, ReadOptions, row_schema
from messaging.errors import InputError


def reading(content: bytes | str, name: str = "people.csv") -> Reading:
    content = content.encode() if isinstance(content, str) else content
    return read(io.BufferedReader(io.BytesIO(content)), name, ReadOptions())


def rows(content: bytes | str, name: str = "people.csv") -> list[tuple]:
    return [
        (number, [cell for cell in cells if cell is not None], extra, flaw)
        for chunk in reading(content, name).chunks
        for number, *cells, extra, flaw in chunk.iter_rows()
    ]


def cells(content: bytes | str, name: str = "people.csv") -> list[list[str]]:
    return [cells for _, cells, _, _ in rows(content, name)]


def test_empty_rows_are_left_out_and_the_others_keep_their_numbers():
    assert rows('a,b\n1,2\n\n" ",\xa0\n\n3,"x\ny"\n4,5\n\n') == [
        (2, ["1", "2"], None, None),
        (6, ["3", "x\ny"], None, None),
        (7, ["4", "5"], None, None),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("cell", ["2", '"2"'])
def test_line_ends_of_every_system_are_read(end: str, cell: str):
    content = end.join(["\ufeffa,b", f"1,{cell}", "", "3,4", ""])

    assert reading(content).layout.header == ["a", "b"]
    assert rows(content) == [(2, ["1", "2"], None, None), (4, ["3", "4"], None, None)]


def test_leading_zeros_stay():
    assert cells("phone,x\n007,1\n0.10,1\n") == [["007", "1"], ["0.10", "1"]]


def test_a_row_with_too_many_cells_keeps_them():
    assert rows("a,b\n1,2,,3\n4,5,,\n6\n7,8,9\n") == [
        (2, ["1", "2"], ["", "3"], "too many cells"),
        (3, ["4", "5"], None, None),
        (4, ["6"], None, None),
        (5, ["7", "8"], ["9"], "too many cells"),
    ]


def test_a_quote_inside_a_cell_is_text():
    assert cells('a,b\n6" pipe,1\n2,3\n7" pipe,4\n"x" y,5\n') == [
        ['6" pipe', "1"],
        ["2", "3"],
        ['7" pipe', "4"],
        ["x y", "5"],
    ]


def test_a_quote_that_is_never_closed_costs_its_own_line_only():
    assert rows('a,b\n1,"open\n2,"two\nlines"\n"open,3\n4,5\n') == [
        (2, ["1", '"open'], None, "quote not closed"),
        (3, ["2", "two\nlines"], None, None),
        (4, ['"open', "3"], None, "quote not closed"),
        (5, ["4", "5"], None, None),
    ]


def test_many_quotes_that_are_never_closed_are_read_in_one_go():
    assert len(rows("a,b\n" + '1,"open\n' * 20_000)) == 20_000


def test_a_quote_that_is_not_closed_within_a_megabyte_is_never_closed():
    found = rows('a,b\n1,"open\n' + f"2,{'x' * 1_000}\n" * 5_000 + '4,"closed"\n')

    assert found[0] == (2, ["1", '"open'], None, "quote not closed")
    assert found[-1] == (5_003, ["4", "closed"], None, None)


def test_ten_megabytes_in_one_cell_cost_its_own_row_only():
    for quote in ("", '"'):
        found = rows(f"a,b\n1,2\n3,{quote}{'x' * 10_000_000}{quote}\n4,5\n")

        assert [(number, flaw) for number, _, _, flaw in found] == [
            (2, None),
            (3, "cell too long"),
            (4, None),
        ]
        assert len(found[1][1][1]) < 2_000


def test_a_cell_may_be_as_long_as_a_spreadsheet_allows():
    assert [flaw for *_, flaw in rows(f"a,b\n1,{'x' * MAX_CELL}\n2,{'x' * (MAX_CELL + 1)}\n")] == [
        None,
        "cell too long",
    ]


def test_nul_becomes_a_sign_that_the_ledger_can_keep():
    assert cells('Name,E-mail\nA\0da,ada@example.org\n"B\0""b",6" x\0\n') == [
        ["A\ufffdda", "ada@example.org"],
        ['B\ufffd"b', '6" x\ufffd'],
    ]


def test_a_chunk_has_the_schema_and_no_more_rows_than_agreed():
    chunks = list(reading("a,b\n" + "1,2\n" * (2 * CHUNK_ROWS + 1)).chunks)

    assert [chunk.schema for chunk in chunks] == [row_schema(2)] * len(chunks)
    assert max(chunk.height for chunk in chunks) <= CHUNK_ROWS
    assert sum(chunk.height for chunk in chunks) == 2 * CHUNK_ROWS + 1


def test_a_few_flaws_in_a_large_file_do_not_make_crumbs_of_its_chunks():
    line = "Ada,ada@example.org,London\n"
    content = "Name,E-mail,City\n" + (line * 500 + 'Bob,b@example.org,6" x\n') * 100

    assert len(list(reading(content).chunks)) <= 4


def test_fifty_million_empty_lines_are_nothing():
    assert rows(b"a,b\n1,2\n" + b"\n" * 50_000_000 + b"3,4\n") == [
        (2, ["1", "2"], None, None),
        (50_000_003, ["3", "4"], None, None),
    ]


def slowly(text: str) -> Iterator[tuple[list[str], str | None]]:
    """A record is the fewest lines that the csv module reads; a line that begins none stands alone."""
    lines = io.StringIO(text, newline="").readlines()
    while lines:
        count = next((count for count in range(1, len(lines) + 1) if is_record(lines[:count])), 0)
        if count:
            yield next(csv.reader(lines[:count], strict=True)), None
        else:
            line = lines[0].rstrip("\r\n")
            *alone, last = csv.reader([f"{line}\n", "next"])
            yield (alone[0], None) if last == ["next"] else (line.split(","), "quote not closed")
        del lines[: count or 1]


def is_record(lines: list[str]) -> bool:
    try:
        list(csv.reader(lines, strict=True))
    except csv.Error:
        return False
    return True


def expected(text: str, width: int) -> list[tuple]:
    found = []
    for number, (record, flaw) in enumerate(slowly(text.replace("\0", "\ufffd")), start=1):
        row = [(number, cell) for number, cell in enumerate(record) if cell.strip(INVISIBLE)]
        extra = record[width : row[-1][0] + 1] if row and row[-1][0] >= width else None
        filled = [record[place] or None if place < len(record) else None for place in range(width)]
        if row or flaw:
            found.append((number, *filled, extra, "too many cells" if extra else flaw))
    return found[1:]


REGULAR = ["a", "é", " ", "\xa0", ",", ",", "\n", "\r\n", "\0", '"q",', '"a,""b"\n', '"l\nm",', '""']
IRREGULAR = [*REGULAR, '"', '"', "\r", 'x"', ',"', '\n"']


@pytest.mark.parametrize("signs", [REGULAR, IRREGULAR], ids=["regular", "irregular"])
@given(data=st.data())
def test_rows_are_those_of_a_slow_loop_wherever_blocks_cut_the_file(signs: list[str], data: st.DataObject):
    text = "a,b\n" + "".join(data.draw(st.lists(st.sampled_from(signs), max_size=40)))
    content = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(content) - 1), max_size=4)))
    blocks = [content[start:end] for start, end in pairwise([0, *cuts, len(content)])]
    shape = Shape(",", Heading(0, ["a", "b"]), is_table=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "_CAREFUL_BYTES", 4)  # so that the fast way is tried again soon
        try:
            chunks = delimited.read(Text("utf-8", [], content, iter(blocks)), "x.csv", shape).chunks
            found = [row for chunk in chunks for row in chunk.rows()]
        except InputError:
            found = []

    assert found == expected(text, 2)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_the_delimiter_is_told(delimiter: str, quoting: int):
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting)
    records = [["Name", "E-mail", "Price", "Tags"], ["Doe, Ada", "ada@example.org", "3,50", "a;b;c|d"]]
    records += [
        ["Bob\tB.", "bob@example.org", "4,20", "x, y"],
        ["Line\nend", "l@example.org", "1.000,00", ";"],
    ]
    writer.writerows(records)

    assert [reading(file.getvalue()).layout.header, *cells(file.getvalue())] == records


@pytest.mark.parametrize(
    ("content", "header", "first"),
    [
        ("id;price\n1;3,50\n2;4,20\n", ["id", "price"], ["1", "3,50"]),
        (
            "Name\tCity\nDoe, Ada\tParis, France\nRoe, Bob\tRome, Italy\n",
            ["Name", "City"],
            ["Doe, Ada", "Paris, France"],
        ),
        ("Email\nada@example.org\nbob@example.org\n", ["Email"], ["ada@example.org"]),
        ("Email,Name\nada@example.org\nbob@example.org,Bob\n", ["Email", "Name"], ["ada@example.org"]),
        ("sep=;\r\nName;Note\r\nAda;a,b,c\r\n", ["Name", "Note"], ["Ada", "a,b,c"]),
        ("\ufeffsep=\t\nName\tNote\nAda\tx\n", ["Name", "Note"], ["Ada", "x"]),
        (
            'Name;Note\nAda;"one;two\nthree;four;five"\nBob;\n',
            ["Name", "Note"],
            ["Ada", "one;two\nthree;four;five"],
        ),
    ],
)
def test_what_stands_in_cells_does_not_mislead(content: str, header: list[str], first: list[str]):
    assert reading(content).layout.header == header
    assert cells(content)[0] == first


def test_lines_above_the_header_are_left_out_and_said():
    content = "Customers 2026\nExported by ops@example.org\n\nName;E-mail\nAda;ada@example.org\n"
    layout = reading(content).layout

    assert (layout.header, layout.header_row) == (["Name", "E-mail"], 4)
    assert layout.notes == ["the first 3 rows of people.csv stand above the header and are left out"]
    assert rows(content) == [(5, ["Ada", "ada@example.org"], None, None)]


def test_without_a_header_the_first_row_is_somebody():
    content = "Ada,ada@example.org\nBob,bob@example.org\n"
    layout = reading(content).layout

    assert (layout.header, layout.header_row) == (["Column 1", "Column 2"], 0)
    assert "no header" in layout.notes[0]
    assert rows(content)[0] == (1, ["Ada", "ada@example.org"], None, None)


def test_a_list_of_bare_addresses_is_a_column():
    content = "ada@example.org\n\nbob@example.org\neve@example.org\n"

    assert rows(content, "people.txt") == [
        (1, ["ada@example.org"], None, None),
        (3, ["bob@example.org"], None, None),
        (4, ["eve@example.org"], None, None),
    ]
    assert reading(content, "people.txt").layout.format == "text, one cell per line"


@pytest.mark.parametrize(
    "content",
    [
        "Dear all,\nplease write to Ada, ada@example.org, or call.\nThanks\n",
        "Ada Lovelace <ada@example.org>\nBob Stone <bob@example.org>\n",
        "Lovelace, Ada <ada@example.org>\nStone, Bob <bob@example.org>\n",
    ],
)
def test_prose_is_not_taken_for_a_table(content: str):
    assert reading(content, "people.txt").layout.format == "free text"


def test_a_mended_file_of_refused_rows_is_read_without_what_was_added():
    content = "row_number,reason,Name,E-mail\n7,e-mail: no @,Ada,ada@example.org\n9,no address,,\n"

    assert reading(content).layout.header == ["Name", "E-mail"]
    assert rows(content) == [(2, ["Ada", "ada@example.org"], None, None)]


def test_names_that_are_code_elsewhere_are_names():
    content = '__class__,"""; DROP TABLE contacts; --",E-mail,E-mail\n1,2,ada@example.org,x\n'

    assert reading(content).layout.header == ["__class__", '"; DROP TABLE contacts; --', "E-mail", "E-mail 2"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xef\xbb\xbf \r\n\r\n", "people.csv is empty"),
        (b"name,email\n", "has a header but no rows"),
        (b"name,email\n\n,\n , \n", "has a header but no rows"),
        (b",".join(b"c%d" % place for place in range(1_000_000)) + b"\n1,2\n", "more than 1,024 columns"),
        (b"1," * 1_000_000, "more than 1,024 columns"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(content: bytes, says: str):
    with pytest.raises(InputError, match=says):
        reading(content)


def test_a_row_with_a_million_cells_is_refused_alone():
    found = rows(b"a,b\n1,2\n" + b"3," * 1_000_000 + b"\n4,5\n")

    assert [(number, flaw) for number, _, _, flaw in found] == [(2, None), (3, "too many cells"), (4, None)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_quotes_behind_a_space_are_quotes_where_the_file_writes_them_so(end: str):
    lines = [
        '"E-mail", "Name", "City"',
        '"ada@example.org", "Lovelace, Ada", "St. ""James"""',
        "bob@example.org, Bob,",
    ]
    lines += ['"cy@example.org", "Two', 'Lines", "York"'] * 3_000

    found = reading(end.join(lines))

    assert found.layout.header == ["E-mail", "Name", "City"]
    first, second, third, *rest = [row[:-2] for chunk in found.chunks for row in chunk.iter_rows()]
    assert first == (2, "ada@example.org", "Lovelace, Ada", 'St. "James"')
    assert (second[1], second[2].strip()) == ("bob@example.org", "Bob")
    assert third == (4, "cy@example.org", f"Two{end}Lines", "York")
    assert {row[1:] for row in rest} == {third[1:]}
    assert len(rest) == 2_999


def test_a_space_before_a_quote_inside_a_cell_changes_nothing():
    content = 'Name,Note\n"said, ""x"", then",1\n2, "y" z\n'

    assert cells(content) == [['said, "x", then', "1"], ["2", ' "y" z']]
