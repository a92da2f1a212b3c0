import pytest

from messaging.audience.files.heading import Heading, find_heading, rows_frame
from messaging.audience.files.layout import MAX_CELL, MAX_COLUMNS, row_schema


@pytest.mark.parametrize(
    ("records", "index"),
    [
        ([["Name", "E-mail"], ["Ada", "ada@example.org"]], 0),
        ([[], ["", ""], ["Name", "E-mail"], ["Ada", "ada@example.org"]], 2),
        ([["Customers"], ["as of 2026-11-22"], ["Nombre", "Correo", "Móvil"], ["Ada", "a@b.org", "1"]], 2),
        ([["Questions: help@example.org"], ["Kunde", "Mail", "Tel"], ["Ada", "ada@example.org", ""]], 1),
        ([["Person", "", "", "Order", ""], ["Name", "Email", "Phone", "Id", "Date"], ["Ada"]], 1),
        ([["姓名", "电子邮箱"], ["王小明", "wang@example.org"]], 0),
        ([["Адрес электронной почты"], ["ada@example.org"]], 0),
        # Nobody knows these words, but they name what stands below.
        ([["foo", "bar"], ["1", "2"]], 0),
        ([["foo", "bar"], ["Ada", "ada@example.org"]], 0),
        # Somebody's row is no header, whatever its other cells say.
        ([["Ada Phone", "ada@example.org"], ["Bob", "bob@example.org"]], None),
        ([["Ada", "+44 20 7946 0000"], ["Bob", ""]], None),
        ([["ada@example.org"], ["bob@example.org"]], None),
        ([["Ada", "", ""], ["Bob", "bob@example.org", "07946 000000"]], None),
        ([["Ada", "a@b.org"], ["Bob", "b@c.org"], ["Name", "E-mail"], ["Eve", "e@f.org"]], None),
        ([], None),
    ],
)
def test_the_record_that_names_the_columns_is_found(records: list[list[str]], index: int | None):
    assert find_heading(records).index == index


def test_names_are_cleaned_and_each_is_there_once():
    header = [" Name\u200b ", "Phone", "", "Phone", "E\tmail", "Phone", "Phone 2"]

    assert find_heading([header, ["Ada", "1"]]).names == [
        "Name",
        "Phone",
        "Column 3",
        "Phone 2",
        "E mail",
        "Phone 3",
        "Phone 2 2",
    ]


def test_columns_without_a_header_are_called_by_their_place():
    records = [["Ada", "ada@example.org"], ["Bob", "bob@example.org", "London", ""]]

    assert find_heading(records) == Heading(None, ["Column 1", "Column 2", "Column 3"])


def test_rows_are_fitted_to_the_header():
    rows = rows_frame(
        [
            (2, ["a", ""], None),
            (3, ["b"], None),
            (4, ["c", "d", " ", ""], None),
            (5, ["e", "f", "", "g", ""], None),
            (6, ["h", "i"], "quote not closed"),
            (7, ["nul\0", None], None),
        ],
        2,
    )

    assert rows.schema == row_schema(2)
    assert rows.rows() == [
        (2, "a", None, None, None),
        (3, "b", None, None, None),
        (4, "c", "d", None, None),
        (5, "e", "f", ["", "g"], "too many cells"),
        (6, "h", "i", None, "quote not closed"),
        (7, "nul\ufffd", None, None, None),
    ]


def test_rows_without_a_visible_sign_are_left_out():
    blank = [[], ["", ""], [None, " \t"], ["\xa0", "\u200b"], ["", "", "\n"]]
    rows = rows_frame([(number, cells, None) for number, cells in enumerate([*blank, ["", "x"]])], 2)

    assert rows["row_number"].to_list() == [5]


def test_a_cell_that_is_too_long_flaws_its_row_and_shows_its_beginning():
    rows = rows_frame([(1, ["é" * MAX_CELL, "x"], None), (2, ["é" * (MAX_CELL + 1), "x"], None)], 2)

    assert rows["flaw"].to_list() == [None, "cell too long"]
    assert rows["cell_0"].to_list() == ["é" * MAX_CELL, "é" * 1_000 + "…"]


def test_a_million_cells_beyond_the_header_are_cut():
    rows = rows_frame([(1, ["x"] * 1_000_000, None)], 1)

    assert rows["extra"][0].len() == MAX_COLUMNS + 1


@pytest.mark.parametrize(
    "above",
    [
        [["Summe", "1.234,50", ""], ["Stand", "31.12.2024", ""], ["", "", ""]],
        [["Zeitraum", "01.01.2024", "31.12.2024"]],
        [["Contact person", "info@shop.example", ""]],
        [["Account:", "Shop (support@shop.example)", ""], ["Phone:", "+49 30 1234567", ""]],
    ],
)
def test_remarks_with_dates_sums_and_addresses_above_the_header_are_no_rows(above: list[list[str]]):
    people = [[f"Kunde {n}", f"kunde.{n}@example.org", str(n)] for n in range(5)]

    heading = find_heading([*above, ["Kunde", "E-Mail", "Umsatz"], *people])

    assert (heading.index, heading.names) == (len(above), ["Kunde", "E-Mail", "Umsatz"])
