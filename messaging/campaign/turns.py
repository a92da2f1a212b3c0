"""Whose turn is next: due attempts in order, each as soon as its limits allow."""

import asyncio
import contextlib
from collections import deque
from typing import Final

from messaging.campaign.ledger import BatchLedger
from messaging.campaign.paging import DueAttempts
from messaging.campaign.provider_groups import provider_group
from messaging.campaign.shares import REFUSED_SECONDS
from messaging.campaign.throttle import ASKING_SECONDS, Limits
from messaging.storage.attempts import Answer, Attempt
from schemas.states import AttemptState

LONGEST_HOLD: Final = 10.0  # seconds; who must wait longer goes back, so that nothing is held for them
_MOST_HELD: Final = 500  # attempts in memory while their provider's limit lets others past


class Turns:
    """The attempts of one batch, handed to whichever connection is free.

    An attempt whose provider group is at its limit waits here while others go past.
    """

    def __init__(
        self, due: DueAttempts, limits: Limits, ledger: BatchLedger, stopping: asyncio.Event
    ) -> None:
        """Nothing is fetched yet."""
        self._due = due
        self._limits = limits
        self._ledger = ledger
        self._stopping = stopping
        self._held: dict[str, deque[Attempt]] = {}
        self._count = 0
        self._all_read = False
        self._wait = 0.0  # seconds, after which asking again may help whoever was refused last

    def ready(self) -> tuple[Attempt, str] | None:
        """Return an attempt that may go this moment, with its provider group; None: nobody may, just now."""
        if self._stopping.is_set() or self._limits.closed_for() > 0:
            return None
        waits = []
        for group, held in self._held.items():
            place = self._limits.first(held)
            wait = ASKING_SECONDS if place is None else self._limits.take(group, held[place].address)
            if wait == 0 and place is not None:
                return self._pop(group, place), group
            waits.append(wait)
        self._wait = min(waits, default=0.0)
        while self._count < _MOST_HELD and (attempt := self._due.ready()) is not None:
            group = provider_group(attempt.address)
            if group not in self._held and self._limits.take(group, attempt.address) == 0:
                return attempt, group
            self._hold(group, attempt)
        return None

    async def next(self) -> tuple[Attempt, str] | None:
        """Wait for the next attempt that may go; None: nobody is left for now, or we are to stop."""
        while not self._stopping.is_set():
            if (found := self.ready()) is not None:
                return found
            wait = self._limits.closed_for()
            if wait == 0:
                if self._count < _MOST_HELD and not self._all_read:
                    if (attempt := await self._due.next()) is not None:
                        self._hold(provider_group(attempt.address), attempt)
                    else:
                        self._all_read = True
                    continue
                self._put_off()
                if not self._count:
                    return None
                wait = self._wait
            if wait > LONGEST_HOLD:
                return None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()
        return None

    def give_back(self, attempt: Attempt, group: str) -> None:
        """Take back one that was handed out and not sent."""
        self._limits.give_back(group, attempt.address)
        self._held.setdefault(group, deque()).appendleft(attempt)
        self._count += 1

    def _hold(self, group: str, attempt: Attempt) -> None:
        self._held.setdefault(group, deque()).append(attempt)
        self._count += 1

    def _pop(self, group: str, place: int) -> Attempt:
        attempt = self._held[group][place]
        del self._held[group][place]
        if not self._held[group]:
            del self._held[group]
        self._count -= 1
        return attempt

    def _put_off(self) -> None:
        """Send those back whose provider wants nothing for long, or for whom a day has no room."""
        if self._limits.refuses:
            for group, held in list(self._held.items()):
                for attempt in [a for a in held if self._limits.refused(a.address)]:
                    self._pop(group, held.index(attempt))
                    self._ledger.record(Answer(attempt.id, AttemptState.QUEUED, wait=REFUSED_SECONDS))
        for group in list(self._held):
            pause = self._limits.paused_for(group)
            if pause > LONGEST_HOLD:
                for attempt in self._held.pop(group):
                    self._count -= 1
                    self._ledger.record(Answer(attempt.id, AttemptState.QUEUED, wait=pause))
