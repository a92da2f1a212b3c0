"""People are told that an account cannot go on once per standstill, not once per beat or process."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from messaging.campaign.heartbeat import Heartbeat
from messaging.storage import alerts, throttles
from messaging.storage.limits import account_key
from messaging.storage.throttles import Asked
from schemas.states import AccountState
from tests.waiting import until

ACCOUNT = "smtp-account/main"
MINUTES = 60.0


class Pool:
    """Of a pool, what it tells of itself; the test says how it is."""

    identity = "news at smtp.example.org:587"
    state = AccountState.CONNECTED


@pytest.fixture
def told(ledger: Engine) -> Callable[[], list[str]]:
    def read() -> list[str]:
        with ledger.begin() as connection:
            rows = connection.execute(
                text("SELECT said FROM alerts WHERE kind = 'account paused' ORDER BY id")
            )
            return list(rows.scalars())

    return read


@pytest.fixture
def beats(ledger: Engine) -> Callable[[], str]:
    """Read when each process was heard last."""

    def read() -> str:
        with ledger.begin() as connection:
            return str(connection.execute(text("SELECT owner, seen_at FROM senders_status")).all())

    return read


def aged(ledger: Engine, minutes: float) -> None:
    with ledger.begin() as connection:
        connection.execute(
            text("UPDATE alerts SET raised_at = raised_at - make_interval(secs => :s)"), {"s": 60 * minutes}
        )


async def test_of_many_beats_and_processes_that_meet_a_standstill_one_tells(ledger: Engine, told, beats):
    def beating() -> Heartbeat:
        return Heartbeat(ledger, ACCOUNT, Pool(), every=0.02)

    async with beating() as first, beating() as second:
        first.stopped("the login is refused (535)")
        await until(lambda: len(told()) == 1)
        second.stopped("the login is refused (535 5.7.8)")
        seen = beats()
        await until(lambda: beats() != seen)
        await asyncio.sleep(0.1)
    async with beating() as third:  # somebody resumes a campaign, and nothing is mended
        third.stopped("the login is refused (535)")
        await asyncio.sleep(0.1)

    [said] = told()
    assert said.startswith(f"account {ACCOUNT} cannot go on: the login is refused (535); ")
    assert f"outflow account verify {ACCOUNT}" in said


@pytest.mark.parametrize(
    "state", [AccountState.LOGGED_OUT, AccountState.BANNED, AccountState.AUTHENTICATION_FAILED]
)
async def test_a_pool_that_says_that_it_is_shut_out_is_told_of(ledger: Engine, told, state: AccountState):
    pool = Pool()
    async with Heartbeat(ledger, ACCOUNT, pool, every=0.02):
        pool.state = state
        await until(lambda: len(told()) == 1)

    assert f"cannot go on: it is {state}" in told()[0]


async def test_limits_and_slow_servers_are_nobodys_business(ledger: Engine, told, beats):
    with ledger.begin() as connection:
        throttles.slow(connection, account_key(ACCOUNT), 10.0, Asked(5.0, 300.0, "421 4.7.0"))
        throttles.failed(connection, ACCOUNT, "us", throttles.FAILURES_IN_A_ROW, "no connection")
    async with Heartbeat(ledger, ACCOUNT, Pool(), every=0.02):
        await until(lambda: "paused" not in beats() and "421" not in beats() and beats() != "[]")
        seen = beats()
        await until(lambda: beats() != seen)

    with ledger.begin() as connection:
        [state] = connection.execute(text("SELECT state FROM senders_status")).scalars()
    assert state == AccountState.PAUSED  # it was met
    assert told() == []


@pytest.mark.parametrize(
    ("since_told", "in_order", "again"),
    [
        (0, 0, False),
        (5, 30, False),  # the same standstill, met by a process that has run for long
        (60, 0, False),  # nobody has mended it
        (60, 9, False),
        (60, 30, True),  # it has worked since
        (24 * 60 + 1, 0, True),  # a day later people are reminded
    ],
)
def test_a_standstill_is_told_again_when_the_account_has_worked_since_or_after_a_day(
    ledger: Engine,
    told,
    since_told: float,
    in_order: float,
    again: bool,  # noqa: FBT001 - a row of the table above
):
    def met(in_order: float) -> bool:
        with ledger.begin() as connection:
            return alerts.account_stands_still(connection, ACCOUNT, "it stands still", in_order * MINUTES)

    assert met(0)
    aged(ledger, since_told)

    assert met(in_order) is again
    assert len(told()) == 1 + again


def test_another_account_is_another_standstill(ledger: Engine, told):
    with ledger.begin() as connection:
        assert alerts.account_stands_still(connection, ACCOUNT, "one", 0.0)
        assert alerts.account_stands_still(connection, "smtp-account/other", "another", 0.0)

    assert told() == ["one", "another"]
