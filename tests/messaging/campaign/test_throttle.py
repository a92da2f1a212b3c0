"""Limits hold across all who share them, and changes are seen while messages go."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from messaging.campaign.throttle import LONGEST_WAIT, Limits
from messaging.channels.base import Receipt
from messaging.errors import BrokenOff, NotSent
from messaging.storage import caps, limits, throttles
from messaging.storage.attempts import Attempt
from messaging.storage.engine import open_engine
from messaging.storage.limits import Limit, Portfolio, account_key, campaign_key, domain_key
from schemas.states import Outcome
from tests.waiting import until

ACCOUNT = "smtp-account/main"
GMAIL, OTHER = "gmail.com", "example.org"
SLOW_DOWN = Receipt(Outcome.DEFERRED, code=421, status="4.7.28", throttled=True)
ACCEPTED = Receipt(Outcome.ACCEPTED, code=250)


@pytest.fixture
def set_limit(ledger: Engine) -> Callable[[str, Limit], None]:
    def change(key: str, limit: Limit) -> None:
        with ledger.begin() as connection:
            limits.set_limit(connection, key, limit)

    return change


@pytest.fixture
def campaign(ledger: Engine) -> Callable[[str], int]:
    """Make a campaign with this pacing."""

    def make(pacing: str) -> int:
        with ledger.begin() as connection:
            statement = text("""
                WITH a AS (INSERT INTO audiences (name) VALUES ('customers') RETURNING id)
                INSERT INTO campaigns (name, spec, audience_id, state)
                SELECT 'spring', jsonb_build_object('pacing', CAST(:pacing AS jsonb)), id, 'running' FROM a
                RETURNING id
            """)
            return connection.execute(statement, {"pacing": pacing}).scalar_one()

    return make


def rows(ledger: Engine, statement: str) -> list:
    with ledger.begin() as connection:
        return list(connection.execute(text(statement)))


async def taken(seconds: float, *shared: Limits, group: str = OTHER) -> list[float]:
    """Take all there is for a while; return when."""
    times: list[float] = []
    end = time.monotonic() + seconds

    async def take(one: Limits) -> None:
        while time.monotonic() < end:
            if wait := one.take(group):
                await asyncio.sleep(min(wait, 0.05))
            else:
                times.append(time.monotonic())

    await asyncio.gather(*(take(one) for one in shared))
    return times


def people(first: int, end: int) -> list[Attempt]:
    return [Attempt(n, UUID(int=n), f"+4474000{n:05d}", 0, 0, None, None, {}) for n in range(first, end)]


async def reached(seconds: float, limited: Limits, waiting: list[Attempt]) -> set[str]:
    """Take all there is for a while, for these people; return for whom."""
    found: set[str] = set()
    left = deque(waiting)
    end = time.monotonic() + seconds
    while time.monotonic() < end and left:
        place = limited.first(left)
        if place is None or limited.take("whatsapp", left[place].address):
            await asyncio.sleep(0.01)
        else:
            found.add(left[place].address)
            del left[place]
    return found


def most_in_a_second(times: list[float]) -> int:
    times = sorted(times)
    return max(sum(at <= later < at + 1.0 for later in times) for at in times)


async def test_without_a_limit_nobody_waits(ledger: Engine):
    async with Limits(ledger, 1, ACCOUNT) as free:
        assert [free.take(group) for group in (GMAIL, OTHER)] == [0.0, 0.0]


async def test_processes_share_an_accounts_rate(ledger: Engine, set_limit):
    set_limit(account_key(ACCOUNT), Limit(rate=40.0))
    other_engine = open_engine(ledger.url.render_as_string(hide_password=False))
    async with Limits(ledger, 1, ACCOUNT) as one, Limits(other_engine, 2, ACCOUNT) as other:
        times = await taken(4.0, one, other)
    other_engine.dispose()

    assert most_in_a_second(times) <= 41
    assert len(times) > 40 * 2


async def test_a_restart_does_not_reset_a_limit(ledger: Engine, set_limit):
    set_limit(account_key(ACCOUNT), Limit(rate=0.1))
    async with Limits(ledger, 1, ACCOUNT) as limited:
        await until(lambda: limited.take(OTHER) == 0.0)
    async with Limits(ledger, 1, ACCOUNT) as limited:
        assert await taken(1.5, limited) == []


async def test_a_provider_groups_limit_leaves_the_others_alone(ledger: Engine, set_limit):
    set_limit(domain_key(ACCOUNT, GMAIL), Limit(rate=5.0))
    async with Limits(ledger, 1, ACCOUNT) as limited:
        times = await taken(2.0, limited, group=GMAIL)
        assert all(limited.take(OTHER) == 0.0 for _ in range(1000))

    assert 3 <= len(times) <= 12
    assert most_in_a_second(times) <= 6


async def test_a_message_that_does_not_go_gives_its_turn_back(ledger: Engine, set_limit):
    set_limit(account_key(ACCOUNT), Limit(rate=0.1))
    async with Limits(ledger, 1, ACCOUNT) as limited:
        await until(lambda: limited.take(OTHER) == 0.0)
        assert limited.take(OTHER) > 0.0
        limited.give_back(OTHER)
        assert limited.take(OTHER) == 0.0
        assert limited.take(OTHER) > 0.0


async def test_changes_are_seen_while_messages_go(ledger: Engine, set_limit, campaign):
    number = campaign('{"rate": "1/h"}')
    async with Limits(ledger, number, ACCOUNT) as limited:
        await until(lambda: limited.take(OTHER) == 0.0)
        assert 0.0 < limited.take(OTHER) <= LONGEST_WAIT
        with ledger.begin() as connection:
            connection.execute(text("""UPDATE campaigns SET spec = '{"pacing": {"rate": "50/s"}}'"""))
        await until(lambda: limited.take(OTHER) == 0.0)
        with ledger.begin() as connection:
            connection.execute(text("""UPDATE campaigns SET spec = '{"pacing": {}}'"""))
        await until(lambda: all(limited.take(OTHER) == 0.0 for _ in range(1000)))
        set_limit(account_key(ACCOUNT), Limit(rate=2.0))
        await until(lambda: limited.take(OTHER) > 0.0)


async def test_what_a_provider_allows_is_seen_while_messages_go(ledger: Engine, set_limit):
    def allows(quota: Limit) -> None:
        with ledger.begin() as connection:
            limits.set_quota(connection, ACCOUNT, quota, None)

    set_limit(account_key(ACCOUNT), Limit(rate=500.0, per_day=1_000_000))
    async with Limits(ledger, 1, ACCOUNT) as limited:
        await until(lambda: limited.take(OTHER) == 0.0)
        allows(Limit(rate=1 / 3600))
        await until(lambda: all(limited.take(OTHER) > 0.0 for _ in range(1000)))
        allows(Limit())
        await until(lambda: limited.take(OTHER) == 0.0)
        allows(Limit(per_day=1))
        await until(lambda: limited.take(OTHER) > 0.0 and limited.closed_for() > LONGEST_WAIT)
        allows(Limit(rate=400.0))
        await until(lambda: limited.closed_for() == 0.0 and limited.take(OTHER) == 0.0)


async def test_a_lowered_cap_holds_for_what_was_reserved_before(ledger: Engine, set_limit):
    def reserved() -> int:
        with ledger.begin() as connection:
            return caps.used_of_day(connection, account_key(ACCOUNT), throttles.now_of(connection))

    set_limit(account_key(ACCOUNT), Limit(per_day=1_000_000))
    async with Limits(ledger, 1, ACCOUNT) as limited:
        await until(lambda: limited.take(OTHER) == 0.0)
        gone = 1
        while gone < 1000 or reserved() < gone + 100:  # the more goes between two looks, the more is reserved
            gone += sum(limited.take(OTHER) == 0.0 for _ in range(100))
            await asyncio.sleep(0.01)
        set_limit(account_key(ACCOUNT), Limit(per_day=gone))
        await until(lambda: limited.closed_for() > LONGEST_WAIT)
        assert limited.take(OTHER) > 0.0
        await until(lambda: reserved() == gone)
        set_limit(account_key(ACCOUNT), Limit(per_day=2 * gone))
        await until(lambda: limited.take(OTHER) == 0.0)


async def test_numbers_of_a_portfolio_share_its_day_and_others_do_not(ledger: Engine):
    one, two, lone = (f"whatsapp-cloud-account/{name}" for name in ("one", "two", "lone"))
    with ledger.begin() as connection:
        for account in (one, two):
            limits.set_quota(connection, account, Limit(), Portfolio("shop", 30))
        limits.set_quota(connection, lone, Limit(), Portfolio("lone", 1_000))
    async with Limits(ledger, 1, one) as first, Limits(ledger, 2, two) as second:
        by_first, by_second = await asyncio.gather(
            reached(3.0, first, people(0, 20)), reached(3.0, second, people(10, 50))
        )
    async with Limits(ledger, 3, one) as again, Limits(ledger, 4, lone) as other:
        rest = await reached(1.5, again, people(0, 60))
        assert await reached(1.5, other, people(0, 60)) == {attempt.address for attempt in people(0, 60)}

    assert rest == by_first | by_second  # and so they may be written to again
    assert len(rest) == 30
    with ledger.begin() as connection:
        [day] = throttles.current(connection, two, 2)
        assert (day.what, day.reason) == (two, "30 people of portfolio shop in 24 hours")
        assert throttles.standstill(connection, two) == day
        assert throttles.standstill(connection, lone) is None


async def test_messages_count_before_there_is_a_cap(ledger: Engine, set_limit):
    async with Limits(ledger, 1, ACCOUNT) as limited:
        assert all(limited.take(OTHER) == 0.0 for _ in range(25))
        limited.give_back(OTHER)
        await until(lambda: rows(ledger, "SELECT sum(n) FROM sent_minutes") == [(24,)])
        assert limited.take(OTHER) == 0.0
    assert rows(ledger, "SELECT sum(n) FROM sent_minutes") == [(25,)]

    set_limit(account_key(ACCOUNT), Limit(per_day=40))
    async with Limits(ledger, 2, ACCOUNT) as limited:
        assert len(await taken(2.0, limited)) == 15
    assert rows(ledger, "SELECT sum(n) FROM sent_minutes") == [(40,)]


async def test_a_daily_cap_holds_over_processes_and_what_is_unused_is_given_back(ledger: Engine, set_limit):
    set_limit(account_key(ACCOUNT), Limit(per_day=30))
    async with Limits(ledger, 1, ACCOUNT) as one, Limits(ledger, 2, ACCOUNT) as other:
        first = await taken(2.5, one, other)
    async with Limits(ledger, 3, ACCOUNT) as third:
        second = await taken(1.0, third)

    assert len(first) + len(second) == 30
    assert rows(ledger, "SELECT sum(n) FROM sent_minutes") == [(30,)]


async def test_a_daily_cap_rolls_over_24_hours(ledger: Engine, set_limit):
    set_limit(account_key(ACCOUNT), Limit(per_day=12))
    async with Limits(ledger, 1, ACCOUNT) as limited:
        assert len(await taken(1.5, limited)) == 12
        rows(ledger, "UPDATE sent_minutes SET minute = minute - interval '23 hours' RETURNING 1")
        assert await taken(1.5, limited) == []
        rows(ledger, "UPDATE sent_minutes SET minute = minute - interval '63 minutes' RETURNING 1")
        assert len(await taken(5.0, limited)) == 12


async def test_unused_messages_of_a_cap_are_given_back_when_we_end(ledger: Engine, set_limit):
    set_limit(account_key(ACCOUNT), Limit(per_day=1000))
    async with Limits(ledger, 1, ACCOUNT) as limited:
        assert limited.take(OTHER) == 0.0
        limited.give_back(OTHER)
        assert limited.take(OTHER) == 0.0

    assert rows(ledger, "SELECT sum(n) FROM sent_minutes") == [(1,)]


async def test_a_warm_up_grows_with_the_days_since_the_first_message(ledger: Engine, campaign):
    number = campaign('{"warm_up": {"start": 10, "growth": 1.5}}')
    async with Limits(ledger, number, ACCOUNT) as limited:
        assert len(await taken(1.5, limited)) == 10
        rows(
            ledger,
            """
            WITH m AS (UPDATE sent_minutes SET minute = minute - interval '1 day')
            UPDATE throttles SET began_at = began_at - interval '1 day' RETURNING 1
            """,
        )
        assert len(await taken(5.0, limited)) == 15


async def test_a_slow_down_is_seen_by_every_process(ledger: Engine, set_limit):
    set_limit(domain_key(ACCOUNT, GMAIL), Limit(rate=1000.0))
    async with Limits(ledger, 1, ACCOUNT) as one, Limits(ledger, 2, ACCOUNT) as other:
        for _ in range(200):
            one.answered(GMAIL, ACCEPTED)
        one.answered(GMAIL, SLOW_DOWN)
        await until(lambda: bool(rows(ledger, "SELECT 1 FROM throttles WHERE slowed_to IS NOT NULL")))
        await asyncio.sleep(1.5)
        times = await taken(2.0, one, other, group=GMAIL)
        assert other.take(OTHER) == 0.0

    [row] = rows(ledger, "SELECT key, slowed_to, usual_rate, reason FROM throttles WHERE slowed_to > 0")
    assert row[0] == domain_key(ACCOUNT, GMAIL)
    assert row[2:] == (1000.0, "421 4.7.28")
    assert 1.0 <= row[1] <= 110.0  # half of what was really sent
    assert most_in_a_second(times) <= row[1] + 1000 / 600 * 5 + 1


async def test_a_named_wait_is_honoured(ledger: Engine):
    asked = Receipt(Outcome.DEFERRED, code=454, throttled=True, retry_after=300.0)
    async with Limits(ledger, 1, ACCOUNT) as one, Limits(ledger, 2, ACCOUNT) as other:
        assert other.take(OTHER) == 0.0
        one.answered(OTHER, asked)
        await until(lambda: one.take(OTHER) > 0.0 and other.take(GMAIL) > 0.0)
        assert await taken(1.0, one, other) == []
        rows(ledger, "UPDATE throttles SET pause_until = clock_timestamp() RETURNING 1")
        await until(lambda: one.take(OTHER) == 0.0 or other.take(OTHER) == 0.0)


async def test_deferrals_of_one_recipient_slow_nobody_down(ledger: Engine):
    async with Limits(ledger, 1, ACCOUNT) as limited:
        limited.answered(OTHER, Receipt(Outcome.DEFERRED, code=451, status="4.2.0"))

    assert rows(ledger, "SELECT 1 FROM throttles WHERE slowed_to IS NOT NULL") == []


async def test_a_broken_account_stops_and_one_message_of_one_process_tries(ledger: Engine):
    async with Limits(ledger, 1, ACCOUNT) as one, Limits(ledger, 2, ACCOUNT) as other:
        for limits_of_one in (one, other, one, other, one):
            assert limits_of_one.take(OTHER) == 0.0
            limits_of_one.failed(NotSent("relay.example.org, connecting: refused"))
        await until(lambda: one.take(OTHER) > 0.0 and other.take(OTHER) > 0.0)
        assert await taken(0.5, one, other) == []

        rows(ledger, "UPDATE throttles SET open_until = clock_timestamp() RETURNING 1")
        assert len(await taken(2.5, one, other)) == 1

        one.failed(NotSent("relay.example.org, connecting: refused"))
        other.failed(NotSent("relay.example.org, connecting: refused"))
        await until(lambda: rows(ledger, "SELECT open_seconds FROM throttles") == [(30.0,)])

        rows(ledger, "UPDATE throttles SET open_until = clock_timestamp() RETURNING 1")
        trial = asyncio.create_task(taken(3.0, one, other))
        await asyncio.sleep(2.0)
        one.connected()
        assert len(await trial) > 100
        await until(lambda: other.take(OTHER) == 0.0)


async def test_a_connection_that_works_ends_the_row_of_failures(ledger: Engine):
    async with Limits(ledger, 1, ACCOUNT) as limited:
        for _ in range(3):
            for _ in range(4):
                limited.failed(NotSent("refused"))
            limited.connected()
        limited.failed(BrokenOff("it may be this message"))
        await asyncio.sleep(0.5)
        assert limited.take(OTHER) == 0.0

    assert rows(ledger, "SELECT sum(failures) FROM throttles WHERE failures > 0") == [(None,)]


async def test_a_trial_that_is_given_back_can_be_used_again(ledger: Engine):
    async with Limits(ledger, 1, ACCOUNT) as limited:
        for _ in range(5):
            limited.failed(NotSent("refused"))
        await until(lambda: limited.take(OTHER) > 0.0)
        rows(ledger, "UPDATE throttles SET open_until = clock_timestamp() RETURNING 1")
        await until(lambda: limited.take(OTHER) == 0.0)
        limited.give_back(OTHER)
        assert limited.take(OTHER) == 0.0
        assert limited.take(OTHER) > 0.0
        limited.answered(OTHER, ACCEPTED)
        assert limited.take(OTHER) == 0.0


async def test_while_the_ledger_is_away_nothing_goes_and_then_it_does_again(ledger: Engine):
    engine = open_engine(ledger.url.render_as_string(hide_password=False))
    async with Limits(engine, 1, ACCOUNT) as limited:
        assert limited.take(OTHER) == 0.0
        url = engine.url
        with away(ledger, engine):
            await until(lambda: limited.take(OTHER) > 0.0)
            assert await taken(1.0, limited) == []
        assert url == engine.url
        await until(lambda: limited.take(OTHER) == 0.0)
    engine.dispose()


@contextlib.contextmanager
def away(ledger: Engine, engine: Engine):
    """Take the limits' table away from everybody, as far as this engine can tell."""
    with ledger.begin() as connection:
        connection.execute(text("ALTER TABLE permit_holders RENAME TO permit_holders_away"))
    yield
    with ledger.begin() as connection:
        connection.execute(text("ALTER TABLE permit_holders_away RENAME TO permit_holders"))
    engine.dispose()


async def test_a_process_that_vanished_holds_up_nobody(ledger: Engine, set_limit):
    set_limit(account_key(ACCOUNT), Limit(rate=40.0))
    async with Limits(ledger, 1, ACCOUNT) as one:
        gone = Limits(ledger, 2, ACCOUNT)
        await gone.__aenter__()
        await taken(1.0, one, gone)
        gone._task.cancel()  # noqa: SLF001 - as a kill would
        await taken(2.0, one)
        # 80 permits in 2 seconds; with half of them held for the one that is gone, 40 and some left over.  A
        # busy machine may take less in one look, hence several.
        looks = 0
        while len(await taken(2.0, one)) <= 50 and looks < 10:
            looks += 1
        gone._thread.shutdown()  # noqa: SLF001

    assert looks < 10


async def test_a_campaigns_own_row_is_not_taken_for_its_accounts(ledger: Engine, campaign):
    number = campaign('{"rate": "20/s"}')
    async with Limits(ledger, number, ACCOUNT) as limited:
        await taken(1.0, limited)

    with ledger.begin() as connection:
        assert throttles.current(connection, ACCOUNT, number) == []
    assert campaign_key(number) in {row[0] for row in rows(ledger, "SELECT key FROM throttles")}
