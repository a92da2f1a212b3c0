"""Slow-downs and the circuit breaker, by the database's clock."""

import pytest
from sqlalchemy import Connection, Engine, text

from messaging.storage import caps, limits, throttles
from messaging.storage.limits import Limit, account_key, domain_key
from messaging.storage.throttles import Asked

ACCOUNT = "smtp-account/main"
KEY = account_key(ACCOUNT)
GMAIL = domain_key(ACCOUNT, "gmail.com")


@pytest.fixture
def connection(ledger: Engine):
    with ledger.begin() as opened:
        yield opened


def rate(connection: Connection, key: str, limit: float | None = None) -> float | None:
    row = throttles.of_all(connection, ACCOUNT)[key]
    return throttles.rate_now(Limit(rate=limit), row, throttles.now_of(connection))


def later(connection: Connection, seconds: float) -> None:
    """Let time pass: everything in the ledger becomes older."""
    for column in ("slowed_at", "pause_until", "open_until", "trial_until"):
        connection.execute(
            text(f"UPDATE throttles SET {column} = {column} - make_interval(secs => {seconds})")  # noqa: S608
        )


def test_a_slow_down_halves_the_rate_and_recovers_by_a_tenth_a_minute(connection: Connection):
    throttles.slow(connection, KEY, 200.0, Asked(500.0, None, "421"))

    assert rate(connection, KEY, 200.0) == pytest.approx(100.0, rel=0.01)
    later(connection, 120.0)
    assert rate(connection, KEY, 200.0) == pytest.approx(140.0, rel=0.01)
    later(connection, 200.0)
    assert rate(connection, KEY, 200.0) == 200.0
    later(connection, 3600.0)
    assert rate(connection, KEY) is None


def test_answers_soon_after_each_other_are_one_event(connection: Connection):
    for _ in range(10):
        throttles.slow(connection, KEY, 200.0, Asked(500.0, None, "421"))
    assert rate(connection, KEY, 200.0) == pytest.approx(100.0, rel=0.01)

    later(connection, 11.0)
    throttles.slow(connection, KEY, 200.0, Asked(500.0, None, "421"))
    assert rate(connection, KEY, 200.0) == pytest.approx(52.0, rel=0.05)


def test_without_a_limit_what_is_really_sent_is_halved_until_it_is_back(connection: Connection):
    throttles.slow(connection, GMAIL, None, Asked(30.0, None, "421 4.7.28"))

    assert rate(connection, GMAIL) == pytest.approx(15.0, rel=0.01)
    later(connection, 301.0)
    assert rate(connection, GMAIL) is None


def test_what_is_really_sent_is_halved_when_the_limit_does_not_bind(connection: Connection):
    throttles.slow(connection, GMAIL, 200.0, Asked(30.0, None, "421 4.7.28"))

    assert rate(connection, GMAIL, 200.0) == pytest.approx(15.0, rel=0.05)


def test_a_named_wait_pauses_and_the_recovery_begins_after_it(connection: Connection):
    throttles.slow(connection, KEY, 200.0, Asked(200.0, 300.0, "454"))
    throttles.slow(connection, KEY, 200.0, Asked(200.0, 60.0, "454"))

    assert rate(connection, KEY, 200.0) == 100.0
    later(connection, 299.0)
    assert rate(connection, KEY, 200.0) == 100.0
    later(connection, 61.0)
    assert rate(connection, KEY, 200.0) == pytest.approx(120.0, rel=0.01)


def test_something_is_always_left(connection: Connection):
    for _ in range(40):
        throttles.slow(connection, KEY, 1.0, Asked(1.0, None, "421"))
        later(connection, 10.0)

    assert rate(connection, KEY, 1.0) >= throttles.SLOWEST


def test_people_see_what_is_slower_until_when_and_why(connection: Connection):
    assert throttles.current(connection, ACCOUNT, 1) == []
    limits.set_limit(connection, GMAIL, Limit(rate=24.0))
    throttles.slow(connection, GMAIL, 24.0, Asked(100.0, None, "421 4.7.28"))
    throttles.slow(connection, KEY, None, Asked(100.0, 300.0, "454"))

    own, gmail = throttles.current(connection, ACCOUNT, 1)

    assert (own.what, own.per_second, own.reason) == (ACCOUNT, None, "454")
    assert 295 < own.until.timestamp() - throttles.now_of(connection) < 301
    assert (gmail.what, round(gmail.per_second), gmail.reason) == ("gmail.com", 12, "421 4.7.28")
    assert 295 < gmail.until.timestamp() - throttles.now_of(connection) < 301


def test_another_accounts_slow_downs_are_not_ours(connection: Connection):
    throttles.slow(connection, domain_key(f"{ACCOUNT}-2", "gmail.com"), None, Asked(100.0, 300.0, "421"))

    assert throttles.current(connection, ACCOUNT, 1) == []


def test_a_used_up_day_is_shown_until_its_first_minute_is_a_day_old(connection: Connection):
    limits.set_limit(connection, KEY, Limit(per_day=10))
    while caps.reserve_of_day(connection, KEY, 10, 10).n:
        pass

    [day] = throttles.current(connection, ACCOUNT, 1)

    assert (day.what, day.per_second, day.reason) == (ACCOUNT, None, "10 messages in 24 hours")
    assert 86_400 < day.until.timestamp() - throttles.now_of(connection) < 86_600


def test_of_the_last_ones_of_a_day_each_process_gets_a_part(connection: Connection):
    assert [caps.reserve_of_day(connection, KEY, 100, 40).n for _ in range(3)] == [10, 7, 5]


def test_five_failures_in_a_row_open_the_breaker_and_a_connection_closes_it(connection: Connection):
    throttles.failed(connection, ACCOUNT, "me", 4, "refused")
    assert throttles.current(connection, ACCOUNT, 1) == []
    throttles.failed(connection, ACCOUNT, "other", 1, "relay, connecting: refused")

    [broken] = throttles.current(connection, ACCOUNT, 1)
    assert (broken.what, broken.per_second, broken.reason) == (ACCOUNT, None, "relay, connecting: refused")
    assert 13 < broken.until.timestamp() - throttles.now_of(connection) < 17

    throttles.connected(connection, ACCOUNT)
    assert throttles.current(connection, ACCOUNT, 1) == []


def test_an_open_breaker_lets_one_process_try_when_its_time_has_come(connection: Connection):
    throttles.failed(connection, ACCOUNT, "me", 5, "refused")
    assert not throttles.claim_trial(connection, ACCOUNT, "me")
    later(connection, 20.0)

    assert throttles.claim_trial(connection, ACCOUNT, "me")
    assert not throttles.claim_trial(connection, ACCOUNT, "other")
    later(connection, 61.0)  # the first one vanished
    assert throttles.claim_trial(connection, ACCOUNT, "other")


def test_failed_trials_make_the_wait_longer_up_to_five_minutes(connection: Connection):
    throttles.failed(connection, ACCOUNT, "me", 5, "refused")
    waits = []
    for _ in range(7):
        later(connection, 400.0)
        assert throttles.claim_trial(connection, ACCOUNT, "me")
        throttles.failed(connection, ACCOUNT, "other", 9, "begun before it opened")
        throttles.failed(connection, ACCOUNT, "me", 1, "refused")
        row = throttles.of_all(connection, ACCOUNT)[KEY]
        waits.append(row.open_seconds)
        assert 0.89 < (row.open_until - throttles.now_of(connection)) / row.open_seconds < 1.11

    assert waits == [30, 60, 120, 240, 300, 300, 300]
