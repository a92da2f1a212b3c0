"""Files: every row with its number, and a sentence for each file that is none."""

from pathlib import Path

import pytest

from messaging.audience.reading import read_csv
from messaging.errors import InputError


@pytest.fixture
def a_file(tmp_path: Path):
    def write(content: bytes | str) -> Path:
        path = tmp_path / "people.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def rows(path: Path) -> list[tuple]:
    return [
        (number, [cell for cell in cells if cell is not None], extra, flaw)
        for number, *cells, extra, flaw in read_csv(path).rows.iter_rows()
    ]


def test_empty_rows_are_left_out_and_the_others_keep_their_numbers(a_file):
    path = a_file('a,b\n1,2\n\n" ",\xa0\n\n3,"x\ny"\n4,5\n\n')

    assert rows(path) == [
        (2, ["1", "2"], None, None),
        (6, ["3", "x\ny"], None, None),
        (7, ["4", "5"], None, None),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_every_system_are_read(a_file, end: str):
    path = a_file(end.join(["\ufeffa,b", "1,2", "", "3,4", ""]))

    assert read_csv(path).header == ["a", "b"]
    assert rows(path) == [(2, ["1", "2"], None, None), (4, ["3", "4"], None, None)]


def test_leading_zeros_stay(a_file):
    assert rows(a_file("phone\n007\n0.10\n")) == [(2, ["007"], None, None), (3, ["0.10"], None, None)]


def test_a_row_with_too_many_cells_keeps_them(a_file):
    path = a_file("a,b\n1,2,,3\n4,5,,\n6\n")

    assert rows(path) == [
        (2, ["1", "2"], ["", "3"], "too many cells"),
        (3, ["4", "5"], None, None),
        (4, ["6"], None, None),
    ]


def test_a_quote_inside_a_cell_is_text(a_file):
    path = a_file('a,b\n6" pipe,1\n2,3\n7" pipe,4\n"x" y,5\n')

    assert [cells for _, cells, _, _ in rows(path)] == [
        ['6" pipe', "1"],
        ["2", "3"],
        ['7" pipe', "4"],
        ["x y", "5"],
    ]


def test_a_quote_that_is_never_closed_costs_its_own_line_only(a_file):
    path = a_file('a,b\n1,"open\n2,"two\nlines"\n"open,3\n4,5\n')

    assert rows(path) == [
        (2, ["1", '"open'], None, "quote not closed"),
        (3, ["2", "two\nlines"], None, None),
        (4, ['"open', "3"], None, "quote not closed"),
        (5, ["4", "5"], None, None),
    ]


def test_many_quotes_that_are_never_closed_are_read_in_one_go(a_file):
    path = a_file("a,b\n" + '1,"open\n' * 20_000)

    assert len(rows(path)) == 20_000


def test_columns_without_a_name_are_called_by_their_place(a_file):
    assert read_csv(a_file(" a\u200b ,,b\tc,\n1,2,3,4\n")).header == ["a", "Column 2", "b c", "Column 4"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "people.csv is empty"),
        (b"\xef\xbb\xbf \r\n\r\n", "people.csv is empty"),
        (b"name,email\n", "has a header but no rows"),
        (b"name,email\n\n,\n , \n", "has a header but no rows"),
        (b"\nname,email\n1,2\n", "begins with an empty row"),
        (b",\n1,2\n", "begins with an empty row"),
        ("name,email\nJosé,\n".encode("cp1252"), r'not UTF-8 text \(line 2\): save it as "CSV UTF-8"'),
        ("name,email\nAda,\n".encode("utf-16"), r"not UTF-8 text \(line 1\)"),
        (b"name, name ,email\n1,2,3\n", "more than one column 'name'"),
        (b"Ada,ada@example.org\nBob,bob@example.org\n", "has no header"),
    ],
)
def test_a_file_that_cannot_be_used_says_what_to_do(a_file, content: bytes, says: str):
    with pytest.raises(InputError, match=says) as raised:
        read_csv(a_file(content))

    assert "@" not in str(raised.value)


def test_a_path_without_a_file_says_so(tmp_path: Path):
    with pytest.raises(InputError, match=r"there is no file .*none\.csv"):
        read_csv(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is not a file"):
        read_csv(tmp_path)
