"""The ledger hears how an account in use is, and how it was left."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from messaging.campaign.heartbeat import Heartbeat
from messaging.campaign.planning import plan_campaign
from messaging.campaign.sending import CampaignRun, send_batch
from messaging.channels.base import Quota
from messaging.channels.smtp import SmtpPool, SmtpSettings
from messaging.errors import AccountError
from messaging.storage import campaigns, senders, throttles
from messaging.storage.limits import account_key
from messaging.storage.senders import Status
from messaging.storage.throttles import Asked
from schemas.campaign import CampaignSpec
from schemas.states import AccountState, CampaignState
from tests.fakes.scripted_smtp import ScriptedSmtp
from tests.waiting import until

ACCOUNT = "smtp-account/main"
SENDER = "Shop <news@shop.example.org>"


class Pool:
    """Of a pool, what it tells of itself; the test says how it is."""

    identity = "news at smtp.example.org:587"
    state = AccountState.DISCONNECTED


@pytest.fixture
def status(ledger: Engine) -> Callable[[], Status | None]:
    def read() -> Status | None:
        with ledger.begin() as connection:
            return senders.statuses(connection).get(ACCOUNT)

    return read


@pytest.fixture
def state(status) -> Callable[[], AccountState | None]:
    def read() -> AccountState | None:
        found = status()
        return found.state if found else None

    return read


async def test_it_says_what_the_pool_says_and_that_it_left(ledger: Engine, status, state):
    pool = Pool()
    async with Heartbeat(ledger, ACCOUNT, pool, every=0.05):
        await until(lambda: state() is AccountState.DISCONNECTED)
        for now in (AccountState.SCAN_QR, AccountState.READY):
            pool.state = now
            await until(lambda now=now: state() is now)
        assert status().identity == pool.identity
        seen_at = status().seen_at
        await until(lambda: status().seen_at > seen_at)

    found = status()
    assert (found.state, found.identity) == (AccountState.DISCONNECTED, pool.identity)
    with ledger.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM senders_status")).scalar_one() == 1


async def test_what_the_limits_know_goes_before_what_the_pool_says(ledger: Engine, status, state):
    pool = Pool()
    pool.state = AccountState.CONNECTED
    async with Heartbeat(ledger, ACCOUNT, pool, every=0.05):
        await until(lambda: state() is AccountState.CONNECTED)
        with ledger.begin() as connection:
            throttles.slow(connection, account_key(ACCOUNT), None, Asked(100.0, 300.0, "454 4.7.0"))
        await until(lambda: state() is AccountState.PAUSED)
        assert status().reason == "454 4.7.0"
        asked_for = status().paused_until
        with ledger.begin() as connection:
            assert 290 < asked_for.timestamp() - throttles.now_of(connection) <= 300
            connection.execute(text("UPDATE throttles SET pause_until = clock_timestamp()"))
        await until(lambda: state() is AccountState.CONNECTED)
        with ledger.begin() as connection:
            throttles.failed(connection, ACCOUNT, "me", 5, "relay, connecting: refused")
        await until(lambda: status().reason == "relay, connecting: refused")
        assert state() is AccountState.PAUSED
        with ledger.begin() as connection:
            throttles.connected(connection, ACCOUNT)
        await until(lambda: state() is AccountState.CONNECTED)
        assert (status().reason, status().paused_until) == (None, None)


async def test_what_stopped_the_account_stays_when_the_run_has_ended(ledger: Engine, status, state):
    pool = Pool()
    pool.state = AccountState.CONNECTED
    async with Heartbeat(ledger, ACCOUNT, pool, every=60.0) as heartbeat:
        await until(lambda: state() is AccountState.CONNECTED)
        heartbeat.stopped("the login was refused: 535")
        await until(lambda: state() is AccountState.PAUSED)
    found = status()
    assert (found.state, found.reason, found.paused_until) == (
        AccountState.PAUSED,
        "the login was refused: 535",
        None,
    )

    async with Heartbeat(ledger, ACCOUNT, pool, every=60.0):
        await until(lambda: state() is AccountState.CONNECTED)
    assert state() is AccountState.DISCONNECTED


async def test_a_ledger_that_is_away_disturbs_nobody(ledger: Engine, state, caplog):
    pool = Pool()
    pool.state = AccountState.CONNECTED
    with ledger.begin() as connection:
        connection.execute(text("ALTER TABLE senders_status RENAME TO senders_status_away"))
    try:
        async with Heartbeat(ledger, ACCOUNT, pool, every=0.02):
            await asyncio.sleep(0.3)
    finally:
        with ledger.begin() as connection:
            connection.execute(text("ALTER TABLE senders_status_away RENAME TO senders_status"))

    assert (state(), caplog.text) == (None, "")


@pytest.fixture
def campaign_id(ledger: Engine, audience, spec: CampaignSpec) -> int:
    """A campaign of one recipient."""
    audience("ada@example.org")
    return plan_campaign(ledger, spec).campaign_id


async def test_a_run_says_how_its_account_is_while_it_sends_and_that_it_left(
    campaign_id: int, server, open_run, status, state
):
    async with open_run(campaign_id, server.port) as run:
        await until(lambda: state() is AccountState.DISCONNECTED)
        await send_batch(run, 1)
        run.heartbeat._wake.set()  # noqa: SLF001 - instead of five seconds
        await until(lambda: state() is AccountState.CONNECTED)
        assert status().identity == f"127.0.0.1:{server.port}"
    assert state() is AccountState.DISCONNECTED


async def test_a_refused_login_is_the_accounts_last_state(ledger: Engine, campaign_id: int, status, states):
    smtp = ScriptedSmtp(logins={"news": "right"})
    async with smtp.running():
        settings = SmtpSettings(
            host="127.0.0.1", port=smtp.port, security="none", username="news", password="wrong"
        )
        async with (
            SmtpPool(settings) as pool,
            CampaignRun(ledger, campaign_id, SENDER, pool) as run,
        ):
            with pytest.raises(AccountError, match="535"):
                await send_batch(run, 1)

    found = status()
    assert found.state is AccountState.PAUSED
    assert "535" in found.reason
    assert "wrong" not in found.reason
    assert set(states().values()) == {"queued"}


class Told(SmtpPool):
    """A pool whose provider says what it allows."""

    quota_or_refusal: Quota | AccountError

    async def quota(self) -> Quota:
        if isinstance(self.quota_or_refusal, AccountError):
            raise self.quota_or_refusal
        return self.quota_or_refusal


async def test_a_run_keeps_to_the_quota_from_its_first_message(
    ledger: Engine, campaign_id: int, server, states, status
):
    pool = Told(SmtpSettings(host="127.0.0.1", port=server.port, security="none"))
    pool.quota_or_refusal = Quota(per_day=0)
    async with pool, CampaignRun(ledger, campaign_id, SENDER, pool) as run:
        await send_batch(run, 1)
        run.heartbeat._wake.set()  # noqa: SLF001 - instead of five seconds
        await until(lambda: status().reason == "0 messages in 24 hours")
    assert (set(states().values()), server.received()) == ({"queued"}, 0)

    pool.quota_or_refusal = Quota(per_day=1)
    async with CampaignRun(ledger, campaign_id, SENDER, pool) as run:
        await send_batch(run, 1)
    assert (set(states().values()), server.received()) == ({"accepted"}, 1)


async def test_a_provider_that_refuses_the_account_lets_no_run_begin(
    ledger: Engine, campaign_id: int, server, states, status
):
    pool = Told(SmtpSettings(host="127.0.0.1", port=server.port, security="none"))
    pool.quota_or_refusal = AccountError("Amazon SES has paused sending of this account")
    async with pool:
        with pytest.raises(AccountError, match="paused sending"):
            async with CampaignRun(ledger, campaign_id, SENDER, pool):
                pytest.fail("it began")

    with ledger.begin() as connection:
        assert campaigns.get(connection, campaign_id).state is CampaignState.PAUSED
    found = status()
    assert (found.state, found.reason) == (AccountState.PAUSED, str(pool.quota_or_refusal))
    assert set(states().values()) == {"queued"}
