"""Free text: who is found in prose, lists and signatures, and who is not there."""

import io
import tomllib
from pathlib import Path

import pytest

from messaging.audience.files import free_text
from messaging.audience.files.free_text import find_people, parse_text
from messaging.audience.files.layout import ReadOptions
from messaging.errors import InputError

with (Path(__file__).parent / "people.toml").open("rb") as _file:
    CASES = [case for cases in tomllib.load(_file).values() for case in cases]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"][:40])
def test_people_are_found_with_the_name_that_stands_beside(case):
    found = parse_text(case["text"], case.get("region"))
    assert [[person.name, person.email, person.phone] for person in found] == case["people"]


def test_there_are_cases_of_many_kinds():
    assert len(CASES) >= 120


def test_duplicates_stay_and_lines_are_counted_from_one():
    text = "Hello\n\nada@example.org\r\nada@example.org"
    assert [(found.line, found.email) for found in parse_text(text, None)] == [
        (3, "ada@example.org"),
        (4, "ada@example.org"),
    ]


def test_a_line_of_a_thousand_recipients_loses_none():
    line = "; ".join(f"Ada Lovelace <ada.{i}@example.org>" for i in range(1_000))
    found = list(find_people([line], None))
    assert [person.email for person in found] == [f"ada.{i}@example.org" for i in range(1_000)]
    assert {person.name for person in found} == {"Ada Lovelace"}


@pytest.mark.parametrize(
    "line",
    ["a" * 1_000_000, "@" * 1_000_000, "a@" * 300_000, "a." * 300_000 + "@", "1" * 500_000, "(" * 500_000],
    ids=["letters", "at signs", "halves", "dots", "digits", "brackets"],
)
def test_a_line_made_to_take_for_ever_has_nobody(line):
    found = list(find_people([line, "ada@example.org"], "ES", attempts=True))
    assert found[-1].email == "ada@example.org"
    assert all(person.is_attempt for person in found[:-1])


def _read(content, region=None, encoding=None):
    file = io.BufferedReader(io.BytesIO(content))
    return free_text.read(file, "notes.txt", ReadOptions(region=region, encoding=encoding))


def test_a_text_file_is_read_as_rows_of_name_e_mail_and_phone():
    reading = _read(
        "Señor Núñez:\n\nÁngel Núñez <a@example.es>\n600 123 456".encode("cp1252"), "ES", "cp1252"
    )
    assert reading.layout.format == "free text"
    assert (reading.layout.header, reading.layout.header_row) == (["Name", "E-mail", "Phone"], 0)
    assert reading.layout.encoding == "cp1252"
    [rows] = reading.chunks
    assert rows.drop("extra", "flaw").rows() == [
        (3, "Ángel Núñez", "a@example.es", None),
        (4, None, None, "+34600123456"),
    ]


def test_line_ends_of_every_system_count_the_same():
    for end in ("\n", "\r\n", "\r"):
        [found] = parse_text(end.join(["x", "", "ada@example.org", ""]), None)
        assert found.line == 3


def test_lines_stay_whole_across_blocks_of_the_file():
    lines = [f"Ada Lovelace, ada.{i}@example.org, " + "ключ " * 300 for i in range(4_000)]
    numbers = [number for chunk in _read("\n".join(lines).encode()).chunks for number in chunk["row_number"]]
    assert numbers == list(range(1, len(lines) + 1))


def test_a_text_with_nobody_in_it_is_refused_with_a_hint():
    with pytest.raises(InputError, match="need --region"):
        _read(b"call 600 123 456")


def _rows(content: str, region: str | None = None) -> list[tuple]:
    return [row[:4] for chunk in _read(content.encode(), region).chunks for row in chunk.iter_rows()]


def test_what_was_meant_as_an_address_or_a_number_is_not_lost():
    text = """Hello all,
please write to ada@example.org or, if she is out, to Bob <bob@@example.org>.
Cy: cy@example
Di: di @ example.org
Eve's number is 0171 12345678 and Fay's +49 171
Twitter: @outflow, meet @ noon, https://example.net/@gus, fax 0171 1234567
Order no. 12345678 of 2026-03-04, IBAN DE89 3704 0044 0532 0130 00, EUR 1.000.000
a@b@example.org
"""

    assert _rows(text) == [
        (2, None, "ada@example.org", None),
        (3, None, "bob@@example.org", None),
        (4, None, "cy@example", None),
        (5, None, "di @ example.org", None),
        (6, None, None, "0171 12345678"),
        (8, None, "a@b@example.org", None),
    ]


def test_only_people_are_found_in_pasted_text():
    assert [
        found.email for found in parse_text("ada@example.org\nbob@@example.org\n0171 12345678", None)
    ] == ["ada@example.org"]


def test_rows_of_free_text_are_called_by_their_lines():
    assert [row[0] for row in _rows("\nada@example.org bob@example.org\n\n\ncy@example.org\n")] == [2, 3, 5]


def test_a_text_of_nothing_but_attempts_says_where_the_first_is():
    with pytest.raises(
        InputError, match="what comes nearest is in line 3; numbers without a country code need"
    ):
        _read(b"Hello\n\nada@@example.org\n")
