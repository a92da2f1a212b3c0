"""What a process that died has left goes on by itself; what a person cancelled in Prefect does not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from uuid import UUID

import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelled, Cancelling, Crashed, Pending, Running
from sqlalchemy import Engine, text

from flows.dispatch import dispatch
from flows.launch_campaign import launch_campaign
from flows.send_batches import send_batches
from flows.start_campaign import start_campaign
from flows.sweep import sweep
from messaging.campaign.planning import plan_campaign
from messaging.campaign.retrying import requeue
from messaging.errors import CampaignStopped
from messaging.storage import campaign_runs, campaigns
from messaging.storage.campaigns import Campaign
from schemas.campaign import CampaignSpec, RetryRequest, SendRequest
from schemas.states import CampaignState
from tasks import sweeping
from tests.waiting import until

# Prefect leaves sockets and streams of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

READERS = [f"reader{n}@example.org" for n in range(200)]
SLOWLY = {"rate": "5/s"}
PATIENCE = 60  # seconds; a look at Prefect comes every five


@pytest.fixture
async def client() -> AsyncIterator[PrefectClient]:
    async with get_client() as opened:
        yield opened


@pytest.fixture
def campaign(ledger: Engine) -> Callable[[], Campaign | None]:
    def read() -> Campaign | None:
        with ledger.begin() as connection:
            return campaigns.find(connection, "spring-offer")

    return read


async def named(client: PrefectClient, name: str) -> list[FlowRun]:
    return await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])), limit=200
    )


async def running(client: PrefectClient, name: str) -> FlowRun:
    [run] = [run for run in await named(client, name) if run.state.is_running()]
    return run


@pytest.fixture
def slow(spec: CampaignSpec) -> CampaignSpec:
    return CampaignSpec.model_validate(spec.model_dump() | {"pacing": SLOWLY, "batch_size": 50})


@pytest.mark.parametrize("cancelled", ["launch-spring-offer", "send-batches-of-campaign-{}"])
async def test_cancelled_in_prefect_it_stops_and_waits_for_a_person(
    audience, slow: CampaignSpec, server, account, client, campaign, states, cancelled: str
):
    audience(*READERS)
    await account(server.port)
    launched = asyncio.create_task(launch_campaign(slow))
    await until(lambda: server.received() > 0, PATIENCE)
    run = await running(client, cancelled.format(campaign().id))
    await client.set_flow_run_state(run.id, Cancelling())
    await asyncio.wait([launched], timeout=PATIENCE)

    assert launched.cancelled()
    assert set(states().values()) == {"accepted", "queued"}
    assert campaign().state is CampaignState.PAUSED
    assert campaign().state_reason == f"flow run {run.name} was cancelled in Prefect"


async def test_taken_for_dead_it_stops_and_leaves_the_campaign_to_another(
    audience, slow: CampaignSpec, server, account, client, campaign, states
):
    audience(*READERS)
    await account(server.port)
    launched = asyncio.create_task(launch_campaign(slow))
    await until(lambda: server.received() > 0, PATIENCE)
    run = await running(client, "launch-spring-offer")
    await client.set_flow_run_state(run.id, Crashed(message="silent"), force=True)
    await asyncio.wait([launched], timeout=PATIENCE)

    assert launched.done()
    assert not launched.cancelled()
    assert isinstance(launched.exception(), CampaignStopped)
    assert "another one goes on" in str(launched.exception())
    assert set(states().values()) == {"accepted", "queued"}
    assert campaign().state is CampaignState.RUNNING


async def test_while_a_campaign_is_sent_the_ledger_knows_which_run_does_it(
    audience, slow: CampaignSpec, server, account, ledger: Engine
):
    audience(*READERS[:20])
    await account(server.port)
    launched = asyncio.create_task(launch_campaign(slow))
    await until(lambda: server.received() > 0, PATIENCE)
    with ledger.begin() as connection:
        [row] = connection.execute(text("SELECT * FROM campaign_runs")).all()
    assert (row.flow_run_id is None, row.ended_at) == (False, None)
    report = await launched

    assert report.totals.accepted == 20
    with ledger.begin() as connection:
        [row] = connection.execute(text("SELECT * FROM campaign_runs")).all()
    assert row.ended_as == "done"


@pytest.fixture
async def deployed() -> UUID:
    """The deployment that campaigns are started by; nobody runs what is made of it here."""
    made = await start_campaign.ato_deployment("start-campaign")
    return await made.apply()


async def test_a_run_cancelled_while_its_process_could_not_hear_of_it_stays_stopped(
    client, deployed: UUID, stranded: int, ledger: Engine, campaign
):
    run = await of_a_process_that_died(client, Cancelling())
    with ledger.begin() as connection:
        row = campaign_runs.begin(connection, stranded, "elsewhere:1", run.id)
        campaign_runs.end(connection, row, campaign_runs.STOPPED)
        connection.execute(text("UPDATE campaign_runs SET ended_at = ended_at - interval '30 s'"))

    await sweep()

    assert campaign().state is CampaignState.PAUSED
    assert await started_for(client, deployed, stranded) == []


@pytest.fixture
def stranded(audience, spec: CampaignSpec, ledger: Engine) -> int:
    """A campaign that was started a while ago, and that nobody is at."""
    audience(*READERS[:3])
    campaign_id = plan_campaign(ledger, spec).campaign_id
    with ledger.begin() as connection:
        connection.execute(text("UPDATE events SET received_at = received_at - interval '1 minute'"))
    return campaign_id


async def started_for(client: PrefectClient, deployment: UUID, campaign_id: int) -> list[FlowRun]:
    runs = await client.read_flow_runs(limit=200)
    request = {"request": {"campaign_id": campaign_id}}
    return [run for run in runs if run.deployment_id == deployment and run.parameters == request]


async def test_a_campaign_that_nobody_is_at_is_started_once(client, deployed: UUID, stranded: int):
    await sweep()
    await sweep()

    [run] = await started_for(client, deployed, stranded)
    assert run.state.is_scheduled()


async def test_its_run_cancelled_before_it_began_pauses_it_and_resumed_it_goes_on(
    client, deployed: UUID, stranded: int, ledger: Engine, campaign
):
    await sweep()
    [run] = await started_for(client, deployed, stranded)
    await client.set_flow_run_state(run.id, Cancelled())
    await sweep()
    assert campaign().state is CampaignState.PAUSED
    assert len(await started_for(client, deployed, stranded)) == 1

    requeue(ledger, RetryRequest(campaign="spring-offer"), "ada on desk")
    with ledger.begin() as connection:
        connection.execute(text("UPDATE events SET received_at = received_at - interval '1 minute'"))
    await sweep()
    assert campaign().state is CampaignState.RUNNING
    assert len(await started_for(client, deployed, stranded)) == 2


def vanished(ledger: Engine, campaign_id: int, run: FlowRun) -> None:
    with ledger.begin() as connection:
        campaign_runs.begin(connection, campaign_id, "elsewhere:1", run.id)
        connection.execute(text("UPDATE campaign_runs SET seen_at = seen_at - interval '1 minute'"))


async def of_a_process_that_died(client: PrefectClient, state: State) -> FlowRun:
    run = await client.create_flow_run(start_campaign, name="of-the-dead", state=Running())
    if not state.is_running():
        await client.set_flow_run_state(run.id, state)
    return run


async def test_the_run_of_a_process_that_vanished_has_crashed_and_another_goes_on(
    client, deployed: UUID, stranded: int, ledger: Engine
):
    run = await of_a_process_that_died(client, Running())
    vanished(ledger, stranded, run)

    await sweep()
    await sweep()

    assert (await client.read_flow_run(run.id)).state.is_crashed()
    assert len(await started_for(client, deployed, stranded)) == 1
    with ledger.begin() as connection:
        kinds = connection.execute(text("SELECT kind FROM alerts")).scalars().all()
    assert kinds == ["crashed"]


async def test_a_run_that_a_person_has_run_again_is_not_called_crashed(
    client, deployed: UUID, stranded: int, ledger: Engine
):
    run = await of_a_process_that_died(client, Running())
    vanished(ledger, stranded, run)
    with ledger.begin() as connection:
        campaign_runs.begin(connection, stranded, "elsewhere:2", run.id)

    await sweep()

    assert (await client.read_flow_run(run.id)).state.is_running()
    assert await started_for(client, deployed, stranded) == []


@pytest.mark.usefixtures("deployed")
async def test_nor_is_one_that_is_about_to_run_again(client, stranded: int, ledger: Engine):
    run = await of_a_process_that_died(client, Running())
    vanished(ledger, stranded, run)
    await client.set_flow_run_state(run.id, Pending(), force=True)

    await sweep()

    assert (await client.read_flow_run(run.id)).state.is_pending()


async def test_after_a_choice_of_batches_was_killed_the_rest_waits_for_a_person(
    client, deployed: UUID, stranded: int, ledger: Engine, campaign
):
    request = SendRequest(campaign_id=stranded, batches=[1])
    parameters = {"request": request.model_dump(mode="json")}
    run = await client.create_flow_run(send_batches, parameters=parameters, state=Running())
    vanished(ledger, stranded, run)

    await sweep()

    assert (campaign().state, campaign().state_reason) == (
        CampaignState.PAUSED,
        "only some of its batches were to be sent",
    )
    assert await started_for(client, deployed, stranded) == []


async def test_a_run_that_was_being_cancelled_when_its_process_died_stays_stopped(
    client, deployed: UUID, stranded: int, ledger: Engine, campaign
):
    run = await of_a_process_that_died(client, Cancelling())
    vanished(ledger, stranded, run)

    await sweep()

    assert (await client.read_flow_run(run.id)).state.is_crashed()
    assert campaign().state is CampaignState.PAUSED
    assert await started_for(client, deployed, stranded) == []


async def test_quiet_runs_are_forgotten_after_a_day_and_others_are_not(client: PrefectClient, monkeypatch):
    made = {
        "quiet": await client.create_flow_run(sweep),
        "quiet too": await client.create_flow_run(dispatch),
        "crashed": await client.create_flow_run(sweep),
        "of people": await client.create_flow_run(launch_campaign),
    }
    for name, run in made.items():
        kind = StateType.CRASHED if name == "crashed" else StateType.COMPLETED
        await client.set_flow_run_state(run.id, State(type=kind), force=True)

    async def left() -> set[str]:
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[run.id for run in made.values()]))
        known = {run.id for run in await client.read_flow_runs(flow_run_filter=chosen)}
        return {name for name, run in made.items() if run.id in known}

    await sweep()
    assert await left() == set(made)

    monkeypatch.setattr(sweeping, "_QUIET_RUNS_STAY", timedelta(0))  # the server dates states itself
    await sweep()
    assert await left() == {"crashed", "of people"}
