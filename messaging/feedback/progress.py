"""How far the readings of mailboxes in this process are, for who waits."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from messaging.errors import MessagingError


@dataclass(slots=True)
class Progress:
    """One reading's place; written by its thread, read by whoever watches."""

    mailbox: str
    read: int = 0
    """Mails done with."""
    found: int = 0
    """Mails there are to read."""
    _stopped: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """End the reading, for who no longer wants it; what was read is kept, the rest is read next time."""
        self._stopped.set()

    def go_on(self, after_seconds: float = 0.0) -> None:
        """Do nothing, or wait, unless the reading is to stop.

        Raises:
            MessagingError: It is.
        """
        if self._stopped.wait(after_seconds):
            raise MessagingError(f"reading {self.mailbox} was stopped; the next reading does the rest")


_running: list[Progress] = []


@contextmanager
def tracked(mailbox: str) -> Iterator[Progress]:
    """Show a reading among the running ones while the block lasts."""
    progress = Progress(mailbox)
    _running.append(progress)
    try:
        yield progress
    finally:
        _running.remove(progress)


def running() -> list[Progress]:
    """Return the readings that run in this process now, the oldest first."""
    return list(_running)
