"""The heartbeat of an account in use: every few seconds the ledger hears how it is."""

import asyncio
import contextlib
import os
import platform
import time
from datetime import datetime
from types import TracebackType
from typing import Final, Protocol, Self, runtime_checkable
from uuid import uuid4

from sqlalchemy import Engine, text

from messaging.channels.base import SenderPool
from messaging.errors import DatabaseError
from messaging.storage import alerts, senders, throttles
from messaging.storage.failing import database_errors
from messaging.storage.senders import Beat
from schemas.states import AccountState

BEAT_SECONDS: Final = 5.0
_CLOSING_SECONDS: Final = 5.0
_FOR_GOOD: Final = frozenset(
    {AccountState.AUTHENTICATION_FAILED, AccountState.LOGGED_OUT, AccountState.BANNED}
)
_BOUNDED = text("SELECT set_config('statement_timeout', '5s', true)")


@runtime_checkable
class PausedUntil(Protocol):
    """A pool whose provider says for how long it wants nothing of the account."""

    @property
    def paused_until(self) -> datetime | None:
        """When that is over; None: it said nothing of the kind."""
        ...


class Heartbeat:
    """Tells how an account is while a campaign is sent, for `async with`; a ledger that is away is let be.

    It says what the pool says, unless the account stands still: for a reason that this process met, or by
    what the ledger knows of its limits. A standstill that a person must mend is told people as well.
    """

    def __init__(self, engine: Engine, account: str, pool: SenderPool, every: float = BEAT_SECONDS) -> None:
        """Say nothing yet; `every` is in seconds."""
        self._engine = engine
        self._owner = f"{platform.node()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._account = account
        self._pool = pool
        self._every = every
        self._reason: str | None = None
        self._in_order_since: float | None = time.monotonic()
        """None: people were told that it is not."""
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
        pool = self._pool
        until = pool.paused_until if isinstance(pool, PausedUntil) else None
        said = Beat(self._owner, self._account, pool.state, pool.identity, self._reason, until)
        with contextlib.suppress(DatabaseError):  # sending itself says that the ledger is away
            await asyncio.to_thread(self._write, said, last=self._closing)

    def _write(self, said: Beat, *, last: bool) -> None:
        with database_errors(), self._engine.begin() as connection:
            connection.execute(_BOUNDED)
            met = said.reason is not None
            if met:
                if said.state is not AccountState.BANNED:
                    said.state = AccountState.PAUSED
            elif (standstill := throttles.standstill(connection, self._account)) is not None:
                said.state = AccountState.PAUSED
                said.reason, said.paused_until = standstill.reason, standstill.until
            (senders.end if last else senders.beat)(connection, said)
            stands_still = met or said.state in _FOR_GOOD
            if stands_still and self._in_order_since is not None:
                in_order = time.monotonic() - self._in_order_since
                alerts.account_stands_still(connection, self._account, _standstill(said), in_order)
        if stands_still:
            self._in_order_since = None
        elif self._in_order_since is None:
            self._in_order_since = time.monotonic()


def _standstill(said: Beat) -> str:
    why = said.reason or f"it is {said.state}"
    return (
        f"account {said.account} cannot go on: {why}; whom it was to write to stays queued. "
        f"Once it is mended, outflow account verify {said.account} says so"
    )
