"""Pacing: permits taken from the ledger in small chunks, then handed out evenly."""

import asyncio

from sqlalchemy import Engine

from messaging.storage import throttles

_CHUNK_SECONDS = 0.25  # a chunk's worth of sending: few round trips, and little is lost when we stop


class Throttle:
    """A limit that all processes of one ledger share; `rate` is permits per second, None for no limit."""

    def __init__(self, engine: Engine, key: str, rate: float | None) -> None:
        """Nothing is taken before the first `reserve`."""
        self._engine = engine
        self._key = key
        self._rate = rate
        self._lock = asyncio.Lock()
        self._left = 0
        self._next_at = 0.0

    async def reserve(self) -> float:
        """Take the next permit and return the seconds until it may be used."""
        if self._rate is None:
            return 0.0
        clock = asyncio.get_running_loop().time
        async with self._lock:
            if self._left == 0:
                chunk = max(1, int(self._rate * _CHUNK_SECONDS))
                self._next_at = await asyncio.to_thread(self._reserve, self._rate, chunk) + clock()
                self._left = chunk
            due_at = self._next_at
            self._next_at += 1 / self._rate
            self._left -= 1
        return due_at - clock()

    def _reserve(self, rate: float, chunk: int) -> float:
        with self._engine.begin() as connection:
            return throttles.reserve(connection, self._key, rate, chunk)
