"""Audiences: lists filled by hand and from others, filters saved from files."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from messaging.audience import lists
from messaging.errors import InputError
from messaging.storage import audiences, imports
from schemas.audience import AudienceSpec


@pytest.fixture
def people(ledger: Engine) -> None:
    """Ada and Bo in Germany, Cy in France, in the list `all`; Di, who has only a phone, in none."""
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO contacts (email, email_key, phone, country, status, consent_source, attributes)
                SELECT email, lower(email), phone, country, status, consent, CAST(attributes AS jsonb)
                FROM (VALUES
                    ('Ada@example.org', '+447400000001', 'DE', 'subscribed', 'form', '{"Plan Type": "pro"}'),
                    ('bo@xn--bcher-kva.example', NULL, 'DE', 'unsubscribed', 'form', '{}'),
                    ('cy@example.org', '+447400000003', 'FR', 'subscribed', 'form', '{"Plan Type": "free"}'),
                    (NULL, '+447400000004', NULL, 'pending', NULL, '{}')
                ) AS given (email, phone, country, status, consent, attributes)
            """)
        )
        connection.execute(text("INSERT INTO audiences (name) VALUES ('all'), ('empty')"))
        connection.execute(text("INSERT INTO audience_members SELECT 1, id FROM contacts WHERE id <= 3"))


def save(ledger: Engine, name: str, where: str = "", members_of: tuple[str, ...] = ()) -> None:
    lists.save_audience(ledger, AudienceSpec(name=name, where=where, members_of=list(members_of)))


def members(ledger: Engine, name: str, where: str = "") -> list[int]:
    with ledger.begin() as connection:
        query = audiences.members(connection, audiences.named(connection, name), where)
        return sorted(connection.execute(query).scalars())


def imported(ledger: Engine, name: str, *columns: str) -> None:
    """Record an import of a file with these columns."""
    counts = {"rows": 9, "imported": 7, "refused": 2, "duplicates": 0}
    with ledger.begin() as connection:
        imports.add_import(
            connection,
            audience_id=audiences.named(connection, name),
            file_name="people.csv",
            sha256="",
            columns=[{"column": column} for column in columns],
            **counts,
        )


def contacts_left(ledger: Engine) -> int:
    with ledger.begin() as connection:
        return connection.execute(text("SELECT count(*) FROM contacts")).scalar_one()


@pytest.mark.usefixtures("people")
def test_a_filter_chooses_anew_each_time_from_the_audiences_it_draws_on(ledger: Engine):
    save(ledger, "germany", 'country = "DE"')
    save(ledger, "german pros", 'plan_type = "pro"', ("germany", "all"))
    save(ledger, "either", members_of=("germany", "all", "empty"))
    save(ledger, "german members", 'country = "DE"', ("all",))

    assert members(ledger, "germany") == [1, 2]
    assert members(ledger, "german pros") == [1]
    assert members(ledger, "either") == [1, 2, 3]
    assert members(ledger, "german members", 'email starts with "bo"') == [2]
    assert members(ledger, "empty") == []

    with ledger.begin() as connection:
        connection.execute(text("UPDATE contacts SET country = 'DE'"))
    assert members(ledger, "germany") == [1, 2, 3, 4]
    assert members(ledger, "german members") == [1, 2, 3]


@pytest.mark.usefixtures("people")
def test_an_attribute_is_found_under_every_spelling_that_imports_brought(ledger: Engine):
    with ledger.begin() as connection:
        connection.execute(text("""UPDATE contacts SET attributes = '{"PLAN-TYPE": "pro"}' WHERE id = 3"""))
    imported(ledger, "empty", "Plan Type", "City")
    imported(ledger, "all", "PLAN-TYPE")

    assert members(ledger, "all", 'plan_type = "pro"') == [1, 3]
    assert members(ledger, "all", "city is empty") == [1, 2, 3]  # known from an import, and nobody has one
    with pytest.raises(InputError, match="no contact has 'plan_tipe'; did you mean 'plan_type'"):
        members(ledger, "all", 'plan_tipe != "pro"')


@pytest.mark.usefixtures("people")
def test_filters_cannot_draw_on_each_other_in_a_circle(ledger: Engine):
    save(ledger, "a", members_of=("all",))
    save(ledger, "b", members_of=("a",))

    with pytest.raises(InputError, match="in a circle: a → b → a"):
        save(ledger, "a", members_of=("b", "all"))
    with pytest.raises(InputError, match="in a circle: c → c"):
        save(ledger, "c", members_of=("c",))
    with pytest.raises(InputError, match="no audience 'al'; did you mean 'all'"):
        save(ledger, "c", members_of=("al",))

    assert members(ledger, "a") == [1, 2, 3]  # the old definition
    with ledger.begin() as connection:
        assert audiences.names(connection) == ["a", "all", "b", "empty"]


