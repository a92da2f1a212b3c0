"""What every sender does, whatever the provider: the same answers, the same states in the ledger.

Each runs against a real server on loopback; a new channel is one line in `PROVIDERS`.
"""

import asyncio
import contextlib

import pytest
from sqlalchemy import Engine, text

from messaging.campaign.sending import CampaignRun, send_batch
from messaging.channels.base import Receipt
from messaging.errors import AccountError, CampaignStopped, NotSent, Unknown
from schemas.campaign import CampaignSpec
from schemas.states import AccountState, Outcome
from tests.messaging.channels.gmail_provider import gmail
from tests.messaging.channels.providers import WAIT, Deed, Provider
from tests.messaging.channels.ses_provider import ses
from tests.messaging.channels.smtp_provider import smtp
from tests.messaging.channels.whatsapp_cloud_provider import whatsapp_cloud
from tests.messaging.channels.whatsapp_web_provider import whatsapp_web

# WhatsApp Web keeps its sessions in the ledger's database.
pytestmark = pytest.mark.usefixtures("migrated")

PROVIDERS = {
    "smtp": smtp,
    "gmail": gmail,
    "ses": ses,
    "whatsapp-cloud": whatsapp_cloud,
    "whatsapp-web": whatsapp_web,
}


@pytest.fixture(params=PROVIDERS)
async def provider(request):
    async with PROVIDERS[request.param]() as running:
        yield running


class Marks:
    """Stands in for the ledger: what is dispatched may be handed over."""

    def __init__(self) -> None:
        self.count = 0

    async def dispatch(self) -> None:
        self.count += 1


async def sent(provider: Provider, *, patience: float = 10.0, times: int = 1) -> Receipt:
    marks = Marks()
    async with provider.pool(patience=patience) as pool, pool.sender() as sender:
        for _ in range(times):
            receipt = await sender.send(provider.message(), marks.dispatch)
    assert marks.count == times or receipt.outcome is not Outcome.ACCEPTED
    return receipt


async def taken(provider: Provider) -> None:
    """Wait until the provider has a message."""
    while not provider.received():  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)


async def test_a_message_that_is_taken(provider: Provider):
    receipt = await sent(provider, times=3)

    assert receipt.outcome is Outcome.ACCEPTED
    assert receipt.provider_message_id
    assert provider.received() == 3


async def test_nothing_is_handed_over_that_the_ledger_did_not_mark(provider: Provider):
    class NoError(Exception):
        pass

    async def no() -> None:
        raise NoError

    async with provider.pool() as pool, pool.sender() as sender:
        with pytest.raises(NoError):
            await sender.send(provider.message(), no)
        assert provider.received() == 0
        receipt = await sender.send(provider.message(), Marks().dispatch)

    assert (receipt.outcome, provider.received()) == (Outcome.ACCEPTED, 1)


async def test_a_refused_recipient(provider: Provider):
    provider.does(Deed.REFUSES)

    receipt = await sent(provider)

    assert receipt.outcome is Outcome.REJECTED
    assert receipt.unreachable
    assert receipt.code
    assert provider.received() == 0


async def test_a_throttle_is_no_refusal_and_its_wait_is_heard(provider: Provider):
    provider.does(Deed.THROTTLES)

    receipt = await sent(provider)

    assert (receipt.outcome, receipt.throttled) == (Outcome.DEFERRED, True)
    assert receipt.retry_after == pytest.approx(WAIT, abs=2)
    assert provider.received() == 0


async def test_a_fault_that_will_pass(provider: Provider):
    provider.does(Deed.FAULTS)

    receipt = await sent(provider)

    assert (receipt.outcome, receipt.throttled) == (Outcome.DEFERRED, True)
    assert provider.received() == 0


async def test_credentials_that_are_refused(provider: Provider):
    provider.does(Deed.REFUSES_US)

    with pytest.raises(AccountError) as refused:
        await sent(provider)

    assert provider.address not in str(refused.value)
    assert provider.received() == 0


async def test_a_provider_that_is_away(provider: Provider):
    await provider.leave()

    with pytest.raises(NotSent):
        await sent(provider)


async def test_an_idle_connection_that_was_closed_is_opened_anew(provider: Provider):
    provider.does(Deed.DROPS_IDLE)

    async with provider.pool() as pool, pool.sender() as sender:
        for _ in range(3):
            receipt = await sender.send(provider.message(), Marks().dispatch)
            assert receipt.outcome is Outcome.ACCEPTED
            await asyncio.sleep(1.0)  # idle for long enough that the close arrives, on a busy machine too

    assert provider.received() == 3


