"""What providers asked for, in the ledger: slow-downs by key, and each account's circuit breaker."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Final

from sqlalchemy import Connection, text

from messaging.storage import caps
from messaging.storage.limits import (
    OF_ACCOUNT,
    Limit,
    account_key,
    campaign_key,
    counts_people,
    daily_caps,
    domains,
    limits_of,
    of_account,
)
from schemas.pacing import Pacing
from schemas.report import Slowdown

RECOVERY_SECONDS: Final = 600.0  # from nothing to the usual rate: a tenth of it a minute
ONE_EVENT_SECONDS: Final = 10.0  # answers so soon after a slow-down were sent before it
SLOWEST: Final = 1 / 60  # messages per second that are always left
FAILURES_IN_A_ROW: Final = 5
FIRST_OPEN_SECONDS: Final = 15.0
LONGEST_OPEN_SECONDS: Final = 300.0
TRIAL_SECONDS: Final = 60.0  # then somebody else may try

_EPOCH = "extract(epoch FROM {0})::float8"
_TIMES = ("next_at", "slowed_at", "pause_until", "open_until", "trial_until")
_OTHERS = (
    "key", "slowed_to", "usual_rate", "reason", "failures", "open_seconds", "open_reason", "trial_owner"
)  # fmt: skip
COLUMNS: Final = ", ".join([*_OTHERS, *(f"{_EPOCH.format(name)} AS {name}" for name in _TIMES)])


@dataclass(frozen=True, slots=True)
class Throttled:
    """One row of `throttles`; times are seconds since 1970 by the database's clock."""

    key: str
    next_at: float = 0.0
    slowed_to: float | None = None
    usual_rate: float | None = None
    slowed_at: float | None = None
    pause_until: float | None = None
    reason: str | None = None
    failures: int = 0
    open_until: float | None = None
    open_seconds: float | None = None
    open_reason: str | None = None
    trial_owner: str | None = None
    trial_until: float | None = None

    def rate(self, now: float) -> float | None:
        """Return the messages per second that a slow-down leaves, or None when it is over or never was."""
        if self.slowed_to is None or self.usual_rate is None:
            return None
        recovered = max(0.0, now - self._recovers_from) / RECOVERY_SECONDS
        rate = self.slowed_to + self.usual_rate * recovered
        return rate if rate < self.usual_rate else None

    @property
    def back_at(self) -> float:
        """When a slow-down is over."""
        assert self.slowed_to is not None  # noqa: S101 - asked of slow-downs only
        assert self.usual_rate is not None  # noqa: S101
        return self._recovers_from + (1 - self.slowed_to / self.usual_rate) * RECOVERY_SECONDS

    @property
    def _recovers_from(self) -> float:
        return max(self.slowed_at or 0.0, self.pause_until or 0.0)


def rate_now(limit: Limit | None, throttled: Throttled | None, now: float) -> float | None:
    """Return a key's messages per second now, or None for no limit."""
    rates = [limit.rate if limit else None, throttled.rate(now) if throttled else None]
    return min((rate for rate in rates if rate is not None), default=None)


_ROWS = text(f"SELECT {COLUMNS} FROM throttles WHERE {OF_ACCOUNT} ORDER BY key")  # noqa: S608 - constants
_ENSURE = text("INSERT INTO throttles (key) SELECT unnest(CAST(:keys AS text[])) ON CONFLICT DO NOTHING")
_LOCK = text(
    f"SELECT {COLUMNS} FROM throttles WHERE key = ANY (CAST(:keys AS text[])) ORDER BY key FOR UPDATE"  # noqa: S608 - constants
)


def of_all(connection: Connection, account: str) -> dict[str, Throttled]:
    """Return the rows of an account and its provider groups."""
    rows = connection.execute(_ROWS, of_account(account)).mappings()
    return {row["key"]: Throttled(**row) for row in rows}


def lock(connection: Connection, keys: list[str]) -> dict[str, Throttled]:
    """Hold off everyone else who would change these keys, and return them as they are now."""
    found = _locked(connection, keys)
    if len(found) < len(keys):
        connection.execute(_ENSURE, {"keys": sorted(keys)})
        found = _locked(connection, keys)
    return found


def _locked(connection: Connection, keys: list[str]) -> dict[str, Throttled]:
    rows = connection.execute(_LOCK, {"keys": keys}).mappings()
    return {row["key"]: Throttled(**row) for row in rows}


@dataclass(frozen=True, slots=True)
class Asked:
    """A provider asked us to slow down."""

    observed: float
    """Messages per second that it was getting."""
    pause: float | None
    """Seconds it asked us to wait, if it named a time."""
    reason: str


_SLOW = text("""
    UPDATE throttles SET slowed_to = :slowed_to, usual_rate = :usual, slowed_at = to_timestamp(:slowed_at),
        pause_until = to_timestamp(:pause_until), reason = :reason
    WHERE key = :key
""")


def slow(connection: Connection, key: str, limit: float | None, asked: Asked) -> None:
    """Halve a key's rate because the provider asked for it, and pause when it named a time.

    What is halved is the limit, or what is really sent when that is less or there is no limit. Answers
    soon after a slow-down belong to it: they may pause for longer, but do not halve again.
    """
    before = lock(connection, [key])[key]
    now = now_of(connection)
    slowed_to, usual, slowed_at = before.slowed_to, before.usual_rate, before.slowed_at
    left = before.rate(now)
    if left is None or slowed_at is None or now - slowed_at >= ONE_EVENT_SECONDS:
        binding = min(rate for rate in (limit, left, asked.observed) if rate is not None)
        usual = limit or (usual if left is not None else binding)
        slowed_to, slowed_at = max(binding / 2, SLOWEST), now
    asked_until = None if asked.pause is None else now + asked.pause
    values = {
        "key": key,
        "slowed_to": slowed_to,
        "usual": usual,
        "slowed_at": slowed_at,
        "pause_until": max((at for at in (before.pause_until, asked_until) if at is not None), default=None),
        "reason": asked.reason,
    }
    connection.execute(_SLOW, values)


