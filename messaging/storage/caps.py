"""Daily caps in the ledger: messages by the minute, reserved before they are sent; or people."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

RESERVED_SECONDS: Final = 60.0  # how long a share of a daily cap may be kept unused
DAY_SECONDS: Final = 86400.0
# A minute's messages count until the last of them is a day old: reserved at its end, used at the latest.
_MINUTES_SLACK: Final = 60.0 + RESERVED_SECONDS


@dataclass(frozen=True, slots=True)
class Reserved:
    """A share of a daily cap."""

    n: int
    minute: float
    """Where it is counted, seconds since 1970."""
    until: float
    """Used later, it would count for the wrong day."""


# Whoever reserves of the same key next waits for us, and then sees what we reserved.
_LOCK = text("""
    INSERT INTO throttles (key) VALUES (:key) ON CONFLICT (key) DO UPDATE SET key = excluded.key
    RETURNING extract(epoch FROM clock_timestamp())::float8 AS now,
        extract(epoch FROM began_at)::float8 AS began_at
""")
_USED = text("""
    SELECT coalesce(sum(n), 0)::int AS n, extract(epoch FROM min(minute))::float8 AS oldest FROM sent_minutes
    WHERE key = :key AND minute >= to_timestamp(:since) AND n > 0
""")
_BEGAN = text("SELECT extract(epoch FROM began_at)::float8 FROM throttles WHERE key = :key")
_ADD = text("""
    INSERT INTO sent_minutes AS m (key, minute, n) VALUES (:key, to_timestamp(:minute), :n)
    ON CONFLICT (key, minute) DO UPDATE SET n = m.n + excluded.n
""")
_COUNT = text("""
    INSERT INTO sent_minutes AS m (key, minute, n)
    VALUES (:key, date_trunc('minute', clock_timestamp()), :n)
    ON CONFLICT (key, minute) DO UPDATE SET n = m.n + excluded.n
""")
_TAKE_OFF = text("""
    UPDATE sent_minutes SET n = greatest(0, n - :n) WHERE key = :key AND minute = to_timestamp(:minute)
""")


def reserve_of_day(connection: Connection, key: str, wanted: int, cap: int) -> Reserved:
    """Reserve up to `wanted` messages of a cap for any 24 hours."""
    now, _ = lock_day(connection, key)
    used = used_of_day(connection, key, now)
    return _reserve(connection, key, min(wanted, part(cap - used)), (now, now + RESERVED_SECONDS))


def reserve_of_warm_up(
    connection: Connection, key: str, wanted: int, cap: Callable[[int], int | None]
) -> Reserved:
    """Reserve up to `wanted` messages of a cap for each 24 hours since the first one; `cap` takes the day."""
    now, began_at = lock_day(connection, key)
    if began_at is None:
        began_at = now - now % 60
        connection.execute(
            text("UPDATE throttles SET began_at = to_timestamp(:at) WHERE key = :key"),
            {"key": key, "at": began_at},
        )
    day = int((now - began_at) // DAY_SECONDS)
    since = began_at + day * DAY_SECONDS
    until = min(now + RESERVED_SECONDS, since + DAY_SECONDS)
    left = (cap(day) or 0) - _used(connection, key, since)
    return _reserve(connection, key, min(wanted, part(left)), (now, until))


def lock_day(connection: Connection, key: str) -> tuple[float, float | None]:
    """Hold off everyone else who reserves of a key; return the time and a warm-up's beginning."""
    row = connection.execute(_LOCK, {"key": key}).one()
    return row.now, row.began_at


def _used(connection: Connection, key: str, since: float) -> int:
    return int(connection.execute(_USED, {"key": key, "since": since}).one().n)


def part(left: int) -> int:
    """Return how many to reserve of those left: some of the last ones are for others who share the cap."""
    return min(left, max(1, left // 4))


def _reserve(connection: Connection, key: str, n: int, span: tuple[float, float]) -> Reserved:
    now, until = span
    minute = now - now % 60
    if n > 0:
        add(connection, key, {minute: n})
    return Reserved(max(0, n), minute, until)


def add(connection: Connection, key: str, changes: Mapping[float, int]) -> None:
    """Add to what minutes count, or take off it."""
    rows = [{"key": key, "minute": minute, "n": n} for minute, n in changes.items() if n]
    if rows:
        connection.execute(_ADD, rows)


def count(connection: Connection, key: str, n: int) -> None:
    """Count messages that were not reserved."""
    if n > 0:
        connection.execute(_COUNT, {"key": key, "n": n})


def give_back(connection: Connection, key: str, minute: float, n: int) -> None:
    """Give back what was reserved and is not used; forget what no cap counts any more."""
    connection.execute(_TAKE_OFF, {"key": key, "minute": minute, "n": n})
    forget(connection, key)


def forget(connection: Connection, key: str) -> None:
    """Forget what no cap counts any more."""
    connection.execute(
        text("DELETE FROM sent_minutes WHERE key = :key AND minute < clock_timestamp() - interval '3 days'"),
        {"key": key},
    )


def used_of_day(connection: Connection, key: str, now: float) -> int:
    """Return the messages of the last 24 hours as a daily cap counts them, those reserved included."""
    return _used(connection, key, since_of_day(now))


def since_of_day(now: float) -> float:
    """Return from when on a minute counts for the last 24 hours."""
    return now - DAY_SECONDS - _MINUTES_SLACK


def day_is_used_up(connection: Connection, key: str, cap: int, now: float) -> float | None:
    """Return when a cap for any 24 hours lets the next message go, or None when it does so now."""
    used = connection.execute(_USED, {"key": key, "since": since_of_day(now)}).one()
    if used.n < cap:
        return None
    return (used.oldest if used.oldest is not None else now) + DAY_SECONDS + _MINUTES_SLACK


def warm_up_is_used_up(
    connection: Connection, key: str, cap: Callable[[int], int | None], now: float
) -> tuple[int, float] | None:
    """Return which day's cap is used up and when the next day begins, or None when it is not."""
    began_at = connection.execute(_BEGAN, {"key": key}).scalar()
    if began_at is None:
        return None
    day = int((now - began_at) // DAY_SECONDS)
    since = began_at + day * DAY_SECONDS
    left = (cap(day) or 0) - _used(connection, key, since)
    return None if left > 0 else (day, since + DAY_SECONDS)
