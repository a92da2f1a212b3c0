"""Whatever is killed, a campaign goes on by itself: `outflow up` and the deployment `sweep` see to it."""

import asyncio
import logging
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import psutil
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.events.schemas.events import Event, RelatedResource, Resource
from prefect.states import Cancelled, Cancelling, Running, Suspended
from sqlalchemy import Engine, text

from deployments.serving import answers
from tests.deployments.conftest import finished, sending_process
from tests.faults.crowds import crowd, held, judged, states
from tests.faults.sink import Sink

_log = logging.getLogger(__name__)

RECIPIENTS = 2000
CONNECTIONS = 8  # of the account
PATIENCE = 400  # seconds; it takes about a minute on a machine with nothing else to do

# Prefect's client leaves sockets to the garbage collector when a loop ends.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


async def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


def kept(installation: SimpleNamespace, *words: str) -> psutil.Process:
    """Find the process of `outflow up` with these words in its command."""
    found = [p for p in installation.process.children() if not set(words) - set(p.cmdline())]
    assert len(found) == 1
    return found[0]


def said(installation: SimpleNamespace) -> str:
    return (Path(installation.environment["PREFECT_HOME"]) / "up.log").read_text()


def state(ledger: Engine) -> str:
    with ledger.begin() as connection:
        return str(connection.execute(text("SELECT state FROM campaigns")).scalar_one())


def leases_end(ledger: Engine) -> datetime:
    with ledger.begin() as connection:
        return connection.execute(text("SELECT max(lease_expires_at) FROM batches")).scalar_one()


