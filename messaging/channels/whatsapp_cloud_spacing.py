"""WhatsApp's pair rate: the least time between two messages from one number of ours to one person."""

from time import monotonic
from typing import Final

_MOST = 200_000  # numbers; 1,000 messages a second leave 6,000 of them in six seconds

_SPACINGS: Final[dict[tuple[str, float], "Spacing"]] = {}


class Spacing:
    """Who was written to in the last seconds."""

    def __init__(self, seconds: float) -> None:
        """Nobody was."""
        self._seconds = seconds
        self._times: dict[str, float] = {}  # in order of time

    def take(self, number: str) -> float:
        """Note a message to this number and return 0.0, or return the seconds until one may go."""
        now = monotonic()
        self._forget(now)
        if (before := self._times.get(number)) is not None:
            return before + self._seconds - now
        if self._seconds:
            self._times[number] = now
        return 0.0

    def give_back(self, number: str) -> None:
        """Undo `take`: the message did not go."""
        self._times.pop(number, None)

    def _forget(self, now: float) -> None:
        times = self._times
        while times and (times[first := next(iter(times))] <= now - self._seconds or len(times) > _MOST):
            del times[first]


def spacing_of(phone_number_id: str, seconds: float) -> Spacing:
    """Return what all pools of this process know of one number of ours."""
    return _SPACINGS.setdefault((phone_number_id, seconds), Spacing(seconds))
