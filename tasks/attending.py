"""Being at a campaign while a flow sends it, and heeding what becomes of its run in Prefect."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final

from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

from messaging.campaign.presence import Presence
from messaging.campaign.recovering import pause_cancelled
from messaging.errors import CampaignStopped, MessagingError
from messaging.storage.engine import engine
from tasks.flow_runs import Lineage, is_cancelled
from tasks.guarding import in_thread
from tasks.stopping import cancel_once

_log = logging.getLogger("messaging.attending")  # the tree that Prefect forwards to the run's page

LOOK_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 4.0  # a server that takes longer is let be until the next look
_LAST_ANSWER_SECONDS: Final = 2.0  # when we are told to stop: docker stop grants 10 in all


@asynccontextmanager
async def attending(campaign_id: int, *, partly: bool = False) -> AsyncIterator[None]:
    """Be at a campaign while the block runs: what should be sent and has nobody at it is started by `sweep`.

    A person who cancels the flow run in Prefect, or one that it is part of, pauses the campaign and stops
    what runs in the block, also when the worker that would do that is dead. A run that was taken for dead
    there is stopped only, as another one goes on. Within another such block for the same campaign nobody is
    counted twice. `partly`: only some batches are sent, and the rest is paused when they are done.

    Raises:
        InputError: The ledger is a copy, from which nothing is sent.
        DatabaseError: It stayed away.
        CampaignStopped: The run was taken for dead.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    around = _WATCH.get()
    if around is not None and around.campaign_id == campaign_id:
        around.heed(run)
        yield
        return
    watch = _Watch(campaign_id)
    watch.heed(run)
    ledger = await in_thread(engine)
    async with Presence(ledger, campaign_id, run.id if run else None, partly=partly):
        token = _WATCH.set(watch)
        watching = asyncio.create_task(watch.keep(asyncio.current_task()))
        try:
            yield
        except asyncio.CancelledError:
            watching.cancel()
            await watch.stopped(asyncio.current_task())
            raise
        finally:
            watching.cancel()
            _WATCH.reset(token)


class _Watch:
    """Looks how the flow runs that send a campaign are, for as long as they do."""

    def __init__(self, campaign_id: int) -> None:
        self.campaign_id = campaign_id
        self._lineage = Lineage()
        self._has_runs = False
        self._taken_for_dead: FlowRun | None = None

    def heed(self, run: FlowRun | None) -> None:
        """Look at this run too, and at those that it is part of."""
        if run is not None:
            self._lineage.add(run.id)
            self._has_runs = True

    async def keep(self, task: "asyncio.Task[Any] | None") -> None:
        """Stop a task as soon as its run has ended in Prefect."""
        while task is not None and self._has_runs:
            await asyncio.sleep(LOOK_SECONDS)
            ended = await self._ended(_ANSWER_SECONDS)
            if ended is not None:
                if is_cancelled(ended):
                    await self._pause(ended)
                else:
                    self._taken_for_dead = ended
                cancel_once(task)
                return

    async def stopped(self, task: "asyncio.Task[Any] | None") -> None:
        """Tell why a task was stopped: its worker was, or its run was cancelled, which pauses the campaign.

        Raises:
            CampaignStopped: Its run was taken for dead.
        """
        if self._taken_for_dead is not None:
            if task is not None:
                task.uncancel()
            raise CampaignStopped(
                f"flow run {self._taken_for_dead.name} was taken for dead, so another one goes on with "
                f"campaign {self.campaign_id}"
            )
        ended = await self._ended(_LAST_ANSWER_SECONDS)
        if ended is not None and is_cancelled(ended):
            await self._pause(ended)

    async def _ended(self, seconds: float) -> FlowRun | None:
        """Return a run that has ended in Prefect, one that was cancelled first.

        A server that does not answer within these seconds knows of none.
        """
        if not self._has_runs:
            return None
        try:
            async with asyncio.timeout(seconds):
                runs = await self._lineage.read()
        except Exception as error:  # noqa: BLE001 - what is sent does not depend on Prefect
            _log.debug("Prefect's server does not say how the run is (%s)", type(error).__name__)
            return None
        over = [run for run in runs if is_cancelled(run) or (run.state is not None and run.state.is_final())]
        return min(over, key=lambda run: not is_cancelled(run), default=None)

    async def _pause(self, run: FlowRun) -> None:
        try:
            await in_thread(lambda: pause_cancelled(engine(), self.campaign_id, run.name))
        except MessagingError as error:
            _log.warning("campaign %d could not be paused: %s", self.campaign_id, error)
        else:
            _log.warning("flow run %s was cancelled, so campaign %d is paused", run.name, self.campaign_id)


_WATCH: ContextVar[_Watch | None] = ContextVar("outflow_attending", default=None)
