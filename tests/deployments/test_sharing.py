"""One campaign, several workers: each sends a share of it, and nobody gets two copies."""

import asyncio
import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from httpx import HTTPError
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun
from sqlalchemy import Engine, text

from tests.deployments.conftest import OUTFLOW, finished
from tests.faults.crowds import crowd, judged, states
from tests.faults.sink import Sink

RECIPIENTS = 3000
PATIENCE = 600  # seconds, for workers to take runs up on a machine that has other work

# Prefect's client leaves sockets to the garbage collector when a loop ends.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def two_workers(installation: SimpleNamespace) -> Iterator[None]:
    """Two workers as machines of their own have them; the installation's is frozen meanwhile."""
    [usual] = [one for one in installation.process.children() if "worker" in one.cmdline()]
    usual.suspend()
    environment = installation.environment | {"PREFECT_API_URL": installation.api_url}
    workers = [subprocess.Popen([OUTFLOW, "worker"], env=environment) for _ in range(2)]
    yield
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.wait()
    usual.resume()


def senders(engine: Engine) -> set[str]:
    """Return the processes that hold batches now."""
    with engine.begin() as connection:
        owners = connection.execute(text("SELECT lease_owner FROM batches WHERE lease_owner IS NOT NULL"))
        return {owner.split(":")[1] for owner in owners.scalars()}


async def shards(client: PrefectClient, campaign_id: int) -> list[FlowRun]:
    tag = FlowRunFilterTags(all_=[f"shard-of-campaign-{campaign_id}"])
    return await client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=tag))


@pytest.mark.usefixtures("two_workers")
async def test_two_workers_share_a_campaign_and_a_run_too_many_is_not_left_behind(
    prefect: PrefectClient, ledger: Engine, sink: Sink, account: str, outflow
):
    crowd(ledger, RECIPIENTS)
    campaign = {
        "name": "faults",
        "account": account,
        "audience": "crowd",
        "subject": "Hello {{ name }}",
        "text": "Dear {{ name }}",
        "batch_size": 100,
        "pacing": {"rate": "10/s"},
        "workers": 4,  # the run that starts, one for each worker, and one that nobody takes up
    }
    deployment = await prefect.read_deployment_by_name("launch-campaign/launch-campaign")
    run = await prefect.create_flow_run_from_deployment(deployment.id, parameters={"campaign": campaign})
    async with asyncio.timeout(PATIENCE):
        while len(senders(ledger)) < 3:  # noqa: ASYNC110 - other processes send
            await asyncio.sleep(0.2)
    await asyncio.to_thread(outflow, "pace", "faults", "--free")
    run = await finished(prefect, run)

    assert run.state.is_completed(), run.state.message
    assert judged(states(ledger), sink.copies()) == {"accepted": RECIPIENTS}
    with ledger.begin() as connection:
        campaign_id = connection.execute(text("SELECT id FROM campaigns")).scalar_one()
    ended = [await finished(prefect, shard) for shard in await shards(prefect, campaign_id)]
    assert Counter(shard.state_name for shard in ended) == {"Completed": 2, "Withdrawn": 1}


HOLDER = """
import asyncio
from deployments import environment
environment.apply()
from tasks.slots import limit_runs, slot_of

async def wanted():
    return True

async def hold():
    await limit_runs("smtp-account/held", 1)
    async with slot_of("smtp-account/held", wanted):
        print("held", flush=True)
        await asyncio.sleep(600)

asyncio.run(hold())
"""


@pytest.fixture
def holder(installation: SimpleNamespace) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the only slot of an account."""
    environment = installation.environment | {"PREFECT_API_URL": installation.api_url}
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


async def test_a_slot_whose_holder_is_killed_together_with_prefects_server_is_free_again(
    installation: SimpleNamespace, prefect: PrefectClient, holder: "subprocess.Popen[str]"
):
    [server] = [one for one in installation.process.children() if "server" in one.cmdline()]
    server.kill()
    holder.kill()
    await asyncio.to_thread(server.wait, 60)

    async with asyncio.timeout(PATIENCE):
        taken = [1]
        while taken[-1]:
            await asyncio.sleep(1)
            with contextlib.suppress(HTTPError):  # it is not back yet
                limit = await prefect.read_global_concurrency_limit_by_name("smtp-account-held")
                taken.append(limit.active_slots)

    assert taken[1] == 1  # the server that came back knew that it was held
