"""The database's clock, told by our own: all who share a limit go by one clock."""

from time import monotonic
from typing import Final

_DRIFT: Final = 5e-5  # seconds per second that two clocks may part


class LedgerClock:
    """Keeps the narrowest bounds that answers gave: the database's time lies between question and answer."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self._low = self._high = 0.0
        self._at: float | None = None

    def observe(self, asked: float, told: float, answered: float) -> None:
        """Note that the database told its time between two moments of our monotonic clock."""
        low, high = told - answered, told - asked
        if self._at is not None:
            parted = _DRIFT * (answered - self._at)
            low_before, high_before = self._low - parted, self._high + parted
            # Apart: one of the clocks was set.
            if low_before <= high and low <= high_before:
                low, high = max(low, low_before), min(high, high_before)
        self._low, self._high, self._at = low, high, answered

    def local(self, told: float) -> float:
        """Return the moment of our monotonic clock at which the database's clock shows a time."""
        return told - (self._low + self._high) / 2

    def now(self) -> float:
        """Return the database's time now."""
        return monotonic() + (self._low + self._high) / 2
