"""Quiet hours: hours of each day, by the recipient's clock, in which nothing is sent.

One night's hours are one stretch of time: from the first moment that the clock shows their beginning to the
last that it shows their end. So nothing is sent while the clock shows a time within them, not even in an
hour that it shows twice; and where it leaps over beginning or end, the first minute after the gap counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from messaging.campaign.local_time import is_ambiguous, moment_of
from messaging.storage import batches
from messaging.storage.campaigns import Campaign
from schemas.campaign import CampaignSpec
from schemas.times import hours_of, zone_named

Hours = tuple[time, time]
"""Beginning and end; they may span midnight."""

_DAY = timedelta(days=1)


def quiet_until(now: datetime, hours: Hours, zone: ZoneInfo) -> datetime | None:
    """Return the moment, in UTC, at which the quiet hours end that it is now; None: it is in none."""
    end = now
    while ends := [last for first, last in _stretches(end, hours, zone, 2) if first <= end < last]:
        end = max(ends)  # where a whole day was left out, another begins there
    return end if end > now else None


def quiet_from(now: datetime, hours: Hours, zone: ZoneInfo) -> datetime:
    """Return the moment, in UTC, at which the next quiet hours begin after now."""
    return min(start for start, _ in _stretches(now, hours, zone, 4) if start > now)


def _stretches(now: datetime, hours: Hours, zone: ZoneInfo, days: int) -> list[tuple[datetime, datetime]]:
    """Return the quiet hours that begin the day before a moment, and on so many days from then on."""
    today = now.astimezone(zone).date()
    found = (_stretch(today + _DAY * day, hours, zone) for day in range(-1, days))
    return [(start, end) for start, end in found if start < end]  # none: the clock leapt over all of them


def _stretch(day: date, hours: Hours, zone: ZoneInfo) -> tuple[datetime, datetime]:
    begin, end = hours
    local_end = datetime.combine(day if begin < end else day + _DAY, end)
    last = moment_of(local_end, zone)
    if is_ambiguous(local_end, zone):
        last = local_end.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return moment_of(datetime.combine(day, begin), zone), last


@dataclass(frozen=True, slots=True)
class Windows:
    """When a campaign may send to recipients of each time zone, at any moment of the ledger's clock."""

    zone: str
    """The campaign's, which counts for recipients without one."""
    hours: Hours | None = None
    """Quiet hours; None: it sends at any time."""

    @classmethod
    def of(cls, spec: CampaignSpec) -> Self:
        """Return a campaign's."""
        return cls(spec.time_zone, hours_of(spec.quiet_hours) if spec.quiet_hours else None)

    def closed(self, now: datetime, zones: Iterable[str | None]) -> dict[str | None, datetime]:
        """Return those of these zones in which it is quiet now, and until when."""
        if self.hours is None:
            return {}
        found = {zone: quiet_until(now, self.hours, zone_named(zone or self.zone)) for zone in zones}
        return {zone: until for zone, until in found.items() if until is not None}

    def closes_at(self, now: datetime, zone: str | None) -> datetime | None:
        """Return when to stop sending to a zone: now, when it is quiet there; None: at no time."""
        if self.hours is None:
            return None
        there = zone_named(zone or self.zone)
        return now if quiet_until(now, self.hours, there) is not None else quiet_from(now, self.hours, there)


def quiet_zones(connection: Connection, campaign: Campaign) -> dict[str | None, datetime]:
    """Return the time zones of a campaign's recipients in which it is quiet, and until when.

    It goes by the ledger's clock, as it was when the campaign was read.
    """
    windows = Windows.of(campaign.spec)
    if windows.hours is None:
        return {}
    zones = batches.time_zones(connection, campaign.id) if campaign.spec.recipient_local else [None]
    return windows.closed(campaign.read_at, zones)