async def test_a_connection_lost_without_an_answer_is_unknown(provider: Provider):
    provider.does(Deed.DROPS_AFTER)

    with pytest.raises(Unknown):
        await sent(provider)

    assert provider.received() == 1  # and never asked a second time


async def test_an_answer_that_does_not_come_is_unknown(provider: Provider):
    provider.does(Deed.SILENT)

    with pytest.raises(Unknown):
        await sent(provider, patience=0.5)

    async with asyncio.timeout(15):
        await taken(provider)  # half a second may be too short for it to get there
    assert provider.received() == 1


async def test_a_slow_answer_is_waited_for(provider: Provider):
    provider.does(Deed.SLOW)

    assert (await sent(provider)).outcome is Outcome.ACCEPTED


async def test_a_pool_that_closes_while_a_message_is_on_its_way_ends_soon(provider: Provider):
    provider.does(Deed.SILENT)
    marks = Marks()
    async with asyncio.timeout(15):
        async with provider.pool(patience=30) as pool, pool.sender() as sender:
            sending = asyncio.create_task(sender.send(provider.message(), marks.dispatch))
            await taken(provider)
            sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, Unknown):
            await sending

    assert (marks.count, provider.received()) == (1, 1)


async def test_who_we_are_is_told(provider: Provider):
    async with provider.pool() as pool:
        async with pool.sender() as sender:
            await sender.send(provider.message(), Marks().dispatch)
        await pool.quota()

        assert pool.identity
        assert pool.state in {AccountState.CONNECTED, AccountState.READY}


@pytest.fixture
def one_recipient(ledger: Engine, provider: Provider) -> int:
    """Plan a campaign over the provider for one recipient; return its number."""
    spec = CampaignSpec(
        name="contract", account=provider.account, audience="a",
        channel="whatsapp" if "whatsapp" in provider.account else "email", **provider.spec,
    )  # fmt: skip
    with ledger.begin() as connection:
        parameters = {"spec": spec.model_dump_json(), "address": provider.address}
        for statement in (
            "INSERT INTO audiences (name) VALUES ('a')",
            """INSERT INTO campaigns (name, spec, audience_id, state)
                VALUES ('contract', CAST(:spec AS jsonb), 1, 'running')""",
            "INSERT INTO contacts (email_key, email) VALUES ('x@example.org', 'x@example.org')",
            "INSERT INTO batches (campaign_id, number) VALUES (1, 1)",
            """INSERT INTO attempts (campaign_id, batch_id, contact_id, address_key, address)
                VALUES (1, 1, 1, :address, :address)""",
        ):
            connection.execute(text(statement), parameters)
    return 1


STATES = {
    Deed.ACCEPTS: ("accepted", "running"),
    Deed.REFUSES: ("rejected", "running"),
    Deed.THROTTLES: ("queued", "running"),
    Deed.FAULTS: ("queued", "running"),
    Deed.REFUSES_US: ("queued", "paused"),
    Deed.DROPS_AFTER: ("unknown", "running"),
    Deed.SILENT: ("unknown", "running"),
    Deed.SLOW: ("accepted", "running"),
}


@pytest.mark.parametrize("deed", STATES)
async def test_the_ledger_says_the_same(ledger: Engine, provider: Provider, one_recipient: int, deed: Deed):
    provider.does(deed)
    patience = 0.5 if deed is Deed.SILENT else 10.0
    sender = "Shop <news@shop.example.org>"

    with contextlib.suppress(AccountError, CampaignStopped):
        async with (
            provider.pool(patience=patience) as pool,
            CampaignRun(ledger, one_recipient, sender, pool) as run,
        ):
            await send_batch(run, 1)

    with ledger.connect() as connection:
        attempt = connection.execute(text("SELECT state, not_before FROM attempts")).one()
        campaign = connection.execute(text("SELECT state FROM campaigns")).scalar_one()
    assert (attempt.state, campaign) == STATES[deed]
    assert (attempt.not_before is not None) == (attempt.state == "queued")


async def test_a_cancelled_batch_hears_the_answer_that_is_on_its_way(
    ledger: Engine, provider: Provider, one_recipient: int
):
    provider.does(Deed.SLOW)
    sender = "Shop <news@shop.example.org>"
    async with provider.pool() as pool, CampaignRun(ledger, one_recipient, sender, pool) as run:
        sending = asyncio.create_task(send_batch(run, 1))
        async with asyncio.timeout(20):
            await taken(provider)
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending

    with ledger.connect() as connection:
        assert connection.execute(text("SELECT state FROM attempts")).scalar_one() == "accepted"
