"""What an import makes of its rows and of contacts the ledger knows, and of who imports beside it."""

import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from messaging.storage import audiences, imports
from messaging.storage.staging import CONTACT_FIELDS, Merged, Staging
from schemas.contacts import OnDuplicate
from schemas.reasons import Reason

Rows = list[dict[str, Any]]


def person(email: str | None = "ada@example.org", **fields: Any) -> dict[str, Any]:
    """A staged row; what is neither a field nor `attributes` is an attribute."""
    row = {"email": email, "email_key": email and email.lower(), "attributes": {}} | fields
    attributes = row.pop("attributes") | {
        name: row.pop(name) for name in list(row) if name not in CONTACT_FIELDS
    }
    return {**row, "attributes": attributes}


def as_csv(rows: Rows, first_number: int, *, cells: bool) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file)
    for number, row in enumerate(rows, start=first_number):
        writer.writerow(
            [
                number,
                *(row.get(field) for field in CONTACT_FIELDS),
                json.dumps(row["attributes"]),
                *([json.dumps({"E-mail": row["email"] or ""})] if cells else []),
            ]
        )
    return file.getvalue().encode()


def begin(connection: Connection, audience: str = "customers") -> dict[str, int]:
    connection.execute(
        text("INSERT INTO audiences (name) VALUES (:name) ON CONFLICT DO NOTHING"), {"name": audience}
    )
    audience_id = audiences.find(connection, audience)
    assert audience_id is not None
    import_id = imports.add_import(
        connection, audience_id=audience_id, file_name="people.csv", sha256="", request={}
    )
    return {"audience_id": audience_id, "import_id": import_id}


def staged(connection: Connection, rows: Rows, on_duplicate: OnDuplicate = OnDuplicate.FILL) -> Staging:
    cells = on_duplicate is OnDuplicate.REFUSE
    staging = Staging(connection, keep_cells=cells)
    # In two parts, as chunks of a file come.
    staging.add_contacts(as_csv(rows[:1], 2, cells=cells))
    staging.add_contacts(as_csv(rows[1:], 3, cells=cells))
    return staging


def load(ledger: Engine, *rows: dict[str, Any], on: str = "fill", audience: str = "customers") -> Merged:
    with ledger.begin() as connection:
        ids = begin(connection, audience)
        staging = staged(connection, list(rows), OnDuplicate(on))
        merged = staging.merge(**ids, on_duplicate=OnDuplicate(on))
        staging.keep_refused(ids["import_id"])
        return merged


def contacts(ledger: Engine) -> dict[str, Any]:
    with ledger.begin() as connection:
        rows = connection.execute(text("SELECT * FROM contacts ORDER BY id")).all()
    return {row.email_key or row.phone: row for row in rows}


def only(ledger: Engine) -> Any:
    [contact] = contacts(ledger).values()
    return contact


def refused(ledger: Engine) -> list[tuple[int, str, dict[str, str]]]:
    with ledger.begin() as connection:
        rows = connection.execute(text("SELECT row_number, reason, cells FROM refused_rows ORDER BY 1"))
        return [(row.row_number, row.reason, row.cells) for row in rows]


def members(ledger: Engine, audience: str = "customers") -> list[str]:
    with ledger.begin() as connection:
        rows = connection.execute(
            text("""
                SELECT coalesce(email_key, phone) FROM audience_members m
                JOIN contacts c ON c.id = m.contact_id JOIN audiences a ON a.id = m.audience_id
                WHERE a.name = :name ORDER BY 1
            """),
            {"name": audience},
        )
        return list(rows.scalars())


