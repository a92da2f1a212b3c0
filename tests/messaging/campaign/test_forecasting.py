"""When sending ends under its limits, played through on a clock that nobody waits for."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from messaging.campaign.forecasting import DAY, Arrival, Cap, Load, forecast
from messaging.campaign.windows import quiet_until
from schemas.pacing import WarmUp

START = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at_once(n: int) -> list[Arrival]:
    return [Arrival(START, n)]


def length(load: Load, **more: object) -> timedelta:
    finish = forecast(load, **more).finish
    assert finish is not None
    return finish - START


def at_night(now: datetime, zone: str) -> datetime | None:
    return quiet_until(now, (time(21), time(8)), ZoneInfo(zone or "UTC"))


def close(found: timedelta, expected: timedelta) -> bool:
    return abs(found - expected) < max(timedelta(minutes=15), expected / 50)


def test_without_a_limit_it_takes_no_time():
    assert length(Load(at_once(1_000_000))) == timedelta()


def test_with_nobody_to_send_to_it_is_over():
    assert forecast(Load([])).finish is not None


def test_a_rate_takes_its_time():
    assert length(Load(at_once(36_000), rate=10.0)) == HOUR


@pytest.mark.parametrize(("n", "days"), [(19_999, 0), (20_001, 1), (60_000, 2), (60_001, 3), (600_000, 29)])
def test_a_daily_cap_lets_the_rest_wait_for_another_day(n: int, days: int):
    assert close(length(Load(at_once(n), caps=[Cap(20_000)])), days * DAY)


def test_rate_and_cap_go_together():
    # 20,000 take 20,000 s, and each frees its place a day later: the second day is as the first.
    found = length(Load(at_once(50_000), rate=1.0, caps=[Cap(20_000)]))

    assert close(found, 2 * DAY + timedelta(seconds=10_000))


def test_what_was_sent_before_counts_until_it_is_a_day_old():
    used = Cap(1_000, [(START + 3 * HOUR, 600), (START + 5 * HOUR, 400)])

    assert close(length(Load(at_once(600), caps=[used])), 3 * HOUR)
    assert close(length(Load(at_once(601), caps=[used])), 5 * HOUR)


def test_the_smaller_of_two_caps_counts():
    assert close(length(Load(at_once(300), caps=[Cap(1_000), Cap(100)])), 2 * DAY)


def test_a_warm_up_grows_from_day_to_day():
    warm_up = WarmUp(start=100, growth=2.0).cap  # 100, 200, 400: 700 by the third day

    assert length(Load(at_once(100), warm_up=warm_up)) < DAY
    assert 2 * DAY <= length(Load(at_once(700), warm_up=warm_up)) < 3 * DAY
    assert 3 * DAY <= length(Load(at_once(701), warm_up=warm_up)) < 4 * DAY


def test_a_warm_up_that_began_before_has_grown():
    warm_up = WarmUp(start=100, growth=2.0).cap
    load = Load(at_once(400), warm_up=warm_up, warm_up_began=START - 2 * DAY)

    assert length(load) < DAY


def test_nothing_goes_in_quiet_hours():
    # From noon nine hours until 21:00, then from 8:00 on.
    found = length(Load(at_once(10 * 3_600), rate=1.0), quiet_until=at_night)

    assert close(found, 21 * HOUR)


def test_where_it_is_quiet_people_wait_and_the_others_go_on():
    # In Tokyo it is 21:00 at noon UTC; quiet until 23:00 UTC.
    both = Load([Arrival(START, 3_600, "Asia/Tokyo"), Arrival(START, 3_600, "UTC")], rate=1.0)
    there = Load([Arrival(START, 3_600, "Asia/Tokyo")], rate=1.0)

    assert close(length(both, quiet_until=at_night), 12 * HOUR)
    assert close(length(there, quiet_until=at_night), 12 * HOUR)
    assert forecast(both, at_night, deadline=START + 2 * HOUR).in_time == 3_600


def test_those_whose_time_comes_later_are_waited_for():
    arrivals = [Arrival(START, 100), Arrival(START + 10 * HOUR, 3_600)]

    assert close(length(Load(arrivals, rate=1.0)), 11 * HOUR)


def test_by_a_deadline_as_many_are_done_as_fit():
    found = forecast(Load(at_once(7_200), rate=1.0), deadline=START + HOUR)

    assert found.finish == START + 2 * HOUR
    assert abs(found.in_time - 3_600) < 100
    assert forecast(Load(at_once(5), rate=1e-4), deadline=START + HOUR).in_time == 0


def test_what_takes_years_has_no_end():
    assert forecast(Load(at_once(10_000_000), caps=[Cap(1)])).finish is None
