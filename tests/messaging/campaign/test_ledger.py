"""One batch's writer: what it promises to connections, whatever the database does meanwhile."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, text

from messaging.campaign import ledger as writing
from messaging.campaign.ledger import BatchLedger
from messaging.campaign.paging import DueAttempts
from messaging.errors import CampaignStopped, DatabaseError, LeaseLost, Withdrawn
from messaging.storage import batches
from messaging.storage.attempts import Answer, Mark
from messaging.storage.batches import Lease
from messaging.storage.engine import open_engine
from schemas.states import AttemptState
from tests.faults.cluster import Cluster, running


def a_campaign(engine: Engine, people: int = 6) -> None:
    """Write a running campaign with one batch."""
    with engine.begin() as connection:
        for statement in (
            "INSERT INTO audiences (name) VALUES ('customers')",
            """INSERT INTO campaigns (name, spec, audience_id, state)
                VALUES ('spring', '{"account": "smtp-account/main"}', 1, 'running')""",
            "INSERT INTO batches (campaign_id, number) VALUES (1, 1)",
            """INSERT INTO contacts (email_key, email, name, attributes)
                SELECT k, k, 'Ada', '{"City": "Leeds"}'
                FROM (SELECT n || '@example.org' AS k FROM generate_series(1, :people) n)""",
            """INSERT INTO attempts (campaign_id, batch_id, contact_id, address_key, address)
                SELECT 1, 1, id, email_key, email FROM contacts ORDER BY id""",
        ):
            connection.execute(text(statement), {"people": people})


def claimed(engine: Engine, owner: str = "us") -> Lease:
    with engine.begin() as connection:
        lease = batches.claim(connection, 1, 1, owner)
    assert lease is not None
    return lease


def states_of(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT state FROM attempts ORDER BY id")).scalars())


def column(engine: Engine, name: str) -> list[object]:
    with engine.connect() as connection:
        return list(connection.execute(text(f"SELECT {name} FROM attempts ORDER BY id")).scalars())  # noqa: S608


def change(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def commits(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(text("SELECT pg_current_xact_id()::text::int")).scalar_one()


@pytest.fixture
def batch(ledger: Engine) -> Engine:
    a_campaign(ledger)
    return ledger


async def test_a_last_answer_and_a_next_mark_are_one_commit_for_all_connections(batch: Engine):
    async with BatchLedger(batch, claimed(batch)) as writer:
        await asyncio.gather(*(writer.dispatch(Mark(n, f"<{n}@example.org>")) for n in (1, 2, 3)))
        before = commits(batch)

        async def go_on(last: int) -> None:
            writer.record(Answer(last, AttemptState.ACCEPTED, code=250))
            await writer.dispatch(Mark(last + 3, f"<{last + 3}@example.org>"))

        await asyncio.gather(*(go_on(n) for n in (1, 2, 3)))
        assert commits(batch) - before == 2  # the round, and this question

    assert states_of(batch) == ["accepted"] * 3 + ["dispatched"] * 3


async def test_an_orphan_learns_that_it_lost_the_batch_before_it_hands_anything_over(batch: Engine):
    lease = claimed(batch, "orphan")
    with pytest.raises(LeaseLost):
        async with BatchLedger(batch, lease) as orphan:
            await orphan.dispatch(Mark(1, "<1@example.org>"))
            change(batch, "UPDATE batches SET lease_expires_at = now() - interval '1 s'")
            async with BatchLedger(batch, claimed(batch, "heir")) as heir:
                orphan.record(Answer(1, AttemptState.ACCEPTED))
                with pytest.raises(LeaseLost):
                    await orphan.dispatch(Mark(2, "<2@example.org>"))
                with pytest.raises(LeaseLost):
                    await orphan.dispatch(Mark(3, "<3@example.org>"))
                await heir.dispatch(Mark(2, "<2@example.org>"))
                heir.record(Answer(2, AttemptState.REJECTED, code=550))

    assert states_of(batch) == ["unknown", "rejected", *["queued"] * 4]


async def test_a_lease_is_renewed_while_the_sender_is_busy_with_other_things(
    batch: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writing, "HEARTBEAT_SECONDS", 0.05)
    async with BatchLedger(batch, claimed(batch)):
        change(batch, "UPDATE batches SET lease_expires_at = now()")
        for _ in range(100):
            await asyncio.sleep(0.05)
            with batch.connect() as connection:
                left = connection.execute(text("SELECT lease_expires_at - now() FROM batches")).scalar_one()
            if left.total_seconds() > 20:
                break
        else:
            pytest.fail("the lease was not renewed")


async def test_an_idle_orphan_learns_of_it_by_its_heartbeat(batch: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writing, "HEARTBEAT_SECONDS", 0.05)
    with pytest.raises(LeaseLost):
        async with BatchLedger(batch, claimed(batch)) as writer:
            change(batch, "UPDATE batches SET lease_epoch = lease_epoch + 1")
            for _ in range(100):
                await asyncio.sleep(0.05)
            await writer.dispatch(Mark(1, "<1@example.org>"))

    assert set(states_of(batch)) == {"queued"}


async def test_who_waits_for_something_else_can_hear_that_nothing_is_written_any_more(
    batch: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writing, "HEARTBEAT_SECONDS", 0.05)
    with pytest.raises(LeaseLost):
        async with BatchLedger(batch, claimed(batch)) as writer:
            await writer.dispatch(Mark(1, "<1@example.org>"))
            assert not writer.failed.is_set()
            change(batch, "UPDATE batches SET lease_epoch = lease_epoch + 1")
            await asyncio.wait_for(writer.failed.wait(), 30)


async def test_who_is_withdrawn_is_suppressed_with_the_reason(batch: Engine):
    change(
        batch,
        "INSERT INTO suppressions (channel, address_key, reason, source, expires_at) VALUES "
        "('email', '1@example.org', 'complained', 'test', NULL), "
        "('email', '2@example.org', 'bounced', 'test', now() - interval '1 day')",
    )
    change(batch, "UPDATE contacts SET status = 'unsubscribed' WHERE id = 3")
    async with BatchLedger(batch, claimed(batch)) as writer:
        marks = (writer.dispatch(Mark(n, f"<{n}@example.org>")) for n in (1, 2, 3))
        told = await asyncio.gather(*marks, return_exceptions=True)

    assert [type(what) for what in told] == [Withdrawn, type(None), Withdrawn]
    assert states_of(batch)[:3] == ["suppressed", "dispatched", "suppressed"]
    assert column(batch, "reason")[:3] == ["suppressed: complained", None, "unsubscribed"]


@pytest.mark.parametrize("state", ["paused", "cancelled", "finished"])
async def test_a_campaign_that_is_not_running_marks_nothing_and_takes_answers(batch: Engine, state: str):
    async with BatchLedger(batch, claimed(batch)) as writer:
        await asyncio.gather(*(writer.dispatch(Mark(n, f"<{n}@example.org>")) for n in (1, 2)))
        change(batch, f"UPDATE campaigns SET state = '{state}'")  # noqa: S608 - from the list above
        writer.record(Answer(1, AttemptState.ACCEPTED))
        writer.record(Answer(2, AttemptState.QUEUED))
        with pytest.raises(CampaignStopped):
            await writer.dispatch(Mark(3, "<3@example.org>"))

    # Nothing waits for its turn in a campaign that was cancelled.
    back = "cancelled" if state == "cancelled" else "queued"
    assert states_of(batch)[:3] == ["accepted", back, "queued"]


async def test_an_odd_reply_keeps_nobody_else_from_being_recorded(batch: Engine):
    odd = ['a "quoted" \\ one', "{NULL}", "NULL", "nul \0 byte", "half \udcff", ""]
    async with BatchLedger(batch, claimed(batch)) as writer:
        for number, reply in enumerate(odd, 1):
            writer.record(Answer(number, AttemptState.REJECTED, 550, "5.1.1", reply, wait=None))

    assert states_of(batch) == ["rejected"] * 6
    assert column(batch, "reply") == [
        'a "quoted" \\ one',
        "{NULL}",
        "NULL",
        "nul \ufffd byte",
        "half ?",
        None,
    ]


async def test_more_than_a_socket_takes_at_once_is_written(ledger: Engine):
    a_campaign(ledger, people=5_000)
    async with BatchLedger(ledger, claimed(ledger)) as writer:
        for number in range(1, 5_001):
            writer.record(Answer(number, AttemptState.REJECTED, 550, "5.1.1", "é" * 500, "r" * 500))

    assert set(states_of(ledger)) == {"rejected"}
    assert set(column(ledger, "reply")) == {"é" * 500}


async def test_an_answer_and_a_new_mark_of_one_attempt_follow_each_other(batch: Engine):
    async with BatchLedger(batch, claimed(batch)) as writer:
        await writer.dispatch(Mark(1, "<first@example.org>"))
        writer.record(Answer(1, AttemptState.QUEUED, code=450, counts=True))
        await writer.dispatch(Mark(1, "<second@example.org>"))

    assert (states_of(batch)[0], column(batch, "tries")[0]) == ("dispatched", 1)
    assert column(batch, "message_id")[0] == "<second@example.org>"


async def test_a_mark_that_nobody_waits_for_any_more_is_taken_back(batch: Engine):
    async with BatchLedger(batch, claimed(batch)) as writer:
        for rounds in range(5):  # given up at different moments
            waiting = asyncio.create_task(writer.dispatch(Mark(1, "<1@example.org>")))
            for _ in range(rounds):
                await asyncio.sleep(0.001)
            waiting.cancel()
            await asyncio.wait([waiting])
            if not waiting.cancelled():  # it was marked first
                writer.record(Answer(1, AttemptState.QUEUED))

    assert set(states_of(batch)) == {"queued"}


async def test_a_mark_whose_commit_is_in_doubt_is_asked_again(batch: Engine):
    """The connection dies after the commit and before we hear of it."""
    async with BatchLedger(batch, claimed(batch)) as writer:
        await writer.dispatch(Mark(1, "<1@example.org>"))
        with batch.connect() as blocking:
            # The round waits for this row; then its backend is ended, while others commit the same mark.
            blocking.execute(text("SELECT FROM attempts WHERE id = 2 FOR UPDATE"))
            writer.record(Answer(1, AttemptState.ACCEPTED))
            waiting = asyncio.create_task(writer.dispatch(Mark(2, "<2@example.org>")))
            await asyncio.sleep(0.2)
            blocking.execute(text("UPDATE attempts SET state = 'dispatched' WHERE id = 2"))
            ended = text("""
                SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE query LIKE '%FOR SHARE OF b%' AND pid <> pg_backend_pid()
            """)
            assert blocking.execute(ended).scalar_one() >= 1
            assert not waiting.done()
            blocking.commit()
        await asyncio.wait_for(waiting, 30)
        assert states_of(batch)[:3] == ["accepted", "dispatched", "queued"]
        writer.record(Answer(2, AttemptState.ACCEPTED))

    assert states_of(batch)[:3] == ["accepted", "accepted", "queued"]


async def test_a_database_that_takes_no_writes_lets_nothing_be_handed_over(
    batch: Engine, monkeypatch: pytest.MonkeyPatch
):
    """As a full disk or a standby does."""
    monkeypatch.setattr(writing, "OUTAGE_SECONDS", 0.2)
    lease = claimed(batch)
    reading = create_engine(batch.url, connect_args={"options": "-c default_transaction_read_only=on"})
    with pytest.raises(DatabaseError, match="ReadOnlySqlTransaction"):
        async with BatchLedger(reading, lease) as writer:
            await writer.dispatch(Mark(1, "<1@example.org>"))
    reading.dispose()

    assert set(states_of(batch)) == {"queued"}


async def test_without_a_database_nothing_is_handed_over(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writing, "OUTAGE_SECONDS", 0.2)
    nowhere = open_engine("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(DatabaseError):
        async with BatchLedger(nowhere, Lease(1, "email", 1, "us", 1)) as writer:
            await writer.dispatch(Mark(1, "<1@example.org>"))


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    """A PostgreSQL of its own, which the test may stop and start."""
    assert database_url  # the shared one has made the user that it runs as
    with running() as own:
        yield own


async def test_a_restart_of_the_database_in_mid_batch_loses_and_repeats_nothing(cluster: Cluster):
    engine = cluster.ledger
    a_campaign(engine, people=3_000)
    handed_over: Counter[int] = Counter()
    away = False
    under_way = asyncio.Event()
    lease = claimed(engine)

    async def send(writer: BatchLedger, due: DueAttempts) -> None:
        while (attempt := due.ready() or await due.next()) is not None:
            await writer.dispatch(Mark(attempt.id, f"<{attempt.id}@example.org>"))
            assert not away
            handed_over[attempt.id] += 1
            if len(handed_over) == 200:
                under_way.set()
            await asyncio.sleep(0.001)
            writer.record(Answer(attempt.id, AttemptState.ACCEPTED, code=250))

    async with BatchLedger(engine, lease) as writer, DueAttempts(engine, lease.batch_id, page=100) as due:
        sending = asyncio.gather(*(send(writer, due) for _ in range(8)))
        await under_way.wait()
        await asyncio.to_thread(cluster.stop)
        away = True
        await asyncio.sleep(0.3)
        assert len(handed_over) < 3_000
        away = False
        await asyncio.to_thread(cluster.start)
        await asyncio.wait_for(sending, 60)

    assert states_of(engine) == ["accepted"] * 3_000
    assert set(handed_over.values()) == {1}
