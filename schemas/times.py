"""Local times and time zones as people write them."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field

from schemas.base import OptionalText

EARLIEST_YEAR: Final = 2000
LATEST_YEAR: Final = 2200


def zone_named(name: str) -> ZoneInfo:
    """Return the time zone of that name.

    Raises:
        ValueError: There is none.
    """
    try:
        return ZoneInfo(name)
    except (LookupError, OSError, ValueError):  # of an absent key, a folder, a path
        raise ValueError(
            f"there is no time zone {name!r}: write one of the tz database, as in Europe/London or UTC"
        ) from None


def local_time(text: str) -> datetime:
    """Return a local time without a zone, to the minute.

    Raises:
        ValueError: It is none; the text says how to write one.
    """
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is not a time: write it as in 2027-03-20T09:00") from None
    if found.tzinfo is not None:
        raise ValueError(f"{text!r} names an offset: leave it out, and name the zone in time_zone")
    if not EARLIEST_YEAR <= found.year <= LATEST_YEAR:
        raise ValueError(f"{text!r} is not from {EARLIEST_YEAR} to {LATEST_YEAR}")
    return found.replace(second=0, microsecond=0)


def moments_on_earth(local: datetime) -> tuple[datetime, datetime]:
    """Return when the first and the last clock on Earth show a local time: those of UTC+14 and UTC-12."""
    first, last = (local.replace(tzinfo=timezone(timedelta(hours=hours))) for hours in (14, -12))
    return first.astimezone(UTC), last.astimezone(UTC)


def hours_of(text: str) -> tuple[time, time]:
    """Return beginning and end of daily hours such as 21:00-08:00; they may span midnight.

    Raises:
        ValueError: They are none; the text says how to write them.
    """
    beginning, dash, end = text.strip().partition("-")
    try:
        found = time.fromisoformat(beginning.strip()), time.fromisoformat(end.strip())
    except ValueError:
        found = None
    if found is None or not dash or any(one.tzinfo or one.second or one.microsecond for one in found):
        raise ValueError(f"{text!r} are not hours of a day: write them as in 21:00-08:00")
    if found[0] == found[1]:
        raise ValueError(f"{text!r} are no hours, or all of a day: begin and end at different times")
    return found


def _zone(name: str) -> str:
    zone_named(name)
    return name


def _text(value: object) -> object:
    """Take what YAML makes of a time that is written with seconds for what was written."""
    if isinstance(value, datetime):
        return value.isoformat()
    return value.isoformat() + "T00:00" if isinstance(value, date) else value


def _time(text: str) -> str:
    return local_time(text).isoformat(timespec="minutes") if text.strip() else ""


TimeZone = Annotated[str, Field(max_length=64), AfterValidator(_zone)]
"""A time zone of the tz database, as in Europe/London."""

LocalTime = Annotated[OptionalText, BeforeValidator(_text), AfterValidator(_time)]
"""A local time, as in 2027-03-20T09:00; empty: none."""
