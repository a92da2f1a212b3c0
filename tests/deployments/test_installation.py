"""A real server schedules, and a real worker runs what is deployed."""

import asyncio
import csv
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.states import Cancelling
from sqlalchemy import Engine, text

from deployments.bootstrap import ROOT
from tests.deployments.conftest import finished, run_deployed
from tests.faults.crowds import crowd, held, judged, states
from tests.faults.sink import Sink

DEPLOYMENTS = {one["name"] for one in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}

# Prefect's client leaves sockets to the garbage collector when a loop ends.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


async def logged(client: PrefectClient, start: str) -> bool:
    for _ in range(40):  # log lines travel in batches
        if any(log.message.startswith(start) for log in await client.read_logs(limit=200)):
            return True
        await asyncio.sleep(0.5)
    return False


async def test_the_server_inserts_runs_for_a_schedule(prefect: PrefectClient):
    deployment = await prefect.read_deployment_by_name("retry-campaign/retry-campaign")
    every_hour = DeploymentScheduleCreate(schedule=IntervalSchedule(interval=timedelta(hours=1)), active=True)
    [schedule] = await prefect.create_deployment_schedules(deployment.id, [every_hour])
    try:
        of_it = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]))
        for _ in range(180):
            runs = await prefect.read_flow_runs(flow_run_filter=of_it)
            if runs:
                break
            await asyncio.sleep(0.5)
        assert {run.state.name for run in runs} == {"Scheduled"}
    finally:
        await prefect.delete_deployment_schedule(deployment.id, schedule.id)


def test_the_readme_says_of_each_deployment_who_starts_it():
    readme = (ROOT / "deployments" / "README.md").read_text()

    assert [name for name in DEPLOYMENTS if f"`{name}`" not in readme] == []


async def test_making_everything_again_changes_nothing(prefect: PrefectClient, outflow):
    before = {deployment.name: deployment.id for deployment in await prefect.read_deployments()}

    again = await asyncio.to_thread(outflow, "init", "--json")

    assert again.code == 0, again.err
    assert set(before) == DEPLOYMENTS
    assert {deployment.name: deployment.id for deployment in await prefect.read_deployments()} == before


async def test_cancelled_in_prefect_a_campaign_stops_with_every_answer_heard(
    prefect: PrefectClient, ledger: Engine, sink: Sink, launch
):
    crowd(ledger, 1000)
    run = await launch("60/s")
    while sink.received() < 60:  # noqa: ASYNC110 - another process counts
        await asyncio.sleep(0.05)

    await prefect.set_flow_run_state(run.id, Cancelling())
    ended = await finished(prefect, run)

    assert ended.state.is_cancelled() or ended.state.is_crashed()
    counts = judged(states(ledger), sink.copies())
    assert set(counts) == {"accepted", "queued"}
    assert counts["accepted"] < 1000
    assert held(ledger) == 0  # given back, so that a retry need not wait
    with ledger.begin() as connection:
        state, reason = connection.execute(text("SELECT state, state_reason FROM campaigns")).one()
    assert (state, reason) == ("paused", "flow run launch-faults was cancelled in Prefect")


async def test_a_worker_runs_a_campaign_from_the_file_to_the_report(
    prefect: PrefectClient, ledger: Engine, server, sandbox_account: str, tmp_path: Path
):
    contacts = tmp_path / "contacts.csv"
    with contacts.open("w", newline="") as file:
        rows = [["Name", "E-mail", "City", "Plan"]]
        rows += [[f"Reader {n}", f"reader{n}@example.org", "Leeds", "pro"] for n in range(60)]
        rows += [["", "nobody@example.org", "", ""], ["", "not an address", "", ""]]
        csv.writer(file).writerows(rows)
    imported = await run_deployed(
        prefect,
        "import-contacts",
        {"request": {"files": [str(contacts)], "audience": "customers", "consent": "a form"}},
    )
    assert imported.state.is_completed(), imported.state.message

    campaign = {
        "name": "by-worker",
        "account": sandbox_account,
        "audience": "customers",
        "subject": "Hello {{ name | default('there') }}",
        "html": "examples/campaign.html",  # relative to where the worker runs deployments
        "batch_size": 20,
    }
    launched = await run_deployed(prefect, "launch-campaign", {"campaign": campaign})

    assert launched.state.is_completed(), launched.state.message
    assert launched.name == "launch-by-worker"
    with ledger.begin() as connection:
        states = dict(
            connection.execute(text("SELECT state, count(*) FROM attempts GROUP BY state")).tuples().all()
        )
    assert states == {"accepted": 60, "rejected": 1}
    assert server.received() == 60
    assert await logged(prefect, "batch 1: 20 answers")  # our own lines reach the run's page

    again = await run_deployed(prefect, "launch-campaign", {"campaign": campaign})
    assert again.state.is_completed(), again.state.message
    assert server.received() == 60
