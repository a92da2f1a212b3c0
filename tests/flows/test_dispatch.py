"""What is due is started, each campaign by one run, whoever asks and however often."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelled, Crashed, Failed, Pending
from sqlalchemy import Engine, text

from flows.add_schedule import add_schedule
from flows.dispatch import dispatch
from flows.launch_campaign import launch_campaign
from flows.retry_campaign import retry_campaign
from flows.start_campaign import start_campaign
from messaging.campaign import retrying
from messaging.campaign.finding import campaign_named
from messaging.errors import InputError, MessagingError
from schemas.campaign import CampaignSpec, RetryRequest, StartRequest
from schemas.schedule import ScheduleSpec
from schemas.states import CampaignState, ScheduleState
from tasks.starting import START, start_run

# Prefect leaves sockets and streams of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

READERS = ["ada@example.org", "bo@example.org"]


@pytest.fixture
async def client() -> AsyncIterator[PrefectClient]:
    async with get_client() as client:
        yield client


@pytest.fixture
async def deployed() -> None:
    """The deployment that campaigns are started from; nobody works on it, so its runs wait."""
    flow_name, name = START.split("/")
    assert start_campaign.name == flow_name
    await (await start_campaign.to_deployment(name)).apply()


@pytest.fixture
def later(spec: CampaignSpec) -> CampaignSpec:
    send_at = (datetime.now(UTC) + timedelta(hours=1)).replace(tzinfo=None).isoformat(timespec="minutes")
    return CampaignSpec.model_validate(spec.model_dump() | {"send_at": send_at})


def passes(ledger: Engine, hours: float) -> None:
    with ledger.begin() as connection:
        for table, column in (("campaigns", "due_at"), ("schedules", "next_at")):
            connection.execute(
                text(f"UPDATE {table} SET {column} = {column} - make_interval(secs => :seconds)"),  # noqa: S608
                {"seconds": hours * 3600},
            )


async def runs_for(client: PrefectClient, campaign_id: int) -> list[FlowRun]:
    """Return the runs that were started for a campaign by themselves, in the order of their keys."""
    found = [
        run
        for run in await client.read_flow_runs(limit=200)
        if (run.idempotency_key or "").startswith(f"campaign-{campaign_id}-start-")
    ]
    return sorted(found, key=lambda run: str(run.idempotency_key))


async def ends(client: PrefectClient, run_id: UUID) -> None:
    await client.set_flow_run_state(run_id, Crashed(message="its worker was killed"), force=True)


def kept(ledger: Engine) -> int:
    return campaign_named(ledger, "spring-offer").id


@pytest.mark.usefixtures("deployed")
async def test_launched_with_a_time_it_is_kept_and_dispatch_starts_it_once(
    ledger: Engine, audience, later: CampaignSpec, server, account, client: PrefectClient, received
):
    audience(*READERS)
    await account(server.port)
    report = await launch_campaign(later)
    assert (report.state, report.totals.planned) == (CampaignState.SCHEDULED, 0)
    assert (await dispatch()).started == []

    passes(ledger, 1.5)
    first = await dispatch()
    second, third = await asyncio.gather(dispatch(), dispatch())  # a double click, a worker catching up
    [run] = await runs_for(client, kept(ledger))
    assert first.started == second.started == third.started == ["spring-offer"]
    assert run.parameters == {"request": {"campaign_id": kept(ledger)}}

    await start_campaign(StartRequest.model_validate(run.parameters["request"]))  # as a worker would
    assert (await dispatch()).started == []
    assert received() == dict.fromkeys(READERS, 1)
    await start_campaign(StartRequest.model_validate(run.parameters["request"]))  # as a late worker would
    assert received() == dict.fromkeys(READERS, 1)


@pytest.mark.usefixtures("deployed")
async def test_a_run_that_ended_without_starting_it_is_followed_by_another(
    ledger: Engine, audience, later: CampaignSpec, server, account, client: PrefectClient
):
    audience(*READERS)
    await account(server.port)
    await launch_campaign(later)
    passes(ledger, 1.5)
    await dispatch()
    [first] = await runs_for(client, kept(ledger))
    await ends(client, first.id)
    await asyncio.gather(dispatch(), dispatch())

    keys = [run.idempotency_key for run in await runs_for(client, kept(ledger))]
    assert keys == [f"campaign-{kept(ledger)}-start-{starts}" for starts in (0, 1)]


@pytest.mark.usefixtures("deployed")
async def test_a_run_that_a_person_cancelled_before_it_began_pauses_the_campaign_until_it_is_resumed(
    ledger: Engine, audience, later: CampaignSpec, server, account, client: PrefectClient
):
    audience(*READERS)
    await account(server.port)
    await launch_campaign(later)
    passes(ledger, 1.5)
    await dispatch()
    [run] = await runs_for(client, kept(ledger))
    await client.set_flow_run_state(run.id, Cancelled())
    reports = await asyncio.gather(dispatch(), dispatch())

    assert [report.started for report in reports] == [[], []]
    campaign = campaign_named(ledger, "spring-offer")
    assert (campaign.state, campaign.state_reason) == (
        CampaignState.PAUSED,
        f"flow run {run.name} was cancelled in Prefect",
    )
    assert len(await runs_for(client, kept(ledger))) == 1

    retrying.resume_unsent(ledger, RetryRequest(campaign="spring-offer"), "ada on desk")
    assert (await dispatch()).started == ["spring-offer"]
    assert len(await runs_for(client, kept(ledger))) == 2


@pytest.mark.usefixtures("deployed")
async def test_a_schedule_that_cannot_be_read_is_set_aside_and_holds_no_campaign_up(
    ledger: Engine, audience, later: CampaignSpec, server, account, client: PrefectClient
):
    audience(*READERS)
    await account(server.port)
    await launch_campaign(later)
    passes(ledger, 1.5)
    with ledger.begin() as connection:  # as a later version of Outflow might write it
        connection.execute(
            text("INSERT INTO schedules (name, spec, next_at) VALUES ('news', '{\"speed\": 9}', now())")
        )

    assert (await dispatch()).started == [later.name]
    assert len(await runs_for(client, kept(ledger))) == 1
    with ledger.begin() as connection:
        assert connection.execute(text("SELECT state FROM schedules")).scalar_one() == ScheduleState.PAUSED


@pytest.mark.usefixtures("deployed")
async def test_runs_that_fail_again_and_again_are_not_followed_every_minute(
    ledger: Engine, audience, later: CampaignSpec, server, account, client: PrefectClient
):
    audience(*READERS)
    await account(server.port)
    await launch_campaign(later)
    runs = []
    for _ in range(3):
        runs.append(await start_run(kept(ledger)))
        await client.set_flow_run_state(runs[-1], Failed(message="the mail server is away"), force=True)

    assert runs[0] != runs[1] == runs[2]


@pytest.mark.usefixtures("deployed")
async def test_a_run_whose_worker_died_before_it_began_is_given_up(
    ledger: Engine, audience, later: CampaignSpec, server, account, client: PrefectClient
):
    audience(*READERS)
    await account(server.port)
    await launch_campaign(later)
    first = await start_run(kept(ledger))
    await client.set_flow_run_state(first, Pending(), force=True)

    assert await start_run(kept(ledger)) == first
    assert await start_run(kept(ledger), patience=timedelta(0)) != first


async def test_without_its_deployment_it_says_how_to_make_it(
    ledger: Engine, audience, later: CampaignSpec, server, account
):
    audience(*READERS)
    await account(server.port)
    await launch_campaign(later)

    with pytest.raises(MessagingError, match="there is no deployment none/none: make them with outflow init"):
        await start_run(kept(ledger), "none/none")


@pytest.mark.usefixtures("deployed")
async def test_what_is_late_is_paused_and_resumed_by_a_person_it_is_sent(
    ledger: Engine, audience, later: CampaignSpec, server, account, client: PrefectClient, received
):
    audience(*READERS)
    await account(server.port)
    await launch_campaign(later)
    passes(ledger, 24)
    report = await dispatch()

    assert (report.late, report.started) == (["spring-offer"], [])
    assert await runs_for(client, kept(ledger)) == []
    resumed = await retry_campaign(RetryRequest(campaign="spring-offer"))
    assert resumed.state is CampaignState.FINISHED
    assert received() == dict.fromkeys(READERS, 1)


async def test_resumed_before_its_time_it_waits_for_it(
    ledger: Engine, audience, later: CampaignSpec, server, account, received
):
    audience(*READERS)
    await account(server.port)
    await launch_campaign(later)
    with ledger.begin() as connection:
        connection.execute(text("UPDATE campaigns SET state = 'paused'"))
    resumed = await retry_campaign(RetryRequest(campaign="spring-offer"))

    assert resumed.state is CampaignState.SCHEDULED
    assert received() == {}


async def test_an_account_that_was_removed_pauses_the_campaign_with_the_reason(
    ledger: Engine, audience, later: CampaignSpec, server, account, received
):
    audience(*READERS)
    await account(server.port)
    await launch_campaign(later)
    passes(ledger, 1.5)
    with ledger.begin() as connection:  # as if it had been removed, and made again under another name
        connection.execute(
            text("UPDATE campaigns SET spec = jsonb_set(spec, '{account}', '\"smtp-account/gone\"')")
        )

    with pytest.raises(InputError, match="there is no account 'smtp-account/gone'"):
        await start_campaign(StartRequest(campaign_id=kept(ledger)))
    campaign = campaign_named(ledger, "spring-offer")
    assert campaign.state is CampaignState.PAUSED
    assert (campaign.state_reason or "").startswith(
        "it cannot be sent: there is no account 'smtp-account/gone'"
    )
    with ledger.begin() as connection:
        assert connection.execute(text("SELECT kind FROM alerts")).scalars().all() == ["paused"]
    assert received() == {}


@pytest.mark.usefixtures("deployed")
async def test_a_schedule_that_the_form_added_has_its_editions_started(
    ledger: Engine, audience, spec: CampaignSpec, client: PrefectClient
):
    audience(*READERS)
    first = datetime.now(UTC) - timedelta(days=3, minutes=-5)
    rule = {"interval": "1h", "starts_at": f"{first:%FT%H:%M}"}
    status = await add_schedule(
        ScheduleSpec.model_validate(spec.model_dump(exclude={"send_at"}) | {"name": "news", "schedule": rule})
    )
    passes(ledger, 1)
    report = await dispatch()

    edition = f"news {status.next[0] - timedelta(hours=1):%F %H%M}"
    assert (report.editions, report.started) == ([edition], [edition])
    assert len(await runs_for(client, campaign_named(ledger, edition).id)) == 1
    assert (await dispatch()).editions == []
