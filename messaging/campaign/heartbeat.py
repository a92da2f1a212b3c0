"""The heartbeat of an account in use: every few seconds the ledger hears how it is."""

import asyncio
import contextlib
import os
import platform
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from sqlalchemy import Engine, text

from messaging.channels.base import SenderPool
from messaging.errors import DatabaseError
from messaging.storage import senders, throttles
from messaging.storage.failing import database_errors
from messaging.storage.senders import Beat
from schemas.states import AccountState

BEAT_SECONDS: Final = 5.0
_CLOSING_SECONDS: Final = 5.0
_BOUNDED = text("SELECT set_config('statement_timeout', '5s', true)")


class Heartbeat:
    """Tells how an account is while a campaign is sent, for `async with`; a ledger that is away is let be.

    It says what the pool says, unless the account stands still: for a reason that this process met, or by
    what the ledger knows of its limits.
    """

    def __init__(self, engine: Engine, account: str, pool: SenderPool, every: float = BEAT_SECONDS) -> None:
        """Say nothing yet; `every` is in seconds."""
        self._engine = engine
        self._owner = f"{platform.node()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._account = account
        self._pool = pool
        self._every = every
        self._reason: str | None = None
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def stopped(self, reason: str) -> None:
        """Say from now on that the account cannot go on until a person has mended it."""
        self._reason = reason
        self._wake.set()

    async def __aenter__(self) -> Self:
        """Begin."""
        self._task = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave a word on how the account was left."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            try:
                await asyncio.wait([self._task], timeout=_CLOSING_SECONDS)
            finally:
                self._task.cancel()

    async def _keep(self) -> None:
        while not self._closing:
            self._wake.clear()
            await self._say()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._every)
        await self._say()

    async def _say(self) -> None:
        said = Beat(self._owner, self._account, self._pool.state, self._pool.identity, self._reason)
        with contextlib.suppress(DatabaseError):  # sending itself says that the ledger is away
            await asyncio.to_thread(self._write, said, last=self._closing)

    def _write(self, said: Beat, *, last: bool) -> None:
        with database_errors(), self._engine.begin() as connection:
            connection.execute(_BOUNDED)
            if said.reason is not None:
                said.state = AccountState.PAUSED
            elif (standstill := throttles.standstill(connection, self._account)) is not None:
                said.state = AccountState.PAUSED
                said.reason, said.paused_until = standstill.reason, standstill.until
            (senders.end if last else senders.beat)(connection, said)
