"""Who may send when: the permits of one stretch of time, dealt out to all who share its limits.

Each limit spaces its permits evenly (GCRA, the generic cell rate algorithm, ITU-T I.371), and a permit
counts against every limit of its message at once. So nobody holds a place in one limit while waiting for
another, and the permits of several processes lie between each other instead of in bursts.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

FRAME_SECONDS: Final = 0.5  # permits are dealt for this long at once
TICKS: Final = 100_000  # of a second, in which permits are told

# Wherever a second is laid, it may hold the limit and one more. Going 1.5 % slower leaves room for a permit
# that was moved to fit another limit, for one that is used a little late, and some for the way to the server.
_MARGIN = 0.985
_MOVED_INTERVALS = 0.3
_LATE_INTERVALS = 0.4
_LATE_SECONDS = 0.009
_DEALT_PER_SECOND = 500  # faster limits deal several permits at once

# A pause is kept exactly: what may be late is added to it.
_LATE_OF_PAUSE = 0.05
_LATEST_OF_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Pace:
    """How a limit spaces its permits, in seconds."""

    shortest: float
    longest: float
    moved: float
    """By how much a permit may be put off without putting off the next one."""
    late: float
    """How long after its time a permit can be used; then it is forfeited."""
    at_once: int
    """Permits dealt at the same moment."""

    @classmethod
    def of_rate(cls, rate: float) -> "Pace":
        """Return the pace of `rate` messages per second."""
        interval = 1 / (rate * _MARGIN)
        return cls(
            shortest=interval,
            longest=interval,
            moved=_MOVED_INTERVALS / rate,
            late=_LATE_INTERVALS / rate + _LATE_SECONDS,
            at_once=math.ceil(rate / _DEALT_PER_SECOND),
        )

    @classmethod
    def of_interval(cls, shortest: float, longest: float) -> "Pace":
        """Return the pace of a pause of random length between two messages."""
        late = min(shortest * _LATE_OF_PAUSE, _LATEST_OF_PAUSE)
        return cls(shortest + late, max(longest, shortest + late), moved=0.0, late=late, at_once=1)

    def interval(self) -> float:
        """Return the seconds to the next permit."""
        if self.shortest == self.longest:
            return self.shortest
        return random.uniform(self.shortest, self.longest)  # noqa: S311 - chance, not secrecy


@dataclass(frozen=True, slots=True)
class Wish:
    """One process's wish for permits of one kind."""

    owner: str
    group: str
    """The provider group, or nothing: any group that has no limit of its own."""
    keys: tuple[str, ...]
    """The limits that count these messages, at least one; a provider group's own is the last."""
    most: int | None
    """None: as many as there are."""


@dataclass(slots=True)
class Grant:
    """Permits of one kind for one process."""

    late: float
    """Seconds after which one is forfeited: the least that its limits bear."""
    own_late: float
    """Seconds after which the provider group's own limit forfeits it."""
    times: list[int] = field(default_factory=list)
    """Ticks since the start of the stretch, ascending."""


@dataclass(slots=True)
class _Kind:
    """Wishes that the same limits count, and that therefore come due at the same moments."""

    keys: tuple[str, ...]
    left: dict[str, float] = field(default_factory=dict)
    dealt: dict[str, int] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    total: int = 0


Granted = dict[str, dict[str, Grant]]
"""Permits by owner and group."""


def deal(
    stretch: tuple[float, float],
    paces: dict[str, Pace],
    due: dict[str, float],
    wishes: list[Wish],
    shuffle: Callable[[list[Wish]], None] = random.shuffle,
) -> tuple[Granted, dict[str, float]]:
    """Deal the permits of a stretch of time; return them and when each limit's next one is due.

    Whoever had least of what can be had now comes first, so processes share alike, and so do the kinds of
    messages; what one does not wish for goes to the others.
    """
    start, end = stretch
    next_at = {key: max(start - pace.moved, due.get(key, start)) for key, pace in paces.items()}
    granted: Granted = {}
    kinds = _kinds(wishes, paces, granted, shuffle)
    while kinds:
        at = [max(start, *(next_at[key] for key in kind.keys)) for kind in kinds]
        first = min(at)
        if first >= end:
            break
        kind = min((kind for kind, when in zip(kinds, at, strict=True) if when == first), key=_total)
        owner = min(kind.left, key=kind.dealt.__getitem__)
        n = int(min(kind.left[owner], *(paces[key].at_once for key in kind.keys)))
        kind.grants[owner].times += [int((first - start) * TICKS)] * n
        for key in kind.keys:
            pace = paces[key]
            spent = sum(pace.interval() for _ in range(n))
            next_at[key] = max(next_at[key], first - pace.moved) + spent
        kind.total += n
        kind.dealt[owner] += n
        kind.left[owner] -= n
        if kind.left[owner] < 1:
            del kind.left[owner]
            if not kind.left:
                kinds.remove(kind)
    return granted, next_at


def _kinds(
    wishes: list[Wish], paces: dict[str, Pace], granted: Granted, shuffle: Callable[[list[Wish]], None]
) -> list[_Kind]:
    kinds: dict[tuple[str, ...], _Kind] = {}
    wishes = [wish for wish in wishes if wish.most is None or wish.most > 0]
    shuffle(wishes)  # or a permit that nobody else is due for would always go to the same one
    for wish in wishes:
        kind = kinds.setdefault(wish.keys, _Kind(wish.keys))
        kind.left[wish.owner] = math.inf if wish.most is None else wish.most
        kind.dealt[wish.owner] = 0
        late = [paces[key].late for key in wish.keys]
        kind.grants[wish.owner] = Grant(late=min(late), own_late=late[-1])
        granted.setdefault(wish.owner, {})[wish.group] = kind.grants[wish.owner]
    return list(kinds.values())


def _total(kind: _Kind) -> int:
    return kind.total
