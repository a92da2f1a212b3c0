"""One-off times: kept, changed, started once, or paused when nobody was there in time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from messaging.campaign import controlling, lateness, planning, retrying, scheduling
from messaging.campaign.finding import campaign_named
from messaging.errors import InputError
from messaging.storage.campaigns import Campaign
from schemas.campaign import CampaignSpec, RetryRequest
from schemas.states import CampaignState

ADA = "ada on desk"
SOON = timedelta(hours=1)
Later = Callable[..., CampaignSpec]


@pytest.fixture(autouse=True)
def _readers(audience) -> None:
    audience("ada@example.org", "bo@example.org")


@pytest.fixture
def later(spec: CampaignSpec) -> Later:
    """The campaign, at a time from now."""

    def at(after: timedelta = SOON, **values: Any) -> CampaignSpec:
        send_at = (datetime.now(UTC) + after).replace(tzinfo=None).isoformat(timespec="minutes")
        return CampaignSpec.model_validate(spec.model_dump() | {"send_at": send_at} | values)

    return at


def passes(ledger: Engine, hours: float) -> None:
    """Let so many hours go by for every campaign."""
    with ledger.begin() as connection:
        connection.execute(
            text("UPDATE campaigns SET due_at = due_at - make_interval(secs => :seconds)"),
            {"seconds": hours * 3600},
        )


def alerts(ledger: Engine) -> list[tuple[str, str]]:
    with ledger.begin() as connection:
        return [tuple(row) for row in connection.execute(text("SELECT kind, said FROM alerts ORDER BY id"))]


def found(ledger: Engine) -> Campaign:
    return campaign_named(ledger, "spring-offer")


def resume(ledger: Engine) -> Campaign | None:
    request = RetryRequest(campaign="spring-offer")
    retrying.check_retry(ledger, request)
    return retrying.resume_unsent(ledger, request, ADA)


def test_a_campaign_with_a_time_is_kept_until_then_with_one_due_time(ledger: Engine, later: Later):
    spec = later()
    assert scheduling.begins_later(ledger, spec)
    scheduling.keep(ledger, spec, ADA)
    scheduling.keep(ledger, spec, ADA)

    campaign = found(ledger)
    assert (campaign.state, campaign.planned_at) == (CampaignState.SCHEDULED, None)
    assert campaign.due_at == datetime.fromisoformat(spec.send_at).replace(tzinfo=UTC)
    assert scheduling.due_campaigns(ledger) == scheduling.Due()


@pytest.mark.parametrize(
    ("send_at", "zone", "due", "words"),
    [
        ("2027-03-20T09:00", "Europe/London", "2027-03-20T09:00", []),
        ("2027-07-20T09:00", "Europe/London", "2027-07-20T08:00", []),
        ("2027-03-28T02:30", "Europe/Berlin", "2027-03-28T01:00", ["does not exist there"]),
        ("2027-10-31T02:30", "Europe/Berlin", "2027-10-31T00:30", ["comes twice there"]),
        ("2027-10-03T02:10", "Australia/Lord_Howe", "2027-10-02T15:30", ["does not exist there"]),
    ],
)
def test_a_local_time_is_one_moment_and_what_clocks_do_to_it_is_said(
    spec: CampaignSpec, send_at: str, zone: str, due: str, words: list[str]
):
    spec = spec.model_copy(update={"send_at": send_at, "time_zone": zone})
    said = scheduling.in_words(spec)

    assert scheduling.due_at(spec) == datetime.fromisoformat(due).replace(tzinfo=UTC)
    assert said[0].endswith(f"{zone}, which is {due.replace('T', ' ')} UTC")
    assert len(said) == 1 + len(words)
    assert all(word in line for word, line in zip(words, said[1:], strict=True))


def test_a_time_in_utc_is_not_said_twice(spec: CampaignSpec):
    spec = spec.model_copy(update={"send_at": "2027-03-20T09:00", "time_zone": "UTC"})

    assert scheduling.in_words(spec) == ["it starts at 2027-03-20 09:00 UTC"]


def test_at_recipients_own_times_it_is_due_when_the_first_clock_on_earth_shows_it(spec: CampaignSpec):
    values = {"send_at": "2027-03-20T09:00", "time_zone": "Europe/London", "recipient_local": True}
    spec = CampaignSpec.model_validate(spec.model_dump() | values)

    assert scheduling.due_at(spec) == datetime(2027, 3, 19, 19, tzinfo=UTC)
    [said] = scheduling.in_words(spec)
    assert said == (
        "each recipient gets it when their clocks show 2027-03-20 09:00: nobody before 2027-03-19 19:00 UTC, "
        "those in Europe/London at 2027-03-20 09:00 UTC"
    )


def test_a_campaign_without_a_time_says_nothing_of_one(spec: CampaignSpec):
    assert scheduling.due_at(spec) is None
    assert scheduling.in_words(spec) == []


def test_a_time_in_the_past_is_refused_and_nothing_is_kept(ledger: Engine, later: Later):
    with pytest.raises(InputError, match="which is over: give it a later send_at, or none to send it now"):
        scheduling.begins_later(ledger, later(-timedelta(minutes=2)))

    with ledger.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM campaigns")).scalar_one() == 0


def test_a_kept_campaign_cannot_be_moved_into_the_past(ledger: Engine, later: Later):
    scheduling.keep(ledger, later(), ADA)

    with pytest.raises(InputError, match="which is over"):
        scheduling.begins_later(ledger, later(-timedelta(hours=1)))


def test_another_time_moves_it_and_so_does_another_pace(ledger: Engine, later: Later):
    scheduling.keep(ledger, later(), ADA)
    moved = later(timedelta(days=2))
    scheduling.keep(ledger, moved, ADA)
    assert found(ledger).due_at == scheduling.due_at(moved)

    scheduling.keep(ledger, moved.model_copy(update={"not_after": "3h"}), ADA)
    assert found(ledger).spec.not_after == "3h"


def test_without_its_time_it_starts_now(ledger: Engine, later: Later):
    scheduling.keep(ledger, later(not_after="2h"), ADA)
    spec = later().model_copy(update={"send_at": "", "not_after": "2h"})
    assert not scheduling.begins_later(ledger, spec)
    plan = planning.plan_campaign(ledger, spec, actor=ADA)

    campaign = found(ledger)
    assert (plan.recipients, campaign.state) == (2, CampaignState.RUNNING)
    assert campaign.planned_at is not None
    assert campaign.deadline == campaign.planned_at + timedelta(hours=2)


def test_before_its_time_it_is_not_planned(ledger: Engine, later: Later):
    scheduling.keep(ledger, later(), ADA)

    with pytest.raises(InputError, match="is scheduled for"):
        planning.plan_campaign(ledger, later())
    with pytest.raises(InputError, match="is scheduled for"):
        resume(ledger)


def test_what_is_due_is_started_once_however_often_it_is_asked_for(ledger: Engine, later: Later):
    number = scheduling.keep(ledger, later(), ADA).id
    passes(ledger, 1.5)
    assert scheduling.due_campaigns(ledger).to_start == {number: "spring-offer"}
    with ThreadPoolExecutor(4) as threads:
        plans = list(threads.map(lambda _: planning.start_campaign(ledger, number), range(4)))

    assert sorted(plan.created for plan in plans) == [False, False, False, True]
    assert {plan.recipients for plan in plans} == {2}
    assert scheduling.due_campaigns(ledger) == scheduling.Due()


def test_all_that_is_due_is_started_the_longest_due_first(ledger: Engine, later: Later):
    names = [f"offer {number}" for number in (1, 2, 3)]
    for hours, name in enumerate(names):
        scheduling.keep(ledger, later(SOON - timedelta(minutes=hours), name=name), ADA)
    passes(ledger, 1.5)

    assert list(scheduling.due_campaigns(ledger).to_start.values()) == ["offer 3", "offer 2", "offer 1"]


@pytest.mark.parametrize(
    ("not_after", "hours", "reason"),
    [
        ("", 4.9, None),
        ("", 5.2, "nothing was there to start it"),
        ("6h", 6.9, None),
        ("30m", 1.6, "it was to be sent by"),
    ],
)
def test_what_is_too_late_is_paused_and_people_are_told(
    ledger: Engine, later: Later, not_after: str, hours: float, reason: str | None
):
    number = scheduling.keep(ledger, later(not_after=not_after), ADA).id
    passes(ledger, hours)
    due = scheduling.due_campaigns(ledger)

    if reason is None:
        assert (list(due.to_start), due.late) == ([number], {})
        return
    assert (due.to_start, list(due.late)) == ({}, [number])
    assert found(ledger).state is CampaignState.PAUSED
    [(kind, said)] = alerts(ledger)
    assert kind == "late"
    assert reason in said
    assert "Nobody was written to" in said
    how = "resume 'spring-offer'" if not not_after else "send it again with a later not_after and no send_at"
    assert how in said
    scheduling.due_campaigns(ledger)
    assert len(alerts(ledger)) == 1


def test_a_run_that_comes_too_late_itself_plans_nobody(ledger: Engine, later: Later, states):
    number = scheduling.keep(ledger, later(), ADA).id
    passes(ledger, 9)
    with pytest.raises(InputError, match="was paused: it was to start at"):
        planning.start_campaign(ledger, number)

    assert states() == {}
    assert [kind for kind, _ in alerts(ledger)] == ["late"]


def test_a_late_one_is_resumed_by_a_person_and_due_at_once(ledger: Engine, later: Later):
    number = scheduling.keep(ledger, later(), ADA).id
    passes(ledger, 9)
    scheduling.due_campaigns(ledger)
    resumed = resume(ledger)

    assert resumed is not None
    assert (resumed.state, resumed.is_due) == (CampaignState.SCHEDULED, True)
    assert planning.start_campaign(ledger, number).recipients == 2
    assert resume(ledger) is None  # it is planned: there is nothing of this kind to do


def test_past_not_after_it_is_not_resumed(ledger: Engine, later: Later):
    scheduling.keep(ledger, later(not_after="30m"), ADA)
    passes(ledger, 3)
    scheduling.due_campaigns(ledger)

    with pytest.raises(InputError, match="was to be sent by"):
        resume(ledger)
    assert found(ledger).state is CampaignState.PAUSED


def test_past_not_after_a_definition_with_more_time_reaches_them(ledger: Engine, later: Later):
    spec = later(not_after="30m")
    scheduling.keep(ledger, spec, ADA)
    passes(ledger, 3)
    scheduling.due_campaigns(ledger)
    now = spec.model_copy(update={"send_at": ""})

    assert not scheduling.begins_later(ledger, now)
    assert planning.plan_campaign(ledger, now).recipients == 2


def test_paused_before_its_time_it_does_not_start_and_resumed_it_keeps_its_time(ledger: Engine, later: Later):
    scheduling.keep(ledger, later(), ADA)
    due_at = found(ledger).due_at
    paused = controlling.pause(ledger, "spring-offer", "a wrong price", ADA)

    assert paused.said == (
        "campaign 'spring-offer' is paused and will not start; to let it: outflow resume spring-offer"
    )
    assert alerts(ledger) == []  # who paused it knows
    resumed = resume(ledger)
    assert resumed is not None
    assert (resumed.state, resumed.due_at, resumed.is_due) == (CampaignState.SCHEDULED, due_at, False)


def test_paused_and_sent_again_with_its_file_it_is_scheduled_again(ledger: Engine, later: Later):
    spec = later()
    scheduling.keep(ledger, spec, ADA)
    controlling.pause(ledger, "spring-offer", "", ADA)
    assert scheduling.begins_later(ledger, spec)
    scheduling.keep(ledger, spec, ADA)

    assert found(ledger).state is CampaignState.SCHEDULED


def test_cancelled_before_its_time_it_never_starts(ledger: Engine, later: Later):
    number = scheduling.keep(ledger, later(), ADA).id
    cancelled = controlling.cancel(ledger, "spring-offer", ADA)
    passes(ledger, 2)

    assert cancelled.said == "campaign 'spring-offer' is cancelled: it was not sent"
    assert scheduling.due_campaigns(ledger) == scheduling.Due()
    with pytest.raises(InputError, match="was cancelled"):
        planning.start_campaign(ledger, number)
    with pytest.raises(InputError, match="was cancelled"):
        resume(ledger)


def test_a_draft_is_neither_paused_nor_resumed(ledger: Engine, later: Later):
    scheduling.keep(ledger, later(approval=True), ADA)

    assert "is a draft: nothing is sent before" in controlling.pause(ledger, "spring-offer", "", ADA).said
    with pytest.raises(InputError, match="waits for approval"):
        resume(ledger)


def test_a_batch_of_what_was_not_planned_is_refused(ledger: Engine, later: Later):
    scheduling.keep(ledger, later(), ADA)

    with pytest.raises(InputError, match="has no batch 3: it has none yet"):
        retrying.check_retry(ledger, RetryRequest(campaign="spring-offer", batches=[3]))


def test_what_cannot_be_started_is_paused_with_the_reason_and_not_twice(ledger: Engine, later: Later):
    number = scheduling.keep(ledger, later(), ADA).id
    for _ in range(2):
        lateness.pause_refused(ledger, number, "it cannot be sent: there is no account 'smtp-account/main'")

    assert found(ledger).state_reason == "it cannot be sent: there is no account 'smtp-account/main'"
    [(kind, said)] = alerts(ledger)
    assert kind == "paused"
    assert "to send it still: outflow resume 'spring-offer'" in said
