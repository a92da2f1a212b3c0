"""Local times as moments: each exists exactly once, whatever the clocks do.

A time that a change of clocks leaps over is taken as the first minute after the gap, one that comes twice as
the first of the two.
"""

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

_LONGEST_GAP: Final = timedelta(days=1)  # Samoa left out 2011-12-30


def moment_of(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment, in UTC, of a local time without a zone.

    PEP 495: of an ambiguous time `fold=0` is the first; a time in a gap does not come back from UTC.
    """
    moment = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if exists(local, zone):
        return moment
    # Before the gap the clock showed less than `local`, after it more: find the minute in which it leapt.
    before, after = moment - _LONGEST_GAP, moment + _LONGEST_GAP
    while after - before > timedelta(minutes=1):
        middle = before + (after - before) // 2
        if middle.astimezone(zone).replace(tzinfo=None) < local:
            before = middle
        else:
            after = middle
    return after.replace(second=0, microsecond=0)


def exists(local: datetime, zone: ZoneInfo) -> bool:
    """Say whether the clocks of a zone ever show a local time."""
    shown = local.replace(tzinfo=zone, fold=0).astimezone(UTC).astimezone(zone)
    return shown.replace(tzinfo=None) == local.replace(tzinfo=None)


def is_ambiguous(local: datetime, zone: ZoneInfo) -> bool:
    """Say whether the clocks of a zone show a local time twice."""
    if not exists(local, zone):
        return False
    first, second = (local.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    return first != second
