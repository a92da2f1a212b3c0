"""What a provider allows is asked for, kept for every process, and kept to."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from messaging.campaign.quotas import Quotas
from messaging.campaign.throttle import Limits
from messaging.channels.base import Quota
from messaging.errors import AccountError, NotSent
from messaging.storage import campaigns, limits
from messaging.storage.limits import Limit, Portfolio
from schemas.campaign import CampaignSpec
from schemas.states import CampaignState
from tests.waiting import until

ACCOUNT = "smtp-account/main"


class Provider:
    """A provider whose mind the test changes; of its pool, only what tells a quota."""

    def __init__(self, *says: Quota | Exception) -> None:
        """The last one is said again and again."""
        self.says = list(says)
        self.asked = 0

    async def quota(self) -> Quota:
        self.asked += 1
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(said, Exception):
            raise said
        return said


class Number(Provider):
    """A phone number of a business portfolio."""

    portfolio = "shop"
    portfolio_limit: int | None = 250


@pytest.fixture
def campaign_id(ledger: Engine, spec: CampaignSpec) -> int:
    with ledger.begin() as connection:
        audience = connection.execute(text("INSERT INTO audiences (name) VALUES ('a') RETURNING id"))
        return campaigns.add(connection, spec, audience.scalar_one())


@pytest.fixture
def quotas(ledger: Engine, campaign_id: int) -> Callable[..., Quotas]:
    def make(provider: Provider, every: float = 300.0, stopped=print) -> Quotas:
        return Quotas(ledger, campaign_id, ACCOUNT, provider, stopped, every)

    return make


def allowed(ledger: Engine) -> tuple[Limit, Portfolio | None]:
    with ledger.begin() as connection:
        told = limits.told(connection, ACCOUNT)
    return told.by_provider, told.portfolio


def campaign(ledger: Engine, campaign_id: int) -> tuple[CampaignState, str | None]:
    with ledger.begin() as connection:
        found = campaigns.get(connection, campaign_id)
    return found.state, found.state_reason


async def test_the_first_message_already_keeps_to_the_quota_and_it_stays_for_others(ledger: Engine, quotas):
    async with quotas(Provider(Quota(14.0, 50_000))):
        assert allowed(ledger) == (Limit(14.0, 50_000), None)

    assert allowed(ledger) == (Limit(14.0, 50_000), None)


async def test_a_change_of_mind_reaches_a_sender_that_runs(ledger: Engine, quotas):
    provider = Provider(Quota())
    async with quotas(provider, every=0.1), Limits(ledger, 1, ACCOUNT) as limited:
        assert all(limited.take("gmail.com") == 0.0 for _ in range(1000))
        provider.says = [Quota(rate=1 / 3600)]
        await until(lambda: all(limited.take("gmail.com") > 0.0 for _ in range(1000)))
        provider.says = [Quota()]
        await until(lambda: all(limited.take("gmail.com") == 0.0 for _ in range(1000)))
    assert allowed(ledger) == (Limit(), None)


async def test_a_provider_that_does_not_say_is_taken_at_its_last_word(ledger: Engine, quotas, caplog):
    provider = Provider(Quota(14.0, None), NotSent("the provider is away"), NotSent("the provider is away"))
    async with quotas(provider, every=0.05):
        await until(lambda: provider.asked >= 4)
    assert allowed(ledger) == (Limit(14.0, None), None)
    assert "the provider did not say what it allows (the provider is away)" in caplog.text

    async with quotas(Provider(NotSent("away"))):
        assert allowed(ledger) == (Limit(14.0, None), None)


async def test_a_refused_account_pauses_the_campaign_before_anything_is_sent(
    ledger: Engine, campaign_id: int, quotas
):
    heard = []
    with pytest.raises(AccountError, match="sending is paused"):
        async with quotas(Provider(AccountError("SES: sending is paused")), stopped=heard.append):
            pytest.fail("it was opened")

    assert campaign(ledger, campaign_id) == (CampaignState.PAUSED, "SES: sending is paused")
    assert heard == ["SES: sending is paused"]


async def test_an_account_that_is_refused_later_pauses_the_campaign_too(
    ledger: Engine, campaign_id: int, quotas
):
    heard = []
    refusal = AccountError("SES: sending is paused")
    async with quotas(Provider(Quota(14.0), refusal), every=0.05, stopped=heard.append):
        await until(lambda: campaign(ledger, campaign_id)[0] is CampaignState.PAUSED)

    assert campaign(ledger, campaign_id)[1] == heard[0] == "SES: sending is paused"
    assert allowed(ledger)[0] == Limit(14.0)


async def test_a_portfolio_is_kept_with_the_account_until_it_has_no_limit(ledger: Engine, quotas):
    number = Number(Quota(80.0))
    async with quotas(number, every=0.05):
        assert allowed(ledger) == (Limit(80.0), Portfolio("shop", 250))
        number.portfolio_limit = 2_000
        await until(lambda: allowed(ledger)[1] == Portfolio("shop", 2_000))
        number.portfolio_limit = None
        await until(lambda: allowed(ledger)[1] is None)


async def test_a_ledger_that_refuses_does_not_end_the_asking(ledger: Engine, quotas, monkeypatch):
    monkeypatch.setattr("messaging.storage.failing.OUTAGE_NAP", 0.05)
    provider = Provider(Quota(14.0))
    async with quotas(provider, every=0.05):
        provider.says = [Quota(7.0)]
        with ledger.begin() as connection:
            connection.execute(text("ALTER TABLE limits RENAME TO limits_away"))
        asked = provider.asked
        try:
            await until(lambda: provider.asked > asked)
        finally:
            with ledger.begin() as connection:
                connection.execute(text("ALTER TABLE limits_away RENAME TO limits"))
        await until(lambda: allowed(ledger)[0] == Limit(7.0))