def test_a_contact_is_an_email_address_or_else_a_number(ledger: Engine):
    merged = load(
        ledger,
        person("Ada@example.org", phone="+4474001", phone_type="mobile", phone_region="GB", City="Leeds"),
        person(None, phone="+4474001", country="GB", language="en", time_zone="Europe/London"),
        person("bo@example.org", phone="+4474001", name="Bo"),
        person("ada@example.org"),
    )

    assert merged == Merged(imported=3, new=3, duplicates=1, refused={}, without_consent=3)
    found = contacts(ledger)
    ada, number, bo = (found[key] for key in ("ada@example.org", "+4474001", "bo@example.org"))
    assert (ada.email, ada.phone_type, ada.phone_region) == ("Ada@example.org", "mobile", "GB")
    assert (ada.attributes, ada.status) == ({"City": "Leeds"}, "subscribed")
    assert (number.email, number.country, number.language) == (None, "GB", "en")
    assert number.time_zone == "Europe/London"
    assert (bo.name, bo.phone) == ("Bo", "+4474001")
    assert members(ledger) == ["+4474001", "ada@example.org", "bo@example.org"]


def test_nothing_staged_is_nothing_merged(ledger: Engine):
    assert load(ledger) == Merged(imported=0, new=0, duplicates=0, refused={}, without_consent=0)


def test_rows_of_one_address_are_filled_by_the_first_that_says_something(ledger: Engine):
    load(
        ledger,
        person("Ada@example.org", City="Leeds"),
        person(name="Ada", country="GB", City="York", Plan="pro"),
        person(name="A.", language="en", Plan="free", Note="x"),
    )

    ada = only(ledger)
    assert (ada.email, ada.name, ada.country, ada.language) == ("Ada@example.org", "Ada", "GB", "en")
    assert ada.attributes == {"City": "Leeds", "Plan": "pro", "Note": "x"}


def numbers(ledger: Engine) -> tuple[str | None, str | None]:
    return only(ledger).phone, only(ledger).attributes.get("Other phones")


@pytest.mark.parametrize("on", ["fill", "keep"])
def test_further_numbers_of_one_address_become_an_attribute(ledger: Engine, on: str):
    rows = [person(phone=f"+447400{n}") for n in (1, 2, 1, 3)]

    load(ledger, *rows, person(), on=on)

    assert numbers(ledger) == ("+4474001", "+4474002; +4474003")


def test_a_number_that_the_ledger_did_not_know_is_added_once(ledger: Engine):
    load(ledger, person(phone="+4474001", City="Leeds"))
    load(ledger, person(phone="+4474002", City="York"))
    assert numbers(ledger) == ("+4474001", "+4474002")
    with ledger.begin() as connection:
        before = connection.execute(text("SELECT xmin, * FROM contacts")).all()

    load(ledger, person(phone="+4474002"), person(phone="+4474001"))
    with ledger.begin() as connection:
        assert connection.execute(text("SELECT xmin, * FROM contacts")).all() == before
    load(ledger, person(phone="+447400"), person(phone="+4474001"), person(phone="+4474003"))

    assert numbers(ledger) == ("+4474001", "+4474002; +447400; +4474003")
    assert only(ledger).attributes["City"] == "Leeds"


def test_several_numbers_of_a_contact_that_had_none_are_all_kept(ledger: Engine):
    load(ledger, person())
    load(ledger, person(phone="+4474002"), person(phone="+4474001"))

    assert numbers(ledger) == ("+4474002", "+4474001")


def test_rows_of_which_something_was_not_taken_are_counted(ledger: Engine):
    rows = [
        person(name="Ada", City="Leeds"),
        person(name="Ada", City="York"),
        person(Plan="pro"),
        person(name="A."),
        person("bo@example.org", City="Leeds"),
    ]

    assert load(ledger, *rows).differing == 2
    assert load(ledger, *rows, on="update", audience="others").differing == 0


def test_with_update_the_last_that_says_something_wins_over_the_file_and_the_ledger(ledger: Engine):
    load(ledger, person(name="A.", country="GB", time_zone="Europe/London", City="Leeds", Plan="free"))

    load(
        ledger,
        person(name="Ada", City="York"),
        person("Ada@Example.org", name="Ada L.", Plan="pro"),
        person(),
        on="update",
    )

    ada = only(ledger)
    assert (ada.email, ada.name, ada.country) == ("ada@example.org", "Ada L.", "GB")
    assert ada.time_zone == "Europe/London"
    assert ada.attributes == {"City": "York", "Plan": "pro"}


