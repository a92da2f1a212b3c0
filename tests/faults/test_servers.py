"""Half-broken servers cost nobody a message; a recipient who cannot be written to costs only theirs."""

import asyncio
from collections import Counter

from sqlalchemy import Engine, text

from messaging.reports.numbers import campaign_report
from tests.fakes.scripted_smtp import ScriptedSmtp, hangs_up, says
from tests.faults.crowds import crowd, in_state, judged, plan, plan_for_crowd, states
from tests.faults.sink import Sink
from tests.faults.wire import wire_to_servers

RECIPIENTS = 400


def taken(*servers: ScriptedSmtp) -> Counter[str]:
    return Counter(message.rcpt_to for server in servers for message in server.stored)


async def test_behind_a_balancer_with_a_dead_half_everyone_gets_a_copy_from_the_other(ledger: Engine, start):
    campaign_id = plan(ledger, RECIPIENTS)
    well, dead = ScriptedSmtp(), ScriptedSmtp({"CONNECT": hangs_up()})
    async with well.running(), dead.running(), wire_to_servers(well.port, dead.port) as port:
        failure = await asyncio.to_thread(start(campaign_id, port).failure)

    assert not failure
    assert dead.opened
    assert judged(states(ledger), taken(well)) == {"accepted": RECIPIENTS}


async def test_behind_a_balancer_with_a_slow_half_the_others_do_not_wait_for_it(ledger: Engine, start):
    campaign_id = plan(ledger, RECIPIENTS, batch_size=RECIPIENTS)
    quick = ScriptedSmtp()
    slow = ScriptedSmtp({"DOT": says("250 2.0.0 taken", stores=True, after_seconds=0.5)})
    async with quick.running(), slow.running(), wire_to_servers(quick.port, slow.port) as port:
        failure = await asyncio.to_thread(start(campaign_id, port).failure)

    assert not failure
    assert judged(states(ledger), taken(quick, slow)) == {"accepted": RECIPIENTS}
    assert slow.stored
    assert len(quick.stored) > 3 * len(slow.stored)  # dealt out evenly, the slow half would hold up all


async def test_a_server_that_goes_dead_in_mid_campaign_is_asked_now_and_then_until_it_is_back(
    ledger: Engine, start
):
    campaign_id = plan(ledger, RECIPIENTS)
    ailing = ScriptedSmtp({"MAIL": [None] * 50 + [says("421 4.3.2 closing")] * 40})
    async with ailing.running():
        sender = start(campaign_id, ailing.port)
        opened = 0
        while sender.alive:
            await asyncio.sleep(0.1)
            with ledger.begin() as connection:
                stopped = connection.execute(text("SELECT count(*) FROM throttles WHERE open_until > now()"))
                if stopped.scalar_one():
                    opened += 1
                    assert set(judged(states(ledger), taken(ailing))) == {"accepted", "queued"}
                    # Seconds or minutes, made short.
                    connection.execute(text("UPDATE throttles SET open_until = now()"))

    assert not sender.failure()
    assert opened
    assert judged(states(ledger), taken(ailing)) == {"accepted": RECIPIENTS}


ADDRESSES = {
    3: "reader3@example.org\r\nRCPT TO:<eve@example.org>",
    4: "reader4@example.org> <eve@example.org",
}
NAMES = {5: "Ada\r\nBcc: eve@example.org", 6: "\ufeff\u2028\u202e\x01"}
CITIES = {
    7: "Leeds\r\nBcc: eve@example.org\r\n\r\nhello",
    8: "\r\n.\r\nMAIL FROM:<eve@example.org>\r\nRCPT TO:<eve@example.org>\r\nDATA\r\nhello\r\n.\r\n",
    9: "x" * 1_100_000,
}
MERGED = {"subject": "News for {{ name }}", "text": "How is {{ city | default('it there') }}?"}


def test_recipients_whose_message_cannot_be_made_or_carried_are_rejected_alone(
    ledger: Engine, sink: Sink, finish
):
    crowd(ledger, 60)
    named = "UPDATE contacts SET name = :value WHERE id = :id"
    living = "UPDATE contacts SET attributes = jsonb_build_object('City', :value ::text) WHERE id = :id"
    with ledger.begin() as connection:
        for statement, values in ((named, NAMES), (living, CITIES)):
            connection.execute(text(statement), [{"id": n, "value": value} for n, value in values.items()])
    campaign_id = plan_for_crowd(ledger, **MERGED)
    with ledger.begin() as connection:  # which no import lets through
        values = [{"id": n, "value": address} for n, address in ADDRESSES.items()]
        connection.execute(text("UPDATE attempts SET address = :value WHERE contact_id = :id"), values)

    finish(campaign_id, sink.port)

    assert judged(states(ledger), sink.copies()) == {"accepted": 57, "rejected": 3}
    assert set(in_state(ledger, "rejected")) == {*ADDRESSES.values(), "reader9@example.org"}
    assert sum(campaign_report(ledger, campaign_id).reasons.values()) == 3  # each with its reason
