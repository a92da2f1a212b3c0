"""When a campaign will be done: its limits, daily caps, warm-up and quiet hours, played through."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

DAY: Final = timedelta(days=1)
_STEPS: Final = 100_000
"""That are played through at most: some years of a cap that is used up every day."""
_PARTS: Final = 200
"""Of a daily cap, or of what is to be sent, that go at once."""
_LONGEST_PART: Final = 600.0  # seconds of sending, or quiet hours would be overrun

QuietUntil = Callable[[datetime, str], datetime | None]
"""Returns when the quiet hours end that it is at a moment in a time zone; None: it is in none."""


@dataclass(frozen=True, slots=True)
class Cap:
    """At most so many messages in any 24 hours."""

    most: int
    counted: Sequence[tuple[datetime, int]] = ()
    """What counts already, and until when."""


class Arrival(NamedTuple):
    """Recipients who may be sent to from a moment on, as far as it is not quiet where they are."""

    at: datetime
    recipients: int
    zone: str = ""
    """Their time zone; empty: the campaign's."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one account has to send."""

    arrivals: Sequence[Arrival]
    rate: float | None = None
    """Messages per second; None: at once."""
    caps: Sequence[Cap] = ()
    warm_up: Callable[[int], int | None] = lambda _: None
    """Returns the most messages of a day since the warm-up began; None: any number."""
    warm_up_began: datetime | None = None
    """None: it begins with the first message."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """How it went."""

    finish: datetime | None
    """None: it would take years."""
    in_time: int
    """Messages sent before the deadline."""


def forecast(
    load: Load, quiet_until: QuietUntil = lambda _now, _zone: None, deadline: datetime | None = None
) -> Forecast:
    """Play one account's sending through."""
    playing = _Playing(load, quiet_until)
    in_time = 0
    for _ in range(_STEPS):
        if not playing.left:
            return Forecast(playing.now, in_time)
        until = playing.closed_until()
        if until is not None:
            playing.now = max(until, playing.now + timedelta(milliseconds=1))
            continue
        sent = playing.send()
        if deadline is None or playing.now <= deadline:
            in_time += sent
    return Forecast(None, in_time)


class _Playing:
    """An account that sends, on a clock of its own."""

    def __init__(self, load: Load, quiet_until: QuietUntil) -> None:
        self._load = load
        self._quiet_until = quiet_until
        self._arrivals = sorted(load.arrivals)
        self._counted = [sorted(cap.counted) for cap in load.caps]
        self._used = [sum(n for _, n in cap.counted) for cap in load.caps]
        self._waiting: dict[str, int] = {}
        self._open = ""  # the zone that is sent to next
        self._warm_up_day, self._warm_up_sent = -1, 0
        self.left = sum(arrival.recipients for arrival in self._arrivals)
        self.now = self._arrivals[0].at if self._arrivals else datetime.now(UTC)
        self._began = load.warm_up_began or self.now
        whole = [self.left, *(cap.most for cap in load.caps)]
        self._part = max(1, min(whole) // _PARTS)

    def closed_until(self) -> datetime | None:
        """Return until when nothing can be sent; None: something can be."""
        while self._arrivals and self._arrivals[0].at <= self.now:
            _, recipients, zone = self._arrivals.pop(0)
            self._waiting[zone] = self._waiting.get(zone, 0) + recipients
        if (until := self._nobody_until()) is not None:
            return until
        for place, cap in enumerate(self._load.caps):
            counted = self._counted[place]
            while counted and counted[0][0] <= self.now:
                self._used[place] -= heapq.heappop(counted)[1]
            if self._used[place] >= cap.most:
                return counted[0][0] if counted else self.now + DAY
        room = self._warm_up_room()
        return self._began + (self._warm_up_day + 1) * DAY if room is not None and room <= 0 else None

    def _nobody_until(self) -> datetime | None:
        """Return until when everybody who is left waits; None: a zone is open, and is sent to next."""
        waits = [arrival.at for arrival in self._arrivals[:1]]
        for zone in self._waiting:
            quiet = self._quiet_until(self.now, zone)
            if quiet is None:
                self._open = zone
                return None
            waits.append(quiet)
        return min(waits)

    def send(self) -> int:
        """Send a part of what is waiting, as many as every cap has room for, and return how many."""
        rooms = [cap.most - used for cap, used in zip(self._load.caps, self._used, strict=True)]
        room = self._warm_up_room()
        number = min(self._waiting[self._open], self._part, *rooms, *([room] if room is not None else []))
        if self._load.rate:
            number = min(number, max(1, int(self._load.rate * _LONGEST_PART)))
            self.now += timedelta(seconds=number / self._load.rate)
        for place in range(len(rooms)):
            heapq.heappush(self._counted[place], (self.now + DAY, number))
            self._used[place] += number
        self._warm_up_sent += number
        self._waiting[self._open] -= number
        if not self._waiting[self._open]:
            del self._waiting[self._open]
        self.left -= number
        return number

    def _warm_up_room(self) -> int | None:
        day = (self.now - self._began) // DAY
        if day != self._warm_up_day:
            self._warm_up_day, self._warm_up_sent = day, 0
        most = self._load.warm_up(day)
        return None if most is None else most - self._warm_up_sent
