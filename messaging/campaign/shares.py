"""What one process holds of the limits: permits with their times, shares of daily caps, people by name."""

import math
from collections import deque
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from messaging.storage.caps import Reserved
from messaging.storage.reached import Answer, Reach

_ASKED_SECONDS: Final = 5.0  # permits are wished for as long after they were last asked for
LEAST_RESERVED: Final = 10
_TURNS: Final = 64
REFUSED_SECONDS: Final = 600.0  # before somebody for whom a portfolio's day has no room is asked for again
_TOLD_SECONDS: Final = 5.0  # for whoever holds them to put them off
_WISH_SECONDS: Final = 0.4  # a shorter time does not tell how many are needed


class Permits:
    """Permits of one kind of messages, in memory."""

    def __init__(self, asked_at: float = -math.inf) -> None:
        """Nothing was dealt yet; until somebody asks, nothing is wished for either."""
        self._times: deque[float] = deque()
        self._late = self._own_late = 0.0
        self._turns: deque[float] = deque(maxlen=_TURNS)  # until when our group's own limit lets one more go
        self._last: float | None = None
        self._taken = self._lost = 0
        self._refused = False
        self._asked_at = asked_at
        self._counted_since: float | None = None
        self._wish: int | None = 0

    def add(self, times: list[float], late: float, own_late: float) -> None:
        """Add permits that are due after those we have; each can be used until it is `late` seconds old.

        For the limit of its own group it is good for `own_late` seconds: see `has_turn`.
        """
        self._times.extend(times)
        self._late, self._own_late = late, own_late

    def hold(self, until: float) -> None:
        """Drop what is due before a moment: the provider asked for a pause."""
        self._times = deque(at for at in self._times if at >= until)
        self._turns.clear()

    def take(self, now: float) -> bool:
        """Use the permit that is due, if there is one."""
        self._asked_at = now
        self._forfeit(now)
        if self._times and self._times[0] <= now:
            self._last = self._times.popleft()
            self._taken += 1
            return True
        self._refused = True
        return False

    def has_turn(self, now: float) -> bool:
        """Say whether one that was forfeited, or spent elsewhere, is still good for its own limit."""
        while self._turns and self._turns[0] < now:
            self._turns.popleft()
        return bool(self._turns)

    def take_turn(self) -> None:
        """Use it: a general permit pays for the other limits."""
        self._turns.popleft()
        self._taken += 1

    def take_spare(self, now: float) -> bool:
        """Use a permit that would be forfeited soon."""
        self._forfeit(now)
        if self._times and self._times[0] + self._late / 2 <= now:
            self._last = self._times.popleft()
            self._turns.append(self._last + self._own_late)
            return True
        return False

    def put_back(self, now: float) -> None:
        """Undo the last `take`, if the permit is still good."""
        if self._last is not None and now <= self._last + self._late:
            self._times.appendleft(self._last)
            self._taken -= 1
        self._last = None

    def due_at(self, *, spare: bool = False) -> float:
        """Return when the next permit can be used: at its time, or as a spare one."""
        if not self._times:
            return math.inf
        return self._times[0] + (self._late / 2 if spare else 0.0)

    @property
    def is_wished_for(self) -> bool:
        """Whether the last wish was for any."""
        return self._wish != 0

    def wish(self, now: float, seconds: float) -> int | None:
        """Return how many permits we could use in so many seconds, or None for as many as there are."""
        self._forfeit(now)
        if now - self._asked_at > _ASKED_SECONDS:
            self._wish, self._counted_since = 0, None
        elif self._counted_since is None:
            self._wish, self._counted_since = None, now
        elif now - self._counted_since >= _WISH_SECONDS:
            scale = seconds / (now - self._counted_since)
            if self._lost > 1 + self._taken / 10:  # all of our connections were busy
                self._wish = math.ceil(1.1 * scale * self._taken) + 1
            elif self._refused:
                self._wish = None
            else:
                self._wish = math.ceil(1.15 * scale * self._taken) + 1
            self._taken = self._lost = 0
            self._refused = False
            self._counted_since = now
        return self._wish

    def _forfeit(self, now: float) -> None:
        while self._times and self._times[0] + self._late < now:
            self._turns.append(self._times.popleft() + self._own_late)
            self._lost += 1


