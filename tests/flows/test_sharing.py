"""A campaign for several workers starts further runs, needs none of them, and leaves none behind."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun

from flows.launch_campaign import launch_campaign
from flows.send_batches import send_batches
from messaging.campaign.planning import plan_campaign
from schemas.campaign import CampaignSpec, SendRequest
from schemas.states import CampaignState
from tasks.flow_runs import WITHDRAWN, is_cancelled

# Prefect leaves sockets and streams of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

READERS = [f"reader{n}@example.org" for n in range(8)]


@pytest.fixture
def shared(spec: CampaignSpec) -> CampaignSpec:
    """A campaign of four batches for three workers."""
    return spec.model_copy(update={"batch_size": 2, "workers": 3})


@pytest.fixture
async def deployed() -> AsyncIterator[None]:
    """Further runs may be started, but no worker takes them up."""
    async with get_client() as client:
        flow_id = await client.create_flow(send_batches)
        deployment_id = await client.create_deployment(flow_id, "send-batches")
        yield
        await client.delete_deployment(deployment_id)


async def shards(campaign_id: int) -> list[FlowRun]:
    of_it = FlowRunFilterTags(all_=[f"shard-of-campaign-{campaign_id}"])
    async with get_client() as client:
        found = await client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=of_it))
    return sorted(found, key=lambda run: run.parameters["request"]["shard"])


async def test_where_nothing_is_deployed_one_run_sends_it_all_and_says_why(
    audience, shared: CampaignSpec, server, account, received, caplog: pytest.LogCaptureFixture
):
    audience(*READERS)
    await account(server.port)
    caplog.set_level(logging.WARNING, "messaging")

    report = await launch_campaign(shared)

    assert report.state is CampaignState.FINISHED
    assert received() == dict.fromkeys(READERS, 1)
    alone = f"campaign {report.campaign_id} has use for 2 more runs, but none is started"
    assert f"{alone}: there is no deployment send-batches/send-batches (outflow init)" in caplog.messages


@pytest.mark.usefixtures("deployed")
async def test_further_runs_that_nobody_takes_up_are_missed_by_nobody_and_cancelled(
    audience, shared: CampaignSpec, server, account, received
):
    audience(*READERS)
    await account(server.port)

    report = await launch_campaign(shared)

    assert report.state is CampaignState.FINISHED
    assert received() == dict.fromkeys(READERS, 1)
    started = await shards(report.campaign_id)
    assert [run.parameters["request"] for run in started] == [
        {"campaign_id": report.campaign_id, "shard": 1},
        {"campaign_id": report.campaign_id, "shard": 2},
    ]
    assert [run.state.name for run in started] == [WITHDRAWN, WITHDRAWN]
    assert [run.state.is_cancelled() for run in started] == [True, True]
    assert not any(map(is_cancelled, started))  # one that has just begun would else pause the campaign


@pytest.mark.usefixtures("deployed")
async def test_chosen_batches_are_not_shared(audience, shared: CampaignSpec, server, account, ledger):
    audience(*READERS)
    await account(server.port)
    plan = plan_campaign(ledger, shared)

    await send_batches(SendRequest(campaign_id=plan.campaign_id, batches=[2, 3]))

    assert await shards(plan.campaign_id) == []
    assert server.received() == 4


@pytest.mark.usefixtures("deployed")
async def test_runs_that_share_a_campaign_mail_everybody_once_and_start_no_others(
    audience, shared: CampaignSpec, server, account, received, ledger
):
    audience(*READERS)
    await account(server.port)
    plan = plan_campaign(ledger, shared)
    requests = [SendRequest(campaign_id=plan.campaign_id, shard=shard) for shard in (1, 2)]

    await asyncio.gather(*(send_batches(request) for request in requests))

    assert received() == dict.fromkeys(READERS, 1)
    assert await shards(plan.campaign_id) == []
