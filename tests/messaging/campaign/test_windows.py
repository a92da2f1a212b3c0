"""Quiet hours end when the recipient's clock has left them, whatever the clocks do."""

from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messaging.campaign.windows import Windows, quiet_from, quiet_until
from schemas.campaign import CampaignSpec

LONDON = ZoneInfo("Europe/London")
NIGHT = time(21), time(8)
# Gaps and second hours at midnight, of half an hour, of a whole day, across zero, and none at all.
ZONES = (
    "America/Havana",
    "America/St_Johns",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Europe/London",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "UTC",
)


def changes(zone: ZoneInfo) -> list[datetime]:
    """Return the moments, in some years, at which the clocks of a zone were changed, and one other."""
    found = [datetime(2027, 1, 1, tzinfo=UTC)]
    for year in (2011, 2017, 2027):
        days = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(366)]
        for before, after in pairwise(days):
            if offset(before, zone) != offset(after, zone):
                low, high = 0, 24 * 60
                while high - low > 1:
                    middle = (low + high) // 2
                    same = offset(before + timedelta(minutes=middle), zone) == offset(before, zone)
                    low, high = (middle, high) if same else (low, middle)
                found.append(before + timedelta(minutes=high))
    return found


def offset(at: datetime, zone: ZoneInfo) -> timedelta | None:
    return at.astimezone(zone).utcoffset()


CHANGES = [(at, ZoneInfo(name)) for name in ZONES for at in changes(ZoneInfo(name))]
moments = st.builds(
    lambda change, minutes: (change[0] + timedelta(minutes=minutes), change[1]),
    st.sampled_from(CHANGES),
    st.integers(-3000, 3000),
)
minutes = st.integers(0, 1439).map(lambda n: time(n // 60, n % 60))
hours = st.tuples(minutes, minutes).filter(lambda pair: pair[0] != pair[1])


def shows(now: datetime, begin_end: tuple[time, time], zone: ZoneInfo) -> bool:
    """Say whether a clock on the wall shows a time within hours."""
    begin, end = begin_end
    clock = now.astimezone(zone).time()
    return begin <= clock < end if begin < end else clock >= begin or clock < end


@settings(deadline=None)
@given(moments, hours)
def test_it_is_quiet_whenever_the_clock_shows_quiet_hours(where: tuple[datetime, ZoneInfo], quiet):
    now, zone = where
    if shows(now, quiet, zone):
        assert quiet_until(now, quiet, zone) is not None


@settings(deadline=None)
@given(moments, hours)
def test_quiet_hours_end_later_than_now_outside_of_them_and_not_in_between(where, quiet):
    now, zone = where
    until = quiet_until(now, quiet, zone)
    if until is None:
        return
    assert until > now
    assert quiet_until(until, quiet, zone) is None
    assert not shows(until, quiet, zone)
    between = [now + (until - now) * part / 23 for part in range(23)] + [until - timedelta(seconds=1)]
    assert {quiet_until(at, quiet, zone) for at in between if at >= now} == {until}


@settings(deadline=None)
@given(moments, hours)
def test_the_next_quiet_hours_begin_no_earlier_and_no_later(where, quiet):
    now, zone = where
    begin = quiet_from(now, quiet, zone)
    assert begin > now
    assert quiet_until(begin, quiet, zone) is not None
    if quiet_until(now, quiet, zone) is None:
        before = [now + (begin - now) * part / 23 for part in range(23)] + [begin - timedelta(seconds=1)]
        assert {quiet_until(at, quiet, zone) for at in before if at >= now} == {None}


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2027-03-27T20:59", None),
        ("2027-03-27T21:00", "2027-03-28T07:00"),  # the clocks go forward that night
        ("2027-03-28T06:59", "2027-03-28T07:00"),
        ("2027-03-28T07:00", None),
        ("2027-10-30T22:00", "2027-10-31T08:00"),  # and back
    ],
)
def test_a_night_in_london(now: str, until: str | None):
    found = quiet_until(datetime.fromisoformat(now).replace(tzinfo=UTC), NIGHT, LONDON)

    assert found == (until and datetime.fromisoformat(until).replace(tzinfo=UTC))


def test_hours_that_end_in_an_hour_that_comes_twice_end_in_the_second():
    # 2027-10-31: 02:00 BST is 01:00 GMT again.
    quiet = time(22), time(1, 30)
    until = datetime(2027, 10, 31, 1, 30, tzinfo=UTC)

    assert quiet_until(datetime(2027, 10, 31, 0, 10, tzinfo=UTC), quiet, LONDON) == until
    assert quiet_until(datetime(2027, 10, 31, 1, 10, tzinfo=UTC), quiet, LONDON) == until


def test_hours_that_a_clock_leaps_over_end_with_the_gap():
    # 2027-03-28: 01:00 GMT is 02:00 BST.
    after_the_gap = datetime(2027, 3, 28, 1, 0, tzinfo=UTC)

    assert quiet_until(after_the_gap - timedelta(minutes=5), (time(0), time(1, 30)), LONDON) == after_the_gap
    assert quiet_until(after_the_gap, (time(1), time(1, 45)), LONDON) is None


def test_the_night_of_the_day_that_samoa_left_out_is_one_night():
    # After 2011-12-29 came 2011-12-31.
    apia = ZoneInfo("Pacific/Apia")
    evening = datetime(2011, 12, 29, 22, tzinfo=apia)

    assert quiet_until(evening, NIGHT, apia) == datetime(2011, 12, 31, 8, tzinfo=apia)


def test_recipients_without_a_zone_go_by_the_campaigns(spec: CampaignSpec):
    update = {"quiet_hours": "21:00-08:00", "time_zone": "Europe/London"}
    windows = Windows.of(CampaignSpec.model_validate(spec.model_dump() | update))
    now = datetime(2027, 1, 10, 22, tzinfo=UTC)

    assert windows.closed(now, [None, "America/New_York", "Asia/Tokyo"]) == {
        None: datetime(2027, 1, 11, 8, tzinfo=UTC),
        "Asia/Tokyo": datetime(2027, 1, 10, 23, tzinfo=UTC),
    }
    assert windows.closes_at(now, None) == now
    assert windows.closes_at(now, "America/New_York") == datetime(2027, 1, 11, 2, tzinfo=UTC)
    assert Windows.of(spec).closed(now, [None]) == {}
    assert Windows.of(spec).closes_at(now, None) is None
