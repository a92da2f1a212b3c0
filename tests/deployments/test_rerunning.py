"""Run again from the Prefect UI, a campaign's run sends only what is missing: nothing, or the rest."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from prefect import State
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, StateType
from sqlalchemy import Engine, text

from tests.deployments.conftest import finished, sending_process
from tests.faults.crowds import crowd, expire_leases, in_state, judged, states
from tests.faults.sink import Sink

RECIPIENTS = 600
CONNECTIONS = 8  # of the account
_NUMBERS = itertools.count(1000, 1000)

# Prefect's client leaves sockets to the garbage collector when a loop ends.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def numbered(ledger: Engine) -> None:
    """Give the campaign a number of its own: `sweep` starts runs for a crashed one, by its number."""
    with ledger.begin() as connection:
        connection.execute(
            text("SELECT setval(pg_get_serial_sequence('campaigns', 'id'), :last)"), {"last": next(_NUMBERS)}
        )


@pytest.fixture
async def nobody_else(prefect: PrefectClient) -> AsyncIterator[None]:
    """Have `sweep` and `dispatch`, which go on with a crashed campaign, leave it to the test."""
    found = [await prefect.read_deployment_by_name(f"{name}/{name}") for name in ("sweep", "dispatch")]
    for deployment in found:
        await prefect.pause_deployment(deployment.id)
    yield
    for deployment in found:
        await prefect.resume_deployment(deployment.id)


async def crashed_by_its_worker(client: PrefectClient, run: FlowRun) -> FlowRun:
    """Wait until the worker has said so too, which it logs, heeded or not: said later, it ends a retry."""
    crashed = await finished(client, run)
    assert crashed.state is not None
    of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    for _ in range(240):
        logs = await client.read_logs(of_run)
        if any(
            log.name == "prefect.flow_runs.worker" and log.timestamp > crashed.state.timestamp for log in logs
        ):
            return await client.read_flow_run(run.id)
        await asyncio.sleep(0.5)
    pytest.fail("the worker says nothing of a run that crashed")


async def retried(client: PrefectClient, run: FlowRun) -> FlowRun:
    """Do what the button Retry of a run's page does, and wait for the run's next end."""
    again = State(type=StateType.SCHEDULED, name="AwaitingRetry", message="Retry from the UI")
    await client.set_flow_run_state(run.id, again, force=True)
    return await finished(client, run)


async def copied(client: PrefectClient, run: FlowRun) -> FlowRun:
    """Do what Copy to new run does, and wait for the new run's end."""
    assert run.deployment_id is not None
    copy = await client.create_flow_run_from_deployment(run.deployment_id, parameters=run.parameters)
    return await finished(client, copy)


async def test_a_finished_run_sends_nothing_when_it_is_run_again(
    ledger: Engine, sink: Sink, prefect: PrefectClient, launch
):
    crowd(ledger, RECIPIENTS)
    first = await finished(prefect, await launch(""))
    assert first.state.is_completed(), first.state.message
    assert judged(states(ledger), sink.copies()) == {"accepted": RECIPIENTS}

    again = await retried(prefect, first)
    copy = await copied(prefect, first)

    assert again.state.is_completed(), again.state.message
    assert (again.id, again.run_count) == (first.id, first.run_count + 1)
    assert copy.state.is_completed(), copy.state.message
    assert copy.id != first.id
    assert sink.received() == RECIPIENTS
    assert judged(states(ledger), sink.copies()) == {"accepted": RECIPIENTS}


@pytest.mark.usefixtures("nobody_else")
@pytest.mark.parametrize("run_again", [retried, copied])
async def test_a_crashed_run_sends_only_the_rest_when_it_is_run_again(
    ledger: Engine, sink: Sink, prefect: PrefectClient, launch, run_again
):
    crowd(ledger, RECIPIENTS)
    run = await launch("100/s")
    while sink.received() < RECIPIENTS // 3:  # noqa: ASYNC110 - another process counts
        await asyncio.sleep(0.01)
    sending_process(ledger).kill()
    crashed = await crashed_by_its_worker(prefect, run)
    assert crashed.state.is_crashed(), crashed.state
    at = sink.received()
    assert at < RECIPIENTS
    assert expire_leases(ledger) >= 1  # half a minute, made short

    again = await run_again(prefect, crashed)

    assert again.state.is_completed(), again.state.message
    while in_state(ledger, "queued", "dispatched"):  # noqa: ASYNC110 - what `sweep` has begun meanwhile ends as well
        await asyncio.sleep(0.1)
    counts = judged(states(ledger), sink.copies())
    assert counts["accepted"] + counts["unknown"] == counts.total() == RECIPIENTS
    assert counts["unknown"] <= CONNECTIONS
    assert sink.copies().total() <= RECIPIENTS
