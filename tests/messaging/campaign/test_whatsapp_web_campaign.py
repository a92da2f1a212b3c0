"""A campaign over WhatsApp Web: groups get it once each, at a person's pace; a ban is seen with its end."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from messaging.campaign import working
from messaging.campaign.planning import plan_campaign
from messaging.campaign.sending import CampaignRun, send_batch
from messaging.campaign.working import next_work
from messaging.channels import whatsapp_web
from messaging.channels.whatsapp_web import WhatsAppWebPool
from messaging.errors import AccountError
from messaging.reports.accounts import account_statuses, state_text
from messaging.storage import campaigns
from schemas.campaign import CampaignSpec
from schemas.states import AccountState, CampaignState
from tests.fakes.whatsapp_web import PLAIN, Sent, WhatsAppWeb
from tests.fakes.whatsapp_web_wire import Node
from tests.messaging.channels.whatsapp_web_provider import link, serving, settings_of

WEB = "whatsapp-web-account/shop"
CHOIR, RUNNERS, GONE = "120363025246125486@g.us", "447400123456-1400000000@g.us", "120363000000000009@g.us"
ADA = "+447400123456"


@pytest.fixture
async def server(ledger: Engine) -> AsyncIterator[WhatsAppWeb]:
    async with serving() as running:
        with ledger.begin() as connection:
            connection.execute(text("DROP SCHEMA IF EXISTS whatsapp_web CASCADE"))
        await link(running, "shop")
        running.groups = {CHOIR: ["447400123456", "447400654321"], RUNNERS: ["447400654321"]}
        yield running


def campaign(**others: object) -> CampaignSpec:
    usual = {"channel": "whatsapp", "account": WEB, "text": 'Hello {{ name | default("all") }}'}
    return CampaignSpec.model_validate({"name": "rehearsal", "groups": [CHOIR, RUNNERS]} | usual | others)


@pytest.fixture
def send(ledger: Engine, server: WhatsAppWeb, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Plan a campaign and send it as its flow does; faster than a person, unless told otherwise."""
    monkeypatch.setattr(working, "LONGEST_NAP", 0.1)

    async def send_one(spec: CampaignSpec, *, paced: bool = False, per_day: int = 100) -> int:
        plan = plan_campaign(ledger, spec)
        if not paced:
            monkeypatch.setattr(whatsapp_web, "FASTEST", 100.0)
            with ledger.begin() as connection:
                connection.execute(text("UPDATE campaigns SET spec = spec - 'pacing'"))
        async with (
            WhatsAppWebPool(settings_of(server, "shop", per_day=per_day), lambda: ledger) as pool,
            CampaignRun(ledger, plan.campaign_id, "", pool) as run,
        ):
            async for numbers in next_work(run, None):
                for number in numbers:
                    await send_batch(run, number)
        return plan.campaign_id

    return send_one


async def test_groups_get_it_once_each_beside_the_audience(
    ledger: Engine, server: WhatsAppWeb, audience, send, states
):
    audience("", phones=[ADA])
    spec = campaign(audience="customers", groups=[CHOIR, RUNNERS, GONE])
    for _ in range(2):  # the second finds nobody left
        await send(spec)

    assert {(one.to, one.text) for one in server.sent.values()} == {
        (CHOIR, "Hello all"),
        (RUNNERS, "Hello all"),
        ("447400123456@s.whatsapp.net", "Hello Reader"),
    }
    assert len(server.sent) == 3
    assert server.checks == [[ADA]]
    assert states() == {ADA: "accepted", CHOIR: "accepted", RUNNERS: "accepted", GONE: "rejected"}
    with ledger.begin() as connection:
        assert campaigns.get(connection, 1).state is CampaignState.FINISHED


async def test_a_campaign_for_groups_alone_keeps_to_the_day_and_to_a_persons_pace(
    server: WhatsAppWeb, send, states
):
    sending = asyncio.create_task(send(campaign(), paced=True, per_day=1))
    async with asyncio.timeout(60):
        while not server.sent:  # noqa: ASYNC110 - another process tells it
            await asyncio.sleep(0.1)
    await asyncio.sleep(3)
    sending.cancel()
    await asyncio.wait([sending])

    assert len(server.sent) == 1
    assert sorted(states().values()) == ["accepted", "queued"]


async def test_a_group_that_was_suppressed_meanwhile_gets_nothing(
    ledger: Engine, server: WhatsAppWeb, send, states
):
    plan_campaign(ledger, campaign())
    with ledger.begin() as connection:
        statement = """
            INSERT INTO suppressions (channel, address_key, reason, source)
            VALUES ('whatsapp', :address, 'manual', 'test')
        """
        connection.execute(text(statement), {"address": CHOIR})
    await send(campaign())

    assert list(server.sent.values()) == [Sent(RUNNERS, "Hello all", PLAIN)]
    assert states() == {CHOIR: "suppressed", RUNNERS: "accepted"}


@asynccontextmanager
async def banned(server: WhatsAppWeb, seconds: int) -> AsyncIterator[None]:
    server.login = Node("failure", {"reason": "402", "code": "101", "expire": str(seconds)})
    yield
    server.login = None


async def test_a_ban_for_a_while_is_told_with_its_end(ledger: Engine, server: WhatsAppWeb, send, states):
    async with banned(server, 7200):
        with pytest.raises(AccountError, match="has banned the account shop until"):
            await send(campaign())

    [status] = account_statuses(ledger, [WEB])
    assert status.state is AccountState.BANNED
    left = status.paused_until - datetime.now(UTC)
    assert timedelta(minutes=118) < left <= timedelta(hours=2)
    assert re.match(rf"banned until .*{status.paused_until:%H:%M} UTC because WhatsApp", state_text(status))
    assert set(states().values()) == {"queued"}
    with ledger.begin() as connection:
        assert campaigns.get(connection, 1).state is CampaignState.PAUSED
        connection.execute(text("UPDATE senders_status SET paused_until = now() - interval '1 s'"))
    [over] = account_statuses(ledger, [WEB])
    assert (over.state, over.paused_until) == (AccountState.DISCONNECTED, None)

    await send(campaign())
    assert set(states().values()) == {"accepted"}