@pytest.mark.usefixtures("people")
def test_filters_that_draw_on_filters_end_somewhere(ledger: Engine):
    deepest = "not (" * 10 + 'country = "DE"' + ")" * 10
    save(ledger, "0", deepest, ("all",))
    for n in range(1, 10):
        save(ledger, str(n), deepest, (str(n - 1),))
    save(ledger, "wide", members_of=("1",) * 20)

    assert members(ledger, "9") == [1, 2]
    with pytest.raises(
        InputError, match="audience '10' draws on more than 100 audiences, or through more than 10"
    ):
        save(ledger, "10", members_of=("9",))
    with pytest.raises(InputError, match="audience 'wider' draws on more than 100"):
        save(ledger, "wider", members_of=("wide", "wide"))


@pytest.mark.usefixtures("people")
def test_nobody_is_put_into_a_filter_and_no_list_with_members_becomes_one(ledger: Engine):
    save(ledger, "germany", 'country = "DE"')
    refusals = [
        lambda: lists.add_to_list(ledger, "germany", ["cy@example.org"]),
        lambda: lists.remove_from_list(ledger, "germany", ["cy@example.org"]),
        lambda: lists.unite(ledger, "germany", ["all"]),
        lambda: lists.subtract(ledger, "germany", "all", ["empty"]),
    ]
    for refusal in refusals:
        with pytest.raises(InputError, match="audience 'germany' is a filter"):
            refusal()
    with ledger.begin() as connection, pytest.raises(InputError, match="is a filter"):
        audiences.ensure(connection, "germany")
    with pytest.raises(InputError, match="'all' is a list with members, so it cannot become a filter"):
        save(ledger, "all", 'country = "DE"')

    save(ledger, "empty", 'country = "FR"')
    assert members(ledger, "empty") == [3]
    assert members(ledger, "all") == [1, 2, 3]


@pytest.mark.usefixtures("people")
def test_a_list_that_is_being_filled_cannot_become_a_filter(ledger: Engine):
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    with ThreadPoolExecutor(1) as elsewhere:
        with ledger.begin() as connection:
            audience_id = audiences.ensure(connection, "empty")
            saving = elsewhere.submit(save, ledger, "empty", 'country = "DE"')
            with ledger.connect().execution_options(isolation_level="AUTOCOMMIT") as watching:
                while not saving.done() and not watching.execute(waiting).scalar_one():
                    time.sleep(0.01)
            audiences.add_members(connection, audience_id, audiences.contacts_with(["cy@example.org"]))

        with pytest.raises(InputError, match="'empty' is a list with members"):
            saving.result()
    assert members(ledger, "empty") == [3]


@pytest.mark.usefixtures("people")
def test_known_contacts_join_and_leave_by_any_spelling_of_their_address(ledger: Engine):
    added = lists.add_to_list(
        ledger,
        "empty",
        [" ADA@Example.org", "Bo@Bücher.example", "0044 (7400) 000-004", "nobody@example.org", "12"],
    )

    assert (added.changed, added.members, added.unknown) == (3, 3, ["nobody@example.org", "12"])
    assert members(ledger, "empty") == [1, 2, 4]
    again = lists.add_to_list(ledger, "empty", ["ada@example.org"])
    assert (again.changed, again.members) == (0, 3)
    removed = lists.remove_from_list(ledger, "empty", ["+447400000001", "cy@example.org"])
    assert (removed.changed, removed.members, removed.unknown) == (1, 2, [])
    assert contacts_left(ledger) == 4


@pytest.mark.usefixtures("people")
def test_lists_are_made_from_what_others_hold_now(ledger: Engine):
    save(ledger, "germany", 'country = "DE"')
    save(ledger, "by phone", "phone is not empty")

    assert lists.unite(ledger, "both", ["germany", "by phone"]).members == 4
    assert lists.subtract(ledger, "french", "all", ["germany", "empty"]).members == 1
    assert lists.unite(ledger, "french", ["germany"]).model_dump() == {
        "audience": "french",
        "changed": 2,
        "members": 3,
        "unknown": [],
    }
    with pytest.raises(InputError, match="'french', which cannot be one of its parts"):
        lists.subtract(ledger, "french", "french", ["germany"])
    with pytest.raises(InputError, match="no audience 'nowhere'"):
        lists.unite(ledger, "new", ["all", "nowhere"])
    with ledger.begin() as connection:
        connection.execute(text("UPDATE contacts SET country = 'DE'"))
        assert audiences.find(connection, "new") is None
    assert members(ledger, "french") == [1, 2, 3]  # a snapshot