def test_with_fill_the_ledger_wins_and_what_it_lacks_is_added(ledger: Engine):
    load(ledger, person(name="Ada", City="Leeds"))

    merged = load(ledger, person("ADA@example.org", name="A.", country="GB", City="York", Plan="pro"))

    assert (merged.imported, merged.new) == (1, 0)
    ada = only(ledger)
    assert (ada.email, ada.name, ada.country) == ("ada@example.org", "Ada", "GB")
    assert ada.attributes == {"City": "Leeds", "Plan": "pro"}


def test_with_keep_known_contacts_stay_as_they_are_and_join(ledger: Engine):
    load(ledger, person(name="Ada"))
    before = only(ledger)

    merged = load(
        ledger,
        person(country="GB", Plan="pro", consent_source="form"),
        person("bo@example.org", City="Leeds"),
        person("bo@example.org", City="York", Plan="free"),
        on="keep",
        audience="others",
    )

    assert merged == Merged(imported=2, new=1, duplicates=1, refused={}, without_consent=2, differing=1)
    found = contacts(ledger)
    assert found["ada@example.org"] == before
    assert found["bo@example.org"].attributes == {"City": "Leeds", "Plan": "free"}
    assert members(ledger, "others") == ["ada@example.org", "bo@example.org"]


def test_with_refuse_rows_of_taken_addresses_are_refused_with_their_cells(ledger: Engine):
    load(ledger, person(), person(None, phone="+4474001"))

    merged = load(
        ledger,
        person("bo@example.org", name="Bo"),
        person("bo@example.org", name="Other"),
        person("Ada@example.org"),
        person("Ada@example.org"),
        person(None, phone="+4474001"),
        person("cy@example.org", phone="+4474001"),
        person("di@example.org", phone="+4474002"),
        on="refuse",
        audience="others",
    )

    assert merged == Merged(
        imported=2,
        new=2,
        duplicates=0,
        refused={Reason.DUPLICATE: 2, Reason.KNOWN: 2, Reason.CONFLICT: 1},
        without_consent=2,
    )
    assert refused(ledger) == [
        (3, Reason.DUPLICATE, {"E-mail": "bo@example.org"}),
        (4, Reason.KNOWN, {"E-mail": "Ada@example.org"}),
        (5, Reason.DUPLICATE, {"E-mail": "Ada@example.org"}),
        (6, Reason.KNOWN, {"E-mail": ""}),
        (7, Reason.CONFLICT, {"E-mail": "cy@example.org"}),
    ]
    assert contacts(ledger)["bo@example.org"].name == "Bo"
    assert members(ledger, "others") == ["bo@example.org", "di@example.org"]


def test_a_number_brings_its_own_type_and_region(ledger: Engine):
    load(
        ledger,
        person(phone="+800100", phone_type="toll free"),
        person(phone="+4474001", phone_type="mobile", phone_region="GB"),
        person("bo@example.org", phone="+4474002"),
    )
    load(ledger, person("bo@example.org", phone="+4474002", phone_type="mobile", phone_region="GB"))

    found = contacts(ledger)
    ada, bo = found["ada@example.org"], found["bo@example.org"]
    assert (ada.phone, ada.phone_type, ada.phone_region) == ("+800100", "toll free", None)
    assert (bo.phone, bo.phone_type, bo.phone_region) == ("+4474002", "mobile", "GB")

    load(ledger, person(phone="+4474003", phone_type="fixed", phone_region="GB"))
    assert only_number(contacts(ledger)["ada@example.org"]) == ("+800100", "toll free", None)
    load(ledger, person(phone="+800200"), person("bo@example.org", phone="+4474002"), on="update")
    found = contacts(ledger)
    assert only_number(found["ada@example.org"]) == ("+800200", None, None)
    assert only_number(found["bo@example.org"]) == ("+4474002", "mobile", "GB")


