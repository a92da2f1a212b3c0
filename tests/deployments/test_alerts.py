"""Alerts reach people from an installation as it runs: by webhook, and by automations of their own."""

import asyncio
from pathlib import Path

import pytest
from prefect.automations import AutomationCore
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import EventTrigger, Posture
from sqlalchemy import Engine, text

from messaging.storage.alerts import alert
from schemas.states import AlertKind
from tests.deployments.conftest import Command
from tests.fakes.listeners import Listener
from tests.faults.crowds import crowd
from tests.faults.sink import Sink

# Prefect's client leaves sockets to the garbage collector when a loop ends.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


async def test_an_automation_of_ones_own_starts_when_a_campaign_finishes(
    prefect: PrefectClient, ledger: Engine, sink: Sink, outflow: Command, definition
):
    deployment = await prefect.read_deployment_by_name("retry-campaign/retry-campaign")
    automation = await prefect.create_automation(
        AutomationCore(
            name="after a campaign",
            trigger=EventTrigger(
                expect={"outflow.campaign.finished"},
                match={"prefect.resource.id": "outflow.campaign.*", "prefect.resource.name": "faults"},
                posture=Posture.Reactive,
                threshold=1,
            ),
            actions=[
                RunDeployment(
                    source="selected",
                    deployment_id=deployment.id,
                    parameters={"request": {"campaign": "{{ event.payload.campaign }}"}},
                )
            ],
        )
    )
    crowd(ledger, 20)
    try:
        done = await asyncio.to_thread(outflow, "send", definition())
        assert done.code == 0, done.err

        started = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]))
        for _ in range(240):
            runs = await prefect.read_flow_runs(flow_run_filter=started)
            if runs:
                break
            await asyncio.sleep(0.5)
    finally:
        await prefect.delete_automation(automation)
    assert {str(run.parameters["request"]["campaign"]) for run in runs} == {"faults"}
    assert sink.received() == 20


def test_targets_are_made_tried_and_removed_by_commands(outflow: Command, tmp_path: Path, ledger: Engine):
    address = tmp_path / "address"
    with Listener().running() as listener:
        typed = outflow("alerts", "add", "ops", f"url={listener.url}", "--json")
        assert (typed.code, "url is a secret" in typed.json["error"]) == (1, True)
        address.write_text(f"{listener.url}\n")
        made = outflow("alerts", "add", "ops", f"url=@file:{address}", "kinds=paused,late", "--json")
        assert made.json == {"name": "ops", "service": "json", "account": "", "kinds": ["paused", "late"]}

        assert outflow("alerts", "test", "ops").out == "ops has taken the test\n"
        assert [posted["title"] for posted in listener.posted] == ["Outflow: a test"]
        listener.status = 404
        refused = outflow("alerts", "test", "ops", "--json")
        assert (refused.code, refused.json) == (
            1,
            {"error": "alert target ops did not take the test: it answered 404"},
        )
    assert outflow("alerts", "list").out == "ops: alerts of kind paused, late, by json\n"

    with ledger.begin() as connection:
        alert(connection, AlertKind.PAUSED, "something is paused")
        connection.execute(text("UPDATE alerts SET tries = 1"))
    found = {finding["what"]: finding for finding in outflow("doctor", "--json").json["findings"]}
    assert found["alerts"]["severity"] == "warn"
    assert found["alerts"]["text"].startswith(
        "1 could not be delivered yet: see why with outflow alerts test"
    )

    assert outflow("alerts", "remove", "ops").code == 0
    gone = outflow("alerts", "remove", "ops", "--json")
    assert "there is no alert target 'ops'" in gone.json["error"]
    assert outflow("alerts", "list", "--json").json == {"targets": []}
    assert outflow("alerts", "add", "ops").code == 2
