"""From judged rows to what is staged."""

import json

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from messaging.audience.columns import Columns
from messaging.audience.files.layout import row_schema
from messaging.audience.judging import Basis, judge
from messaging.audience.staging import contacts_of, refused_of
from messaging.storage.staging import CONTACT_FIELDS
from schemas.reasons import Reason
from tests.messaging.audience import row_loop

NOBODY_SAID = Basis(region=None, consent=None, require_consent=False, file_name="list.csv")


def judged(columns: Columns, *rows: tuple) -> pl.DataFrame:
    return judge(
        pl.DataFrame(list(rows), row_schema(len(columns.header)), orient="row"), columns, NOBODY_SAID
    )


def attributes(contacts: pl.DataFrame) -> list[dict]:
    return [json.loads(text) for text in contacts["attributes"]]


def test_each_good_row_is_a_contact_with_its_row_number():
    columns = Columns(["Name", "E-mail", "City"], {"name": [0], "email": [1]})
    rows = judged(
        columns,
        (2, "Ada", "ada@example.org", "London", None, None),
        (3, "Bob", "bob", "Paris", None, None),
        (5, "Ada", "ADA@example.org", None, None, None),
    )

    contacts = contacts_of(rows, columns, keep_cells=False)

    assert contacts.columns == ["row_number", *CONTACT_FIELDS, "attributes"]
    assert contacts["row_number"].to_list() == [2, 5]
    assert contacts["email"].to_list() == ["ada@example.org", "ADA@example.org"]
    assert attributes(contacts) == [{"City": "London"}, {}]


def test_attributes_are_all_but_addresses_and_the_whole_name_and_what_these_do_not_say():
    header = ["First name", "E-mail", "Mobile", "Country", "Phone"]
    columns = Columns(header, {"first_name": [0], "email": [1], "phone": [2, 4], "country": [3]})
    rows = judged(
        columns,
        (2, "Ada", "ada@example.org; a@example.org", "+44 7400 123456", "Atlantis", "12", None, None),
        (3, "Bob", "bob@example.org", "+44 7400 123456", "GB", "07400 123456", None, None),
    )

    assert attributes(contacts_of(rows, columns, keep_cells=False)) == [
        {
            "First name": "Ada",
            "E-mail": "ada@example.org; a@example.org",
            "Country": "Atlantis",
            "Phone": "12",
        },
        {"First name": "Bob", "Country": "GB"},
    ]


def test_a_file_of_addresses_only_has_no_attributes():
    columns = Columns(["E-mail"], {"email": [0]})

    contacts = contacts_of(judged(columns, (2, "ada@example.org", None, None)), columns, keep_cells=False)

    assert contacts["attributes"].to_list() == ["{}"]


@given(
    st.lists(st.text(st.sampled_from('ab"\\{}:,\0\n\x07\u2028é😀\x7f'), max_size=6), min_size=2, max_size=2),
    st.lists(
        st.tuples(*[st.none() | st.text(st.sampled_from('ab"\\{}:,null\0\n\x07\u2028é😀'), max_size=8)] * 2),
        min_size=1,
        max_size=5,
    ),
)
def test_attributes_are_json_whatever_headers_and_cells_hold(names: list[str], cells: list[tuple]):
    header = ["E-mail", f"1{names[0]}", f"2{names[1]}"]
    columns = Columns(header, {"email": [0]})
    rows = judged(columns, *((2, "ada@example.org", *texts, None, None) for texts in cells))

    expected = [
        {name: row_loop.clean(text) for name, text in zip(header[1:], texts, strict=True) if text}
        for texts in cells
    ]
    assert attributes(contacts_of(rows, columns, keep_cells=False)) == [
        {name: text for name, text in row.items() if text} for row in expected
    ]


def test_refused_rows_keep_their_cells_as_they_stood():
    columns = Columns(["E-mail", 'The "Plan"'], {"email": [0]})
    rows = judged(
        columns,
        (2, " ada\n", None, None, None),
        (3, "ada@example.org", "free", None, None),
        (4, "nul\0", "x\u200b", None, None),
        (5, "bob@example.org", "free", ["", "more\0"], Reason.TOO_MANY_CELLS),
    )

    refused = refused_of(rows, columns)

    assert refused.columns == ["row_number", "reason", "cells"]
    assert refused["row_number"].to_list() == [2, 4, 5]
    assert refused["reason"].to_list() == ["e-mail: no @", "e-mail: no @", "too many cells"]
    assert [json.loads(cells) for cells in refused["cells"]] == [
        {"E-mail": " ada\n", 'The "Plan"': ""},
        {"E-mail": "nul\ufffd", 'The "Plan"': "x\u200b"},
        {"E-mail": "bob@example.org", 'The "Plan"': "free", "": ["", "more\ufffd"]},
    ]