def only_number(contact: Any) -> tuple[str | None, str | None, str | None]:
    return contact.phone, contact.phone_type, contact.phone_region


@pytest.mark.parametrize("on", ["fill", "update"])
@pytest.mark.parametrize(
    ("known", "given", "becomes"),
    [
        ("subscribed", "unsubscribed", "unsubscribed"),
        ("subscribed", "pending", "pending"),
        ("subscribed", None, "subscribed"),
        ("pending", "subscribed", "pending"),
        ("pending", "unsubscribed", "unsubscribed"),
        ("pending", None, "pending"),
        ("unsubscribed", "subscribed", "unsubscribed"),
        ("unsubscribed", "pending", "unsubscribed"),
        ("unsubscribed", None, "unsubscribed"),
    ],
)
def test_an_import_subscribes_nobody(ledger: Engine, on: str, known: str, given: str | None, becomes: str):
    load(ledger, person(status=known))

    load(ledger, person(status=given, name="Ada"), on=on)

    assert only(ledger).status == becomes


def test_who_has_consented_needs_no_confirmation(ledger: Engine):
    load(ledger, person(consent_source="form"))

    load(ledger, person(status="pending"))

    assert only(ledger).status == "subscribed"


def test_an_unsubscribe_counts_for_contacts_that_are_kept_too(ledger: Engine):
    load(ledger, person(name="Ada"))

    load(ledger, person(name="A.", status="unsubscribed"), on="keep")

    ada = only(ledger)
    assert (ada.name, ada.status) == ("Ada", "unsubscribed")


@pytest.mark.parametrize("on", ["fill", "update", "keep"])
def test_in_a_file_an_unsubscribe_wins_then_what_is_pending(ledger: Engine, on: str):
    load(
        ledger,
        person("ada@example.org", status="pending"),
        person("ada@example.org", status="unsubscribed"),
        person("ada@example.org", status="subscribed"),
        person("bo@example.org"),
        person("bo@example.org", status="pending"),
        person("bo@example.org", status="subscribed"),
        person("cy@example.org"),
        person("cy@example.org"),
        on=on,
    )

    assert [contact.status for contact in contacts(ledger).values()] == [
        "unsubscribed",
        "pending",
        "subscribed",
    ]


