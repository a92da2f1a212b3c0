"""People found in pasted text, and as the CSV that an import reads back."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from messaging.audience.importing import import_file
from messaging.audience.parsing import parse_people, people_csv
from messaging.errors import InputError
from messaging.storage.tables import contacts
from schemas.contacts import ImportOptions, Person

TEXT = """Dear all, Ada Lovelace <ada@example.org> and
Bo Diddley: 020 7946 0001

Regards
"""


def test_people_come_with_the_line_they_stand_in():
    assert [(one.line, one.name, one.email, one.phone) for one in parse_people(TEXT, "GB")] == [
        (1, "Ada Lovelace", "ada@example.org", ""),
        (2, "Bo Diddley", "", "+442079460001"),
    ]


@pytest.mark.parametrize("text", ["", "\n\n", "nobody is named here"])
def test_text_without_addresses_has_no_people(text: str):
    assert parse_people(text, None) == []


def test_an_unknown_country_gets_a_sentence():
    with pytest.raises(InputError, match="XX is not a country code"):
        parse_people(TEXT, "XX")


@pytest.mark.parametrize("name", ["Ada", "Lovelace, Ada", 'Ada "Countess" L', "Begoña Ibáñez", "艾达"])
def test_people_as_csv_are_what_an_import_reads_back(ledger: Engine, tmp_path: Path, name: str):
    file = tmp_path / "people.csv"
    people = [
        Person(line=1, name=name, email="ada@example.org", phone="+442079460001"),
        Person(line=2, name="Bo", email="", phone="+442079460002"),
        Person(line=3, name="", email="cy@example.org", phone=""),
    ]
    file.write_text(people_csv(people), encoding="utf-8")

    report = import_file(ledger, ImportOptions(audience="customers"), file, folder=tmp_path, actor="Grace")

    assert report.refused == 0
    with ledger.connect() as connection:
        rows = connection.execute(select(contacts).order_by(contacts.c.id)).all()
    assert {(row.name or "", row.email or "", row.phone or "") for row in rows} == {
        (one.name, one.email, one.phone) for one in people
    }
