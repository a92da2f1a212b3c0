"""Recurring times: each local time once, whatever the clocks do; rules that cannot be are refused soon."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from messaging.campaign.recurrence import check_rule, next_time, times_after
from messaging.errors import InputError
from schemas.schedule import Rule

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # its summer time is half an hour
NOW = datetime(2027, 3, 1, tzinfo=UTC)


def between(rule: Rule, zone: ZoneInfo, begin: datetime, end: datetime) -> list[datetime]:
    """Return a rule's moments from one to another, both local, in local time with its offset."""
    first = begin.replace(tzinfo=zone).astimezone(UTC) - timedelta(seconds=1)
    last = end.replace(tzinfo=zone).astimezone(UTC)
    found = takewhile(lambda moment: moment < last, times_after(rule, zone, first))
    return [moment.astimezone(zone) for moment in found]


def local(text: str) -> datetime:
    """Return a local time, which has no zone."""
    return datetime.fromisoformat(text)


def shown(moments: list[datetime]) -> list[str]:
    return [f"{moment:%d %H:%M %z}" for moment in moments]


def daily(at: str) -> list[Rule]:
    """The same rule three times: every day at a time."""
    hour, minute = at.split(":")
    return [
        Rule(cron=f"{minute} {hour} * * *"),
        Rule(interval="1d", starts_at=f"2027-01-01T{at}"),
        Rule(rrule="FREQ=DAILY", starts_at=f"2027-01-01T{at}"),
    ]


def hourly(minute: int) -> list[Rule]:
    return [
        Rule(cron=f"{minute} * * * *"),
        Rule(interval="1h", starts_at=f"2027-01-01T00:{minute:02}"),
        Rule(rrule="FREQ=HOURLY", starts_at=f"2027-01-01T00:{minute:02}"),
    ]


@pytest.mark.parametrize("rule", daily("02:30"), ids=["cron", "interval", "rrule"])
def test_a_time_that_the_clocks_leap_over_is_the_first_minute_after_the_gap(rule: Rule):
    found = between(rule, BERLIN, local("2027-03-27"), local("2027-03-30"))

    assert shown(found) == ["27 02:30 +0100", "28 03:00 +0200", "29 02:30 +0200"]


@pytest.mark.parametrize("rule", daily("02:30"), ids=["cron", "interval", "rrule"])
def test_a_time_that_comes_twice_is_the_first_of_the_two(rule: Rule):
    found = between(rule, BERLIN, local("2027-10-30"), local("2027-11-02"))

    assert shown(found) == ["30 02:30 +0200", "31 02:30 +0200", "01 02:30 +0100"]


@pytest.mark.parametrize("rule", daily("09:00"), ids=["cron", "interval", "rrule"])
def test_nine_in_the_morning_stays_nine_in_the_morning(rule: Rule):
    found = between(rule, BERLIN, local("2027-01-01"), local("2028-01-01"))

    assert len(found) == 365
    assert {f"{moment:%H:%M}" for moment in found} == {"09:00"}


@pytest.mark.parametrize("rule", hourly(30), ids=["cron", "interval", "rrule"])
def test_every_hour_of_the_clock_comes_once_on_the_days_of_change(rule: Rule):
    spring = between(rule, BERLIN, local("2027-03-28T01:00"), local("2027-03-28T05:00"))
    autumn = between(rule, BERLIN, local("2027-10-31T01:00"), local("2027-10-31T05:00"))

    assert shown(spring) == ["28 01:30 +0100", "28 03:00 +0200", "28 03:30 +0200", "28 04:30 +0200"]
    assert shown(autumn) == ["31 01:30 +0200", "31 02:30 +0200", "31 03:30 +0100", "31 04:30 +0100"]


@pytest.mark.parametrize("rule", hourly(0), ids=["cron", "interval", "rrule"])
def test_two_times_that_become_one_moment_are_one(rule: Rule):
    spring = between(rule, BERLIN, local("2027-03-28T01:00"), local("2027-03-28T05:00"))

    assert shown(spring) == ["28 01:00 +0100", "28 03:00 +0200", "28 04:00 +0200"]


