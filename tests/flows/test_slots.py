"""No more runs than allowed use an account at once, and no limit costs a run that has sent."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from sqlalchemy import Engine, make_url, text

from flows.launch_campaign import launch_campaign
from flows.send_batches import send_batches
from messaging.campaign.planning import plan_campaign
from messaging.errors import CampaignStopped, NotSent
from messaging.storage import campaign_runs
from schemas.campaign import CampaignSpec, SendRequest
from schemas.states import CampaignState
from tasks import slots
from tasks.slots import limit_runs, runs_at_once, slot_of
from tests.faults.sink import free_port
from tests.faults.wire import Wire
from tests.waiting import until

# Prefect leaves sockets and streams of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

ACCOUNT = "smtp-account/main"
READERS = [f"reader{n}@example.org" for n in range(30)]


async def wanted() -> bool:
    return True


@pytest.fixture
async def one_run_at_once() -> AsyncIterator[None]:
    await limit_runs(ACCOUNT, 1)
    yield
    await limit_runs(ACCOUNT, None)


async def taken() -> int:
    async with get_client() as client:
        return (await client.read_global_concurrency_limit_by_name("smtp-account-main")).active_slots


@pytest.mark.usefixtures("one_run_at_once")
async def test_two_campaigns_of_an_account_for_one_run_are_sent_one_after_the_other(
    audience, spec: CampaignSpec, server, account, ledger: Engine, caplog: pytest.LogCaptureFixture
):
    audience(*READERS)
    await account(server.port)
    caplog.set_level(logging.INFO, "messaging")
    changes = [{"name": name, "pacing": {"rate": "15/s"}} for name in ("autumn-offer", "spring-offer")]
    specs = [CampaignSpec.model_validate(spec.model_dump() | change) for change in changes]

    waiting = "waiting for smtp-account/main: as many runs use it as may at once"
    async with slot_of(ACCOUNT, wanted):
        launched = asyncio.gather(*(launch_campaign(one) for one in specs))
        async with asyncio.timeout(120):
            while caplog.messages.count(waiting) < 2:  # noqa: ASYNC110 - a log tells nobody
                await asyncio.sleep(0.05)
    reports = await launched

    assert [report.state for report in reports] == [CampaignState.FINISHED] * 2
    with ledger.begin() as connection:
        spans = connection.execute(
            text("""
                SELECT min(dispatched_at) AS first, max(answered_at) AS last FROM attempts
                GROUP BY campaign_id ORDER BY 1
            """)
        ).all()
    assert spans[0].last < spans[1].first
    assert await taken() == 0


async def test_an_account_without_a_limit_is_free_for_any_number_of_runs():
    assert await runs_at_once(ACCOUNT) is None
    async with slot_of(ACCOUNT, wanted), slot_of(ACCOUNT, wanted), slot_of(ACCOUNT, wanted):
        pass


@pytest.mark.usefixtures("one_run_at_once")
async def test_a_limit_is_set_changed_and_lifted_again_and_again():
    await limit_runs(ACCOUNT, 3)
    assert await runs_at_once(ACCOUNT) == 3
    await limit_runs(ACCOUNT, None)
    await limit_runs(ACCOUNT, None)
    assert await runs_at_once(ACCOUNT) is None


@pytest.mark.usefixtures("one_run_at_once")
async def test_whoever_waits_can_be_told_to_stop_and_takes_no_slot_along():
    async with slot_of(ACCOUNT, wanted):
        waiting = asyncio.create_task(_hold())
        await asyncio.sleep(0.5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await taken() == 1
    assert await taken() == 0


@pytest.mark.usefixtures("one_run_at_once")
async def test_a_run_that_waits_for_its_account_ends_when_its_campaign_is_paused(
    audience, spec: CampaignSpec, server, account, ledger: Engine
):
    audience(*READERS)
    await account(server.port)
    campaign_id = plan_campaign(ledger, spec).campaign_id
    async with slot_of(ACCOUNT, wanted):
        sending = asyncio.create_task(send_batches(SendRequest(campaign_id=campaign_id)))
        await until(lambda: attended(ledger, campaign_id), 60)
        with ledger.begin() as connection:
            connection.execute(text("UPDATE campaigns SET state = 'paused'"))
        with pytest.raises(CampaignStopped, match="paused"):
            await asyncio.wait_for(sending, 60)
    assert server.received() == 0


@pytest.mark.usefixtures("one_run_at_once")
@pytest.mark.parametrize(
    "change", ["UPDATE attempts SET state = 'accepted'", "UPDATE campaigns SET state = 'cancelled'"]
)
async def test_a_run_that_waits_for_its_account_ends_when_nothing_is_left_to_send(
    audience, spec: CampaignSpec, server, account, ledger: Engine, change: str
):
    audience(*READERS)
    await account(server.port)
    campaign_id = plan_campaign(ledger, spec).campaign_id
    async with slot_of(ACCOUNT, wanted):
        sending = asyncio.create_task(send_batches(SendRequest(campaign_id=campaign_id)))
        await until(lambda: attended(ledger, campaign_id), 60)
        with ledger.begin() as connection:
            connection.execute(text(change))
        await asyncio.wait_for(sending, 60)
        assert await taken() == 1
    assert server.received() == 0


def attended(engine: Engine, campaign_id: int) -> bool:
    with engine.begin() as connection:
        return campaign_runs.is_attended(connection, campaign_id)


async def _hold() -> None:
    async with slot_of(ACCOUNT, wanted):
        await asyncio.sleep(3600)


@pytest.mark.usefixtures("one_run_at_once")
async def test_a_slot_is_kept_for_as_long_as_it_is_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(slots, "RENEWAL_SECONDS", 0.1)
    caplog.set_level(logging.INFO, "httpx")  # which logs what it asks

    async with slot_of(ACCOUNT, wanted):
        await until(lambda: sum("/renew " in said for said in caplog.messages) > 2, 60)

    assert not any("/renew " in said and " 204 " not in said for said in caplog.messages)


@asynccontextmanager
async def server_that_leaves() -> AsyncIterator[asyncio.Event]:
    """Have Prefect's server reached by a way that ends when the event is set."""
    there = make_url(PREFECT_API_URL.value())
    wire = Wire(lambda: asyncio.open_connection(there.host, there.port))
    carried: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carried.add(asyncio.current_task())
        await wire.carry(reader, writer)

    way = await asyncio.start_server(carry, "127.0.0.1", 0)
    leaves = asyncio.Event()

    async def leave() -> None:
        await leaves.wait()
        way.close()
        for task in carried:
            task.cancel()

    leaving = asyncio.create_task(leave())
    port = way.sockets[0].getsockname()[1]
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}):
        yield leaves
    leaves.set()
    await leaving


@pytest.mark.usefixtures("one_run_at_once")
async def test_a_server_that_left_fails_no_run_that_has_sent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(slots, "LONGEST_GOODBYE", 1.0)
    sent = False
    async with server_that_leaves() as leaves, slot_of(ACCOUNT, wanted):
        leaves.set()
        await asyncio.sleep(0.1)
        sent = True

    assert sent
    assert "the slot of smtp-account/main is free in a minute" in caplog.text
    assert await taken() == 1  # until the lease runs out


async def test_a_server_that_does_not_answer_is_told_before_anything_is_sent():
    away = {PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(away), pytest.raises(NotSent, match="Prefect did not say whether smtp-account/"):
        async with slot_of(ACCOUNT, wanted):
            pytest.fail("it was let in")
