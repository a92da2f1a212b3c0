"""A campaign with a time starts by itself, once, on an installation that nobody touches."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.schedules import IntervalSchedule
from sqlalchemy import Engine, text

from tests.deployments.conftest import Command, finished
from tests.faults.crowds import crowd, judged, states
from tests.faults.sink import Sink

RECIPIENTS = 200

# Prefect's client leaves sockets to the garbage collector when a loop ends.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def state(ledger: Engine) -> str:
    with ledger.begin() as connection:
        return connection.execute(text("SELECT state FROM campaigns")).scalar_one()


async def test_a_campaign_with_a_time_is_sent_by_itself_once(
    ledger: Engine, sink: Sink, outflow: Command, prefect: PrefectClient, definition
):
    crowd(ledger, RECIPIENTS)
    began = datetime.now(UTC)
    at = (began + timedelta(hours=1)).replace(tzinfo=None).isoformat(timespec="minutes")
    kept = await asyncio.to_thread(outflow, "send", definition(), "--at", at, "--json")
    assert kept.code == 0, kept.err
    assert (kept.json["state"], kept.json["planned"]) == ("scheduled", 0)
    assert kept.json["due_at"] == f"{at}:00+00:00"

    with ledger.begin() as connection:  # an hour passes
        connection.execute(text("UPDATE campaigns SET due_at = clock_timestamp()"))
    deployment = await prefect.read_deployment_by_name("dispatch/dispatch")
    looks = [await prefect.create_flow_run_from_deployment(deployment.id) for _ in range(2)]
    for look in looks:
        await finished(prefect, look)
    for _ in range(600):
        if state(ledger) == "finished":
            break
        await asyncio.sleep(0.5)

    assert judged(states(ledger), sink.copies()) == {"accepted": RECIPIENTS}
    runs = await prefect.read_flow_runs(limit=200)  # also those of a campaign 1 before
    keys = [run.idempotency_key or "" for run in runs if run.created and run.created > began]
    assert len([key for key in keys if key.startswith("campaign-1-start-")]) == 1


async def test_every_schedule_of_the_file_is_on_the_server(prefect: PrefectClient):
    deployment = await prefect.read_deployment_by_name("dispatch/dispatch")

    assert [schedule.slug for schedule in deployment.schedules] == ["every-minute"]
    assert deployment.concurrency_options is not None
    assert deployment.concurrency_options.collision_strategy.value == "CANCEL_NEW"


async def test_installed_again_a_schedule_that_is_not_in_the_file_is_gone(
    outflow: Command, prefect: PrefectClient
):
    deployment = await prefect.read_deployment_by_name("dispatch/dispatch")
    daily = IntervalSchedule(interval=timedelta(days=1))
    await prefect.create_deployment_schedules(deployment.id, [(daily, False)], slug="long-gone")
    done = await asyncio.to_thread(outflow, "init", "--json")

    assert done.code == 0, done.err
    assert "schedule long-gone of dispatch, which has left prefect.yaml, is deleted" in done.json["done"]
    slugs = [schedule.slug for schedule in await prefect.read_deployment_schedules(deployment.id)]
    assert slugs == ["every-minute"]