async def test_with_worker_and_sender_killed_the_campaign_goes_on_by_itself(
    ledger: Engine,
    sink: Sink,
    installation: SimpleNamespace,
    prefect: PrefectClient,
    launch: Callable[[str], Awaitable[FlowRun]],
):
    crowd(ledger, RECIPIENTS)
    run = await launch("100/s")
    await wait_until(lambda: sink.received() >= RECIPIENTS // 10)
    worker, sender = kept(installation, "worker"), sending_process(ledger)
    worker.kill()
    sender.kill()
    await wait_until(lambda: not sender.is_running() or sender.status() == psutil.STATUS_ZOMBIE)
    had, free_at = sink.received(), leases_end(ledger)
    await wait_until(lambda: sink.received() > had)
    _log.info("on again %.1f s after the lease's end", (datetime.now(UTC) - free_at).total_seconds())
    await wait_until(lambda: state(ledger) == "finished")

    counts = judged(states(ledger), sink.copies())
    assert counts["accepted"] + counts["unknown"] == counts.total() == RECIPIENTS
    assert counts["unknown"] <= CONNECTIONS
    assert "the worker has died (SIGKILL), so it is started again" in said(installation)
    assert (await finished(prefect, run)).state.is_crashed()
    with ledger.begin() as connection:
        alerts = connection.execute(text("SELECT said FROM alerts WHERE kind = 'crashed'")).scalars().all()
    assert len(alerts) == 1
    assert "vanished; it goes on by itself" in alerts[0]


async def test_with_prefects_server_killed_the_campaign_and_the_server_go_on(
    ledger: Engine,
    sink: Sink,
    installation: SimpleNamespace,
    prefect: PrefectClient,
    launch: Callable[[str], Awaitable[FlowRun]],
):
    crowd(ledger, RECIPIENTS)
    run = await launch("100/s")
    await wait_until(lambda: sink.received() >= RECIPIENTS // 10)
    kept(installation, "server").kill()
    await wait_until(lambda: not answers(installation.api_url))
    await wait_until(lambda: answers(installation.api_url))
    await wait_until(lambda: state(ledger) == "finished")

    assert "the Prefect server has died (SIGKILL), so it is started again" in said(installation)
    assert judged(states(ledger), sink.copies()) == {"accepted": RECIPIENTS}
    assert (await finished(prefect, run)).state.is_completed()


@pytest.fixture
def only_worker(installation: SimpleNamespace) -> Iterator[psutil.Popen]:
    """A worker that may be killed and is not started again; the installation's own is frozen meanwhile."""
    usual = kept(installation, "worker")
    usual.suspend()
    command = [*usual.cmdline(), "--name", "expendable"]
    worker = psutil.Popen(command, env=installation.environment | {"PREFECT_API_URL": installation.api_url})
    yield worker
    worker.kill()
    worker.wait()
    usual.resume()


async def test_the_orphan_of_a_killed_worker_stops_when_its_run_is_cancelled(
    ledger: Engine,
    sink: Sink,
    prefect: PrefectClient,
    launch: Callable[[str], Awaitable[FlowRun]],
    only_worker: psutil.Popen,
):
    crowd(ledger, RECIPIENTS)
    run = await launch("50/s")
    await wait_until(lambda: sink.received() >= RECIPIENTS // 20)
    only_worker.kill()
    orphan = sending_process(ledger)
    await prefect.set_flow_run_state(run.id, Cancelling())
    await wait_until(lambda: not orphan.is_running())

    assert state(ledger) == "paused"
    assert set(judged(states(ledger), sink.copies())) == {"accepted", "queued"}
    assert held(ledger) == 0


@pytest.fixture
def silent(installation: SimpleNamespace) -> Iterator[Callable[[], None]]:
    """Run a flow in a process of its own; killed, it says nothing more."""
    flow = """
import asyncio
from prefect import flow

@flow(name="import-contacts", flow_run_name="silent")
async def silent():
    await asyncio.sleep(600)

asyncio.run(silent())
"""
    environment = installation.environment | {
        "PREFECT_API_URL": installation.api_url,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    }
    with subprocess.Popen([sys.executable, "-c", flow], env=environment) as process:
        yield lambda: process.send_signal(signal.SIGKILL)
        process.kill()


@pytest.fixture
async def suspended(prefect: PrefectClient) -> AsyncIterator[list[UUID]]:
    """Two runs that wait for a person, without a process; the last heartbeat of one came late."""
    runs = []
    for flow in ("start-campaign", "approve-campaign"):
        deployment = await prefect.read_deployment_by_name(f"{flow}/{flow}")
        parameters = {"request": {"campaign_id": 2_000_000_000}}  # no campaign: nobody decides about it
        run = await prefect.create_flow_run_from_deployment(
            deployment.id, parameters=parameters, state=Running()
        )
        await prefect.set_flow_run_state(run.id, Suspended())
        runs.append(run.id)
    late = Event(
        event="prefect.flow-run.heartbeat",
        resource=Resource({"prefect.resource.id": f"prefect.flow-run.{runs[1]}"}),
        related=[
            RelatedResource(
                {
                    "prefect.resource.id": f"prefect.flow.{deployment.flow_id}",
                    "prefect.resource.role": "flow",
                    "prefect.resource.name": "approve-campaign",
                }
            )
        ],
    )
    await prefect.request("POST", "/events", json=[late.model_dump(mode="json")])
    yield runs
    for run in runs:
        await prefect.set_flow_run_state(run, Cancelled(), force=True)


async def test_the_automations_are_there_once_and_a_run_that_says_nothing_has_crashed(
    prefect: PrefectClient,
    outflow: Callable[..., SimpleNamespace],
    silent: Callable[[], None],
    suspended: list[UUID],
):
    async def runs() -> list[FlowRun]:
        named = FlowRunFilter(name=FlowRunFilterName(any_=["silent"]))
        return await prefect.read_flow_runs(flow_run_filter=named)

    before = {automation.id: automation for automation in await prefect.read_automations()}
    again = await asyncio.to_thread(outflow, "init", "--json")
    assert again.code == 0, again.err
    names = [automation.name for automation in await prefect.read_automations()]
    assert {automation.id: automation for automation in await prefect.read_automations()} == before
    assert names.count("outflow: silent runs have crashed") == 1
    assert names.count("outflow: sweep after a crash") == 1

    end = time.monotonic() + PATIENCE
    while not [run for run in await runs() if run.state.is_running()]:
        assert time.monotonic() < end
        await asyncio.sleep(0.5)
    silent()
    while (run := (await runs())[0]).state.is_running():
        assert time.monotonic() < end
        await asyncio.sleep(1)

    assert run.state.is_crashed()
    assert "90 seconds" in run.state.message
    # They were silent for longer: no process of theirs has died.
    assert [(await prefect.read_flow_run(run)).state.name for run in suspended] == ["Suspended"] * 2


async def test_from_a_restored_copy_nothing_is_sent_until_a_person_says_that_it_is_the_right_one(
    ledger: Engine, sink: Sink, outflow: Callable[..., SimpleNamespace], definition: Callable[..., str]
):
    crowd(ledger, 3)
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO installation (id, system_identifier, database_oid) VALUES (1, 'elsewhere', 1)
                ON CONFLICT (id) DO UPDATE SET system_identifier = 'elsewhere', database_oid = 1
            """)
        )
    refused = await asyncio.to_thread(outflow, "send", definition())
    assert (refused.code, sink.received()) == (1, 0)
    assert "outflow init --restored" in refused.err.replace("\n", " ")
    restored = await asyncio.to_thread(outflow, "init", "--restored", "--json")
    assert restored.code == 0, restored.err
    assert restored.json["done"][0] == "the ledger is sent from here from now on"

    await wait_until(lambda: state(ledger) == "finished")  # what was refused goes on by itself
    assert judged(states(ledger), sink.copies()) == {"accepted": 3}
