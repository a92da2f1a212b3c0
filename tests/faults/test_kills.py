"""Killed at any moment, a sender mails nobody twice, loses nobody, and names who is in doubt."""

import asyncio
import random
import time
from collections import Counter

from sqlalchemy import Engine

from messaging.reports.numbers import campaign_report, unknown_recipients
from schemas.states import CampaignState
from tests.fakes.scripted_smtp import ScriptedSmtp
from tests.faults.crowds import expire_leases, in_state, judged, plan, states
from tests.faults.sink import Sink
from tests.faults.wire import wire_to_database

RECIPIENTS = 2000
KILLS = 20
CONNECTIONS = 8


def test_killed_at_twenty_random_moments_it_mails_nobody_twice_and_loses_nobody(
    ledger: Engine, sink: Sink, start, finish
):
    campaign_id = plan(ledger, RECIPIENTS)
    chance = random.Random()  # noqa: S311 - moments, not secrets
    in_doubt = 0
    for kill in range(KILLS):
        sender = start(campaign_id, sink.port, CONNECTIONS)
        before = sink.received()
        some = chance.randint(1, 2 * (RECIPIENTS - before) // (KILLS - kill + 2))
        while sink.received() < before + some:
            assert sender.alive, sender.failure()
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.005))
        sender.kill()
        sender.wait()

        assert expire_leases(ledger) >= 1  # it was in mid-batch
        doubted = len(in_state(ledger, "dispatched", "unknown"))
        assert doubted - in_doubt <= CONNECTIONS
        in_doubt = doubted

    finish(campaign_id, sink.port)

    counts = judged(states(ledger), sink.copies())
    assert counts["accepted"] + counts["unknown"] == counts.total() == RECIPIENTS
    assert counts["unknown"] == in_doubt
    assert sorted(unknown_recipients(ledger, campaign_id)) == sorted(in_state(ledger, "unknown"))
    assert campaign_report(ledger, campaign_id).state is CampaignState.FINISHED


async def test_killed_between_the_mark_and_the_dot_one_is_unknown_and_named(
    ledger: Engine, database_url: str, sink: Sink, start, finish
):
    campaign_id = plan(ledger, 3)
    async with wire_to_database(database_url) as (wire, url):
        sender = start(campaign_id, sink.port, 1, url)

        async def kill_once_marked() -> None:
            # What comes back now is the answer to that commit: the sender never hears it.
            if await asyncio.to_thread(in_state, ledger, "dispatched"):
                sender.kill()

        wire.answering = kill_once_marked
        await asyncio.to_thread(sender.wait)

    [marked] = in_state(ledger, "dispatched")
    assert not sink.copies()
    expire_leases(ledger)
    await asyncio.to_thread(finish, campaign_id, sink.port)

    assert judged(states(ledger), sink.copies()) == {"accepted": 2, "unknown": 1}
    assert unknown_recipients(ledger, campaign_id) == [marked]
    assert sink.copies()[marked] == 0


async def test_killed_while_the_server_weighs_its_answer_one_is_unknown_and_named(
    ledger: Engine, sink: Sink, start, finish
):
    campaign_id = plan(ledger, 3)
    smtp = ScriptedSmtp()
    async with smtp.running():
        sender = start(campaign_id, smtp.port, 1)
        smtp.on_dot = sender.kill
        await asyncio.to_thread(sender.wait)
    expire_leases(ledger)
    await asyncio.to_thread(finish, campaign_id, sink.port)

    [taken] = [message.rcpt_to for message in smtp.stored]
    assert judged(states(ledger), sink.copies() + Counter([taken])) == {"accepted": 2, "unknown": 1}
    assert unknown_recipients(ledger, campaign_id) == [taken]


async def test_killed_between_the_servers_yes_and_its_record_one_is_unknown_and_named(
    ledger: Engine, database_url: str, sink: Sink, start, finish
):
    campaign_id = plan(ledger, 3)
    smtp = ScriptedSmtp()
    async with smtp.running(), wire_to_database(database_url) as (wire, url):
        smtp.on_dot = wire.hold  # before it answers: no record reaches the ledger any more
        sender = start(campaign_id, smtp.port, 1, url)
        while not smtp.stored:
            assert sender.alive, sender.failure()
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)  # long enough to hear the yes
        sender.kill()
        await asyncio.to_thread(sender.wait)
    expire_leases(ledger)
    await asyncio.to_thread(finish, campaign_id, sink.port)

    [taken] = [message.rcpt_to for message in smtp.stored]
    assert judged(states(ledger), sink.copies() + Counter([taken])) == {"accepted": 2, "unknown": 1}
    assert unknown_recipients(ledger, campaign_id) == [taken]