def test_no_import_lifts_a_suppression(ledger: Engine):
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO suppressions (channel, address_key, reason, source)
                VALUES ('email', 'ada@example.org', 'complained', 'test')
            """)
        )
        before = connection.execute(text("SELECT * FROM suppressions")).all()

    load(ledger, person(status="subscribed", consent_source="form"), on="update")

    with ledger.begin() as connection:
        assert connection.execute(text("SELECT * FROM suppressions")).all() == before


def consent(contact: Any) -> tuple[str | None, str | None, datetime | None]:
    return contact.consent_source, contact.consent_text, contact.consent_at


def test_the_first_consented_row_gives_source_wording_and_time_together(ledger: Engine):
    merged = load(
        ledger,
        person(consent_text="not agreed", consent_at="2019-01-01T00:00:00Z"),
        person(consent_source="form", consent_at="2026-10-01T09:00:00"),
        person(consent_source="fair", consent_text="I agree", consent_at="2020-01-01T00:00:00Z"),
        person("bo@example.org", consent_text="not agreed", consent_at="2019-01-01T00:00:00Z"),
        person("cy@example.org", consent_source="form", consent_text="I agree"),
    )

    assert merged.without_consent == 1
    found = contacts(ledger)
    assert consent(found["ada@example.org"]) == ("form", None, datetime(2026, 10, 1, 9, tzinfo=UTC))
    assert consent(found["bo@example.org"]) == (None, None, None)
    cy = found["cy@example.org"]
    assert consent(cy) == ("form", "I agree", cy.created_at)


def test_a_consent_on_record_stays(ledger: Engine):
    load(ledger, person(consent_source="form", consent_at="2026-10-01T09:00:00Z"), person("bo@example.org"))

    merged = load(
        ledger,
        person(consent_source="fair", consent_text="I agree", consent_at="2026-11-01T09:00:00Z"),
        person("bo@example.org", consent_source="fair", consent_at="2026-11-01T09:00:00Z"),
        person("cy@example.org"),
    )

    assert merged.without_consent == 1
    found = contacts(ledger)
    assert consent(found["ada@example.org"]) == ("form", None, datetime(2026, 10, 1, 9, tzinfo=UTC))
    assert consent(found["bo@example.org"]) == ("fair", None, datetime(2026, 11, 1, 9, tzinfo=UTC))


@pytest.mark.parametrize(
    ("at", "source"),
    [("2026-11-01T09:00:00Z", "fair"), ("2026-09-01T09:00:00Z", "form"), (None, "form")],
)
def test_with_update_a_consent_of_a_later_date_replaces_one(ledger: Engine, at: str | None, source: str):
    load(ledger, person(consent_source="form", consent_text="old", consent_at="2026-10-01T09:00:00Z"))

    load(ledger, person(consent_source="fair", consent_at=at), on="update")

    assert only(ledger).consent_source == source
    assert only(ledger).consent_text == ("old" if source == "form" else None)


def test_known_contacts_without_consent_are_counted_in_every_mode(ledger: Engine):
    load(ledger, person(), person("bo@example.org", consent_source="form"))

    def counted(on: str) -> int:
        rows = (person(), person(), person("bo@example.org"))
        return load(ledger, *rows, on=on).without_consent

    assert [counted(on) for on in ("fill", "update", "keep")] == [1, 1, 1]


@pytest.mark.parametrize("on", ["fill", "update", "keep"])
def test_the_same_rows_again_write_no_contact(ledger: Engine, on: str):
    rows = [
        person(name="Ada", phone="+4474001", consent_source="form", City="Leeds"),
        person(None, phone="+4474001", name="Bo"),
        person(None, phone="+4474001", name="Bo", Plan="pro"),
    ]
    load(ledger, *rows)
    query = text("SELECT xmin, ctid, * FROM contacts ORDER BY id")
    with ledger.begin() as connection:
        before = connection.execute(query).all()

    merged = load(ledger, *rows, on=on)

    assert merged == Merged(imported=2, new=0, duplicates=1, refused={}, without_consent=1)
    with ledger.begin() as connection:
        assert connection.execute(query).all() == before


def test_who_is_a_member_already_keeps_the_import_that_brought_them(ledger: Engine):
    load(ledger, person())
    load(ledger, person(name="Ada"), person("bo@example.org"))

    with ledger.begin() as connection:
        rows = connection.execute(
            text("SELECT contact_id, import_id FROM audience_members ORDER BY contact_id")
        ).all()
    assert rows == [(1, 1), (2, 2)]


def test_any_text_survives(ledger: Engine):
    said = 'a "b", {c}\\d;\n\'é\u4e2d\U0001f600 NULL \\N'
    rows = [
        person(
            None, phone="+4474001", phone_type=said, phone_region=said, name=said, attributes={said: said}
        ),
        person(None, phone="+4474001", consent_source=said, consent_text=said),
    ]
    for number in range(2):  # as a row alone, and merged
        load(ledger, *rows[: number + 1])

    contact = only(ledger)
    assert (contact.name, contact.phone_type, contact.phone_region) == (said, said, said)
    assert (contact.attributes, contact.consent_source, contact.consent_text) == ({said: said}, said, said)


def test_an_import_that_is_rolled_back_leaves_nothing(ledger: Engine):
    load(ledger, person())
    before = contacts(ledger)
    with ledger.connect() as connection:
        ids = begin(connection, "others")
        staging = staged(connection, [person(name="Ada"), person("bo@example.org")])
        staging.merge(**ids, on_duplicate=OnDuplicate.FILL)
        staging.keep_refused(ids["import_id"])

    assert contacts(ledger) == before
    with ledger.begin() as connection:
        assert audiences.find(connection, "others") is None
        assert connection.execute(text("SELECT count(*) FROM audience_members")).scalar_one() == 1
        assert connection.execute(text("SELECT to_regclass('staged_contacts')")).scalar() is None


def test_a_merge_that_is_rolled_back_leaves_the_rows_refused_before(ledger: Engine):
    load(ledger, person())
    with ledger.begin() as connection:
        ids = begin(connection)
        staging = staged(connection, [person(), person("bo@example.org")], OnDuplicate.REFUSE)
        staging.add_refused(b'9,e-mail: no @,"{""E-mail"": ""bo""}"\n')
        with connection.begin_nested() as savepoint:
            staging.merge(**ids, on_duplicate=OnDuplicate.REFUSE)
            savepoint.rollback()
        staging.keep_refused(ids["import_id"])

    assert set(contacts(ledger)) == {"ada@example.org"}
    assert refused(ledger) == [(9, "e-mail: no @", {"E-mail": "bo"})]


def test_two_imports_at_once_neither_deadlock_nor_double(ledger: Engine):
    people = [person(f"p{number}@example.org") for number in range(400)]
    people += [person(None, phone=f"+447{number}") for number in range(400)]
    load(ledger, *people[::7])
    rounds = 3
    ready = Barrier(2)

    def import_all(worker: int) -> None:
        for _ in range(rounds):
            mine = [
                {**row, "attributes": {f"by {worker}": str(n)}}
                for n, row in enumerate(people[::-1] if worker else people)
            ]
            with ledger.begin() as connection:
                ids = begin(connection, f"audience {worker}")
                staging = staged(connection, mine)
                ready.wait(timeout=30)
                staging.merge(**ids, on_duplicate=OnDuplicate.FILL)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(import_all, worker) for worker in range(2)]:
            done.result(timeout=60)

    found = contacts(ledger).values()
    assert len(found) == 800
    assert all(contact.attributes.keys() == {"by 0", "by 1"} for contact in found)
    assert len(members(ledger, "audience 0")) == len(members(ledger, "audience 1")) == 800


def test_an_unsubscribe_never_waits_for_an_import_that_has_nothing_new_to_say(ledger: Engine):
    load(ledger, person(name="Ada", City="Leeds"))
    with ledger.begin() as importing:
        ids = begin(importing)
        staging = staged(importing, [person(name="Ada", City="Leeds"), person("bo@example.org")])
        staging.merge(**ids, on_duplicate=OnDuplicate.FILL)
        unsubscribe(ledger)

    assert contacts(ledger)["ada@example.org"].status == "unsubscribed"


def unsubscribe(ledger: Engine) -> None:
    with ledger.begin() as connection:
        connection.execute(text("SET LOCAL lock_timeout = '2s'"))
        connection.execute(
            text("UPDATE contacts SET status = 'unsubscribed' WHERE email_key = 'ada@example.org'")
        )


def test_an_unsubscribe_between_two_statements_of_a_merge_stays(ledger: Engine):
    load(ledger, person(name="Ada"))
    with ledger.connect() as leaving, ThreadPoolExecutor(1) as pool:
        leaving.execute(
            text("UPDATE contacts SET status = 'unsubscribed' WHERE email_key = 'ada@example.org'")
        )
        # The merge waits for this contact, whom it read as subscribed.
        merging = pool.submit(load, ledger, person(status="subscribed", Plan="pro"), on="update")
        wait_for_a_lock(ledger)
        leaving.commit()
        merging.result(timeout=30)

    ada = only(ledger)
    assert (ada.status, ada.attributes) == ("unsubscribed", {"Plan": "pro"})


def wait_for_a_lock(ledger: Engine) -> None:
    query = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    for _ in range(600):
        with ledger.begin() as connection:
            if connection.execute(query).scalar_one():
                return
            connection.execute(text("SELECT pg_sleep(0.05)"))
    pytest.fail("nobody waits")
