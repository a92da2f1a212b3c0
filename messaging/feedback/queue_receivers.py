"""Threads that receive the messages of a queue and read what they say."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from messaging.errors import NotSent
from messaging.feedback.queue_buffer import Buffer, Message, Pace
from messaging.feedback.ses_events import Unreadable, read_ses_event
from messaging.feedback.sqs import AT_ONCE, Received, SqsQueue

_TRIES: Final = 3  # polls in a row without an answer that end a run
_BETWEEN_TRIES: Final = 1.0
_HELPERS_WAIT: Final = 1  # seconds; only one receiver waits long for an empty queue


class Receivers:
    """Threads that receive: one waits for an empty queue, others help while each poll brings all it can.

    They are daemons: a poll cannot be broken off, and nobody waits for one when a run is stopped.
    """

    def __init__(self, queue: SqsQueue, source: str, pace: Pace, buffer: Buffer, most: int) -> None:
        """Receive nothing yet; `most` threads do at once, later."""
        self._queue = queue
        self._source = source
        self._pace = pace
        self._buffer = buffer
        self._most = most
        self._ends_at = time.monotonic() + pace.seconds
        self._lock = threading.Lock()
        self._active = 0
        self._over = False
        self.seen = 0
        self.set_aside = 0
        self.new_reasons: Counter[str] = Counter()
        """Why messages were set aside that came for the first time."""
        self.failure: Exception | None = None

    def start(self) -> None:
        """Receive until the queue is empty or the pace's limits are reached; then the buffer is closed."""
        self._begin(leads=True)

    def _begin(self, *, leads: bool) -> None:
        with self._lock:
            if self._active == self._most or self._over:
                return
            self._active += 1
        name = f"receives {self._source}"
        threading.Thread(target=self._run, args=(leads,), name=name, daemon=True).start()

    def _run(self, leads: bool) -> None:  # noqa: FBT001 - a thread's arguments have no names
        try:
            self._receive(self._pace.wait if leads else _HELPERS_WAIT)
            self._over = self._over or leads
        except Exception as error:  # noqa: BLE001 - raised where the run is waited for
            self.failure = self.failure or error
            self._over = True
        finally:
            with self._lock:
                self._active -= 1
                last = self._active == 0
            if last:
                self._buffer.close()

    def _receive(self, wait: int) -> None:
        silent = 0
        while (left := self._left()) > 0:
            try:
                received = self._queue.receive(min(wait, max(1, int(left))), self._pace.hidden)
            except NotSent:
                silent += 1
                if silent == _TRIES:
                    raise
                time.sleep(_BETWEEN_TRIES)
                continue
            silent = 0
            if not received:
                return
            self._buffer.put(self._read(received))
            if len(received) == AT_ONCE:
                self._begin(leads=False)

    def _left(self) -> float:
        """Return for how many seconds more it may be received."""
        done = self._over or self._buffer.stopped or self.seen >= self._pace.most
        return 0.0 if done else self._ends_at - time.monotonic()

    def _read(self, received: Sequence[Received]) -> list[Message]:
        read: list[Message] = []
        reasons: list[tuple[str, bool]] = []
        for message in received:
            try:
                read.append(Message(message.handle, read_ses_event(message.body, self._source)))
            except Unreadable as error:
                reasons.append((str(error), message.times == 1))
            except Exception as error:  # noqa: BLE001 - one message that cannot be read must not stop the others
                reasons.append((type(error).__name__, message.times == 1))
        with self._lock:
            self.seen += len(received)
            self.set_aside += len(reasons)
            self.new_reasons.update(reason for reason, new in reasons if new)
        return read