@pytest.mark.parametrize("rule", hourly(15), ids=["cron", "interval", "rrule"])
def test_a_change_of_half_an_hour_counts_too(rule: Rule):
    spring = between(rule, LORD_HOWE, local("2027-10-03T01:00"), local("2027-10-03T04:00"))
    autumn = between(rule, LORD_HOWE, local("2027-04-04T00:00"), local("2027-04-04T04:00"))

    assert shown(spring) == ["03 01:15 +1030", "03 02:30 +1100", "03 03:15 +1100"]
    assert shown(autumn) == ["04 00:15 +1100", "04 01:15 +1100", "04 02:15 +1030", "04 03:15 +1030"]


def test_a_day_that_a_country_left_out_is_made_up_for_on_the_next():
    rule = Rule(interval="1d", starts_at="2011-12-01T09:00")
    found = between(rule, ZoneInfo("Pacific/Apia"), local("2011-12-29"), local("2012-01-01"))

    assert shown(found) == ["29 09:00 -1000", "31 00:00 +1400", "31 09:00 +1400"]


ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Asia/Kolkata",
    "UTC",
]
FREQUENT = [f"{number}m" for number in (15, 20, 30, 45, 90)] + ["1h", "5h", "1d", "36h", "7d"]


def plain_times(rule: Rule, begin: datetime, end: datetime) -> Iterator[datetime]:
    """Work a rule of minutes out on a clock that never changes, minute by minute."""
    step = timedelta(minutes=int(rule.interval[:-1]) * {"m": 1, "h": 60, "d": 1440}[rule.interval[-1]])
    shown = local(rule.starts_at)
    while shown < end:
        if shown >= begin:
            yield shown
        shown += step


@settings(deadline=None, max_examples=30)
@given(
    zone=st.sampled_from(ZONES).map(ZoneInfo),
    interval=st.sampled_from(FREQUENT),
    minutes=st.integers(0, 60 * 24 * 20),
    year=st.integers(2024, 2030),
)
def test_each_local_time_of_a_year_happens_exactly_once(
    zone: ZoneInfo, interval: str, minutes: int, year: int
):
    begin, end = local(f"{year}-01-01"), local(f"{year + 1}-01-01")
    starts_at = begin + timedelta(minutes=minutes)
    rule = Rule(interval=interval, starts_at=f"{starts_at:%FT%H:%M}")
    found = between(rule, zone, begin, end)

    moments = [moment.astimezone(UTC) for moment in found]
    assert all(earlier < later for earlier, later in pairwise(moments))
    labels = {moment.replace(tzinfo=None) for moment in found}
    assert len(labels) == len(found)  # no time of the clock twice
    expected = set(plain_times(rule, starts_at, end))
    assert labels & expected == {one for one in expected if not _is_in_a_gap(one, zone)}
    # What is left stands for times that the clocks leapt over: the first minutes after gaps.
    assert all(_is_in_a_gap(label - timedelta(minutes=1), zone) for label in labels - expected)


def _is_in_a_gap(shown: datetime, zone: ZoneInfo) -> bool:
    return shown.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) != shown


RRULES = st.sampled_from(
    [
        "FREQ=DAILY;INTERVAL=3",
        "FREQ=WEEKLY;BYDAY=MO,TH",
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU;WKST=SU",
        "FREQ=MONTHLY;BYDAY=-1FR",
        "FREQ=MONTHLY;BYMONTHDAY=-1",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29",
        "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO",
        "FREQ=HOURLY;INTERVAL=7;BYDAY=SA",
        "FREQ=DAILY;BYHOUR=8,20;BYMINUTE=0,30;BYSETPOS=1,-1",
        "FREQ=MONTHLY;COUNT=30;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
        "FREQ=WEEKLY;UNTIL=20290101T000000",
    ]
)


