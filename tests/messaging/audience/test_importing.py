"""What an import leaves in the ledger, and what it never touches."""

import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select, text

from messaging.audience.files.layout import CHUNK_ROWS
from messaging.audience.importing import import_file
from messaging.audience.progress import running
from messaging.errors import DatabaseError, InputError, MessagingError
from messaging.storage.imports import find_report
from messaging.storage.tables import audience_members, audiences, contacts, imports, refused_rows
from schemas.contacts import ImportOptions, ImportReport

HEADER = "Full Name,E-mail,Mobile,City\n"


@pytest.fixture
def load(ledger: Engine, tmp_path: Path):
    def load(content: str, audience: str = "customers", **request) -> ImportReport:
        path = tmp_path / f"people {audience}.csv"
        path.write_text(content, encoding="utf-8")
        options = ImportOptions(audience=audience, **{"again": True} | request)
        return import_file(ledger, options, path, folder=tmp_path / "home", actor="Grace")

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
    assert report.mapping == {"email": ["E-mail"], "name": ["Full Name"], "phone": ["Mobile"]}
    assert [(column.column, column.field) for column in report.columns if column.role == "attribute"] == [
        ("City", "city")
    ]
    assert people(ledger) == {"ada@example.org": ("Ada", "+442079460001", {"City": "London"})}
    with ledger.connect() as connection:
        kept = connection.execute(select(imports)).one()
        apart = connection.execute(select(refused_rows).order_by(refused_rows.c.row_number)).all()
    assert (kept.id, kept.file_name) == (report.import_id, "people customers.csv")
    assert kept.sha256 == sha256(content.encode()).hexdigest()
    assert [(column["column"], column["role"], column["how"]) for column in kept.columns] == [
        ("Full Name", "name", "header"),
        ("E-mail", "email", "header"),
        ("Mobile", "phone", "header"),
        ("City", "attribute", ""),
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
    report = load(
        HEADER
        + ",ada@example.org,,\nAda,ADA@example.org,+442079460001,\nEve,ada@EXAMPLE.org,+442079460002,Bath\n"
    )

    attributes = {"City": "Bath", "Other phones": "+442079460002"}
    assert people(ledger) == {"ada@example.org": ("Ada", "+442079460001", attributes)}
    [note] = find_report(ledger, report.import_id)[1]
    assert note.startswith("1 row repeats the address of a row above with another name")


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

    assert people(ledger).keys() == {"ada@example.org", "+442079460001", "bob@example.org"}


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
        requests.append((ImportOptions(audience=f"audience {worker % 2}"), path))

    with ThreadPoolExecutor(6) as pool:
        reports = list(
            pool.map(lambda request: import_file(ledger, *request, folder=tmp_path / "home"), requests)
        )

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

    assert (report.rows, report.imported, report.refused, report.loaded) == (1, 0, 1, True)


def test_what_cannot_be_written_after_the_load_does_not_undo_it(ledger: Engine, load, tmp_path: Path):
    (tmp_path / "home" / "refused" / "1-people customers.csv").mkdir(parents=True)

    report = load(HEADER + "Ada,ada@example.org,,\nBob,bob,,\n")

    assert (report.loaded, report.imported, report.refused, report.refused_file) == (True, 1, 1, "")
    assert "the file is loaded, but the refused rows are kept in the ledger only: " in report.problem
    assert find_report(ledger, report.import_id)[0] == report
    assert (count(ledger, contacts), count(ledger, refused_rows)) == (1, 1)


def test_no_header_can_pass_for_a_column_of_ours(ledger: Engine, load):
    header = 'email_key,reason,key,cell_0,extra,"a""b",mail\n'

    load(header + "1,2,3,4,5,6,ada@example.org\n7,,,,,,ADA@example.org\n")

    attributes = {"email_key": "1", "reason": "2", "key": "3", "cell_0": "4", "extra": "5", 'a"b': "6"}
    assert people(ledger) == {"ada@example.org": (None, None, attributes)}


def test_the_same_file_asked_the_same_again_does_nothing_and_says_so(ledger: Engine, load):
    content = HEADER + "Ada,ada@example.org,12,London\nBob,bob,,\n"
    first = load(content, again=False)
    repeated = load(content, again=False)
    asked_otherwise = load(content, again=False, consent="a form")

    assert (repeated.repeats, repeated.import_id) == (first.import_id, first.import_id)
    assert (repeated.imported, repeated.refused, repeated.reasons) == (1, 1, {"e-mail: no @": 1})
    assert asked_otherwise.repeats is None
    assert count(ledger, imports) == 2


def test_a_file_that_breaks_the_contract_loads_nothing_but_its_refused_rows(ledger: Engine, load):
    rows = [f"Reader,reader.{n or 1}@example.org,," for n in range(601)] + ["Nobody,nobody,,"] * 400
    content = HEADER + "\n".join(rows)

    stopped = load(content)

    assert (stopped.loaded, stopped.imported, stopped.refused) == (False, 0, 400)
    assert stopped.duplicates == 1
    assert Path(stopped.contract_page).stat().st_mode & 0o777 == 0o600
    assert [check.name for check in stopped.contract.checks if not check.holds] == ["max_refused_percent"]
    assert (count(ledger, contacts), count(ledger, audience_members), count(ledger, refused_rows)) == (
        0,
        0,
        400,
    )
    assert Path(stopped.refused_file).read_text(encoding="utf-8-sig").count("e-mail: no @") == 400

    accepted = load(content, accept_breach="known to be old")

    assert (accepted.loaded, accepted.imported) == (True, 600)
    assert (accepted.contract.accepted_by, accepted.contract.accepted_because) == ("Grace", "known to be old")
    assert count(ledger, contacts) == 600


def test_a_stopped_import_is_no_measure_for_the_next_one(ledger: Engine, load):
    bad = HEADER + "\n".join(["Nobody,nobody,,"] * 3_000)
    good = HEADER + "\n".join(f"Reader,reader.{n}@example.org,," for n in range(1_100))

    assert not load(bad).loaded
    assert load(good).loaded
    collapse = load(HEADER + "Ada,ada@example.org,,\n")

    assert [check.name for check in collapse.contract.checks if not check.holds] == ["max_drop_percent"]
    assert count(ledger, contacts) == 1_100


def test_a_column_that_is_empty_in_the_first_rows_is_read_by_what_it_holds_below(ledger: Engine, load):
    rows = [f"+4420794{n:05d},," for n in range(CHUNK_ROWS)] + ["+442079460999,ada@example.org,x"] * 9

    report = load("Phone,Kontakt 2,Note\n" + "\n".join(rows))

    assert report.mapping == {"phone": ["Phone"], "email": ["Kontakt 2"]}
    assert people(ledger)["ada@example.org"] == (None, "+442079460999", {"Note": "x"})


def test_what_nobody_wants_any_more_stops_at_the_next_chunk_and_writes_nothing(
    ledger: Engine, tmp_path: Path
):
    path = tmp_path / "long.csv"
    path.write_text("email\n" + "\n".join(f"reader.{n}@example.org" for n in range(400_000)))

    with ThreadPoolExecutor(1) as pool:
        options = ImportOptions(audience="customers")
        importing = pool.submit(import_file, ledger, options, path, folder=tmp_path / "home")
        while not running():
            time.sleep(0.001)
        running()[0].stop()
        with pytest.raises(MessagingError, match=r"long.csv was stopped; nothing was written"):
            importing.result()

    assert [count(ledger, table) for table in (audiences, imports, contacts)] == [0, 0, 0]
    assert running() == []


def test_rows_of_people_without_consent_are_counted_and_may_be_refused(ledger: Engine, load):
    content = "email,opt-in\nada@example.org,yes\nbob@example.org,no\ncy@example.org,\n"

    report = load(content)
    strict = load(content, require_consent=True)

    assert (report.imported, report.without_consent) == (3, 2)
    assert strict.reasons == {"no consent": 1}
    with ledger.connect() as connection:
        kept = connection.execute(
            select(contacts.c.email, contacts.c.consent_source, contacts.c.status).order_by("email")
        ).all()
    assert list(map(tuple, kept)) == [
        ("ada@example.org", "column 'opt-in' of people customers.csv", "subscribed"),
        ("bob@example.org", None, "unsubscribed"),
        ("cy@example.org", None, "subscribed"),
    ]


@pytest.mark.parametrize("on_duplicate", ["fill", "update", "keep", "refuse"])
@pytest.mark.parametrize(
    "wish", ["email,opt-in\n{},no\n", "email,opt out\n{},yes\n", "email,status\n{},unsubscribed by phone\n"]
)
def test_a_wish_for_no_messages_counts_whatever_becomes_of_the_row(
    ledger, load, wish: str, on_duplicate: str
):
    load("email\nada@example.org\n", consent="a form")

    load(wish.format("ADA@example.org"), on_duplicate=on_duplicate)
    load("email,opt-in\nada@example.org,yes\n", "others", consent="another form", on_duplicate="update")

    with ledger.connect() as connection:
        assert connection.execute(select(contacts.c.status)).scalars().all() == ["unsubscribed"]


def test_who_stops_an_import_that_merges_gets_nothing_written(ledger: Engine, tmp_path: Path):
    path = tmp_path / "long.csv"
    path.write_text("email\n" + "\n".join(f"reader.{n}@example.org" for n in range(150_000)))

    with ThreadPoolExecutor(1) as pool:
        options = ImportOptions(audience="customers")
        importing = pool.submit(import_file, ledger, options, path, folder=tmp_path / "home")
        while not running() or running()[0].doing != "merging":
            time.sleep(0.001)
        running()[0].stop()
        with pytest.raises(MessagingError):
            importing.result()

    assert [count(ledger, table) for table in (audiences, imports, contacts)] == [0, 0, 0]


def test_who_wants_no_duplicates_gets_them_back_with_their_cells(ledger: Engine, load):
    load(HEADER + "Ada,ada@example.org,,London\nDesk,,+442079460001,\n")

    report = load(
        HEADER + "Eve,ADA@example.org,,Bath\nBob,bob@example.org,+442079460001,\n"
        "Cy,cy@example.org,,\nCy,CY@example.org,,York\n",
        on_duplicate="refuse",
    )

    assert (report.rows, report.imported, report.duplicates, report.refused) == (4, 1, 0, 3)
    with ledger.connect() as connection:
        apart = connection.execute(
            select(refused_rows).where(refused_rows.c.import_id == report.import_id).order_by("row_number")
        ).all()
    assert [(row.row_number, row.reason, row.cells["City"]) for row in apart] == [
        (2, "already a contact", "Bath"),
        (3, "conflict with another contact", ""),
        (5, "duplicate in file", "York"),
    ]


def test_update_lets_the_later_row_win_and_keep_leaves_known_contacts_alone(ledger: Engine, load):
    load(HEADER + "Ada,ada@example.org,,London\n")
    load(HEADER + "Eve,ada@example.org,,\nEva,ada@example.org,,Bath\n", on_duplicate="update")
    assert people(ledger) == {"ada@example.org": ("Eva", None, {"City": "Bath"})}

    kept = load(HEADER + "Ida,ada@example.org,,York\nBob,bob@example.org,,\n", "others", on_duplicate="keep")

    assert people(ledger) == {
        "ada@example.org": ("Eva", None, {"City": "Bath"}),
        "bob@example.org": ("Bob", None, {}),
    }
    assert (kept.imported, kept.new) == (2, 1)
