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
    assert list(find_people([line, "ada@example.org"], "ES"))[-1].email == "ada@example.org"


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
        (1, "Ángel Núñez", "a@example.es", None),
        (2, None, None, "+34600123456"),
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
