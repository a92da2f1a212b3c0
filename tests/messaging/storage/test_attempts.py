"""Pages of due attempts, claims, and what is left: right, and by index whatever the statistics say."""

import pytest
from sqlalchemy import Engine, text

from messaging.campaign.paging import DueAttempts
from messaging.errors import DatabaseError
from messaging.storage import attempts, batches
from messaging.storage.engine import open_engine
from messaging.storage.prepared import Prepared


@pytest.fixture
def two_batches(ledger: Engine) -> Engine:
    """A running campaign of two batches, attempts 1 to 10 and 11 to 20."""
    for statement in (
        "INSERT INTO audiences (name) VALUES ('customers')",
        """INSERT INTO campaigns (name, spec, audience_id, state)
            VALUES ('spring', '{"account": "smtp-account/main"}', 1, 'running')""",
        "INSERT INTO batches (campaign_id, number) VALUES (1, 1), (1, 2)",
        """INSERT INTO contacts (email_key, email, name, attributes)
            SELECT k, k, 'Ada', '{"City": "Leeds"}'
            FROM (SELECT n || '@example.org' AS k FROM generate_series(1, 20) n)""",
        """INSERT INTO attempts (campaign_id, batch_id, contact_id, address_key, address)
            SELECT 1, 1 + (id - 1) / 10, id, email_key, email FROM contacts ORDER BY id""",
    ):
        change(ledger, statement)
    return ledger


def change(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


async def read(engine: Engine, batch_id: int, page: int) -> list[int]:
    async with DueAttempts(engine, batch_id, page) as due:
        found = []
        while (attempt := due.ready() or await due.next()) is not None:
            found.append(attempt.id)
        assert await due.next() is None
    return found


@pytest.mark.parametrize("page", [1, 2, 3, 5, 10, 100])
async def test_each_due_attempt_is_handed_out_once_in_order(two_batches: Engine, page: int):
    change(two_batches, "UPDATE attempts SET state = 'accepted' WHERE id = 3")
    change(two_batches, "UPDATE attempts SET not_before = now() + interval '1 hour' WHERE id = 5")
    change(two_batches, "UPDATE attempts SET not_before = now() - interval '1 hour' WHERE id = 10")

    assert await read(two_batches, 1, page) == [1, 2, 4, 6, 7, 8, 9, 10]


async def test_an_attempt_comes_with_what_its_message_needs(two_batches: Engine):
    change(two_batches, "UPDATE attempts SET contact_id = NULL WHERE id = 2")
    async with DueAttempts(two_batches, 1) as due:
        first, second = await due.next(), await due.next()

    assert (first.address, first.tries, first.name) == ("1@example.org", 0, "Ada")
    assert (first.phone, first.attributes) == (None, {"City": "Leeds"})
    assert (second.name, second.attributes) == (None, {})
    assert first.token != second.token


async def test_without_a_database_whoever_waits_for_a_page_hears_of_it():
    nowhere = open_engine("postgresql://nobody@127.0.0.1:1/none")
    async with DueAttempts(nowhere, 1, patience=0.1) as due:
        for _ in range(2):
            with pytest.raises(DatabaseError):
                await due.next()


def claimed(engine: Engine, number: int) -> bool:
    with engine.begin() as connection:
        return batches.claim(connection, 1, number, "us") is not None


def test_a_batch_with_only_future_work_is_not_claimed(two_batches: Engine):
    change(
        two_batches,
        "UPDATE attempts SET not_before = now() + interval '1 hour' WHERE batch_id = 1",
    )

    assert (claimed(two_batches, 1), claimed(two_batches, 2)) == (False, True)


def test_a_batch_whose_owner_died_in_the_middle_of_future_work_is_claimed(two_batches: Engine):
    change(two_batches, "UPDATE attempts SET not_before = now() + interval '1 hour' WHERE batch_id = 1")
    change(two_batches, "UPDATE attempts SET state = 'dispatched' WHERE id = 1")

    assert claimed(two_batches, 1)
    with two_batches.connect() as connection:
        assert connection.execute(text("SELECT state FROM attempts WHERE id = 1")).scalar_one() == "unknown"


def work(engine: Engine, chosen: list[int] | None = None) -> batches.Work:
    with engine.begin() as connection:
        return batches.work(connection, 1, chosen)


def test_work_names_the_batches_that_can_be_sent_now(two_batches: Engine):
    assert work(two_batches) == batches.Work(epochs={1: 0, 2: 0}, unfinished=2, progress=(20, 0), wait=0.0)
    assert work(two_batches, [2]).progress == (10, 0)

    assert claimed(two_batches, 1)
    assert work(two_batches).due == [2]

    change(two_batches, "UPDATE attempts SET state = 'accepted' WHERE batch_id = 2")
    waiting = work(two_batches)
    assert waiting.due == []
    assert waiting.wait == pytest.approx(batches.LEASE_SECONDS, abs=5)

    change(two_batches, "UPDATE attempts SET state = 'accepted'")
    assert work(two_batches).wait is None


def test_work_says_how_long_to_wait_for_who_was_deferred(two_batches: Engine):
    change(two_batches, "UPDATE attempts SET state = 'accepted', tries = 1")
    change(
        two_batches,
        "UPDATE attempts SET state = 'queued', not_before = now() + id * interval '1 minute' WHERE id > 15",
    )
    waiting = work(two_batches)

    assert waiting.due == []
    assert waiting.wait == pytest.approx(16 * 60, abs=5)


async def test_a_round_finds_everything_by_index_on_a_table_nobody_has_analysed(two_batches: Engine):
    nothing = ", ".join("'{}'" for _ in range(14))
    plan = f"EXPLAIN (COSTS OFF) EXECUTE round (1, 'us', 1, 'email', {nothing})"
    change(two_batches, "INSERT INTO contacts (email_key, email) SELECT n, n FROM generate_series(1, 5000) n")
    # Autovacuum may have come by in a test before, and emptying a table leaves what it noted of its columns.
    change(two_batches, "DELETE FROM pg_statistic WHERE starelid = 'attempts'::regclass")
    change(two_batches, "SELECT pg_clear_relation_stats(current_schema(), 'attempts')")
    connection = Prepared.open(two_batches, {"round": attempts.ROUND, "plan": plan})
    result = await connection.ask("plan", [])
    connection.close()
    lines = [result.get_value(row, 0).decode() for row in range(result.ntuples)]

    assert not [line for line in lines if "Seq Scan" in line or "Hash" in line or "Merge" in line]
    assert sum("using attempts_pkey on attempts" in line for line in lines) == 3, lines
    assert not [line for line in lines if "attempts_batch_id_id_idx" in line]
