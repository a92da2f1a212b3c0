"""A draft is approved or rejected once; whoever answers later is told what was decided, by whom and when."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from messaging import sandbox
from messaging.campaign import approving
from messaging.campaign.approving import (
    CHANGED,
    approve,
    ask,
    comment_on,
    draft_of,
    is_changed,
    outcome,
    reject,
    to_ask,
    why_moot,
)
from messaging.campaign.controlling import cancel
from messaging.campaign.planning import keep_campaign, start_campaign
from messaging.campaign.testing import send_tests
from messaging.channels.smtp import SmtpPool, SmtpSettings
from messaging.errors import InputError
from messaging.reports.approval_markdown import approval_markdown
from messaging.storage import campaigns, decisions
from messaging.storage.campaigns import Campaign
from schemas.campaign import CampaignSpec
from schemas.states import CampaignState

ADA = "ada on desk"
BO = "bo (in Prefect)"
SOON = timedelta(hours=2)


@pytest.fixture
def draft(ledger: Engine, audience: Callable[..., None], spec: CampaignSpec) -> Callable[..., Campaign]:
    """Keep a draft that is to start `after` now, for two recipients and one who has unsubscribed."""
    audience("ada@example.org", "bo@example.org")
    audience("cy@example.org", status="unsubscribed")

    def keep(after: timedelta = SOON, **changes: object) -> Campaign:
        changed = spec.model_copy(update={"approval": True, **changes})
        return keep_campaign(ledger, changed, datetime.now(UTC) + after, ADA)

    return keep


@pytest.fixture
def now(ledger: Engine) -> Callable[[Campaign], Campaign]:
    """Read a campaign as it is now."""

    def read(campaign: Campaign) -> Campaign:
        with ledger.begin() as connection:
            found = campaigns.get(connection, campaign.id)
        assert found is not None
        return found

    return read


@pytest.fixture
def decided(ledger: Engine) -> Callable[[Campaign], list[tuple[str, str]]]:
    """Read what was decided about a campaign, and by whom."""

    def read(campaign: Campaign) -> list[tuple[str, str]]:
        with ledger.begin() as connection:
            return [(one.who, one.said) for one in decisions.last(connection, campaign.id, 20)]

    return read


@pytest.fixture
def untold(ledger: Engine) -> Callable[[], list[tuple[str, int, str, str]]]:
    """Read the alerts."""

    def read() -> list[tuple[str, int, str, str]]:
        with ledger.begin() as connection:
            rows = connection.execute(text("SELECT kind, campaign_id, said, link FROM alerts ORDER BY id"))
            return [(row.kind, row.campaign_id, row.said, row.link) for row in rows]

    return read


def test_an_approved_draft_starts_at_its_time(ledger: Engine, draft, now, decided):
    kept = draft()

    done = approve(ledger, kept.id, "looks\n fine", BO)

    assert (done.changed, done.state) == (True, CampaignState.SCHEDULED)
    assert done.said == f"campaign 'spring-offer' is approved, and starts at {kept.due_at:%F %H:%M} UTC"
    assert (now(kept).state, now(kept).due_at) == (CampaignState.SCHEDULED, kept.due_at)
    assert decided(kept)[-1] == (BO, "approved: looks fine")
    assert start_campaign(ledger, kept.id).recipients == 2


def test_approved_after_its_time_it_is_due_from_then_on(ledger: Engine, draft, now):
    kept = draft(-timedelta(days=2))

    done = approve(ledger, kept.id, "", BO)

    assert done.said == "campaign 'spring-offer' is approved, and is due now"
    assert kept.read_at <= now(kept).due_at <= now(kept).read_at


def test_an_approval_does_not_put_off_the_end(ledger: Engine, draft, now):
    kept = draft(-timedelta(hours=2), not_after="4h")

    done = approve(ledger, kept.id, "", BO)

    assert done.said.endswith("is due now")
    assert (now(kept).due_at, now(kept).deadline) == (kept.due_at, kept.deadline)


def test_after_its_end_an_approval_comes_too_late_and_a_rejection_does_not(ledger: Engine, draft, now):
    kept = draft(-timedelta(hours=5), not_after="4h")

    with pytest.raises(
        InputError, match=r"was to be sent by .* UTC \(not_after: 4h\), so approval comes too"
    ):
        approve(ledger, kept.id, "", BO)
    assert now(kept).state is CampaignState.DRAFT
    reject(ledger, kept.id, "", BO)

    assert now(kept).state is CampaignState.CANCELLED


def test_of_a_late_draft_people_are_told_once_and_it_is_asked_about_again_with_a_later_time(
    ledger: Engine, draft, now, untold
):
    late = draft(-timedelta(hours=5), not_after="4h")
    in_vain = outcome(ledger, late.id)
    told = [to_ask(ledger) for _ in range(2)]
    alerts = untold()
    draft(SOON, not_after="4h")

    assert "approval comes too late" in in_vain
    assert told == [{}, {}]
    assert [(kind, campaign) for kind, campaign, _, _ in alerts] == [("late", late.id)]
    assert now(late).state is CampaignState.DRAFT
    assert outcome(ledger, late.id) is None
    assert to_ask(ledger) == {late.id: "spring-offer"}
    assert untold() == alerts


def test_a_rejected_draft_is_cancelled_with_the_comment_as_its_reason(ledger: Engine, draft, now, decided):
    kept = draft()

    done = reject(ledger, kept.id, "the price is wrong", BO)

    assert (done.changed, done.state) == (True, CampaignState.CANCELLED)
    assert done.said == "campaign 'spring-offer' is rejected: nobody will be written to"
    assert now(kept).state_reason == "rejected: the price is wrong, by bo (in Prefect)"
    assert now(kept).finished_at is not None
    assert decided(kept)[-1] == (BO, "rejected: the price is wrong")
    with pytest.raises(InputError, match="was cancelled"):
        start_campaign(ledger, kept.id)


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        (
            approve,
            reject,
            r"approved by ada on desk at .* UTC \(go\), so it cannot be rejected; .* outflow cancel",
        ),
        (reject, approve, r"rejected by ada on desk at .* UTC \(go\), so it cannot be approved$"),
    ],
    ids=["approved, then rejected", "rejected, then approved"],
)
def test_a_second_answer_is_told_what_was_decided(
    ledger: Engine, draft, now, decided, first, second, sentence: str
):
    kept = draft()
    first(ledger, kept.id, "go", ADA)
    before = now(kept).state, now(kept).state_reason, decided(kept)

    again = first(ledger, kept.id, "me too", BO)
    with pytest.raises(InputError, match=sentence):
        second(ledger, kept.id, "no", BO)

    assert not again.changed
    assert "by ada on desk at" in again.said
    assert (now(kept).state, now(kept).state_reason, decided(kept)) == before


def test_of_many_answers_at_once_one_decides(ledger: Engine, draft, decided):
    kept = draft()

    def answer(number: int) -> bool:
        try:
            return (approve if number % 2 else reject)(ledger, kept.id, "", f"person {number}").changed
        except InputError:
            return False

    with ThreadPoolExecutor(8) as threads:
        changed = list(threads.map(answer, range(8)))

    assert sum(changed) == 1
    assert len(decided(kept)) == 2  # that it was drafted, and the one answer


@pytest.mark.parametrize("answer", [approve, reject])
def test_what_waits_for_no_approval_is_left_alone(ledger: Engine, draft, now, answer):
    kept = draft(approval=False)

    with pytest.raises(InputError, match="'spring-offer' is scheduled and waits for no approval"):
        answer(ledger, kept.id, "", BO)

    assert now(kept).state is CampaignState.SCHEDULED


@pytest.mark.parametrize("answer", [approve, reject])
def test_what_was_cancelled_meanwhile_says_by_whom(ledger: Engine, draft, answer):
    kept = draft()
    cancel(ledger, "spring-offer", ADA)

    with pytest.raises(InputError, match=r"was cancelled by ada on desk at .* UTC, so it cannot be"):
        answer(ledger, kept.id, "", BO)


def test_what_a_person_has_paused_is_not_approved(ledger: Engine, draft):
    kept = draft()
    with ledger.begin() as connection:
        connection.execute(text("UPDATE campaigns SET state = 'paused', state_reason = 'lunch'"))

    with pytest.raises(InputError, match=r"is paused \(lunch\), so it cannot be approved"):
        approve(ledger, kept.id, "", BO)


@pytest.mark.parametrize("answer", [approve, reject])
def test_a_comment_that_must_not_be_shown_decides_nothing(ledger: Engine, draft, now, answer):
    kept = draft()

    with pytest.raises(InputError, match="may not hold addresses"):
        answer(ledger, kept.id, "ask ada@example.org", BO)

    assert now(kept).state is CampaignState.DRAFT


@pytest.mark.parametrize("answer", [approve, reject])
@pytest.mark.usefixtures("ledger")
def test_no_campaign_no_answer(ledger: Engine, answer):
    with pytest.raises(InputError, match="there is no campaign 7"):
        answer(ledger, 7, "", BO)


def test_people_are_asked_once_for_each_question(ledger: Engine, draft, untold):
    kept = draft()

    for question in ("one-1", "one-1", "one-2"):
        ask(ledger, kept.id, question, f"http://127.0.0.1/{question}")

    said = "campaign 'spring-offer' waits for approval"
    assert untold() == [
        ("approval", kept.id, said, "http://127.0.0.1/one-1"),
        ("approval", kept.id, said, "http://127.0.0.1/one-2"),
    ]


def test_of_what_is_decided_nobody_is_asked_any_more(ledger: Engine, draft, untold):
    kept = draft()
    waits = ask(ledger, kept.id, "one-1", "http://127.0.0.1/1")
    reject(ledger, kept.id, "", ADA)

    assert (waits, ask(ledger, kept.id, "one-2", "http://127.0.0.1/2")) == (True, False)
    assert len(untold()) == 1


def test_a_question_is_moot_once_it_is_decided_or_the_draft_is_another(ledger: Engine, draft):
    kept = draft()
    ask(ledger, kept.id, "one-1", "")
    before = why_moot(ledger, kept.id)
    draft(2 * SOON)
    changed = why_moot(ledger, kept.id)
    ask(ledger, kept.id, "one-2", "")
    anew = why_moot(ledger, kept.id)

    assert (before, changed, anew) == (None, CHANGED, None)
    assert (is_changed(ledger, kept.id, "one-1"), is_changed(ledger, kept.id, "one-2")) == (True, False)
    cancel(ledger, "spring-offer", ADA)
    assert why_moot(ledger, kept.id).startswith("campaign 'spring-offer' was cancelled by ada on desk at ")


def test_what_became_of_it_is_said_once_something_has(ledger: Engine, draft):
    kept = draft()
    waiting = outcome(ledger, kept.id)
    approve(ledger, kept.id, "", BO)
    approved = outcome(ledger, kept.id)
    cancel(ledger, "spring-offer", ADA)
    cancelled = outcome(ledger, kept.id)

    assert waiting is None
    assert approved.startswith("campaign 'spring-offer' was approved by bo (in Prefect) at ")
    assert cancelled.startswith("campaign 'spring-offer' was cancelled by ada on desk at ")


def test_what_was_paused_undecided_says_why(ledger: Engine, draft):
    kept = draft()
    with ledger.begin() as connection:
        connection.execute(text("UPDATE campaigns SET state = 'paused', state_reason = 'too late'"))

    assert outcome(ledger, kept.id) == "campaign 'spring-offer' is paused (too late)"


def test_of_an_audience_that_cannot_be_used_people_are_asked_without_figures(ledger: Engine, draft):
    kept = draft()
    with ledger.begin() as connection:
        connection.execute(text('UPDATE campaigns SET spec = spec || \'{"where": "no_such > 1"}\''))

    found = draft_of(ledger, kept.id)

    assert (found.name, found.recipients, found.excluded) == ("spring-offer", 0, {})


def test_at_recipients_own_time_it_is_said_what_their_clocks_show(ledger: Engine, draft):
    kept = draft(send_at="2099-03-20T09:00", recipient_local=True)

    told = approval_markdown(draft_of(ledger, kept.id), [], "")

    assert "- Starts: when each recipient's clock shows 2099-03-20 09:00, the first at " in told


def test_a_draft_in_figures(ledger: Engine, draft):
    kept = draft(time_zone="Europe/London", not_after="4h")
    comment_on(ledger, kept.id, "who is cy?", BO, "one-1")
    comment_on(ledger, kept.id, "who is cy?", BO, "one-1")
    comment_on(ledger, kept.id, " ", BO, "one-2")

    found = draft_of(ledger, kept.id)

    assert (found.recipients, found.excluded) == (2, {"unsubscribed": 1})
    assert (found.begins_at, found.ends_at) == (kept.due_at, kept.deadline)
    assert found.begins_at.tzinfo.key == found.ends_at.tzinfo.key == found.time_zone == "Europe/London"
    assert (found.is_due, found.tested) == (False, "")
    assert [(one.who, one.said) for one in found.comments] == [(BO, "who is cy?")]


async def test_its_test_goes_to_those_named_with_the_files_kept_and_is_remembered(
    ledger: Engine, draft, server: sandbox.Sandbox, tmp_path: Path
):
    terms = tmp_path / "terms.txt"
    terms.write_text("kept")
    kept = draft(test_to=["me@example.com", "cy@example.org"], attachments=[str(terms)])
    terms.unlink()
    trial = approving.prepare_test(ledger, kept.id)
    settings = SmtpSettings(host="127.0.0.1", port=server.port, security="none", connections=1)

    async with SmtpPool(settings) as pool:
        tried = await send_tests(trial, "Shop <news@shop.example.org>", pool)
    said = approving.remember_test(ledger, kept.id, tried)
    approving.remember_test(ledger, kept.id, tried[:1])

    assert said == approving.tested(ledger, kept.id) == "1 accepted, 1 not sent"
    [message] = (server.outbox / "new").iterdir()
    assert "X-Sandbox-Rcpt-To: me@example.com" in message.read_text()
    assert "terms.txt" in message.read_text()


def test_a_test_that_reached_nobody_is_not_remembered(ledger: Engine, draft):
    kept = draft(test_to=["me@example.com"])
    refused = [approving.Tried("me@example.com", approving.Ending.NOT_SENT, "")]

    assert approving.remember_test(ledger, kept.id, refused) == "1 not sent"
    assert approving.tested(ledger, kept.id) == ""


def test_who_names_nobody_tests_nothing(ledger: Engine, draft):
    assert approving.prepare_test(ledger, draft().id) is None