@settings(deadline=None, max_examples=60)
@given(
    text=RRULES,
    starts_at=st.datetimes(local("2000-01-01"), local("2028-01-01")).map(
        lambda one: one.replace(second=0, microsecond=0)
    ),
    after=st.datetimes(local("2020-01-01"), local("2030-01-01")),
)
def test_an_rrule_has_the_times_that_dateutil_gives_it(text: str, starts_at: datetime, after: datetime):
    rule = Rule(rrule=text, starts_at=f"{starts_at:%FT%H:%M}")
    expected = next(iter(rrulestr(text, dtstart=starts_at).xafter(after, count=1)), None)

    found = next_time(rule, ZoneInfo("UTC"), after.replace(tzinfo=UTC))
    assert found == (expected and expected.replace(tzinfo=UTC))


def test_an_rrule_without_an_end_has_its_next_time_at_once():
    rule = Rule(rrule="FREQ=WEEKLY;BYDAY=MO", starts_at="2027-01-01T09:00")
    check_rule(rule, BERLIN, NOW)

    assert next_time(rule, BERLIN, NOW) == datetime(2027, 3, 1, 8, tzinfo=UTC)


def test_an_rrule_ends_when_a_calendar_says_so_in_utc():
    rule = Rule(rrule="RRULE:FREQ=DAILY;UNTIL=20270303T080000Z", starts_at="2027-01-01T09:00")

    assert [moment.day for moment in times_after(rule, BERLIN, NOW)] == [1, 2, 3]


def test_a_count_ends_too():
    rule = Rule(rrule="FREQ=DAILY;COUNT=3", starts_at="2027-03-01T09:00")

    assert len(list(times_after(rule, BERLIN, NOW))) == 3


def test_starts_at_keeps_a_cron_rule_from_starting_before():
    rule = Rule(cron="0 9 * * *", starts_at="2027-06-01T09:00")

    assert next_time(rule, BERLIN, NOW) == datetime(2027, 6, 1, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    "rrule",
    [
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=HOURLY;BYHOUR=3;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;BYSETPOS=5",
        "FREQ=YEARLY;UNTIL=20260601T000000",
    ],
)
def test_a_rule_without_any_time_is_refused_before_long(rrule: str):
    rule = Rule(rrule=rrule, starts_at="2026-01-01T09:00")
    begin = time.process_time()

    with pytest.raises(InputError, match="has no time after now, so nothing would ever be sent"):
        check_rule(rule, BERLIN, NOW)
    assert time.process_time() - begin < 20  # dateutil alone needs minutes for some


@pytest.mark.parametrize(
    "rule",
    [
        Rule(cron="*/10 * * * *"),
        Rule(cron="* * * * *"),
        Rule(cron="0,50 * * * *"),
        Rule(cron="55,59 23 1 1 *"),
        Rule(rrule="FREQ=HOURLY;BYMINUTE=0,14", starts_at="2027-01-01T00:00"),
        Rule(rrule="FREQ=YEARLY;BYMINUTE=0,1", starts_at="2027-01-01T00:00"),
    ],
    ids=str,
)
def test_a_rule_that_fires_too_often_is_refused(rule: Rule):
    with pytest.raises(
        InputError, match=r"times only 1?[0-9] minutes apart: at least 15 minutes lie between"
    ):
        check_rule(rule, BERLIN, NOW)


@pytest.mark.parametrize("frequency", ["SECONDLY", "MINUTELY"])
def test_seconds_and_minutes_are_refused(frequency: str):
    rule = Rule(rrule=f"FREQ={frequency}", starts_at="2027-01-01T00:00")

    with pytest.raises(InputError, match=f"FREQ={frequency} is too often"):
        check_rule(rule, BERLIN, NOW)


