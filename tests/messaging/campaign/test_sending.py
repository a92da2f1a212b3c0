"""A batch is sent once, and every recipient ends in one state that is true."""

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from messaging.campaign import answering, working
from messaging.campaign.ledger import BatchLedger
from messaging.campaign.planning import plan_campaign
from messaging.campaign.retrying import requeue
from messaging.campaign.sending import send_batch
from messaging.campaign.working import next_work
from messaging.errors import AccountError, CampaignStopped, LeaseLost, NotSent, Withdrawn
from messaging.reports.numbers import campaign_report
from messaging.storage import attempts, batches, campaigns
from messaging.storage.attempts import Answer, Mark
from schemas.campaign import CampaignSpec, RetryRequest
from schemas.pacing import Pacing
from schemas.report import Plan
from schemas.states import AttemptState, CampaignState
from tests.fakes.scripted_smtp import ScriptedSmtp, says

ALL_KINDS = [
    "ada@example.org",
    "bo@example.org",
    "greylist.cy@example.org",
    "hangup.di@example.org",
    "nobody.ed@example.org",
    "drop.flo@example.org",
]


@pytest.fixture
def plan(ledger: Engine, audience, spec: CampaignSpec) -> Plan:
    audience(*ALL_KINDS)
    return plan_campaign(ledger, spec)


async def send_all(run) -> None:
    async for numbers in next_work(run, None):
        for number in numbers:
            await send_batch(run, number)


async def test_every_recipient_ends_in_the_state_that_the_server_gave_them(
    ledger: Engine, plan: Plan, server, open_run, states
):
    async with open_run(plan.campaign_id, server.port) as run:
        await send_all(run)

    assert states() == {
        "ada@example.org": "accepted",
        "bo@example.org": "accepted",
        "greylist.cy@example.org": "accepted",  # the second time
        "hangup.di@example.org": "accepted",  # the second time: nothing had been handed over
        "nobody.ed@example.org": "rejected",
        "drop.flo@example.org": "unknown",
    }
    report = campaign_report(ledger, plan.campaign_id)
    assert server.received() == report.totals.accepted + 1  # the sandbox keeps what it did not answer for
    assert report.state is CampaignState.FINISHED
    assert report.reasons["550 5.1.1"] == 1


def test_a_number_comes_with_the_contacts_own_address(ledger: Engine, audience, spec: CampaignSpec):
    audience("ada@example.org")
    with ledger.begin() as connection:
        connection.execute(text("UPDATE contacts SET phone = '+447400000001'"))
    over = {"account": "whatsapp-web-account/main", "channel": "whatsapp", "text": "{{ email }} {{ phone }}"}
    plan = plan_campaign(ledger, CampaignSpec(**(spec.model_dump() | over)))

    with ledger.begin() as connection:
        lease = batches.claim(connection, plan.campaign_id, 1, "here")
        [attempt] = attempts.due(connection, lease.batch_id, 0, 10)

    assert (attempt.address, attempt.email) == ("+447400000001", "ada@example.org")


async def test_a_finished_campaign_sends_nothing_more(plan: Plan, server, open_run):
    async with open_run(plan.campaign_id, server.port) as run:
        await send_all(run)
        received = server.received()
        await send_all(run)
        report = await send_batch(run, 1)

    assert server.received() == received
    assert report.answers == 0


