"""A person's limits and a provider's quota live side by side; the smaller one holds."""

import pytest
from sqlalchemy import Connection, Engine, text

from messaging.storage import limits
from messaging.storage.limits import Limit, Portfolio, account_key, daily_caps, domain_key

ACCOUNT = "smtp-account/main"
KEY = account_key(ACCOUNT)
OTHER = "smtp-account/main-2"


@pytest.fixture
def connection(ledger: Engine):
    with ledger.begin() as opened:
        yield opened


def holds(connection: Connection, account: str = ACCOUNT) -> Limit:
    return limits.limits_of(connection, account).get(account_key(account), Limit())


def rows(connection: Connection) -> int:
    return connection.execute(text("SELECT count(*) FROM limits")).scalar_one()


@pytest.mark.parametrize(
    ("by_person", "by_provider", "smaller"),
    [
        (Limit(200.0, 100), Limit(14.0, 50_000), Limit(14.0, 100)),
        (Limit(5.0, None), Limit(14.0, 50_000), Limit(5.0, 50_000)),
        (Limit(None, 100), Limit(14.0, None), Limit(14.0, 100)),
        (Limit(), Limit(14.0, 0), Limit(14.0, 0)),
        (Limit(3.0, 7), Limit(), Limit(3.0, 7)),
    ],
)
def test_the_smaller_of_both_holds_whoever_spoke_first(
    connection: Connection, by_person: Limit, by_provider: Limit, smaller: Limit
):
    limits.set_limit(connection, KEY, by_person)
    limits.set_quota(connection, ACCOUNT, by_provider, None)
    limits.set_quota(connection, OTHER, by_provider, None)
    limits.set_limit(connection, account_key(OTHER), by_person)

    assert holds(connection) == holds(connection, OTHER) == smaller


def test_neither_loses_what_the_other_said(connection: Connection):
    limits.set_quota(connection, ACCOUNT, Limit(14.0, 50_000), None)
    limits.set_limit(connection, KEY, Limit(200.0))
    limits.set_limit(connection, domain_key(ACCOUNT, "gmail.com"), Limit(rate=2.0))
    limits.set_limit(connection, KEY, Limit(100.0))
    limits.set_quota(connection, ACCOUNT, Limit(28.0, None), None)

    told = limits.told(connection, ACCOUNT)
    assert (told.by_person, told.by_provider) == (Limit(100.0), Limit(28.0))
    assert told.domains == {"gmail.com": Limit(2.0)}

    limits.clear_limits(connection, ACCOUNT)
    told = limits.told(connection, ACCOUNT)
    assert (told.by_person, told.by_provider, told.domains) == (Limit(), Limit(28.0), {})


def test_a_provider_that_names_no_limit_any_more_takes_back_what_it_said(connection: Connection):
    limits.set_quota(connection, ACCOUNT, Limit(14.0, 50_000), Portfolio("shop", 250))
    limits.set_limit(connection, KEY, Limit(200.0))
    limits.set_quota(connection, ACCOUNT, Limit(), None)
    assert limits.limits_of(connection, ACCOUNT) == {KEY: Limit(200.0)}

    limits.clear_limits(connection, ACCOUNT)
    assert rows(connection) == 0


def test_accounts_of_a_portfolio_name_its_limit_each_and_count_under_one_key(connection: Connection):
    limits.set_quota(connection, ACCOUNT, Limit(80.0, None), Portfolio("shop:north", 2_000))
    limits.set_quota(connection, OTHER, Limit(80.0, 500), Portfolio("shop:north", 250))

    assert daily_caps(limits.limits_of(connection, ACCOUNT), ACCOUNT) == {"portfolio:shop:north": 2_000}
    caps = daily_caps(limits.limits_of(connection, OTHER), OTHER)
    assert caps == {account_key(OTHER): 500, "portfolio:shop:north": 250}
    assert limits.told(connection, OTHER).portfolio == Portfolio("shop:north", 250)
    assert limits.limited_accounts(connection) == [ACCOUNT, OTHER]

    limits.set_quota(connection, ACCOUNT, Limit(80.0, None), Portfolio("other", 1_000))
    assert daily_caps(limits.limits_of(connection, ACCOUNT), ACCOUNT) == {"portfolio:other": 1_000}


def test_a_quota_that_no_permit_can_follow_or_no_column_holds_is_bounded(connection: Connection):
    limits.set_quota(connection, ACCOUNT, Limit(0.0, 10**12), None)

    assert holds(connection) == Limit(None, limits.MOST_PER_DAY)


def test_a_forgotten_account_leaves_nothing_and_its_neighbour_stays(connection: Connection):
    for account in (ACCOUNT, OTHER):
        limits.set_quota(connection, account, Limit(14.0, 1), Portfolio("shop", 250))
        limits.set_limit(connection, domain_key(account, "gmail.com"), Limit(rate=2.0))
    limits.forget(connection, ACCOUNT)

    assert limits.limits_of(connection, ACCOUNT) == {}
    assert limits.limited_accounts(connection) == [OTHER]
    assert rows(connection) == 3