def test_a_quarter_of_an_hour_is_not_too_often():
    check_rule(Rule(cron="*/15 * * * *"), BERLIN, NOW)
    check_rule(Rule(interval="15m", starts_at="2027-01-01T00:00"), BERLIN, NOW)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cron": "@daily"}, "schedule.cron: '@daily' is no rule: write minute, hour"),
        ({"cron": "0 0 9 * * 1"}, "is no rule: write minute, hour"),
        ({"cron": "61 * * * *"}, r"is no rule \(bad minute\)"),
        ({"cron": "0 0 30 2 *"}, r"is no rule \(bad day-of-month\)"),
        ({"rrule": "every Monday"}, "'EVERY MONDAY' in it is not understood"),
        ({"rrule": "BYDAY=MO"}, "FREQ is missing"),
        ({"rrule": "FREQ=OFTEN"}, "is no rule: write it as in FREQ=WEEKLY"),
        ({"rrule": "FREQ=DAILY;INTERVAL=0"}, "'INTERVAL=0' in it is not understood"),
        ({"rrule": "FREQ=HOURLY;BYHOUR=25"}, "'BYHOUR=25' in it is not understood"),
        ({"rrule": "FREQ=DAILY;BYSECOND=5"}, "'BYSECOND=5' in it is not understood"),
        ({"rrule": "FREQ=DAILY;FREQ=WEEKLY"}, "'FREQ=WEEKLY' in it is not understood"),
        ({"rrule": "FREQ=DAILY;UNTIL=20271231"}, "UNTIL=20271231 needs a time"),
        ({"rrule": "FREQ=WEEKLY;BYDAY=XX"}, "is no rule"),
        ({"rrule": "DTSTART:20270101T000000\nRRULE:FREQ=DAILY"}, "is not understood"),
    ],
)
def test_a_rule_that_cannot_be_read_is_refused_in_words(values: dict[str, str], said: str):
    rule = Rule(**values, starts_at="2027-01-01T00:00")

    with pytest.raises(InputError, match=said):
        check_rule(rule, BERLIN, NOW)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "one of cron, interval and rrule"),
        ({"cron": "0 9 * * 1", "interval": "1d"}, "one of cron, interval and rrule"),
        ({"interval": "1d"}, "schedule.interval needs starts_at"),
        ({"rrule": "FREQ=DAILY"}, "schedule.rrule needs starts_at"),
        ({"interval": "5m", "starts_at": "2027-01-01T00:00"}, "from 15m to 366d"),
        ({"interval": "90s", "starts_at": "2027-01-01T00:00"}, "no number of whole minutes"),
        ({"interval": "often", "starts_at": "2027-01-01T00:00"}, "is not a length of time"),
        ({"interval": "1d", "starts_at": "1066-10-14T09:00"}, "from 2000 to 2200"),
    ],
)
def test_a_rule_is_one_rule_and_knows_where_it_begins(values: dict[str, str], said: str):
    with pytest.raises(ValidationError, match=said):
        Rule.model_validate(values)


@settings(deadline=None, max_examples=80)
@given(st.text(alphabet="0123456789*/,-#L ", max_size=20))
def test_no_cron_text_breaks_anything(text: str):
    _judged({"cron": text})


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.sampled_from(
            ["FREQ=YEARLY", "FREQ=MONTHLY", "BYDAY=-1MO", "BYDAY=6SU", "BYMONTH=2", "BYSETPOS=-366"]
        )
        | st.text(alphabet="ABCDEFGHINORSTUY=;,+-0123456789", max_size=14),
        max_size=4,
    ).map(";".join)
)
def test_no_rrule_text_breaks_anything(text: str):
    _judged({"rrule": text, "starts_at": "2027-01-01T00:00"})


def _judged(values: dict[str, str]) -> None:
    try:
        rule = Rule.model_validate(values)
        check_rule(rule, BERLIN, NOW)
    except (ValidationError, InputError):
        return
    moments = list(islice(times_after(rule, BERLIN, NOW), 3))
    assert moments
    assert moments == sorted(set(moments))