@pytest.mark.usefixtures("people")
def test_a_deleted_audience_leaves_its_contacts_and_what_needs_it_keeps_it(ledger: Engine):
    save(ledger, "germany", 'country = "DE"', ("all",))
    lists.unite(ledger, "copy", ["all"])
    imported(ledger, "all")
    imported(ledger, "copy")
    with ledger.begin() as connection:
        connection.execute(
            text("""
                UPDATE audience_members m SET import_id = i.id FROM imports i
                    WHERE i.audience_id = m.audience_id;
                INSERT INTO refused_rows SELECT id, 2, 'no @ sign', '{}' FROM imports;
                INSERT INTO campaigns (name, spec, audience_id, state) VALUES ('spring', '{}', 2, 'finished')
            """)
        )

    with pytest.raises(InputError, match="'all' stays: filter 'germany' draws on it"):
        lists.delete_audience(ledger, "all")
    with pytest.raises(InputError, match="'empty' stays: it is in the record of campaign 'spring'"):
        lists.delete_audience(ledger, "empty")
    lists.delete_audience(ledger, "germany")
    lists.delete_audience(ledger, "all")

    with ledger.begin() as connection:
        assert audiences.names(connection) == ["copy", "empty"]
    assert contacts_left(ledger) == 4
    assert members(ledger, "copy") == [1, 2, 3]


@pytest.mark.usefixtures("people")
def test_an_overview_survives_a_filter_that_cannot_be_evaluated(ledger: Engine):
    save(ledger, "odd", 'shoe_size = "44"')
    save(ledger, "phone only", "email is empty")

    found = {line.name: line for line in lists.list_audiences(ledger)}

    assert list(found) == ["all", "empty", "odd", "phone only"]
    assert (found["all"].kind, found["all"].members, found["all"].reachable) == ("list", 3, 2)
    assert (found["odd"].kind, found["odd"].members) == ("filter", None)
    assert found["odd"].problem.startswith("audience 'odd': filter: no contact has 'shoe_size'")
    assert (found["phone only"].members, found["phone only"].reachable) == (1, 0)


@pytest.mark.usefixtures("people")
def test_what_is_shown_of_an_audience_is_counted_from_its_members(ledger: Engine):
    for name in ("all", "all", "empty"):
        imported(ledger, name)

    shown = lists.show_audience(ledger, "all")

    assert (shown.members, shown.reachable) == (3, 2)
    assert shown.having == {"name": 0, "email": 3, "phone": 2, "consent": 3}
    assert shown.statuses == {"subscribed": 2, "unsubscribed": 1, "pending": 0}
    assert shown.excluded == {"unsubscribed": 1}
    assert shown.columns == {"Plan Type": 2}
    assert [(one.import_id, one.file_name, one.rows, one.refused) for one in shown.imports] == [
        (2, "people.csv", 9, 2),
        (1, "people.csv", 9, 2),
    ]
    counted = lists.count_members(ledger, "all", 'country = "DE"')
    assert (counted.contacts, counted.reachable) == (2, 1)


def test_a_definition_in_a_file_is_the_one_in_the_ledger(ledger: Engine, tmp_path: Path):
    file = tmp_path / "customers.yaml"
    file.write_text("name: customers\ndescription: Who bought\ncontract: {max_refused_percent: 5}\n")
    assert lists.save_audience(ledger, lists.load_audience(file)).model_dump() == {
        "audience": "customers",
        "kind": "list",
        "created": True,
        "unknown_fields": [],
    }
    shown = lists.show_audience(ledger, "customers")
    assert (shown.description, shown.contract) == ("Who bought", {"max_refused_percent": 5})

    file.write_text("name: pros\nmembers_of: [customers]\nwhere: >\n  plan = 'pro'\n  and country = 'DE'\n")
    saved = lists.save_audience(ledger, lists.load_audience(file))
    assert (saved.kind, saved.unknown_fields) == ("filter", ["plan"])  # nothing was imported yet
    assert lists.save_audience(ledger, lists.load_audience(file)).created is False


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("name: a\nwhere: country = DE", "a.yaml: where: filter: position 11: expected text in quotes"),
        ("name: a\nwhere: x is empty\ncontract: {min_rows: 9}", "nothing is imported into a filter"),
        ("name: a\nfilter: x is empty", "a.yaml: unknown field 'filter'"),
        ('name: "a\\nb"', "a.yaml: name: "),
        ("where: x is empty", "a.yaml: name: is missing"),
        ("- a", "a.yaml: must hold fields and values"),
    ],
)
def test_a_definition_that_cannot_be_used_gets_a_sentence(tmp_path: Path, content: str, sentence: str):
    file = tmp_path / "a.yaml"
    file.write_text(content)

    with pytest.raises(InputError) as raised:
        lists.load_audience(file)

    assert sentence in str(raised.value)
