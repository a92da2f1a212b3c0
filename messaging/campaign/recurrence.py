"""Recurring times: a rule's local times, each of which happens exactly once.

Rules are worked out on clocks that never change, and their times are then looked for on those that do. So a
time that the clocks leap over counts as the first minute after the gap, one that they show twice as the first
of the two, and no day has more or fewer of them for a change of clocks. Two times that become the same
moment are one.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import dropwhile, islice, pairwise, takewhile
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from dateutil.rrule import rrulestr  # type: ignore[import-untyped] # no types shipped

from messaging.campaign.local_time import moment_of
from messaging.errors import InputError
from schemas.durations import seconds_of
from schemas.schedule import SHORTEST_MINUTES, Rule
from schemas.times import LATEST_YEAR, local_time

_END: Final = datetime(LATEST_YEAR + 1, 1, 1)  # noqa: DTZ001 - local
_MINUTE: Final = timedelta(minutes=1)
_MARGIN: Final = timedelta(days=2)  # no clock differs from UTC, or leaps, by more than a day
_SHORTEST: Final = timedelta(minutes=SHORTEST_MINUTES)
# What is looked at to find times that lie too close together.
_LOOKED_AT: Final = 500
_LOOKED_AHEAD: Final = timedelta(days=5 * 366)

# dateutil looks for the next time until the year 9999.  The Gregorian calendar repeats itself every 146,097
# days (400 years), weekdays included.  So a rule is worked out in the last such era: what never comes
# is given up some 370 years later, in less than a second (measured), instead of minutes.
_ERA: Final = 19 * timedelta(days=146_097)

_RRULE_PART: Final = re.compile(r"([A-Z]+)=([A-Z0-9,+-]+)")
_NUMBERS: Final = {  # RFC 5545, 3.3.10; those that count from the end have a sign
    "INTERVAL": range(1, 10_000),
    "COUNT": range(1, 100_000),
    "BYMONTH": range(1, 13),
    "BYHOUR": range(24),
    "BYMINUTE": range(60),
}
_SIGNED: Final = {"BYMONTHDAY": 31, "BYYEARDAY": 366, "BYWEEKNO": 53, "BYSETPOS": 366}
_OTHERS: Final = {"FREQ", "UNTIL", "WKST", "BYDAY"}
_UNITS: Final = {"HOURLY": timedelta(hours=1), "DAILY": timedelta(days=1), "WEEKLY": timedelta(days=7)}
_UNTIL: Final = re.compile(r"(\d{8}T\d{6})(Z?)")
_HOW_CRON: Final = "write minute, hour, day of the month, month and day of the week, as in 0 9 * * 1"
_HOW_RRULE: Final = "write it as in FREQ=WEEKLY;BYDAY=MO,TH"


def next_time(rule: Rule, zone: ZoneInfo, after: datetime) -> datetime | None:
    """Return the first moment of a rule after another, in UTC; None: there is none any more.

    Raises:
        InputError: The rule cannot be read; the text says how to write one.
    """
    return next(times_after(rule, zone, after), None)


def times_after(rule: Rule, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Yield the moments of a rule after another, in UTC, in order.

    Raises:
        InputError: The rule cannot be read; the text says how to write one.
    """
    last = after.astimezone(UTC)
    for local in _local_times(rule, zone, last.replace(tzinfo=None) - _MARGIN):
        moment = moment_of(local, zone)
        if moment > last:
            yield moment
            last = moment


def check_rule(rule: Rule, zone: ZoneInfo, now: datetime) -> datetime:
    """Return the first moment of a rule after now, unless there is none or its times lie too close together.

    Raises:
        InputError: It is such a rule, or cannot be read.
    """
    first = next_time(rule, zone, now)
    if first is None:
        raise InputError(f"schedule: {rule} has no time after now, so nothing would ever be sent")
    local = first.astimezone(zone).replace(tzinfo=None)
    ahead = takewhile(lambda one: one < local + _LOOKED_AHEAD, _local_times(rule, zone, local))
    closest = min(
        (later - earlier for earlier, later in pairwise(islice(ahead, _LOOKED_AT))), default=_SHORTEST
    )
    if closest < _SHORTEST:
        raise InputError(
            f"schedule: {rule} has times only {closest // _MINUTE} minutes apart: at least "
            f"{SHORTEST_MINUTES} minutes lie between two editions"
        )
    return first


