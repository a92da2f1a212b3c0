"""Parquet: every type of column comes as a person would write it."""

import datetime as dt
import io

import polars as pl
import pytest

from messaging.audience.files import parquet
from messaging.audience.files.layout import CHUNK_ROWS, ReadOptions
from messaging.errors import InputError

MOMENT = dt.datetime(2025, 3, 4, 10, 30, tzinfo=dt.UTC)

COLUMNS = {
    "text": (pl.Series(["Ana", "", None]), ["Ana", None, None]),
    "whole": (pl.Series([600123456, 0, None]), ["600123456", "0", None]),
    "float": (pl.Series([4.42079460001e11, 1.5, None]), ["442079460001", "1.5", None]),
    "large": (pl.Series([1e21, float("nan"), -3.0]), ["1000000000000000000000", None, "-3"]),
    "decimal": (
        pl.Series(["1.50", "600123456.00", None]).cast(pl.Decimal(20, 2)),
        ["1.50", "600123456", None],
    ),
    "yes": (pl.Series([True, False, None]), ["true", "false", None]),
    "day": (pl.Series([dt.date(2025, 3, 4), None, None]), ["2025-03-04", None, None]),
    "midnight": (pl.Series([dt.date(2025, 3, 4), None, None]).cast(pl.Datetime), ["2025-03-04", None, None]),
    "moment": (
        pl.Series([MOMENT.replace(tzinfo=None), None, None]),
        ["2025-03-04 10:30:00", None, None],
    ),
    "zoned": (pl.Series([MOMENT, None, None]), ["2025-03-04 10:30:00+00:00", None, None]),
    "time": (pl.Series([dt.time(10, 30), None, None]), ["10:30:00", None, None]),
    "span": (pl.Series([dt.timedelta(hours=3), None, None]), ["PT3H", None, None]),
    "list": (pl.Series([["a", "é"], [], None]), ['["a", "é"]', "[]", None]),
    "struct": (
        pl.Series([{"a": 1, "b": dt.date(2025, 3, 4)}, None, None]),
        ['{"a": 1, "b": "2025-03-04"}', None, None],
    ),
    "kind": (pl.Series(["x", "y", None], dtype=pl.Categorical), ["x", "y", None]),
    "bytes": (pl.Series([b"Ana", "é".encode(), None]), ["Ana", "é", None]),
    "nothing": (pl.Series([None, None, None]), [None, None, None]),
}


def _written(frame: pl.DataFrame) -> io.BytesIO:
    file = io.BytesIO()
    frame.write_parquet(file, row_group_size=10_000)
    return io.BytesIO(file.getvalue())


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_any_type_comes_as_text(name):
    given, texts = COLUMNS[name]
    frame = pl.DataFrame({"id": pl.Series(["r1", "r2", "r3"]), name: given})
    reading = parquet.read(_written(frame), "list.parquet", ReadOptions())
    assert reading.layout.header == ["id", name]
    [rows] = reading.chunks
    assert rows["cell_1"].to_list() == texts


def test_rows_are_numbered_as_if_the_names_were_the_first_row():
    frame = pl.DataFrame({"Email": ["a@example.org", None, "b@example.org"], "Name": ["A", None, "B"]})
    reading = parquet.read(_written(frame), "list.parquet", ReadOptions())
    [rows] = reading.chunks
    assert rows["row_number"].to_list() == [2, 4]


def test_names_of_columns_are_cleaned_and_each_is_the_only_one():
    frame = pl.DataFrame({"Phone": ["1"], " Phone\n": ["2"], "2024": ["3"], "": ["4"]})
    reading = parquet.read(_written(frame), "list.parquet", ReadOptions())
    assert reading.layout.header == ["Phone", "Phone 2", "2024", "Column 4"]


def test_a_large_file_comes_in_chunks_without_a_gap():
    count = 2 * CHUNK_ROWS + 7
    frame = pl.DataFrame({"Id": pl.int_range(count, eager=True)})
    chunks = list(parquet.read(_written(frame), "list.parquet", ReadOptions()).chunks)
    assert [chunk.height for chunk in chunks] == [CHUNK_ROWS, CHUNK_ROWS, 7]
    numbers = pl.concat(chunk["row_number"] for chunk in chunks)
    assert numbers.to_list() == list(range(2, count + 2))
    assert chunks[-1]["cell_0"][-1] == str(count - 1)


def test_bytes_that_are_no_text_spoil_their_own_row_only():
    frame = pl.DataFrame({"Email": ["a@example.org", "b@example.org"], "Note": [b"\xff", b"fine"]})
    [rows] = parquet.read(_written(frame), "list.parquet", ReadOptions()).chunks
    assert rows["flaw"].to_list() == ["bytes that are no text", None]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"PAR1 nothing else PAR1", "is damaged or no Parquet file"),
        (_written(pl.DataFrame({"Email": ["a@example.org"] * 50_000})).getvalue()[:-20], "is damaged"),
        (_written(pl.DataFrame({"Email": pl.Series([], dtype=pl.String)})).getvalue(), "has no rows"),
        (_written(pl.DataFrame({f"c{i}": ["x"] for i in range(1_025)})).getvalue(), "has 1,025 columns"),
    ],
    ids=["no parquet", "cut off", "no rows", "too wide"],
)
def test_what_cannot_be_imported_is_refused_with_a_sentence(content, sentence):
    with pytest.raises(InputError, match=sentence):
        parquet.read(io.BytesIO(content), "list.parquet", ReadOptions())
