"""How accounts are, in rows that a person can act on."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine

from messaging.reports.accounts import account_rows, account_statuses, show_accounts, state_text
from messaging.storage import caps, limits, senders, throttles
from messaging.storage.limits import Limit, Portfolio, account_key
from messaging.storage.senders import Beat
from schemas.account_status import AccountStatus
from schemas.limits import AccountLimits
from schemas.states import AccountState

MAIN, SHOP = "smtp-account/main", "whatsapp-cloud-account/shop"
IDENTITY = "news at smtp.example.org:587"


@pytest.fixture
def connection(ledger: Engine):
    with ledger.begin() as opened:
        yield opened


def row(ledger: Engine, account: str = MAIN) -> dict[str, str]:
    [found] = account_rows(account_statuses(ledger, [account]))
    return found


def test_an_account_that_was_never_used_is_listed_as_such(ledger: Engine):
    assert row(ledger) == {
        "account": MAIN,
        "state": "not used yet",
        "identity": "",
        "limits": "no limit",
        "last 24 h": "0",
        "last seen": "",
    }


def test_an_account_in_use_tells_its_limits_and_what_it_sent(ledger: Engine):
    with ledger.begin() as connection:
        limits.set_limit(connection, account_key(MAIN), Limit(200.0, 60_000))
        limits.set_quota(connection, MAIN, Limit(14.0, 50_000), None)
        limits.set_quota(connection, SHOP, Limit(80.0), Portfolio("Shop", 2_000))
        caps.reserve_of_day(connection, account_key(MAIN), 1_200, 50_000)
        senders.beat(connection, Beat("me", MAIN, AccountState.CONNECTED, IDENTITY))

    [status] = account_statuses(ledger, [MAIN])
    assert (status.used, status.per_day, status.identity) == (1_200, 50_000, IDENTITY)
    found = row(ledger)
    assert found["state"] == "connected"
    assert found["limits"] == "200/s, 60,000 in 24 hours (the provider allows 14/s and 50,000 a day)"
    assert found["last 24 h"] == "1,200 of 50,000"
    assert found["last seen"].endswith(" UTC")
    allowed = "no limit (the provider allows 80/s and 2,000 people a day in portfolio Shop)"
    assert row(ledger, SHOP)["limits"] == allowed


def test_why_and_until_when_an_account_stands_still(ledger: Engine):
    until = datetime.now(UTC) + timedelta(hours=1)
    paused = Beat("me", MAIN, AccountState.PAUSED, IDENTITY, "454 4.7.0", until)
    with ledger.begin() as connection:
        senders.beat(connection, paused)
    said = row(ledger)["state"]
    assert said.startswith("paused until ")
    assert said.endswith(" UTC because 454 4.7.0")

    with ledger.begin() as connection:
        senders.end(connection, Beat("me", MAIN, AccountState.PAUSED, IDENTITY, "the login was refused: 535"))
    assert row(ledger)["state"] == "paused because the login was refused: 535"


@pytest.mark.parametrize("state", AccountState)
def test_every_state_has_words(state: AccountState):
    nothing = AccountLimits(account=MAIN, rate=None, per_day=None, domains={})
    status = AccountStatus(account=MAIN, state=state, limits=nothing, used=0, per_day=None)

    assert state_text(status) == str(state)


def test_on_a_terminal_each_account_has_its_line(ledger: Engine, capsys: pytest.CaptureFixture[str]):
    show_accounts(account_statuses(ledger, [MAIN, SHOP]))
    shown = capsys.readouterr().out
    assert shown.split()[:4] == ["account", "state", "identity", "limits"]
    assert "not used yet" in shown

    show_accounts([])
    assert capsys.readouterr().out.startswith("there is no account yet: outflow account add")


def test_a_day_that_is_used_up_is_the_accounts_standstill(connection: Connection):
    limits.set_quota(connection, MAIN, Limit(per_day=10), None)
    while caps.reserve_of_day(connection, account_key(MAIN), 10, 10).n:
        pass

    standstill = throttles.standstill(connection, MAIN)
    assert (standstill.what, standstill.reason) == (MAIN, "10 messages in 24 hours")
