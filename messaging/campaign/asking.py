"""Asking the ledger what a campaign in one process may send, and telling it what happened there."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from messaging.campaign.dealing import deal_frames, pace_of
from messaging.campaign.permits import FRAME_SECONDS
from messaging.campaign.shares import LEAST_RESERVED
from messaging.storage import caps, permits, reached, throttles
from messaging.storage.caps import Reserved
from messaging.storage.failing import database_errors
from messaging.storage.limits import (
    Limit,
    account_key,
    campaign_key,
    counts_people,
    daily_caps,
    domain_key,
    domains,
    limits_of,
)
from messaging.storage.permits import Presence, Seen
from messaging.storage.reached import Reach
from messaging.storage.throttles import Asked, rate_now
from schemas.pacing import WarmUp

NEXT_FRAME_AT: Final = 0.4  # of a frame: then the next one is dealt or fetched
_LAST_JOIN: Final = 0.9  # of a frame: what is left of it is not worth dealing
_LEAST_OBSERVED: Final = 20.0  # per second: less may say that we have only just begun


@dataclass(slots=True)
class Slowed:
    """A provider's wish, until the ledger knows it."""

    part: float
    """Of our answers, those that it concerns."""
    pause: float | None
    reason: str


@dataclass(slots=True)
class News:
    """What happened here since the ledger was told."""

    slowed: dict[str, Slowed] = field(default_factory=dict)
    """By provider group; `""` is the account."""
    connected: bool = False
    failures: int = 0
    reason: str = ""

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.slowed or self.connected or self.failures)


@dataclass(frozen=True, slots=True)
class Persons:
    """Whom we would write to, of those whom a portfolio's daily cap counts."""

    key: str
    unused: dict[str, Reach]
    """Reserved for us, and to be given back."""
    asked: list[str]
    wanted: int
    """Of those asked for, how many to reserve."""


@dataclass(frozen=True, slots=True)
class Question:
    """What we have to tell, and what we need."""

    presence: Presence
    news: News
    after: int
    """The last frame that we have permits of."""
    wanted: dict[str, int]
    """By key of a daily cap: how many to reserve."""
    expired: list[tuple[str, Reserved]]
    people: Persons | None
    tries: bool
    """We have a message that could try a broken account."""


@dataclass(slots=True)
class Answer:
    """What the ledger says, and when by our monotonic clock it was asked and answered."""

    asked: float
    seen: Seen
    answered: float
    reserved: dict[str, Reserved]
    people: reached.Answer
    permits: dict[int, dict[str, Any]]


