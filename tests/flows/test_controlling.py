"""A campaign that is being sent by one run, controlled by another, as a person does in Prefect."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from sqlalchemy import Engine, text

from flows.cancel_campaign import cancel_campaign
from flows.launch_campaign import launch_campaign
from flows.limit_account import limit_account
from flows.pace_campaign import pace_campaign
from flows.pause_campaign import pause_campaign
from flows.resolve_campaign import resolve_campaign
from flows.retry_campaign import retry_campaign
from messaging.campaign.planning import plan_campaign
from messaging.errors import CampaignStopped, InputError
from messaging.reports.histories import campaign_history
from schemas.campaign import CampaignSpec, RetryRequest
from schemas.controlling import CancelRequest, LimitRequest, PaceRequest, PauseRequest, ResolveRequest
from schemas.pacing import Pacing
from schemas.states import CampaignState
from tests.waiting import until

# Prefect leaves sockets and streams of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

NAME = "spring-offer"
READERS = [f"reader{n}@example.org" for n in range(60)]
CONNECTIONS = 4
PATIENCE = 120.0  # seconds that this machine may take for anything


@pytest.fixture
async def sending(spec: CampaignSpec, audience, server, account) -> Callable[[str], Awaitable[asyncio.Task]]:
    """Launch the campaign at a rate, and return once some of it is sent."""
    begun = []

    async def launch(rate: str) -> asyncio.Task:
        audience(*READERS)
        await account(server.port, connections=str(CONNECTIONS))
        begun.append(
            asyncio.create_task(launch_campaign(spec.model_copy(update={"pacing": Pacing(rate=rate)})))
        )
        await until(lambda: server.received() > 0, PATIENCE)
        return begun[-1]

    yield launch
    for task in begun:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


@pytest.fixture
def counts(ledger: Engine) -> Callable[[], dict[str, int]]:
    def read() -> dict[str, int]:
        with ledger.begin() as connection:
            rows = connection.execute(text("SELECT state, count(*) FROM attempts GROUP BY state"))
            return dict(rows.tuples().all())

    return read


async def last_words(ledger: Engine, campaign_id: int) -> tuple[str, str]:
    change = (await asyncio.to_thread(campaign_history, ledger, campaign_id)).changes[-1]
    return change.who, change.said


async def test_paused_and_resumed_by_flows(
    ledger: Engine, sending, server, counts, received, campaign_id, artifact
):
    launched = await sending("5/s")
    done = await pause_campaign(PauseRequest(campaign=NAME, because="a wrong price"))
    at = server.received()
    with pytest.raises(
        CampaignStopped, match=r"paused \(a wrong price, by .*, flow run pause-spring-offer\)"
    ):
        await launched

    assert (done.changed, done.state) == (True, CampaignState.PAUSED)
    assert counts().keys() == {"accepted", "queued"}
    assert sum(counts().values()) == len(READERS)
    assert counts()["accepted"] == server.received() <= at + CONNECTIONS
    assert "is paused with" in (await artifact(f"campaign-{campaign_id()}-control")).data
    who, said = await last_words(ledger, campaign_id())
    assert who.endswith(", flow run pause-spring-offer")
    assert said == "paused: a wrong price"

    await pace_campaign(PaceRequest(campaign=NAME, free=True))
    report = await retry_campaign(RetryRequest(campaign=NAME, because="mended"))

    assert report.state is CampaignState.FINISHED
    assert received() == dict.fromkeys(READERS, 1)
    told = [(change.state, change.said) for change in campaign_history(ledger, campaign_id()).changes]
    assert told[-3:] == [
        ("paused", "pace: as fast as the account takes it"),
        ("running", "resumed: mended"),
        ("finished", "finished"),
    ]


async def test_cancelled_by_a_flow_that_was_told_twice(sending, server, counts):
    launched = await sending("5/s")
    with pytest.raises(InputError, match="was not cancelled: switch on for_good"):
        await cancel_campaign(CancelRequest(campaign=NAME))
    assert not launched.done()

    done = await cancel_campaign(CancelRequest(campaign=NAME, for_good=True, because="sold out"))
    at = server.received()
    report = await launched

    assert (done.changed, report.state) == (True, CampaignState.CANCELLED)
    assert counts().keys() == {"accepted", "cancelled"}
    assert sum(counts().values()) == len(READERS)
    assert counts()["accepted"] == server.received() <= at + CONNECTIONS


async def test_let_loose_by_a_flow_it_is_sent_at_once(sending, server, received):
    launched = await sending("6/m")  # ten minutes of it
    assert server.received() < len(READERS)

    await pace_campaign(PaceRequest(campaign=NAME, free=True))
    await until(launched.done, PATIENCE)

    assert received() == dict.fromkeys(READERS, 1)
    assert (await launched).state is CampaignState.FINISHED


async def test_an_accounts_limit_holds_and_is_lifted_while_it_is_sent(
    spec: CampaignSpec, audience, server, account, received
):
    audience(*READERS)
    await account(server.port)
    limited = await limit_account(
        LimitRequest(account="smtp-account/main", rate="6/m", domains=["b.org=9/m"])
    )
    launched = asyncio.create_task(launch_campaign(spec))
    await until(lambda: server.received() > 0, PATIENCE)
    assert server.received() < len(READERS)
    shown = await limit_account(LimitRequest(account="smtp-account/main"))

    lifted = await limit_account(LimitRequest(account="smtp-account/main", rate="none"))
    await until(launched.done, PATIENCE)

    assert (limited.rate, shown, lifted.rate) == ("6/m", limited, None)
    assert lifted.domains == {"b.org": "9/m"}
    assert received() == dict.fromkeys(READERS, 1)


async def test_limits_of_an_account_that_does_not_exist_are_refused(server, account):
    await account(server.port)

    with pytest.raises(InputError, match="there is no account 'smtp-account/typo'"):
        await limit_account(LimitRequest(account="smtp-account/typo", rate="5/s"))


@pytest.mark.parametrize("decision", ["accepted", "resend"])
async def test_who_is_unknown_is_decided_about(
    ledger: Engine, spec: CampaignSpec, audience, server, account, received, counts, decision: str
):
    audience("ada@example.org", "bo@example.org")
    await account(server.port)
    plan = plan_campaign(ledger, spec)
    with ledger.begin() as connection:
        connection.execute(text("UPDATE attempts SET state = 'accepted' WHERE id = 1"))
        connection.execute(text("UPDATE attempts SET state = 'unknown' WHERE id = 2"))

    await resolve_campaign(ResolveRequest(campaign=NAME, decision=decision, batches=[1], because="seen"))

    assert counts() == {"accepted": 2}
    assert received() == ({"bo@example.org": 1} if decision == "resend" else {})
    changes = campaign_history(ledger, plan.campaign_id).changes
    assert {
        "accepted": "called accepted: 1 unknown in batch 1: seen",
        "resend": "to be sent to again: 1 unknown in batch 1: seen",
    }[decision] in [change.said for change in changes]
    assert changes[-1].state is CampaignState.FINISHED


async def test_what_was_done_is_in_the_runs_log(sending):
    await sending("1/s")
    state = await pause_campaign(PauseRequest(campaign=NAME), return_state=True)

    of_the_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    async with get_client() as client:
        for _ in range(60):  # log lines travel in batches
            lines = [log.message for log in await client.read_logs(of_the_run)]
            if any(line.startswith("campaign 'spring-offer' is paused with") for line in lines):
                break
            await asyncio.sleep(0.5)
        else:
            pytest.fail("the run's log does not say what was done")
    assert state.is_completed()