def _local_times(rule: Rule, zone: ZoneInfo, since: datetime) -> Iterator[datetime]:
    """Yield a rule's local times from one on, without a zone, in order."""
    begins_at = local_time(rule.starts_at) if rule.starts_at else since
    since = max(since, begins_at)
    if rule.cron.strip():
        found = _cron(rule.cron.strip(), since)
    elif rule.interval:
        found = _interval(begins_at, timedelta(seconds=seconds_of(rule.interval)), since)
    else:
        found = _rrule(rule.rrule, begins_at, zone, since)
    return takewhile(lambda local: local < _END, found)


def _interval(begins_at: datetime, step: timedelta, since: datetime) -> Iterator[datetime]:
    local = begins_at + step * -((begins_at - since) // step)
    while True:
        yield local
        local += step


def _cron(text: str, since: datetime) -> Iterator[datetime]:
    problem = f"schedule.cron: {text!r} is no rule"
    if len(text.split()) != 5:  # noqa: PLR2004 - as the sentence says; the sixth would be seconds
        raise InputError(f"{problem}: {_HOW_CRON}")
    try:
        return CronSim(text, since - _MINUTE)
    except (CronSimError, ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
        which = f" ({str(error).lower()})" if isinstance(error, CronSimError) else ""
        raise InputError(f"{problem}{which}: {_HOW_CRON}") from None


def _rrule(text: str, begins_at: datetime, zone: ZoneInfo, since: datetime) -> Iterator[datetime]:
    parts = _rrule_parts(text)
    until = parts.pop("UNTIL", None)
    joined = ";".join(f"{name}={value}" for name, value in parts.items())
    if parts["FREQ"] in _UNITS and "COUNT" not in parts:  # leap over what is past, in steps of the rule
        step = _UNITS[parts["FREQ"]] * int(parts.get("INTERVAL", 1))
        begins_at += step * max(0, (since - begins_at) // step - 1)
    try:
        rule = rrulestr(joined, dtstart=begins_at + _ERA)
        if until is not None:
            rule = rule.replace(until=min(_until(until, zone), _END) + _ERA)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        raise InputError(f"schedule.rrule: {text!r} is no rule: {_HOW_RRULE}") from None
    return dropwhile(lambda local: local < since, (local - _ERA for local in rule))


def _rrule_parts(text: str) -> dict[str, str]:
    """Return the parts of a rule by name.

    Raises:
        InputError: It is none, or says something that schedules cannot do.
    """
    parts: dict[str, str] = {}
    for part in text.strip().upper().removeprefix("RRULE:").split(";"):
        match = _RRULE_PART.fullmatch(part)
        if match is None or match[1] in parts or not _is_right(match[1], match[2]):
            raise InputError(f"schedule.rrule: {part[:40]!r} in it is not understood: {_HOW_RRULE}")
        parts[match[1]] = match[2]
    if parts.get("FREQ") in {"SECONDLY", "MINUTELY"}:
        raise InputError(
            f"schedule.rrule: FREQ={parts['FREQ']} is too often: at least {SHORTEST_MINUTES} minutes lie "
            "between two editions"
        )
    if "FREQ" not in parts:
        raise InputError(f"schedule.rrule: FREQ is missing: {_HOW_RRULE}")
    return parts


def _is_right(name: str, values: str) -> bool:
    """Say whether schedules know a part of a rule, and its numbers are such as it takes."""
    if name in _OTHERS:
        return True
    if name not in _NUMBERS and name not in _SIGNED:
        return False
    try:
        numbers = [int(value) for value in values.split(",")]
    except ValueError:
        return False
    if name in _SIGNED:
        return all(1 <= abs(number) <= _SIGNED[name] for number in numbers)
    return all(number in _NUMBERS[name] for number in numbers)


def _until(text: str, zone: ZoneInfo) -> datetime:
    """Return the local time at which a rule ends; one in UTC, as calendars write it, becomes one."""
    match = _UNTIL.fullmatch(text)
    if match is None:
        raise InputError(
            f"schedule.rrule: UNTIL={text} needs a time, local or UTC: UNTIL=20271231T235900 or …T235900Z"
        )
    end = datetime.strptime(match[1], "%Y%m%dT%H%M%S")  # noqa: DTZ007 - local, or made so below
    return end.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None) if match[2] else end