async def test_who_is_suppressed_after_planning_is_not_written_to(
    ledger: Engine, plan: Plan, server, open_run, states
):
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO suppressions (channel, address_key, reason, source)
                VALUES ('email', 'ada@example.org', 'complained', 'test')
            """)
        )
    async with open_run(plan.campaign_id, server.port) as run:
        await send_all(run)

    assert states()["ada@example.org"] == "suppressed"
    assert not any("ada@example.org" in file.read_text() for file in (server.outbox / "new").iterdir())


async def test_a_paused_campaign_hands_nothing_over(ledger: Engine, plan: Plan, server, open_run, states):
    with ledger.begin() as connection:
        campaigns.pause(connection, plan.campaign_id, "lunch")
    async with open_run(plan.campaign_id, server.port) as run:
        report = await send_batch(run, 1)
        with pytest.raises(CampaignStopped, match=r"paused \(lunch\): 6 recipients are left"):
            await send_all(run)

    assert (report.answers, server.received()) == (0, 0)
    assert set(states().values()) == {"queued"}


async def test_a_recipient_whose_message_cannot_be_made_is_rejected_alone(
    ledger: Engine, audience, spec: CampaignSpec, server, open_run, states
):
    audience("ada@example.org", city="Leeds")
    audience("bo@example.org")
    plan = plan_campaign(ledger, spec.model_copy(update={"subject": "News from {{ city }}"}))
    async with open_run(plan.campaign_id, server.port) as run:
        await send_all(run)

    assert states() == {"ada@example.org": "accepted", "bo@example.org": "rejected"}
    assert "city" in next(iter(campaign_report(ledger, plan.campaign_id).reasons))


async def test_with_the_server_away_everyone_stays_queued(plan: Plan, open_run, states):
    async with open_run(plan.campaign_id, port=1, connections=1) as run:
        report = await send_batch(run, 1)
        failing_for = run.failing_for

    assert report.answers == 0
    assert failing_for > 0
    assert set(states().values()) == {"queued"}


async def test_a_server_that_stays_away_fails_the_run_in_the_end(plan: Plan, open_run, states, monkeypatch):
    monkeypatch.setattr(working, "PATIENCE", 3.0)
    async with open_run(plan.campaign_id, port=1) as run:
        with pytest.raises(NotSent, match=r"6 recipients .* the server has been away"):
            await send_all(run)

    assert set(states().values()) == {"queued"}


async def test_an_account_that_cannot_go_on_pauses_the_campaign(ledger: Engine, plan: Plan, open_run, states):
    class Blocked:
        connections = 2

        def sender(self):
            return self

        async def __aenter__(self):
            return self

        async def __aexit__(self, *_):
            return None

        async def send(self, *_):
            raise AccountError("the server refuses our login (535)")

    async with open_run(plan.campaign_id, port=1) as run:
        run.pool = Blocked()
        with pytest.raises(AccountError):
            await send_batch(run, 1)

    report = campaign_report(ledger, plan.campaign_id)
    assert (report.state, report.paused_because) == (
        CampaignState.PAUSED,
        "the server refuses our login (535)",
    )
    assert set(states().values()) == {"queued"}


async def test_a_batch_another_sender_holds_is_left_alone(ledger: Engine, plan: Plan, server, open_run):
    with ledger.begin() as connection:
        assert batches.claim(connection, plan.campaign_id, 1, "another") is not None
    async with open_run(plan.campaign_id, server.port) as run:
        report = await send_batch(run, 1)

    assert (report.claimed, server.received()) == (False, 0)


def take_over(ledger: Engine, plan: Plan) -> None:
    with ledger.begin() as connection:
        connection.execute(text("UPDATE batches SET lease_expires_at = now() - interval '1 second'"))
        assert batches.claim(connection, plan.campaign_id, 1, "another") is not None


async def test_after_a_take_over_the_former_sender_can_neither_mark_nor_record(
    ledger: Engine, plan: Plan, states
):
    with ledger.begin() as connection:
        lease = batches.claim(connection, plan.campaign_id, 1, "orphan")
    writer = BatchLedger(ledger, lease)
    with pytest.raises(LeaseLost):
        async with writer:
            await writer.dispatch(Mark(1, "one@example.org"))
            take_over(ledger, plan)
            writer.record(Answer(1, AttemptState.ACCEPTED))
            with pytest.raises(LeaseLost):
                await writer.dispatch(Mark(2, "two@example.org"))

    # The one that was on its way when we were cut off is a known unknown; the other is untouched.
    assert [states()[address] for address in ALL_KINDS[:2]] == ["unknown", "queued"]


async def test_marks_of_all_connections_share_a_round_with_the_answers_before_them(
    ledger: Engine, plan: Plan, states
):
    with ledger.begin() as connection:
        lease = batches.claim(connection, plan.campaign_id, 1, "us")
    async with BatchLedger(ledger, lease) as writer:
        await asyncio.gather(*(writer.dispatch(Mark(n, f"{n}@example.org")) for n in (1, 2, 3)))
        assert list(states().values())[:3] == ["dispatched"] * 3
        writer.record(Answer(1, AttemptState.ACCEPTED, code=250))
        writer.record(Answer(2, AttemptState.REJECTED, code=550))
        await writer.dispatch(Mark(4, "4@example.org"))
        assert list(states().values())[:4] == ["accepted", "rejected", "dispatched", "dispatched"]
        writer.record(Answer(3, AttemptState.UNKNOWN))
        writer.record(Answer(4, AttemptState.ACCEPTED))

    assert list(states().values())[:4] == ["accepted", "rejected", "unknown", "accepted"]
    with ledger.begin() as connection:
        assert batches.claim(connection, plan.campaign_id, 1, "next") is not None  # it was given back


async def test_an_attempt_is_marked_once(ledger: Engine, plan: Plan):
    with ledger.begin() as connection:
        lease = batches.claim(connection, plan.campaign_id, 1, "us")
    async with BatchLedger(ledger, lease) as writer:
        await writer.dispatch(Mark(1, "one@example.org"))
        with pytest.raises(Withdrawn):
            await writer.dispatch(Mark(1, "again@example.org"))
        writer.record(Answer(1, AttemptState.ACCEPTED))
        with pytest.raises(Withdrawn):
            await writer.dispatch(Mark(1, "again@example.org"))


async def test_pausing_is_felt_at_the_next_mark(ledger: Engine, plan: Plan):
    with ledger.begin() as connection:
        lease = batches.claim(connection, plan.campaign_id, 1, "us")
    async with BatchLedger(ledger, lease) as writer:
        await writer.dispatch(Mark(1, "one@example.org"))
        writer.record(Answer(1, AttemptState.ACCEPTED))
        with ledger.begin() as connection:
            campaigns.pause(connection, plan.campaign_id, "lunch")
        with pytest.raises(CampaignStopped):
            await writer.dispatch(Mark(2, "two@example.org"))


async def test_a_recipient_that_is_always_deferred_is_given_up_in_the_end(
    ledger: Engine, audience, spec: CampaignSpec, open_run, states
):
    audience("ada@example.org")
    plan = plan_campaign(ledger, spec)
    smtp = ScriptedSmtp({"RCPT": says("450 4.2.1 try again in 7 minutes")})
    waits = []
    async with smtp.running(), open_run(plan.campaign_id, smtp.port) as run:
        for _ in range(answering.MOST_TRIES):
            await send_batch(run, 1)
            with ledger.begin() as connection:
                waits += connection.execute(
                    text(
                        "SELECT extract(epoch FROM not_before - now())::float FROM attempts "
                        "WHERE state = 'queued'"
                    )
                ).scalars()
                connection.execute(text("UPDATE attempts SET not_before = NULL"))

    assert states() == {"ada@example.org": "rejected"}
    assert len(waits) == answering.MOST_TRIES - 1
    assert all(410 < wait < 520 for wait in waits)  # the seven minutes it asked for, and a little spread
    assert campaign_report(ledger, plan.campaign_id).reasons == {"gave up after 5 tries: 450 4.2.1": 1}


def test_waits_double_when_the_server_names_none():
    waits = [answering.backoff(tries, None) for tries in range(8)]

    assert all(60 * 2**n <= wait <= 72 * 2**n for n, wait in enumerate(waits[:6]))
    assert all(wait <= 1.2 * answering.LONGEST_WAIT for wait in waits)


async def test_told_to_stop_it_finishes_what_is_in_flight(
    ledger: Engine, audience, spec: CampaignSpec, open_run, states
):
    audience(*(f"reader{n}@example.org" for n in range(20)))
    plan = plan_campaign(ledger, spec)
    smtp = ScriptedSmtp({"DOT": says("250 2.0.0 taken", stores=True, after_seconds=0.4)})
    async with smtp.running(), open_run(plan.campaign_id, smtp.port, 2) as run:
        sender = asyncio.create_task(send_batch(run, 1))
        await asyncio.sleep(0.6)
        sender.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sender

    counts = Counter(states().values())
    assert set(counts) == {"accepted", "queued"}  # nothing unknown, nothing left dispatched
    assert counts["accepted"] == len(smtp.stored) < 20


async def test_recipients_whose_server_hangs_up_do_not_hold_up_the_others(
    ledger: Engine, audience, spec: CampaignSpec, open_run, states
):
    audience(*(f"bad{n}@example.org" for n in range(12)))
    audience(*(f"good{n}@example.org" for n in range(30)))
    plan = plan_campaign(ledger, spec)
    smtp = ScriptedSmtp({"RCPT": [says("421 4.7.0 busy")] * 12})  # the first twelve it hears of
    good = {f"good{n}@example.org" for n in range(30)}
    async with smtp.running(), open_run(plan.campaign_id, smtp.port, 2) as run:
        while not good <= {address for address, state in states().items() if state == "accepted"}:
            await send_batch(run, 1)
            await asyncio.sleep(0.1)
            with ledger.begin() as connection:  # five in a row stop the account for some seconds, made short
                connection.execute(text("UPDATE throttles SET open_until = now() WHERE open_until > now()"))

    with ledger.begin() as connection:
        tried = connection.execute(text("SELECT max(tries), max(delays) FROM attempts")).one()
    assert tried[0] == 0  # put off for the server's sake, which nobody is given up for soon
    assert tried[1]


async def test_a_server_that_refuses_everyone_alike_rejects_nobody(
    ledger: Engine, audience, spec: CampaignSpec, open_run
):
    audience(*(f"reader{n}@example.org" for n in range(100)))
    plan = plan_campaign(ledger, spec)
    smtp = ScriptedSmtp({"RCPT": says("554 5.7.1 Client host blocked")})
    async with smtp.running(), open_run(plan.campaign_id, smtp.port) as run:
        with pytest.raises(AccountError, match=r"refuses everyone alike \(554 5.7.1\)"):
            await send_batch(run, 1)

    report = campaign_report(ledger, plan.campaign_id)
    assert report.state is CampaignState.PAUSED
    assert report.totals.queued >= 100 - 3  # who was in flight on the other connections has their answer
    assert report.totals.unknown == report.totals.dispatched == 0


async def test_a_list_of_dead_mailboxes_is_rejected_one_by_one(
    ledger: Engine, audience, spec: CampaignSpec, open_run
):
    audience(*(f"nobody{n}@example.org" for n in range(60)))
    plan = plan_campaign(ledger, spec)
    smtp = ScriptedSmtp({"RCPT": says("550 5.1.1 no such user")})
    async with smtp.running(), open_run(plan.campaign_id, smtp.port) as run:
        await send_all(run)

    assert campaign_report(ledger, plan.campaign_id).reasons == {"550 5.1.1": 60}


async def test_a_message_too_big_for_the_server_is_rejected_alone(
    ledger: Engine, audience, spec: CampaignSpec, open_run, states
):
    audience("ada@example.org", "bo@example.org")
    plan = plan_campaign(ledger, spec)
    smtp = ScriptedSmtp({"MAIL": [says("552 5.3.4 too big")]})
    async with smtp.running(), open_run(plan.campaign_id, smtp.port, 1) as run:
        await send_all(run)

    assert states() == {"ada@example.org": "rejected", "bo@example.org": "accepted"}


async def test_throttled_recipients_are_not_given_up_with_the_others(
    ledger: Engine, audience, spec: CampaignSpec, open_run, states
):
    audience("ada@example.org")
    plan = plan_campaign(ledger, spec)
    smtp = ScriptedSmtp({"DOT": says("454 Throttling failure: Daily message quota exceeded")})
    async with smtp.running(), open_run(plan.campaign_id, smtp.port) as run:
        for _ in range(answering.MOST_TRIES + 1):
            await send_batch(run, 1)
            with ledger.begin() as connection:
                connection.execute(text("UPDATE attempts SET not_before = NULL"))

    assert states() == {"ada@example.org": "queued"}


async def test_a_database_that_restarts_costs_nobody_an_answer(
    ledger: Engine, audience, spec: CampaignSpec, server, open_run, states
):
    audience(*(f"reader{n}@example.org" for n in range(300)))
    plan = plan_campaign(ledger, spec)

    def cut_off() -> None:  # what a fast restart does to every session
        with ledger.begin() as connection:
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            )

    async with open_run(plan.campaign_id, server.port) as run:
        sender = asyncio.create_task(send_all(run))
        for goal in (60, 140, 220):
            while server.received() < goal and not sender.done():  # noqa: ASYNC110 - another process counts
                await asyncio.sleep(0.01)
            await asyncio.to_thread(cut_off)
        try:
            await sender
        except SQLAlchemyError:  # met by a look at the ledger; the task's retry is played here
            await send_all(run)

    assert Counter(states().values()) == {"accepted": 300}
    assert server.received() == 300


def test_who_is_queued_again_at_the_last_moment_is_not_lost_in_a_finished_campaign(
    ledger: Engine, plan: Plan
):
    with ledger.begin() as connection:
        connection.execute(text("UPDATE attempts SET state = 'rejected'"))
    request = RetryRequest(campaign="spring-offer", states=[AttemptState.REJECTED])
    with ledger.connect() as other, other.begin() as transaction:
        campaigns.lock(other, plan.campaign_id)
        with ThreadPoolExecutor(2) as pool:
            retry = pool.submit(requeue, ledger, request, "someone")
            time.sleep(0.3)

            def finish() -> None:
                with ledger.begin() as connection:
                    campaigns.finish(connection, plan.campaign_id)

            end = pool.submit(finish)
            time.sleep(0.3)
            transaction.commit()
            assert retry.result() == len(ALL_KINDS)
            end.result()

    assert campaign_report(ledger, plan.campaign_id).state is CampaignState.RUNNING


async def test_past_its_deadline_a_campaign_stops_in_mid_batch_and_is_paused(
    ledger: Engine, audience, spec: CampaignSpec, server, open_run, states
):
    audience(*(f"reader{n}@example.org" for n in range(40)))
    plan = plan_campaign(ledger, spec.model_copy(update={"not_after": "2s", "pacing": Pacing(rate="10/s")}))
    async with open_run(plan.campaign_id, server.port) as run:
        with pytest.raises(CampaignStopped, match="its deadline passed"):
            await send_all(run)

    counts = Counter(states().values())
    assert set(counts) == {"accepted", "queued"}
    assert counts["accepted"] == server.received()
