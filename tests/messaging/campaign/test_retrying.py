"""A retry is exactly what was chosen, and says so when that is nobody."""

from collections.abc import Callable

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, text

from messaging.campaign.planning import plan_campaign
from messaging.campaign.retrying import check_retry, requeue
from messaging.errors import InputError
from messaging.reports.numbers import campaign_report
from messaging.storage import campaigns
from schemas.campaign import CampaignSpec, RetryRequest
from schemas.report import Plan
from schemas.states import CampaignState

ADA = "ada on desk"
NAME = "spring-offer"


@pytest.fixture
def plan(ledger: Engine, audience, spec: CampaignSpec) -> Plan:
    """A finished campaign of three batches: in each, one recipient accepted and one rejected."""
    audience(*(f"reader{n}@example.org" for n in range(6)))
    made = plan_campaign(ledger, spec.model_copy(update={"batch_size": 2}))
    with ledger.begin() as connection:
        connection.execute(
            text("UPDATE attempts SET state = CASE id % 2 WHEN 1 THEN 'accepted' ELSE 'rejected' END")
        )
        campaigns.finish(connection, made.campaign_id)
    return made


@pytest.fixture
def state(ledger: Engine, plan: Plan) -> Callable[[], CampaignState]:
    return lambda: campaign_report(ledger, plan.campaign_id).state


def choose(*numbers: int, states: tuple[str, ...] = ()) -> RetryRequest:
    return RetryRequest(campaign=NAME, batches=list(numbers) or None, states=list(states))


def test_of_one_batch_only_its_rejected_are_put_back(ledger: Engine, plan: Plan, states, state):
    check_retry(ledger, choose(2, states=("rejected",)))
    requeued = requeue(ledger, choose(2, states=("rejected",)), ADA)

    assert (requeued, state()) == (1, CampaignState.RUNNING)
    assert list(states().values()) == ["accepted", "rejected", "accepted", "queued", "accepted", "rejected"]
    [decision] = campaign_report(ledger, plan.campaign_id).decisions
    assert (decision.who, decision.said) == (ADA, "to be sent to again: 1 rejected in batch 2")


@pytest.mark.usefixtures("plan")
def test_a_limit_bounds_who_is_put_back_and_those_planned_first_go_first(ledger: Engine, states):
    with ledger.begin() as connection:
        connection.execute(text("UPDATE attempts SET state = 'queued' WHERE id = 5"))
    request = RetryRequest(campaign=NAME, states=["rejected"], limit=2)

    requeued = [requeue(ledger, request, ADA) for _ in range(3)]

    assert requeued == [2, 1, 0]
    assert list(states().values()) == ["accepted", "queued", "accepted", "queued", "queued", "queued"]


@pytest.mark.usefixtures("plan")
def test_a_limit_counts_all_chosen_states_together(ledger: Engine, states):
    with ledger.begin() as connection:
        connection.execute(text("UPDATE attempts SET state = 'unknown' WHERE id IN (1, 3)"))

    requeue(ledger, RetryRequest(campaign=NAME, states=["unknown", "rejected"], limit=3), ADA)

    assert list(states().values()) == ["queued"] * 3 + ["rejected", "accepted", "rejected"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"limit": 5}, "limit is of those sent to again: choose states too"),
        ({"limit": -1, "states": ["rejected"]}, "greater than or equal to 0"),
        ({"because": "ada@example.org asked"}, "may not hold addresses"),
    ],
    ids=["limit of nobody", "negative limit", "address"],
)
def test_what_cannot_be_meant_is_no_request(values: dict, sentence: str):
    with pytest.raises(ValidationError, match=sentence):
        RetryRequest(campaign=NAME, **values)


def test_an_emptied_field_of_the_form_is_no_limit():
    assert RetryRequest.model_validate({"campaign": NAME, "limit": None}).limit == 0


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (choose(), "nothing of campaign 'spring-offer' is missing, so nothing was sent"),
        (choose(2), "nothing of batch 2 of campaign 'spring-offer' is missing"),
        (choose(states=("unknown",)), "nobody in campaign 'spring-offer' is unknown, and nothing is missing"),
        (choose(1, 3, states=("unknown",)), "nobody in batch 1, 3 of campaign 'spring-offer' is unknown"),
        (choose(17, states=("rejected",)), "campaign 'spring-offer' has no batch 17: it has 1 to 3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.usefixtures("plan")
def test_what_would_send_nothing_is_refused_with_the_reason(
    ledger: Engine, state, request_: RetryRequest, sentence: str
):
    with pytest.raises(InputError, match=sentence):
        check_retry(ledger, request_)

    assert state() is CampaignState.FINISHED


@pytest.mark.usefixtures("plan")
def test_a_choice_of_nobody_leaves_a_paused_campaign_paused(ledger: Engine, states, state):
    with ledger.begin() as connection:
        connection.execute(text("UPDATE attempts SET state = 'queued' WHERE id = 6"))
        connection.execute(text("UPDATE campaigns SET state = 'paused', state_reason = 'lunch'"))

    assert requeue(ledger, choose(1, states=("unknown",)), ADA) == 0

    assert (state(), list(states().values()).count("queued")) == (CampaignState.PAUSED, 1)


@pytest.mark.usefixtures("plan")
def test_after_the_deadline_nobody_is_sent_to_again(ledger: Engine, states, state):
    with ledger.begin() as connection:
        connection.execute(
            text("""
                UPDATE campaigns SET planned_at = now() - interval '5 h',
                    spec = jsonb_set(spec, '{not_after}', '"4h"')
            """)
        )
    before = states()

    for attempt in (
        lambda: check_retry(ledger, choose(states=("rejected",))),
        lambda: requeue(ledger, choose(states=("rejected",)), ADA),
    ):
        with pytest.raises(InputError, match="can still be reached by a campaign of a new name"):
            attempt()

    assert (states(), state()) == (before, CampaignState.FINISHED)
