"""Being at a campaign: while a process sends one, the ledger hears every few seconds that it lives."""

import asyncio
import contextlib
import os
import platform
from types import TracebackType
from typing import Final, Self
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from messaging.campaign.finding import campaign_numbered
from messaging.errors import CampaignStopped, DatabaseError, MessagingError
from messaging.storage import batches, campaign_runs, campaigns, installation
from messaging.storage.campaign_runs import BEAT_SECONDS, DONE, FAILED, STOPPED
from messaging.storage.failing import database_errors, through_outage

_BOUNDED = text("SELECT set_config('statement_timeout', '5s', true)")
_ENDING_SECONDS: Final = 5.0


def this_process() -> str:
    """Name this process as leases do: host:pid."""
    return f"{platform.node()}:{os.getpid()}"


class Presence:
    """Tells that this process is at a campaign, for `async with`; a ledger that is away is let be.

    What fails for good, so that another process would fail as well, pauses the campaign; who is left after a
    choice of batches waits for a person too, however it ends.
    """

    def __init__(
        self,
        engine: Engine,
        campaign_id: int,
        flow_run_id: UUID | None = None,
        *,
        partly: bool = False,
        every: float = BEAT_SECONDS,
    ) -> None:
        """Say nothing yet; `partly`: only some batches are sent; `every` is in seconds."""
        self._engine = engine
        self._campaign_id = campaign_id
        self._flow_run_id = flow_run_id
        self._partly = partly
        self._every = every
        self._row = 0
        self._beating: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin.

        Raises:
            InputError: There is no such campaign; or the ledger is a copy, from which nothing is sent.
            DatabaseError: It stayed away.
        """
        self._row = await through_outage(self._begin)
        self._beating = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say how it ended; a process that cannot is taken for one that vanished."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating], timeout=_ENDING_SECONDS)  # a late beat would revive the row
        with contextlib.suppress(DatabaseError):
            await asyncio.to_thread(self._end, error)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            writing = asyncio.create_task(asyncio.to_thread(self._write_beat))
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await writing  # a thread cannot be stopped
                raise

    def _begin(self) -> int:
        campaign_numbered(self._engine, self._campaign_id)
        with self._engine.begin() as connection:
            installation.refuse_copy(connection)
            return campaign_runs.begin(connection, self._campaign_id, this_process(), self._flow_run_id)

    def _write_beat(self) -> None:
        with contextlib.suppress(DatabaseError), database_errors(), self._engine.begin() as connection:
            connection.execute(_BOUNDED)
            campaign_runs.beat(connection, self._row)

    def _end(self, error: BaseException | None) -> None:
        with database_errors(), self._engine.begin() as connection:
            connection.execute(_BOUNDED)
            campaign_runs.end(connection, self._row, _how(error))
            if _is_for_good(error):
                campaigns.pause(connection, self._campaign_id, str(error))
            elif self._partly:
                pause_the_rest(connection, self._campaign_id)


def pause_the_rest(connection: Connection, campaign_id: int) -> bool:
    """Have who was not chosen wait for a person, unless somebody is at them; return whether they do now."""
    campaigns.lock(connection, campaign_id)
    if campaign_runs.is_attended(connection, campaign_id):
        return False
    if batches.work(connection, campaign_id, None).wait is None:
        return False
    return campaigns.pause(connection, campaign_id, "only some of its batches were to be sent")


def _how(error: BaseException | None) -> str:
    if error is None:
        return DONE
    is_stopped = isinstance(error, CampaignStopped) or not isinstance(error, Exception)
    return STOPPED if is_stopped else FAILED


def _is_for_good(error: BaseException | None) -> bool:
    return (
        isinstance(error, MessagingError) and not error.retryable and not isinstance(error, CampaignStopped)
    )
