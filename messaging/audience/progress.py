"""How far the imports of this process are, for who waits: a progress bar, an artifact."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from messaging.errors import MessagingError

READING = 70.0  # percent of the whole, about what it takes of a large file; merging is the rest


@dataclass(slots=True)
class Progress:
    """One import's place; written by its thread, read by whoever watches."""

    path: Path
    rows: int = 0
    """Rows judged so far."""
    percent: float = 0.0
    """Share of the whole work that is done, as far as that can be told."""
    doing: str = "reading"
    _cancel: Callable[[], None] | None = None
    _stopped: bool = False

    def cancels_by(self, cancel: Callable[[], None]) -> None:
        """Say how to break off what the database does for the import."""
        self._cancel = cancel

    def stop(self) -> None:
        """End the import, for who no longer wants it; nothing is written unless it is just committing."""
        self._stopped = True
        if self._cancel is not None:
            self._cancel()

    def go_on(self) -> None:
        """Do nothing, unless the import is to stop.

        Raises:
            MessagingError: It is.
        """
        if self._stopped:
            raise MessagingError(f"{self.path.name} was stopped; nothing was written")

    def judged(self, rows: int, share: float) -> None:
        """Note that these rows more are judged, and which share of the file is read."""
        self.rows += rows
        self.percent = READING * share

    def merges(self) -> None:
        """Note that the whole file is read."""
        self.doing, self.percent = "merging", READING


_running: list[Progress] = []


@contextmanager
def tracked(path: Path) -> Iterator[Progress]:
    """Show an import among the running ones while the block lasts."""
    progress = Progress(path)
    _running.append(progress)
    try:
        yield progress
    finally:
        _running.remove(progress)


def running() -> list[Progress]:
    """Return the imports that run in this process now, the oldest first."""
    return list(_running)
