"""Messages of a queue between those who receive and the one who records.

SQS gives messages in no order and lets nobody choose. So more is received than is recorded, and of what is
held bounces, complaints and unsubscribes come first; the rest waits for its share of the ledger.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from messaging.feedback.evidence import Evidence
from schemas.states import EventKind

_FIRST: Final = {EventKind.BOUNCED, EventKind.COMPLAINED, EventKind.UNSUBSCRIBED}


@dataclass(frozen=True, slots=True)
class Pace:
    """How much a run reads, and how fast. The defaults suit a run a minute."""

    seconds: float = 50.0
    """After which nothing more is received."""
    most: int = 50_000
    """Messages, after which nothing more is received."""
    wait: int = 20
    """Seconds that an empty queue is waited for (long polling), from 1 to 20: then the run ends."""
    chunk: int = 500
    """Messages that are recorded in one transaction."""
    buffer: int = 5_000
    """Pieces of evidence that are held in memory, about."""
    rest_per_second: float = 1_000.0
    """Messages about anything but bounces, complaints and unsubscribes that are recorded."""
    hidden: int = 120
    """Seconds after which a message that was received and not deleted comes again."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message that was received and not yet recorded."""

    handle: str
    evidence: list[Evidence]

    @property
    def comes_first(self) -> bool:
        """Whether somebody may have to be suppressed for it."""
        return any(one.kind in _FIRST for one in self.evidence)

    @property
    def size(self) -> int:
        """How much room it takes."""
        return max(1, len(self.evidence))


class Buffer:
    """Messages between those who receive and the one who records; full, it makes receivers wait."""

    def __init__(self, pace: Pace) -> None:
        """Hold nothing yet."""
        self._pace = pace
        self._first: deque[Message] = deque()
        self._rest: deque[Message] = deque()
        self._held = 0
        self._changed = threading.Condition()
        self._allowed = pace.rest_per_second  # tokens: a second's worth at most
        self._counted_at = time.monotonic()
        self._closed = False
        self.stopped = False
        """Nothing more is given out."""

    def put(self, messages: Sequence[Message]) -> None:
        """Add messages, as soon as there is room."""
        with self._changed:
            self._changed.wait_for(lambda: self._held < self._pace.buffer or self.stopped)
            for message in messages:
                (self._first if message.comes_first else self._rest).append(message)
                self._held += message.size
            self._changed.notify_all()

    def take(self) -> list[Message]:
        """Return what is to be recorded next, waiting for it; nothing: there is no more."""
        with self._changed:
            while not self.stopped:
                wanted = min(self._pace.chunk, len(self._rest))
                missing = wanted - self._tokens()
                if self._first:
                    return self._taken(self._first, self._pace.chunk)
                if wanted and missing <= 0:
                    self._allowed -= wanted
                    return self._taken(self._rest, wanted)
                if self._closed and not wanted:
                    return []
                self._changed.wait(missing / self._pace.rest_per_second if wanted else None)
            return []

    def close(self) -> None:
        """Say that nothing more comes; what is held can be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Keep what is held to itself, and let nobody wait any more."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    def _taken(self, lane: deque[Message], most: int) -> list[Message]:
        taken = [lane.popleft() for _ in range(min(most, len(lane)))]
        self._held -= sum(message.size for message in taken)
        self._changed.notify_all()
        return taken

    def _tokens(self) -> float:
        now = time.monotonic()
        rate = self._pace.rest_per_second
        most = max(rate, float(self._pace.chunk))
        self._allowed = min(most, self._allowed + (now - self._counted_at) * rate)
        self._counted_at = now
        return self._allowed
