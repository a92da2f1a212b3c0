"""A draft asks a person on its run's page, and holds no process while it waits."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import psutil
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import SetStateStatus
from sqlalchemy import Engine, text

from messaging import sandbox
from messaging.campaign.planning import keep_campaign
from messaging.storage.campaigns import Campaign
from schemas.campaign import CampaignSpec
from tests.deployments.conftest import Command, finished
from tests.faults.crowds import crowd

TESTER = "canary-tester@example.com"
ADA = {"decision": "approve", "your_name": "Ada", "comment": "looks fine"}

Waiting = Callable[[], Awaitable[FlowRun]]


numbers = itertools.count(1000, 1000)


@pytest.fixture
def draft(ledger: Engine, sandbox_account: str) -> Campaign:
    crowd(ledger, 3)
    with ledger.begin() as connection:  # Prefect knows the runs of each test's campaigns by their numbers
        statement = text("SELECT setval(pg_get_serial_sequence('campaigns', 'id'), :last)")
        connection.execute(statement, {"last": next(numbers)})
    spec = CampaignSpec(
        name="spring-offer",
        account=sandbox_account,
        audience="crowd",
        subject="Hello {{ name }}",
        text="Dear {{ name }}",
        approval=True,
        test_to=[TESTER],
    )
    return keep_campaign(ledger, spec, datetime.now(UTC) + timedelta(days=1))


@pytest.fixture
async def waiting(prefect: PrefectClient, draft: Campaign) -> Waiting:
    """Wait until a run waits for approval: dispatch, which looks every minute, has started one."""
    deployment = await prefect.read_deployment_by_name("approve-campaign/approve-campaign")
    run = await prefect.create_flow_run_from_deployment(
        deployment.id,
        parameters={"request": {"campaign_id": draft.id}},
        idempotency_key=f"campaign-{draft.id}-approve-0",
    )

    async def waits() -> FlowRun:
        for _ in range(600):
            found = await prefect.read_flow_run(run.id)
            assert found.state is not None
            assert not found.state.is_final(), found.state.message
            if found.state.is_paused() and await asked(prefect, found):
                return found
            await asyncio.sleep(0.5)
        pytest.fail(f"{run.name} does not wait: {found.state}")

    return waits


async def asked(client: PrefectClient, run: FlowRun) -> str:
    """Return what stands above the form of a run that waits; empty: the form is not there yet."""
    keys = run.state.state_details.run_input_keyset
    found = await client.filter_flow_run_input(run.id, keys["description"], limit=1, exclude_keys=set())
    return found[0].value if found else ""


def read(ledger: Engine, statement: str) -> list[tuple]:
    with ledger.begin() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def processes(installation: SimpleNamespace, run: FlowRun) -> list[psutil.Process]:
    """Return the processes in which a flow run is."""
    found = []
    for process in installation.process.children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            if process.environ().get("PREFECT__FLOW_RUN_ID") == str(run.id):
                found.append(process)
    return found


async def test_a_person_comments_and_then_approves_on_the_runs_page(
    ledger: Engine,
    prefect: PrefectClient,
    installation: SimpleNamespace,
    server: sandbox.Sandbox,
    draft: Campaign,
    waiting: Waiting,
):
    run = await waiting()
    brief = await asked(prefect, run)

    assert run.state.name == "Suspended"
    assert run.state.state_details.pause_timeout is None
    assert "Campaign spring-offer waits for your answer" in brief
    assert "**3** of audience crowd" in brief
    assert "1 accepted" in brief
    assert TESTER not in brief
    assert server.received() == 1
    for _ in range(120):
        if not processes(installation, run):
            break
        await asyncio.sleep(0.5)
    assert processes(installation, run) == []
    link = f"{installation.api_url.removesuffix('/api')}/runs/flow-run/{run.id}"
    told = "SELECT kind, campaign_id, link FROM alerts"
    assert read(ledger, told) == [("approval", draft.id, link)]

    for bad in (
        None,
        {},
        {"decision": "approve"},
        {**ADA, "decision": "maybe"},
        {**ADA, "your_name": "  "},
        {**ADA, "your_name": "ada@example.org"},
        {**ADA, "comment": "ask ada@example.org"},
    ):
        answered = await prefect.resume_flow_run(run.id, run_input=bad)
        assert answered.status is SetStateStatus.REJECT, bad
    assert (await prefect.read_flow_run(run.id)).state.is_paused()

    await prefect.resume_flow_run(
        run.id, run_input={**ADA, "decision": "comment", "comment": "who are they?"}
    )
    while "who are they?" not in await asked(prefect, run := await waiting()):  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.5)
    assert server.received() == 1
    assert read(ledger, told) == [("approval", draft.id, link)] * 2
    assert read(ledger, "SELECT state FROM campaigns") == [("draft",)]

    await prefect.resume_flow_run(run.id, run_input=ADA)
    done = await finished(prefect, run)

    assert done.state.is_completed()
    assert done.state.message.startswith("campaign 'spring-offer' was approved by Ada in Prefect at ")
    assert done.state.message.endswith("(looks fine)")
    assert read(ledger, "SELECT state, due_at FROM campaigns") == [("scheduled", draft.due_at)]
    assert server.received() == 1
    comments = "SELECT count(*) FROM events WHERE details ->> 'said' = 'comment: who are they?'"
    assert read(ledger, comments) == [(1,)]


async def test_what_was_shown_before_a_change_is_not_what_is_approved(
    ledger: Engine, prefect: PrefectClient, draft: Campaign, waiting: Waiting
):
    run = await waiting()
    later = draft.due_at + timedelta(days=1)
    keep_campaign(ledger, draft.spec, later)

    await prefect.resume_flow_run(run.id, run_input=ADA)  # or dispatch was here first: it asks anew too
    while "so it is asked about anew" not in (brief := await asked(prefect, run := await waiting())):  # noqa: ASYNC110
        await asyncio.sleep(0.5)
    assert f"{later:%F %H:%M}" in brief
    assert read(ledger, "SELECT state FROM campaigns") == [("draft",)]

    await prefect.resume_flow_run(run.id, run_input=ADA)
    done = await finished(prefect, run)
    assert done.state.is_completed()
    assert read(ledger, "SELECT state, due_at FROM campaigns") == [("scheduled", later)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["reject", "spring-offer", "--comment", "wrong price"], "'spring-offer' was rejected by "),
        (["cancel", "spring-offer", "--yes"], "'spring-offer' was cancelled by "),
    ],
    ids=["rejected", "cancelled"],
)
async def test_what_is_decided_at_a_terminal_ends_the_run(
    ledger: Engine,
    prefect: PrefectClient,
    outflow: Command,
    waiting: Waiting,
    arguments: list[str],
    said: str,
):
    run = await waiting()
    answered = await asyncio.to_thread(outflow, *arguments, "--json")
    done = await finished(prefect, run)

    assert answered.code == 0, answered.err
    assert answered.json["state"] == "cancelled"
    assert done.state.is_completed()
    assert said in done.state.message
    assert read(ledger, "SELECT state FROM campaigns") == [("cancelled",)]
