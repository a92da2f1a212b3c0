"""While a process sends a campaign the ledger hears that it lives, and how it ended."""

import asyncio
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from messaging.campaign.presence import Presence, this_process
from messaging.errors import CampaignStopped, InputError, MessagingError, NotSent
from messaging.storage import campaign_runs, campaigns
from messaging.storage.engine import open_engine
from schemas.states import CampaignState
from tests.faults.crowds import plan
from tests.waiting import until

# Whoever waits for a row that another transaction holds.
BREAK_OFF = text("""
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND query LIKE '%campaign_runs%'
""")


def broken_off(ledger: Engine) -> int:
    with ledger.begin() as connection:
        return len(connection.execute(BREAK_OFF).all())


@pytest.fixture
def campaign(ledger: Engine) -> int:
    return plan(ledger, 4, batch_size=2)


def row(ledger: Engine):
    with ledger.begin() as connection:
        return connection.execute(text("SELECT * FROM campaign_runs ORDER BY id DESC LIMIT 1")).one()


def stood(ledger: Engine, campaign: int) -> tuple[CampaignState, str | None]:
    with ledger.begin() as connection:
        found = campaigns.get(connection, campaign)
    return found.state, found.state_reason


async def test_it_is_seen_again_and_again_until_it_says_that_it_is_done(ledger: Engine, campaign: int):
    run = uuid4()
    async with Presence(ledger, campaign, run, every=0.05):
        first = row(ledger)
        assert (first.campaign_id, first.owner, first.flow_run_id) == (campaign, this_process(), run)
        await until(lambda: row(ledger).seen_at > first.seen_at)
        assert row(ledger).ended_at is None
    ended = row(ledger)

    assert (ended.ended_as, ended.ended_at is None) == ("done", False)
    await asyncio.sleep(0.2)
    assert row(ledger) == ended  # no beat came after the end


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (NotSent("the server is away"), "failed"),
        (ConnectionError(), "failed"),
        (CampaignStopped("it is paused"), "stopped"),
        (asyncio.CancelledError(), "stopped"),
    ],
    ids=["no server", "no Prefect", "paused", "told to stop"],
)
async def test_what_another_process_can_take_up_leaves_the_campaign_running(
    ledger: Engine, campaign: int, error: BaseException, how: str
):
    with pytest.raises(type(error)):
        async with Presence(ledger, campaign):
            raise error

    assert row(ledger).ended_as == how
    assert stood(ledger, campaign) == (CampaignState.RUNNING, None)


@pytest.mark.parametrize(
    "error",
    [InputError("there is no account main"), MessagingError("unexpected TypeError at a.py:1")],
    ids=["input", "unexpected"],
)
async def test_what_would_fail_again_pauses_the_campaign_with_the_reason(
    ledger: Engine, campaign: int, error: MessagingError
):
    with pytest.raises(type(error)):
        async with Presence(ledger, campaign):
            raise error

    assert row(ledger).ended_as == "failed"
    assert stood(ledger, campaign) == (CampaignState.PAUSED, str(error))


async def test_who_was_not_chosen_waits_for_a_person(ledger: Engine, campaign: int):
    async with Presence(ledger, campaign, partly=True), Presence(ledger, campaign, partly=True):
        pass  # the first to leave leaves the other at it
    assert stood(ledger, campaign) == (
        CampaignState.PAUSED,
        "only some of its batches were to be sent",
    )


async def test_nor_are_they_written_to_by_whoever_follows_a_choice_of_batches_that_failed(
    ledger: Engine, campaign: int
):
    with pytest.raises(NotSent):
        async with Presence(ledger, campaign, partly=True):
            raise NotSent("the server is away")

    assert row(ledger).ended_as == "failed"
    assert stood(ledger, campaign)[0] is CampaignState.PAUSED


async def test_a_campaign_that_is_not_there_is_said_at_once(ledger: Engine, campaign: int):
    with pytest.raises(InputError, match=f"there is no campaign {campaign + 1}"):
        async with Presence(ledger, campaign + 1):
            pass


async def test_while_somebody_else_is_at_it_a_choice_of_batches_pauses_nothing(ledger: Engine, campaign: int):
    async with Presence(ledger, campaign):
        async with Presence(ledger, campaign, partly=True):
            pass
        assert stood(ledger, campaign) == (CampaignState.RUNNING, None)


async def test_a_process_that_was_taken_for_dead_is_alive_again_with_its_next_beat(
    ledger: Engine, campaign: int
):
    async with Presence(ledger, campaign, every=0.05):
        with ledger.begin() as connection:
            campaign_runs.end(connection, row(ledger).id, campaign_runs.VANISHED)
        await until(lambda: row(ledger).ended_at is None)


async def test_a_ledger_that_is_away_for_a_beat_is_let_be(ledger: Engine, campaign: int, database_url: str):
    own = open_engine(database_url)
    async with Presence(own, campaign, every=0.05):
        first = row(ledger).seen_at
        with ledger.begin() as connection:
            connection.execute(text("SELECT id FROM campaign_runs FOR UPDATE"))
            await until(lambda: broken_off(ledger) > 0)
        await until(lambda: row(ledger).seen_at > first)
    own.dispose()
    assert row(ledger).ended_as == "done"