class Share:
    """Messages of a daily cap that are reserved for us."""

    def __init__(self) -> None:
        """Nothing was reserved yet."""
        self._parts: deque[Reserved] = deque()
        self._last: Reserved | None = None
        self.left = 0
        self.used = 0  # since the last reservation
        self.empty_handed = False

    def add(self, reserved: Reserved) -> None:
        """Add what was reserved."""
        self.empty_handed = reserved.n == 0
        self.used = 0
        if reserved.n:
            self._parts.append(reserved)
            self.left += reserved.n

    @property
    def wanted(self) -> int:
        """How many more should be reserved: enough for twice the time since the last reservation."""
        return max(0, 2 * self.used + LEAST_RESERVED - self.left)

    def use(self) -> None:
        """Use the oldest one."""
        part = self._parts.popleft()
        if part.n > 1:
            self._parts.appendleft(replace(part, n=part.n - 1))
        self._last = replace(part, n=1)
        self.left -= 1
        self.used += 1

    def put_back(self) -> None:
        """Undo the last `use`."""
        if self._last is not None:
            self._parts.appendleft(self._last)
            self._last = None
            self.left += 1
            self.used -= 1

    def expired(self, now: float) -> list[Reserved]:
        """Take out and return what may not be used any more, by the database's time."""
        gone = []
        while self._parts and self._parts[0].until <= now:
            gone.append(self._parts.popleft())
            self.left -= gone[-1].n
        return gone


class People:
    """Whom a portfolio's day lets us write to: each by name, as whoever is counted already costs nothing."""

    def __init__(self, key: str) -> None:
        """Nobody was asked for yet; `key` is that of the cap."""
        self.key = key
        self._allowed: dict[str, Reach] = {}
        self._taken: dict[str, Reach] = {}  # of late
        self._asked: dict[str, None] = {}  # in order, since the last answer
        self._refused: dict[str, float] = {}  # until when we remember it
        self._had = 0  # after the last answer
        self._used = 0  # since then

    def __contains__(self, address: str) -> bool:
        """Say whether this one may be written to now."""
        return address in self._allowed

    @property
    def wanted(self) -> int:
        """How many more should be reserved: enough for twice the time since the last answer.

        Some in any case: of those we have, a few may be nobody's turn any more.
        """
        return max(LEAST_RESERVED // 2, 2 * self._used + LEAST_RESERVED - len(self._allowed))

    def first(self, addresses: Collection[str]) -> int | None:
        """Return the place of the first who may be written to now; when those run low, `asks` for others."""
        place = next((place for place, address in enumerate(addresses) if address in self._allowed), None)
        if not self._asked and (place is None or 2 * len(self._allowed) <= self._had):
            self._asked = dict.fromkeys(addresses)
        return place

    @property
    def asks(self) -> bool:
        """Whether the ledger should be asked for somebody."""
        return bool(self._asked)

    def asked(self) -> list[str]:
        """Take out and return whom to ask the ledger for."""
        asked, self._asked = self._asked, {}
        return [address for address in asked if address not in self._allowed]

    def hear(self, answer: Answer, now: float) -> None:
        """Note what the ledger says of those asked for, at `now` by our monotonic clock."""
        self._allowed.update(answer.allowed)
        self._had, self._used = len(self._allowed), 0
        self._refused = {address: until for address, until in self._refused.items() if until > now}
        self._refused.update(dict.fromkeys(answer.refused, now + _TOLD_SECONDS))

    def use(self, address: str) -> None:
        """Use somebody's reservation."""
        self._taken[address] = self._allowed.pop(address)
        self._asked.pop(address, None)
        self._used += 1

    def put_back(self, address: str) -> None:
        """Undo `use`: they were not written to."""
        if (reach := self._taken.pop(address, None)) is not None:
            self._allowed[address] = reach
            self._used -= 1

    @property
    def refuses(self) -> bool:
        """Whether there is somebody of whom `refused` will say so."""
        return bool(self._refused)

    def refused(self, address: str) -> bool:
        """Say, once, whether the day has no room for somebody."""
        return self._refused.pop(address, None) is not None

    def expired(self, now: float) -> dict[str, Reach]:
        """Take out and return who may not be written to any more, by the database's time."""
        self._taken = {address: reach for address, reach in self._taken.items() if reach.until > now}
        gone = {address: reach for address, reach in self._allowed.items() if reach.until <= now}
        for address in gone:
            del self._allowed[address]
        return gone