class Desk:
    """The conversation with the ledger, in a thread of its own."""

    def __init__(self, engine: Engine) -> None:
        """Connect nothing yet."""
        self._engine = engine
        self._connection: Connection | None = None

    def ask(self, question: Question) -> Answer:
        """Tell the news, look, and get what we need.

        Raises:
            DatabaseError: The ledger did not answer; asking again is safe.
        """
        me = question.presence
        with database_errors():
            if question.news or question.expired or question.tries:
                with self._transaction() as connection:
                    _tell(connection, me, question.news)
                    if question.tries:
                        throttles.claim_trial(connection, me.account, me.owner)
                    _give_back(connection, question.expired)  # after it: rows are locked in one order
            asked = monotonic()
            seen = self._look(me, question.after)
            answered = monotonic()
            reserved = self._reserve(seen, question)
            people = self._reserve_people(seen, question)
            found = seen.permits
            if missing := _missing(seen, question):
                with self._transaction() as connection:
                    dealt = deal_frames(connection, me.account, missing)
                found |= {frame: owners.get(me.owner, {}) for frame, owners in dealt.items()}
        permits_of_ours = {frame: told for frame, told in found.items() if frame > question.after}
        return Answer(asked, seen, answered, reserved, people, permits_of_ours)

    def leave(
        self, presence: Presence, news: News, parts: list[tuple[str, Reserved]], people: Persons | None
    ) -> None:
        """Tell the last news, give back what was reserved, and be gone."""
        with database_errors():
            try:
                with self._transaction() as connection:
                    _tell(connection, presence, news)
                    _give_back(connection, parts)
                    caps.count(connection, account_key(presence.account), presence.sent)
                    caps.forget(connection, account_key(presence.account))
                    permits.leave(connection, presence.owner)
                    if people is not None:
                        reached.give_back(connection, people.key, presence.owner, people.unused)
                        reached.forget(connection, people.key)
            finally:
                self._hang_up()

    def _look(self, presence: Presence, after: int) -> Seen:
        # One statement, one round trip: on a connection that is kept, and no wait for the disk, as nothing
        # is lost when a crash forgets that we were there.
        try:
            if self._connection is None:
                opened = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                opened.detach()
                opened.execute(_KEPT)
                self._connection = opened
            return permits.look(self._connection, presence, after)
        except BaseException:
            self._hang_up()
            raise

    def _hang_up(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._connection.close()
            self._connection = None

    def _reserve(self, seen: Seen, question: Question) -> dict[str, Reserved]:
        me = question.presence
        reserved = {}
        for key, cap in capped(seen, me.account, me.campaign_id).items():
            if wanted := question.wanted.get(key, LEAST_RESERVED):
                with self._transaction() as connection:
                    if isinstance(cap, int):
                        reserved[key] = caps.reserve_of_day(connection, key, wanted, cap)
                    else:
                        reserved[key] = caps.reserve_of_warm_up(connection, key, wanted, cap.cap)
        return reserved

    def _reserve_people(self, seen: Seen, question: Question) -> reached.Answer:
        people, me = question.people, question.presence
        if people is None or not (people.unused or people.asked):
            return reached.Answer()
        cap = daily_caps(seen.limits, me.account).get(people.key)
        with self._transaction() as connection:
            reached.give_back(connection, people.key, me.owner, people.unused)
            if cap is None or not people.asked:
                return reached.Answer()
            return reached.reserve(
                connection, people.key, cap, me.account, me.owner, people.asked, people.wanted
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._engine.begin() as connection:
            connection.execute(_BOUNDED)
            yield connection


_KEPT = text(
    "SELECT set_config('synchronous_commit', 'off', false), set_config('statement_timeout', '5s', false)"
)
_BOUNDED = text("SELECT set_config('statement_timeout', '5s', true)")


def _tell(connection: Connection, me: Presence, news: News) -> None:
    if news.connected:
        throttles.connected(connection, me.account)
    if news.failures:
        throttles.failed(connection, me.account, me.owner, news.failures, news.reason)
    if not news.slowed:
        return
    limits = limits_of(connection, me.account)
    everybody = max(me.rate, permits.observed_rates(connection, me.account))
    for group, slowed in news.slowed.items():
        key = domain_key(me.account, group) if group else account_key(me.account)
        observed = max(_LEAST_OBSERVED, everybody * slowed.part)
        limit = limits.get(key, Limit()).rate
        throttles.slow(connection, key, limit, Asked(observed, slowed.pause, slowed.reason))


def _give_back(connection: Connection, parts: list[tuple[str, Reserved]]) -> None:
    for key, part in parts:
        caps.give_back(connection, key, part.minute, part.n)


def together(before: News, after: News) -> News:
    """Return the news that the ledger did not take, and those since then."""
    both = News(
        slowed=before.slowed | after.slowed,
        connected=before.connected or after.connected,
        failures=after.failures + (0 if after.connected else before.failures),
    )
    both.reason = after.reason or before.reason
    return both


def limited(seen: Seen, account: str) -> tuple[bool, set[str]]:
    """Say whether every message needs a permit, and which provider groups have a limit of their own."""
    keys = {
        key
        for key in seen.limits | seen.throttled
        if rate_now(seen.limits.get(key), seen.throttled.get(key), seen.now) is not None
    }
    everyone = account_key(account) in keys or pace_of(seen.pacing) is not None
    return everyone, {key.removeprefix(domains(account)) for key in keys - {account_key(account)}}


def people_key(seen: Seen, account: str) -> str | None:
    """Return the key of the daily cap that counts people, if there is one."""
    return next((key for key in daily_caps(seen.limits, account) if counts_people(key)), None)


def capped(seen: Seen, account: str, campaign_id: int) -> dict[str, int | WarmUp]:
    """Return the daily caps that count messages, by the key that each is counted under."""
    found: dict[str, int | WarmUp] = {
        key: cap for key, cap in daily_caps(seen.limits, account).items() if not counts_people(key)
    }
    if seen.pacing.warm_up.start:
        found[campaign_key(campaign_id)] = seen.pacing.warm_up
    return found


def _missing(seen: Seen, question: Question) -> list[int]:
    """Return the frames that are to be dealt now."""
    if not any(limited(seen, question.presence.account)):
        return []
    frame = math.floor(seen.now / FRAME_SECONDS)
    into = seen.now / FRAME_SECONDS - frame
    needed = [frame] if into < _LAST_JOIN else []
    if into >= NEXT_FRAME_AT:
        needed.append(frame + 1)
    return [frame for frame in needed if frame > question.after and frame not in seen.permits]
