"""What a person decides about a campaign holds at once, is told in a sentence, and is remembered."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, Engine, text

from messaging.campaign.controlling import accept_unknown, cancel, pause, person, set_pace
from messaging.campaign.planning import plan_campaign
from messaging.campaign.retrying import requeue
from messaging.campaign.sending import CampaignRun, send_batch
from messaging.campaign.working import next_work
from messaging.errors import CampaignStopped, InputError
from messaging.reports.numbers import campaign_report
from messaging.storage import batches, campaigns
from schemas.campaign import CampaignSpec, RetryRequest
from schemas.pacing import Pacing, WarmUp
from schemas.report import CampaignReport, Plan
from schemas.states import CampaignState
from tests.fakes.scripted_smtp import ScriptedSmtp, Step, says

ADA = "ada on desk"
NAME = "spring-offer"


@pytest.fixture
def plan(ledger: Engine, audience, spec: CampaignSpec) -> Plan:
    """Six recipients in three batches."""
    audience(*(f"reader{n}@example.org" for n in range(6)))
    return plan_campaign(ledger, spec.model_copy(update={"batch_size": 2}))


@pytest.fixture
def become(ledger: Engine) -> Callable[..., None]:
    """Put the recipients with these numbers into a state."""

    def put(state: str, *ids: int) -> None:
        with ledger.begin() as connection:
            connection.execute(
                text("UPDATE attempts SET state = :state WHERE id = ANY (:ids)"),
                {"state": state, "ids": list(ids)},
            )

    return put


@pytest.fixture
def report(ledger: Engine, plan: Plan) -> Callable[[], CampaignReport]:
    return lambda: campaign_report(ledger, plan.campaign_id)


def decided(report: CampaignReport) -> list[tuple[str, str]]:
    return [(decision.who, decision.said) for decision in report.decisions]


async def look(run: CampaignRun) -> list[int]:
    """Ask once, as a sender does, what can be sent now; nothing: it is over."""
    return list(await anext(next_work(run, None), {}))


@pytest.mark.usefixtures("plan")
def test_a_pause_keeps_who_is_queued_and_says_who_asked_for_it_and_why(ledger: Engine, become, report):
    become("accepted", 1, 2)
    become("dispatched", 3)

    done = pause(ledger, NAME, "the  offer\nhas a mistake", ADA)

    assert done.said == (
        "campaign 'spring-offer' is paused with 3 recipients still to be sent to, 1 on the way will get an "
        "answer first; to go on: outflow resume spring-offer"
    )
    assert (done.changed, done.state) == (True, CampaignState.PAUSED)
    assert (report().state, report().totals.queued) == (CampaignState.PAUSED, 3)
    assert report().paused_because == "the offer has a mistake, by ada on desk"
    assert decided(report()) == [(ADA, "paused: the offer has a mistake")]


@pytest.mark.usefixtures("plan")
def test_a_second_pause_changes_nothing_and_says_why_the_first_was(ledger: Engine, report):
    pause(ledger, NAME, "", ADA)

    again = pause(ledger, NAME, "lunch", "bo on sofa")

    assert (again.changed, again.said) == (
        False,
        "campaign 'spring-offer' is paused already (by ada on desk)",
    )
    assert len(report().decisions) == 1


@pytest.mark.parametrize(
    ("because", "sentence"),
    [("ada@example.org asked", "may not hold addresses"), ("x" * 201, "201 characters: at most 200")],
)
@pytest.mark.usefixtures("plan")
def test_a_reason_that_must_not_be_shown_pauses_nothing(ledger: Engine, report, because: str, sentence: str):
    with pytest.raises(InputError, match=sentence):
        pause(ledger, NAME, because, ADA)

    assert report().state is CampaignState.RUNNING


async def test_a_paused_campaign_sends_nothing_more_until_it_runs_on(
    ledger: Engine, plan: Plan, server, open_run, report
):
    async with open_run(plan.campaign_id, server.port) as run:
        await send_batch(run, 1)
        pause(ledger, NAME, "", ADA)
        await send_batch(run, 2)
        assert server.received() == 2
        with pytest.raises(CampaignStopped, match=r"is paused \(by ada on desk\): 4 recipients are left"):
            await look(run)

        requeue(ledger, RetryRequest(campaign=NAME), "bo on sofa")
        assert await look(run) == [2, 3]
        await send_batch(run, 2)

    assert server.received() == 4
    assert report().state is CampaignState.RUNNING
    assert report().paused_because is None
    assert decided(report())[-1] == ("bo on sofa", "resumed")


def test_paused_with_the_last_answer_on_its_way_a_campaign_finishes(
    ledger: Engine, plan: Plan, become, report
):
    become("accepted", 1, 2, 3, 4, 5)
    become("dispatched", 6)
    pause(ledger, NAME, "", ADA)
    become("accepted", 6)

    with ledger.begin() as connection:
        campaigns.finish(connection, plan.campaign_id)

    assert (report().state, report().paused_because) == (CampaignState.FINISHED, None)


@pytest.mark.usefixtures("plan")
def test_a_cancel_withdraws_who_is_queued_and_leaves_every_answer(ledger: Engine, become, report, states):
    become("accepted", 1)
    become("unknown", 2)

    done = cancel(ledger, NAME, ADA)

    assert (done.said, done.recipients) == (
        "campaign 'spring-offer' is cancelled: 4 recipients will not be written to",
        4,
    )
    assert list(states().values()) == ["accepted", "unknown"] + ["cancelled"] * 4
    assert (report().state, report().paused_because) == (CampaignState.CANCELLED, None)
    assert decided(report()) == [(ADA, "cancelled")]


@pytest.mark.usefixtures("plan")
def test_a_second_cancel_changes_nothing(ledger: Engine, report):
    cancel(ledger, NAME, ADA)
    before = report()

    again = cancel(ledger, NAME, "bo on sofa")

    assert (again.changed, again.recipients) == (False, 0)
    assert again.said == "campaign 'spring-offer' was cancelled before: 6 recipients will not be written to"
    assert report() == before


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [(says("250 ok", stores=True, after_seconds=1), 1), (says("451 4.3.0 not now", after_seconds=1), 0)],
    ids=["taken", "not now"],
)
async def test_who_is_on_the_way_when_a_campaign_is_cancelled_gets_their_answer(
    ledger: Engine, plan: Plan, open_run, report, answer: Step, accepted: int
):
    smtp = ScriptedSmtp({"DOT": answer})
    async with smtp.running(), open_run(plan.campaign_id, smtp.port, connections=1) as run:
        sending = asyncio.create_task(send_batch(run, 1))
        while not report().totals.dispatched and not sending.done():  # noqa: ASYNC110 - the database knows
            await asyncio.sleep(0.01)
        done = await asyncio.to_thread(cancel, ledger, NAME, ADA)
        await sending
        assert await look(run) == []

    assert "1 on the way will get an answer first" in done.said
    totals = report().totals
    assert (totals.accepted, totals.cancelled, len(smtp.stored)) == (accepted, 6 - accepted, accepted)


def test_what_a_dead_process_left_on_the_way_is_unknown_after_a_cancel(
    ledger: Engine, plan: Plan, become, states
):
    with ledger.begin() as connection:
        batches.claim(connection, plan.campaign_id, 1, "the dead")
        batches.claim(connection, plan.campaign_id, 2, "the living")
        connection.execute(
            text("UPDATE batches SET lease_expires_at = clock_timestamp() - interval '1 s' WHERE number = 1")
        )
    become("dispatched", 1, 3)

    cancel(ledger, NAME, ADA)

    assert list(states().values()) == ["unknown", "cancelled", "dispatched"] + ["cancelled"] * 3


def test_a_cancel_waits_for_no_sender_and_the_sender_settles_what_it_held(ledger: Engine, plan: Plan, states):
    with ThreadPoolExecutor(1) as pool, ledger.begin() as sender:
        sender.execute(text("UPDATE attempts SET tries = 1 WHERE id = 2"))
        done = pool.submit(cancel, ledger, NAME, ADA).result(timeout=10)
    assert (done.recipients, list(states().values()).count("queued")) == (5, 1)

    with ledger.begin() as connection:
        campaigns.finish(connection, plan.campaign_id)

    assert set(states().values()) == {"cancelled"}


@pytest.mark.usefixtures("plan")
def test_a_cancelled_campaign_is_never_sent_again(ledger: Engine, spec: CampaignSpec, become, report):
    become("rejected", 1)
    cancel(ledger, NAME, ADA)
    again = spec.model_copy(update={"batch_size": 2})

    for attempt in (
        lambda: requeue(ledger, RetryRequest(campaign=NAME, states=["rejected"]), ADA),
        lambda: plan_campaign(ledger, again, ADA),
    ):
        with pytest.raises(InputError, match="was cancelled: give it a new name"):
            attempt()

    assert report().totals.rejected == 1
    assert report().state is CampaignState.CANCELLED


def test_cancelled_while_it_is_launched_again_it_stays_cancelled(
    ledger: Engine, plan: Plan, spec: CampaignSpec, report
):
    again = spec.model_copy(update={"batch_size": 2})
    with ThreadPoolExecutor(1) as pool:
        with ledger.begin() as connection:
            campaigns.lock(connection, plan.campaign_id)
            campaigns.cancel(connection, plan.campaign_id, ADA)
            launched = pool.submit(plan_campaign, ledger, again, ADA)
            _wait_for_a_lock(connection)
        with pytest.raises(InputError, match="was cancelled"):
            launched.result(timeout=10)

    assert report().state is CampaignState.CANCELLED


def _wait_for_a_lock(connection: Connection) -> None:
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    while not connection.execute(waiting).scalar_one():
        pass


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "paused"])
def test_another_pace_is_there_for_whoever_sends(ledger: Engine, plan: Plan, report, *, stopped: bool):
    if stopped:
        pause(ledger, NAME, "", ADA)

    done = set_pace(ledger, NAME, Pacing(rate="50/s"), ADA)
    again = set_pace(ledger, NAME, Pacing(rate="50/s"), ADA)

    assert (done.changed, done.said) == (True, "the pace of campaign 'spring-offer' is now: at most 50/s")
    assert (again.changed, again.said) == (
        False,
        "the pace of campaign 'spring-offer' is already: at most 50/s",
    )
    assert _pacing(ledger, plan) == Pacing(rate="50/s")
    assert report().state is (CampaignState.PAUSED if stopped else CampaignState.RUNNING)
    assert decided(report())[-1] == (ADA, "pace: at most 50/s")


def test_a_warm_up_stays_whatever_the_pace(ledger: Engine, plan: Plan, spec: CampaignSpec):
    warm_up = WarmUp(start=200, growth=1.5)
    plan_campaign(
        ledger,
        spec.model_copy(update={"batch_size": 2, "pacing": Pacing(rate="50/s", warm_up=warm_up)}),
    )

    done = set_pace(ledger, NAME, Pacing(), ADA)

    assert _pacing(ledger, plan) == Pacing(warm_up=warm_up)
    assert done.said.endswith(
        "as fast as the account takes it; warm-up from 200 a day, growing 1.5 times a day"
    )


def _pacing(ledger: Engine, plan: Plan) -> Pacing:
    with ledger.begin() as connection:
        campaign = campaigns.get(connection, plan.campaign_id)
        assert campaign is not None
        return campaign.spec.pacing


def _pause(ledger: Engine) -> None:
    pause(ledger, NAME, "", ADA)


def _set_pace(ledger: Engine) -> None:
    set_pace(ledger, NAME, Pacing(), ADA)


def _cancel(ledger: Engine) -> None:
    cancel(ledger, NAME, ADA)


@pytest.mark.parametrize(
    ("command", "ended"),
    [
        (_pause, "finished"),
        (_pause, "cancelled"),
        (_set_pace, "finished"),
        (_set_pace, "cancelled"),
        (_cancel, "finished"),
    ],
)
@pytest.mark.usefixtures("plan")
def test_what_has_ended_gets_a_sentence(ledger: Engine, command, ended: str):
    with ledger.begin() as connection:
        connection.execute(text("UPDATE attempts SET state = 'accepted'"))
        connection.execute(text("UPDATE campaigns SET state = :ended"), {"ended": ended})

    with pytest.raises(InputError, match=f"campaign 'spring-offer' is {ended}: there is nothing left to"):
        command(ledger)


@pytest.mark.usefixtures("plan")
def test_a_person_who_found_out_calls_unknown_recipients_accepted(ledger: Engine, become, report, states):
    become("accepted", 2)
    become("unknown", 1, 3, 5)
    become("rejected", 4)

    done = accept_unknown(ledger, NAME, [2, 3], ADA)

    assert list(states().values()) == ["unknown", "accepted", "accepted", "rejected", "accepted", "queued"]
    assert (done.changed, done.recipients) == (True, 2)
    assert done.said == "2 recipients in batch 2, 3 of campaign 'spring-offer' are accepted now"
    assert decided(report()) == [(ADA, "called accepted: 2 unknown in batch 2, 3")]
    with ledger.begin() as connection:
        noted = connection.execute(
            text("SELECT attempt_id, kind, source, details FROM events WHERE attempt_id > 0 ORDER BY 1")
        ).all()
    details = {"from": "unknown", "to": "accepted"}
    assert noted == [(3, "resolved", ADA, details), (5, "resolved", ADA, details)]


@pytest.mark.usefixtures("plan")
def test_nobody_unknown_is_said_and_nothing_is_noted(ledger: Engine, report):
    done = accept_unknown(ledger, NAME, [1], ADA)

    assert (done.changed, done.said) == (False, "nobody in batch 1 of campaign 'spring-offer' is unknown")
    assert report().decisions == []


@pytest.mark.usefixtures("plan")
def test_with_the_last_unknown_on_the_way_resolved_a_campaign_is_finished(ledger: Engine, become, report):
    become("accepted", 1, 2, 3, 4, 5)
    become("dispatched", 6)  # by a process that died: no lease is held

    accept_unknown(ledger, NAME, None, ADA)

    assert (report().state, report().totals.accepted) == (CampaignState.FINISHED, 6)


@pytest.mark.parametrize(
    ("name", "numbers", "sentence"),
    [
        ("autumn", None, "there is no campaign 'autumn' .campaigns: spring-offer."),
        (NAME, [7], "campaign 'spring-offer' has no batch 7: it has 1 to 3"),
    ],
)
@pytest.mark.usefixtures("plan")
def test_what_does_not_exist_gets_a_sentence(
    ledger: Engine, name: str, numbers: list[int] | None, sentence: str
):
    with pytest.raises(InputError, match=sentence):
        accept_unknown(ledger, name, numbers, ADA)


def test_the_person_has_a_name_and_a_machine_and_no_address():
    assert " on " in person()
    assert "@" not in person()
