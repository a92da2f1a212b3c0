"""What an import leaves in the ledger, and what it never touches."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select, text

from messaging.audience.importing import import_file
from messaging.errors import DatabaseError, InputError
from messaging.storage.tables import audience_members, audiences, contacts, imports, refused_rows
from schemas.contacts import ImportReport, ImportRequest

HEADER = "Full Name,E-mail,Mobile,City\n"


@pytest.fixture
def load(ledger: Engine, tmp_path: Path):
    def load(content: str, audience: str = "customers", **request) -> ImportReport:
        path = tmp_path / f"people {audience}.csv"
        path.write_text(content, encoding="utf-8")
        return import_file(ledger, ImportRequest(file=str(path), audience=audience, **request))

    return load


def people(ledger: Engine) -> dict[str, tuple]:
    with ledger.connect() as connection:
        rows = connection.execute(select(contacts).order_by(contacts.c.id)).all()
    return {row.email_key or row.phone: (row.name, row.phone, row.attributes) for row in rows}


def count(ledger: Engine, table) -> int:
    with ledger.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_the_report_and_the_ledger_say_what_the_file_brought(ledger: Engine, load):
    content = (
        HEADER + "Ada,ADA@Example.org,020 7946 0001,London\nBob,bob,,\n,ada@example.org,,Leeds\n,,,Bath\n"
    )

    report = load(content, region="GB")

    assert (report.rows, report.imported, report.duplicates, report.refused) == (4, 1, 1, 2)
    assert report.reasons == {"e-mail: no @": 1, "no address": 1}
    assert report.columns == {"email": "E-mail", "name": "Full Name", "phone": "Mobile"}
    assert report.attributes == ["City"]
    assert people(ledger) == {"ada@example.org": ("Ada", "+442079460001", {"City": "London"})}
    with ledger.connect() as connection:
        kept = connection.execute(select(imports)).one()
        apart = connection.execute(select(refused_rows).order_by(refused_rows.c.row_number)).all()
    assert (kept.id, kept.file_name) == (report.import_id, "people customers.csv")
    assert kept.sha256 == sha256(content.encode()).hexdigest()
    assert kept.columns == [
        {"column": "Full Name", "as": "name"},
        {"column": "E-mail", "as": "email"},
        {"column": "Mobile", "as": "phone"},
        {"column": "City", "as": "attribute"},
    ]
    assert (kept.rows, kept.imported, kept.duplicates, kept.refused) == (4, 1, 1, 2)
    assert [(row.row_number, row.reason) for row in apart] == [(3, "e-mail: no @"), (5, "no address")]
    assert apart[0].cells == {"Full Name": "Bob", "E-mail": "bob", "Mobile": "", "City": ""}


def test_a_bad_phone_beside_a_good_address_is_kept_as_an_attribute(ledger: Engine, load):
    report = load(
        HEADER + "Ada,ada@example.org,12345,\nBob,bob@example.org,020 7946 0001 ext 9,\n", region="GB"
    )

    assert report.refused == 0
    assert people(ledger) == {
        "ada@example.org": ("Ada", None, {"Mobile": "12345"}),
        "bob@example.org": ("Bob", "+442079460001", {"Mobile": "020 7946 0001 ext 9"}),
    }


def test_a_bad_address_refuses_the_row_although_its_phone_is_good(ledger: Engine, load):
    assert load(HEADER + "Ada,ada@,+44 20 7946 0001,\n").reasons == {"e-mail: bad domain": 1}
    assert people(ledger) == {}


def test_first_and_last_name_are_joined_and_kept(ledger: Engine, load):
    load("First name,Last name,mail\nAda,Lovelace,ada@example.org\n,Hopper,grace@example.org\n")

    assert people(ledger) == {
        "ada@example.org": ("Ada Lovelace", None, {"First name": "Ada", "Last name": "Lovelace"}),
        "grace@example.org": ("Hopper", None, {"Last name": "Hopper"}),
    }


def test_the_first_value_of_each_column_wins_within_a_file(ledger: Engine, load):
    load(
        HEADER
        + ",ada@example.org,,\nAda,ADA@example.org,+442079460001,\nEve,ada@EXAMPLE.org,+442079460002,Bath\n"
    )

    assert people(ledger) == {"ada@example.org": ("Ada", "+442079460001", {"City": "Bath"})}


def test_what_the_ledger_knows_wins_and_what_it_lacks_is_filled_in(ledger: Engine, load):
    load(HEADER + "Ada,ada@example.org,,London\n,,+442079460009,\n")
    load(
        "Full Name,E-mail,Mobile,City,Plan\n"
        "Eve,ada@example.org,+442079460001,Bath,gold\nPhil,,+44 20 7946 0009,Leeds,\n"
    )

    assert people(ledger) == {
        "ada@example.org": ("Ada", "+442079460001", {"City": "London", "Plan": "gold"}),
        "+442079460009": ("Phil", "+442079460009", {"City": "Leeds"}),
    }


def test_one_number_may_belong_to_an_address_and_stand_alone(ledger: Engine, load):
    load(HEADER + "Ada,ada@example.org,+442079460001,\nDesk,,+442079460001,\n")
    load(HEADER + "Bob,bob@example.org,+442079460001,\n,,+442079460001,\n")

    assert list(people(ledger)) == ["ada@example.org", "+442079460001", "bob@example.org"]


def test_importing_again_changes_no_contact(ledger: Engine, load):
    content = HEADER + "Ada,ada@example.org,12,London\nPhil,,+442079460001,\nBob,bob@example.org,,\n"
    load(content, consent="shop")
    with ledger.connect() as connection:
        before = connection.execute(text("SELECT xmin, c.* FROM contacts c ORDER BY id")).all()

    again = load(content, consent="shop")

    with ledger.connect() as connection:
        # xmin: no row was even written anew.
        assert connection.execute(text("SELECT xmin, c.* FROM contacts c ORDER BY id")).all() == before
    assert (again.imported, again.duplicates) == (3, 0)
    assert (count(ledger, imports), count(ledger, audience_members)) == (2, 3)


def test_who_unsubscribed_stays_unsubscribed(ledger: Engine, load):
    load(HEADER + "Ada,ada@example.org,,\n")
    with ledger.begin() as connection:
        connection.execute(contacts.update().values(status="unsubscribed"))

    load(HEADER + "Ada,ada@example.org,,London\n", consent="asked again", audience="others")

    with ledger.connect() as connection:
        assert connection.execute(select(contacts.c.status)).scalars().all() == ["unsubscribed"]


def test_consent_is_kept_once(ledger: Engine, load):
    load(HEADER + "Ada,ada@example.org,,\n")
    load(HEADER + "Ada,ada@example.org,,\nBob,bob@example.org,,\n", consent="web form")
    load(HEADER + "Ada,ada@example.org,,\nBob,bob@example.org,,\n", consent="another form")

    with ledger.connect() as connection:
        kept = connection.execute(select(contacts.c.consent_source, contacts.c.consent_at)).all()
    assert [row.consent_source for row in kept] == ["web form", "web form"]
    assert all(row.consent_at for row in kept)


def test_a_contact_may_belong_to_several_audiences(ledger: Engine, load):
    load(HEADER + "Ada,ada@example.org,,\n", audience="customers")
    load(HEADER + "Ada,ada@example.org,,\nBob,bob@example.org,,\n", audience="readers")

    assert (count(ledger, contacts), count(ledger, audiences), count(ledger, audience_members)) == (2, 2, 3)


def test_two_imports_at_once_make_one_contact_per_address(ledger: Engine, tmp_path: Path):
    requests = []
    for worker in range(6):
        numbers = list(range(worker * 50, worker * 50 + 400))
        numbers = numbers[::-1] if worker % 2 else numbers
        path = tmp_path / f"{worker}.csv"
        rows = [f"P{n},p{n}@example.org,," if n % 3 else f"P{n},,+44207946{n:04d}," for n in numbers]
        path.write_text(HEADER + "\n".join(rows), encoding="utf-8")
        requests.append(ImportRequest(file=str(path), audience=f"audience {worker % 2}"))

    with ThreadPoolExecutor(6) as pool:
        reports = list(pool.map(lambda request: import_file(ledger, request), requests))

    assert [report.imported for report in reports] == [400] * 6
    assert count(ledger, contacts) == len(people(ledger)) == 650
    assert (count(ledger, audiences), count(ledger, audience_members)) == (2, 600 + 600)


def test_a_failure_leaves_nothing_half_written_and_names_nobody(ledger: Engine, load):
    with ledger.begin() as connection:
        connection.execute(
            text("ALTER TABLE audience_members ADD CONSTRAINT full_up CHECK (contact_id < 2) NOT VALID")
        )
    try:
        with pytest.raises(
            DatabaseError, match=r"did not take people customers.csv; nothing was written \(CheckViolation\)"
        ) as raised:
            load(HEADER + "Ada,ada@example.org,,\nBob,bob@example.org,,\nBad,bad,,\n")
    finally:
        with ledger.begin() as connection:
            connection.execute(text("ALTER TABLE audience_members DROP CONSTRAINT full_up"))

    assert "@" not in str(raised.value)
    assert [count(ledger, table) for table in (audiences, imports, refused_rows, contacts)] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("content", "request_", "says"),
    [
        (HEADER, {}, "no rows"),
        ("Nick,City\nAda,London\n", {}, "its columns are: Nick, City"),
        (HEADER + "Ada,ada@example.org,,\n", {"columns": {"email": "Mail"}}, "no column 'Mail' for email"),
        (HEADER + "Ada,ada@example.org,,\n", {"region": "XX"}, "XX is not a country code"),
    ],
)
def test_a_refused_file_writes_nothing(ledger: Engine, load, content: str, request_: dict, says: str):
    with pytest.raises(InputError, match=says):
        load(content, **request_)

    assert [count(ledger, table) for table in (audiences, imports, contacts)] == [0, 0, 0]


def test_a_file_of_refused_rows_only_is_an_import_without_contacts(load):
    report = load(HEADER + "Ada,ada,,London\n")

    assert (report.rows, report.imported, report.refused, report.attributes) == (1, 0, 1, [])


def test_no_header_can_pass_for_a_column_of_ours(ledger: Engine, load):
    header = 'email_key,reason,key,cell_0,extra,"a""b",mail\n'

    load(header + "1,2,3,4,5,6,ada@example.org\n7,,,,,,ADA@example.org\n")

    attributes = {"email_key": "1", "reason": "2", "key": "3", "cell_0": "4", "extra": "5", 'a"b': "6"}
    assert people(ledger) == {"ada@example.org": (None, None, attributes)}
