"""What approve-campaign does of a campaign, whether or not it can wait for an answer."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from flows.approve_campaign import approve_campaign
from messaging.campaign.approving import approve
from messaging.campaign.planning import keep_campaign
from messaging.errors import InputError
from messaging.storage.campaigns import Campaign
from schemas.approval import ApprovalRequest
from schemas.campaign import CampaignSpec
from tasks.approving import problems_of, start_approvals, try_campaign

# Prefect leaves sockets and streams of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def draft(ledger: Engine, audience, spec: CampaignSpec) -> Callable[..., Campaign]:
    audience("ada@example.org")

    def keep(*test_to: str) -> Campaign:
        changed = spec.model_copy(update={"approval": True, "test_to": list(test_to)})
        return keep_campaign(ledger, changed, datetime.now(UTC) + timedelta(days=1))

    return keep


async def test_what_is_decided_is_not_asked_and_not_tried(ledger: Engine, draft, server, account):
    await account(server.port)
    kept = draft("me@example.com")
    approve(ledger, kept.id, "", "ada on desk")

    ended = await approve_campaign(ApprovalRequest(campaign_id=kept.id), return_state=True)

    assert ended.is_completed()
    assert ended.message.startswith("campaign 'spring-offer' was approved by ada on desk at ")
    assert server.received() == 0


async def test_begun_again_it_sends_no_second_test_and_without_a_deployment_says_what_to_do(
    draft, server, account, received
):
    await account(server.port)
    kept = draft("me@example.com", "you@example.com")

    for _ in range(2):
        with pytest.raises(InputError, match="only a run of the deployment approve-campaign can wait"):
            await approve_campaign(ApprovalRequest(campaign_id=kept.id))

    assert received() == {"me@example.com": 1, "you@example.com": 1}


async def test_a_test_that_reaches_nobody_is_a_problem_for_who_decides(draft, server, account):
    await account(server.port)
    kept = draft("nobody.me@example.com")

    assert await problems_of(try_campaign(kept.id)) == ["no test message has arrived: 1 rejected"]


async def test_where_nobody_can_be_asked_nothing_else_is_kept_waiting(draft):
    draft()

    assert await start_approvals() == ["spring-offer"]
