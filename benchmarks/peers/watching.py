"""What the ledger's PostgreSQL and our process take while a campaign is sent."""

import asyncio
import contextlib
import resource
from typing import Any, Self

from sqlalchemy import Engine, text

_COUNTERS = text("""
    SELECT pg_current_wal_lsn() - '0/0' AS wal, xact_commit + xact_rollback AS transactions
    FROM pg_stat_database WHERE datname = current_database()
""")
_CONNECTIONS = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")


def peak_mb() -> float:
    """Return the most memory that this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Watch:
    """Counts WAL, transactions and connections, for `async with`; its figures are complete afterwards."""

    def __init__(self, engine: Engine) -> None:
        """Nothing is counted yet."""
        self._engine = engine
        self.figures: dict[str, Any] = {"connections": 0}

    async def __aenter__(self) -> Self:
        """Begin to count."""
        self._before = await asyncio.to_thread(self._counters)
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Count to the end; PostgreSQL's processes tell what they did within a second."""
        self._watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watching
        await asyncio.sleep(2)
        after = await asyncio.to_thread(self._counters)
        self.figures |= {name: float(after[name] - self._before[name]) for name in after}
        self.figures["peak_mb"] = peak_mb()

    def _counters(self) -> dict[str, Any]:
        with self._engine.connect() as connection:
            return dict(connection.execute(_COUNTERS).mappings().one())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1)
            found = await asyncio.to_thread(self._connected)
            self.figures["connections"] = max(self.figures["connections"], found)

    def _connected(self) -> int:
        with self._engine.connect() as connection:
            return connection.execute(_CONNECTIONS).scalar_one() - 1  # not this one
