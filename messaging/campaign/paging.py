"""A batch's due attempts, read ahead in pages."""

import asyncio
from collections import deque
from types import TracebackType
from typing import Final, Self

from sqlalchemy import Engine

from messaging.storage import attempts
from messaging.storage.attempts import Attempt
from messaging.storage.failing import OUTAGE_SECONDS, through_outage

_PAGE: Final = 500  # attempts read at once


class DueAttempts:
    """Hands out a batch's queued attempts whose time has come, each once, in order of id.

    When half of a page is handed out the next one is read in the background, so that a caller seldom
    waits:

        async with DueAttempts(engine, lease.batch_id) as due:
            while (attempt := due.ready() or await due.next()) is not None:
                ...

    Any number of tasks may call. An attempt that falls due behind the place reached has its turn when the
    batch is claimed again. What was read ahead may have been cancelled or suppressed since: the ledger
    refuses its mark.
    """

    def __init__(
        self, engine: Engine, batch_id: int, page: int = _PAGE, patience: float = OUTAGE_SECONDS
    ) -> None:
        """Nothing is read before the first call."""
        self._engine = engine
        self._batch_id = batch_id
        self._size = page
        self._patience = patience
        self._after = 0
        self._ahead: deque[Attempt] = deque()
        self._reading: asyncio.Task[None] | None = None
        self._end = False

    async def __aenter__(self) -> Self:
        """Read nothing yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop reading ahead."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    def ready(self) -> Attempt | None:
        """Return the next attempt if it is in memory; None says nothing about whether there are more."""
        if not self._end and self._reading is None and len(self._ahead) <= self._size // 2:
            self._reading = asyncio.create_task(self._read())
        return self._ahead.popleft() if self._ahead else None

    async def next(self) -> Attempt | None:
        """Return the next attempt, or None when nothing more of the batch is due.

        A database that is away is waited for, up to a minute.

        Raises:
            DatabaseError: It stayed away, or refused.
        """
        while True:
            attempt = self.ready()
            if attempt is not None:
                return attempt
            if self._reading is None:
                return None
            # Shielded: one caller that is cancelled takes nothing from the others.
            await asyncio.shield(self._reading)

    async def _read(self) -> None:
        page = await through_outage(self._due, self._patience)
        self._ahead.extend(page)
        if page:
            self._after = page[-1].id
        self._end = len(page) < self._size
        self._reading = None

    def _due(self) -> list[Attempt]:
        with self._engine.connect() as connection:
            return attempts.due(connection, self._batch_id, self._after, self._size)
