"""Several senders of one campaign share its batches out without getting into each other's way."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Engine, text

from messaging.campaign import working
from messaging.campaign.claiming import Claims
from messaging.campaign.planning import plan_campaign
from messaging.campaign.sending import CampaignRun
from messaging.campaign.working import further_runs, has_work, next_work
from messaging.storage import batches, campaign_runs
from messaging.storage.plans import sizes
from schemas.campaign import CampaignSpec
from tests.faults.crowds import held, plan

BATCHES = 6


@pytest.fixture
def campaign_id(ledger: Engine) -> int:
    return plan(ledger, 3 * BATCHES, batch_size=3)


def seen(engine: Engine, campaign_id: int) -> dict[int, int]:
    with engine.begin() as connection:
        return batches.work(connection, campaign_id, None).epochs


async def test_of_several_who_claim_at_once_each_gets_batches_of_its_own(ledger: Engine, campaign_id: int):
    epochs = seen(ledger, campaign_id)
    claims = [Claims(ledger, campaign_id, 0) for _ in range(BATCHES)]

    got = await asyncio.gather(*(one.next(epochs) for one in claims))

    # Who comes while another takes a batch passes it over, so that all are taken in the end.
    got += [await claims[0].next(epochs) for _ in range(BATCHES - len(set(filter(None, got))))]
    assert sorted(filter(None, got)) == list(range(1, BATCHES + 1))
    assert await claims[1].next(epochs) is None


async def test_a_batch_that_somebody_took_since_the_look_is_passed_over_though_free_again(
    ledger: Engine, campaign_id: int
):
    epochs = seen(ledger, campaign_id)
    one, other = Claims(ledger, campaign_id, 0), Claims(ledger, campaign_id, 0)
    assert await one.next(epochs) == 1
    await one.give_back(1)

    assert held(ledger) == 0
    assert await other.next(epochs) == 2
    assert await other.next(seen(ledger, campaign_id)) == 1


async def test_what_was_taken_ahead_is_kept_for_who_sends_it_once(ledger: Engine, campaign_id: int):
    claims = Claims(ledger, campaign_id, 0)
    await claims.next({2: 0})

    ahead = await claims.take(2)

    assert (ahead.number, ahead.epoch) == (2, 1)
    assert await claims.take(2) is None  # as anybody else, while the lease is held
    await claims.give_back(2)  # not ours to give back any more
    assert held(ledger) == 1


async def test_cancelled_while_it_takes_a_batch_it_gives_it_back(ledger: Engine, campaign_id: int):
    claims = Claims(ledger, campaign_id, 0)
    with ledger.begin() as connection:
        connection.execute(text("LOCK TABLE batches"))  # so that the claim is on its way for sure
        claiming = asyncio.create_task(claims.next(seen_before := {1: 0}))
        await asyncio.sleep(0.2)
        claiming.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await claiming

    assert held(ledger) == 0
    assert await claims.next({number: epoch + 1 for number, epoch in seen_before.items()}) == 1


def test_a_campaign_has_use_for_as_many_runs_as_workers_but_not_for_more_than_batches_left(ledger: Engine):
    campaign_id = plan(ledger, 9, batch_size=3, workers=8)
    assert further_runs(ledger, campaign_id) == 2

    with ledger.begin() as connection:
        connection.execute(text("UPDATE attempts SET state = 'accepted' WHERE batch_id = 1"))
    assert further_runs(ledger, campaign_id) == 1


def test_who_sends_a_campaign_already_counts_as_one_of_its_workers(ledger: Engine, campaign_id: int):
    assert further_runs(ledger, campaign_id) == 0
    with ledger.begin() as connection:
        connection.execute(text("UPDATE campaigns SET spec = jsonb_set(spec, '{workers}', '4')"))
        for owner in ("one:1", "other:1"):
            campaign_runs.begin(connection, campaign_id, owner, None)
    assert further_runs(ledger, campaign_id) == 2

    with ledger.begin() as connection:
        connection.execute(
            text("UPDATE campaign_runs SET seen_at = seen_at - interval '1 hour' WHERE id = 1")
        )
    assert further_runs(ledger, campaign_id) == 3


def test_batches_for_several_workers_are_smaller_and_there_may_be_more_of_them(spec: CampaignSpec):
    alone = sizes(spec)
    shared = sizes(spec.model_copy(update={"workers": 4}))

    assert alone == (5000, 200)
    assert shared == (1250, 800)
    assert sizes(spec.model_copy(update={"workers": 64}))[0] == 500  # below which a task run costs too much
    assert sizes(spec.model_copy(update={"workers": 4, "batch_size": 70}))[0] == 70


async def test_an_account_is_closed_while_only_others_could_bring_it_work(
    ledger: Engine, audience, spec: CampaignSpec, open_run, server, monkeypatch: pytest.MonkeyPatch
):
    """Held open it could keep a run from its account whose end this one waits for."""
    monkeypatch.setattr(working, "LONGEST_STAND_BY", 0.2)
    monkeypatch.setattr(working, "LONGEST_NAP", 0.05)
    audience("ada@example.org")
    planned = plan_campaign(ledger, spec.model_copy(update={"fallback": ["smtp-account/relay"]}))

    async with open_run(planned.campaign_id, server.port, leg=1) as run:
        looked = [work async for work in next_work(run, None)]

    assert looked == []
    waiting = asyncio.create_task(has_work(ledger, planned.campaign_id, 1, None))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    with ledger.begin() as connection:
        connection.execute(text("UPDATE attempts SET state = 'accepted'"))
    assert await waiting is False


async def test_who_finds_every_batch_just_being_taken_waits_instead_of_giving_up(
    ledger: Engine, campaign_id: int, open_run, server
):
    """A batch of many is a while in the taking: to look again at once would soon look like no progress."""
    async with open_run(campaign_id, server.port) as run:
        with ledger.connect() as taking:
            taking.execute(text("SELECT FROM batches FOR UPDATE"))
            looking = asyncio.create_task(anext(aiter(taken_ones(run))))
            await asyncio.sleep(2)
            assert not looking.done(), looking.exception()
            taking.rollback()
        assert await asyncio.wait_for(looking, 60) == 1
        await run.claims.give_back(1)


async def taken_ones(run: CampaignRun) -> AsyncIterator[int]:
    async for epochs in next_work(run, None):
        if (number := await run.claims.next(epochs)) is not None:
            yield number
