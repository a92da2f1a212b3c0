"""A business portfolio's day counts different people, whichever campaigns and numbers write to them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import Engine, text

from messaging.campaign import working
from messaging.campaign.planning import plan_campaign
from messaging.campaign.sending import CampaignRun, send_batch
from messaging.campaign.working import next_work
from messaging.channels.whatsapp_cloud import WhatsAppCloudPool
from messaging.storage.engine import open_engine
from schemas.campaign import CampaignSpec
from tests.fakes.whatsapp_cloud import CloudApi
from tests.messaging.channels.whatsapp_cloud_provider import settings_of
from tests.waiting import until

ONE, TWO = "whatsapp-cloud-account/one", "whatsapp-cloud-account/two"
PEOPLE = [f"+4477009{n:05d}" for n in range(20)]
STRANGERS = [f"+4477008{n:05d}" for n in range(20)]

Send = Callable[..., Awaitable[None]]


@pytest.fixture
def spec(spec: CampaignSpec) -> CampaignSpec:
    template = {"name": "spring_offer", "language": "en_GB", "body": {"1": "{{ name }}"}}
    update = {"channel": "whatsapp", "account": ONE, "template": template}
    return CampaignSpec.model_validate(spec.model_dump() | update)


@pytest.fixture
async def meta() -> AsyncIterator[dict[str, CloudApi]]:
    """Run Meta's API for two numbers."""
    async with CloudApi().running() as one, CloudApi().running() as two:
        yield {ONE: one, TWO: two}


@pytest.fixture
def send(ledger: Engine, meta: dict[str, CloudApi], monkeypatch: pytest.MonkeyPatch) -> Send:
    """Plan and send a campaign of a portfolio of 20 people a day, as a process of its own would."""
    monkeypatch.setattr(working, "LONGEST_NAP", 0.1)

    async def send_one(spec: CampaignSpec) -> None:
        plan = plan_campaign(ledger, spec)
        engine = open_engine(ledger.url.render_as_string(hide_password=False))
        async with AsyncExitStack() as opened:
            opened.callback(engine.dispose)
            account = settings_of(meta[spec.account], portfolio="shop", portfolio_limit=20)
            pool = await opened.enter_async_context(WhatsAppCloudPool(account))
            run = await opened.enter_async_context(CampaignRun(engine, plan.campaign_id, "", pool))
            async for numbers in next_work(run, None):
                for number in numbers:
                    await send_batch(run, number)

    return send_one


def named(spec: CampaignSpec, name: str, account: str, audience: str = "customers") -> CampaignSpec:
    return spec.model_copy(update={"name": name, "account": account, "audience": audience})


def written_to(api: CloudApi) -> list[str]:
    return sorted(f"+{taken.to}" for taken in api.taken)


async def test_a_second_campaign_to_the_same_people_needs_nothing_of_the_day(
    audience, spec: CampaignSpec, send: Send, meta: dict[str, CloudApi]
):
    audience(*[""] * 20, phones=PEOPLE)
    async with asyncio.timeout(60):
        await send(named(spec, "first", ONE))
        await send(named(spec, "second", TWO))  # the day is used up, and they are counted

    assert written_to(meta[ONE]) == written_to(meta[TWO]) == PEOPLE


async def test_at_once_over_both_numbers_each_is_counted_once(
    audience, spec: CampaignSpec, send: Send, meta: dict[str, CloudApi]
):
    audience(*[""] * 20, phones=PEOPLE)
    async with asyncio.timeout(60):
        await asyncio.gather(send(named(spec, "first", ONE)), send(named(spec, "second", TWO)))

    assert written_to(meta[ONE]) == written_to(meta[TWO]) == PEOPLE


async def test_strangers_wait_while_those_who_are_counted_go_past_them(
    ledger: Engine, audience, spec: CampaignSpec, send: Send, meta: dict[str, CloudApi], monkeypatch
):
    monkeypatch.setattr("messaging.campaign.turns.REFUSED_SECONDS", 0.5)
    audience(*[""] * 20, phones=PEOPLE)
    await send(named(spec, "first", ONE))
    audience(*[""] * 20, phones=STRANGERS, name="everyone")
    with ledger.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO audience_members (audience_id, contact_id) SELECT 2, id FROM contacts "
                "WHERE phone = ANY (:phones)"
            ),
            {"phones": PEOPLE},
        )
        connection.execute(
            text("INSERT INTO service_windows VALUES (:account, :phone, now() + interval '20 h')"),
            {"account": TWO, "phone": STRANGERS[0]},
        )  # fmt: skip
    sending = asyncio.create_task(send(named(spec, "second", TWO, "everyone")))
    try:
        await until(lambda: written_to(meta[TWO]) == [STRANGERS[0], *PEOPLE], seconds=30.0)
        await asyncio.sleep(2)
        assert len(written_to(meta[TWO])) == 21
        with ledger.begin() as connection:  # a day later, for ten of them
            statement = """
                WITH gone AS (DELETE FROM reached_people WHERE phone < '+447700900010' RETURNING minute)
                UPDATE sent_minutes s SET n = s.n - g.n
                FROM (SELECT minute, count(*) AS n FROM gone GROUP BY minute) g
                WHERE s.key = 'portfolio:shop' AND s.minute = g.minute
            """
            assert connection.execute(text(statement)).rowcount >= 1
        await until(lambda: len(written_to(meta[TWO])) == 31, seconds=30.0)
    finally:
        sending.cancel()
        await asyncio.wait([sending])
    assert len({*written_to(meta[TWO])}) == 31