def failed(connection: Connection, account: str, owner: str, failures: int, reason: str) -> None:
    """Note connections of an account that failed; enough in a row, or a failed trial, open its breaker."""
    key = account_key(account)
    before = lock(connection, [key])[key]
    seconds = None
    if before.open_until is not None:
        if before.trial_owner != owner:
            return  # begun before it opened
        seconds = min(LONGEST_OPEN_SECONDS, 2 * (before.open_seconds or FIRST_OPEN_SECONDS))
    elif before.failures + failures >= FAILURES_IN_A_ROW:
        seconds = FIRST_OPEN_SECONDS
    if seconds is None:
        connection.execute(
            text("UPDATE throttles SET failures = failures + :n WHERE key = :key"),
            {"key": key, "n": failures},
        )
        return
    connection.execute(
        text("""
            UPDATE throttles SET failures = 0, open_seconds = :seconds, open_reason = :reason,
                open_until = clock_timestamp() + make_interval(secs => :wait),
                trial_owner = NULL, trial_until = NULL
            WHERE key = :key
        """),
        {
            "key": key,
            "seconds": seconds,
            "reason": reason,
            "wait": seconds * random.uniform(0.9, 1.1),  # noqa: S311 - spread, not secrecy
        },
    )


def connected(connection: Connection, account: str) -> None:
    """Close an account's breaker: a connection works."""
    connection.execute(
        text("""
            UPDATE throttles SET failures = 0, open_until = NULL, open_seconds = NULL, open_reason = NULL,
                trial_owner = NULL, trial_until = NULL
            WHERE key = :key AND (failures > 0 OR open_until IS NOT NULL)
        """),
        {"key": account_key(account)},
    )


def claim_trial(connection: Connection, account: str, owner: str) -> bool:
    """Ask to be the one whose message tries whether the account works again."""
    claimed = connection.execute(
        text("""
            UPDATE throttles SET trial_owner = :owner,
                trial_until = clock_timestamp() + make_interval(secs => :seconds)
            WHERE key = :key AND open_until <= clock_timestamp()
                AND (trial_until IS NULL OR trial_until < clock_timestamp())
        """),
        {"key": account_key(account), "owner": owner, "seconds": TRIAL_SECONDS},
    )
    return claimed.rowcount == 1


def now_of(connection: Connection) -> float:
    """Return the time by the database's clock, in seconds since 1970."""
    return float(connection.execute(text(f"SELECT {_EPOCH.format('clock_timestamp()')}")).scalar_one())


_PACING = text("SELECT spec -> 'pacing' FROM campaigns WHERE id = :campaign_id")


def current(connection: Connection, account: str, campaign_id: int) -> list[Slowdown]:
    """Return what makes a campaign slower than configured now, or stand still."""
    now = now_of(connection)
    found = _of_account(connection, account, now)
    warm_up = Pacing.model_validate(
        connection.execute(_PACING, {"campaign_id": campaign_id}).scalar() or {}
    ).warm_up
    if warm_up.start:
        used = caps.warm_up_is_used_up(connection, campaign_key(campaign_id), warm_up.cap, now)
        if used is not None:
            day, until = used
            found.append(_standstill("warm-up", until, f"{warm_up.cap(day):,} messages on day {day + 1}"))
    return found


def standstill(connection: Connection, account: str) -> Slowdown | None:
    """Return what lets nothing of an account go now, whoever the recipient: the last one to end."""
    now = now_of(connection)
    lasting = [
        (slowdown.until, slowdown)
        for slowdown in _of_account(connection, account, now)
        if slowdown.what == account and slowdown.per_second is None and slowdown.until is not None
    ]
    until, last = max(lasting, key=itemgetter(0), default=(None, None))
    return last if until is not None and until > _moment(now) else None


def _of_account(connection: Connection, account: str, now: float) -> list[Slowdown]:
    limits = limits_of(connection, account)
    found = []
    for key, throttled in of_all(connection, account).items():
        found += _slowdowns(throttled, limits.get(key), account, now)
    for key, cap in daily_caps(limits, account).items():
        until = caps.day_is_used_up(connection, key, cap, now)
        if until is not None:
            what = f"people of {key.replace(':', ' ', 1)}" if counts_people(key) else "messages"
            found.append(_standstill(account, until, f"{cap:,} {what} in 24 hours"))
    return found


def _slowdowns(throttled: Throttled, limit: Limit | None, account: str, now: float) -> list[Slowdown]:
    what = account if throttled.key == account_key(account) else throttled.key.removeprefix(domains(account))
    found = []
    if throttled.open_until is not None:
        found.append(_standstill(what, throttled.open_until, throttled.open_reason or ""))
    rate = throttled.rate(now)
    if throttled.pause_until is not None and throttled.pause_until > now:
        found.append(_standstill(what, throttled.pause_until, throttled.reason or ""))
    elif rate is not None and rate == rate_now(limit, throttled, now):
        until = _moment(throttled.back_at)
        found.append(Slowdown(what=what, per_second=rate, until=until, reason=throttled.reason or ""))
    return found


def _standstill(what: str, until: float, reason: str) -> Slowdown:
    return Slowdown(what=what, per_second=None, until=_moment(until), reason=reason)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
