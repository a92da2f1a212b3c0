"""What processes that died have left, taken care of without a person.

No task runs: it is looked for every half minute, and nearly always there is nothing.
"""

import contextlib
import logging
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from messaging.campaign import recovering
from messaging.errors import MessagingError
from messaging.storage.campaign_runs import Lost
from messaging.storage.engine import engine
from tasks.flow_runs import Lineage, is_cancelled
from tasks.guarding import guarded, in_thread
from tasks.starting import start_run

_log = logging.getLogger("messaging.sweeping")  # the tree that Prefect forwards to the run's page

_SAID: Final = "Its process vanished; what it was sending goes on by itself."

_EVERY_MINUTE: Final = ("dispatch", "sweep")
_QUIET_RUNS_STAY: Final = timedelta(days=1)
_FORGOTTEN_AT_ONCE: Final = 50  # two more come of age each minute

PATIENCE: Final = timedelta(minutes=2)
"""For a run that is about to start: once it has, it is at its campaign within seconds."""


async def start_stranded() -> None:
    """Have a run made for each campaign that should be sent and has nobody at it.

    First the runs of processes that vanished are called Crashed. A campaign whose run a person was cancelling
    is paused instead. From the copy of a ledger nothing is started.

    Raises:
        InputError: The ledger is a copy.
        MessagingError: Prefect's server did not answer; calling again is safe.
    """
    for lost in await in_thread(lambda: recovering.lost_processes(engine())):
        partly = await _end_runs_of(lost)
        await in_thread(recovering.give_up, engine(), lost, partly=partly)
    failures: list[MessagingError] = []
    for idle in await in_thread(lambda: recovering.stranded(engine())):
        try:
            if await _is_cancelled(idle.campaign_id, idle.flow_run_id):
                continue  # its process could not hear of it any more
            if await start_run(idle.campaign_id, patience=PATIENCE) is not None:
                _log.info("nobody was at campaign %d, so a run of it is started", idle.campaign_id)
        except MessagingError as error:
            failures.append(error)
    if failures:
        raise failures[0]


async def _is_cancelled(campaign_id: int, flow_run_id: UUID | None) -> bool:
    """Pause a campaign when a person has cancelled the run that sent it, and say whether one has."""
    if flow_run_id is None:
        return False
    with guarded():
        cancelled = [run for run in await Lineage(flow_run_id).read() if is_cancelled(run)]
    for run in cancelled:
        await in_thread(recovering.pause_cancelled, engine(), campaign_id, run.name)
    return bool(cancelled)


async def _end_runs_of(lost: Lost) -> bool:
    """Call the runs of a process that is gone Crashed; they would seem to run for ever.

    A run that a person has run again is another process's now, or about to be, and is let be.

    Returns whether they were to send some batches of the campaign only.
    """
    if lost.flow_run_id is None or lost.is_run_again:
        return False
    await _is_cancelled(lost.campaign_id, lost.flow_run_id)
    with guarded():
        runs = await Lineage(lost.flow_run_id).read()
        async with get_client() as client:
            for run in runs:
                if run.state is not None and (run.state.is_running() or run.state.is_cancelling()):
                    await client.set_flow_run_state(run.id, Crashed(message=_SAID), force=True)
    requests = [run.parameters.get("request") for run in runs]
    return any(isinstance(request, dict) and request.get("batches") for request in requests)


async def settle() -> None:
    """Take the batches of campaigns that are not sent any more from the dead who hold them."""
    if settled := await in_thread(lambda: recovering.settle(engine())):
        _log.info("%d batches were held by processes that are gone", settled)


async def read_refusals() -> None:
    """Take refusals for bounces whose sender was killed before it had."""
    read = await in_thread(lambda: recovering.read_refusals(engine()))
    if read.recorded:
        _log.info("%d refusals were no evidence yet", read.recorded)


async def rematch() -> None:
    """Look again for the attempts of events that came before them."""
    found = await in_thread(lambda: recovering.rematch(engine()))
    if found.recorded:
        _log.info("%d events have found their attempts", found.recorded)


async def forget_quiet_runs() -> None:
    """Delete runs of the flows of every minute that went well more than a day ago.

    They would be most of what Prefect's database holds: 2,880 of them are made each day. The others stay as
    long as its own retention says.
    """
    with guarded():
        async with get_client() as client:
            quiet = await client.read_flow_runs(
                flow_filter=FlowFilter(name=FlowFilterName(any_=list(_EVERY_MINUTE))),
                flow_run_filter=FlowRunFilter(
                    state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED])),
                    end_time=FlowRunFilterEndTime(before_=datetime.now(UTC) - _QUIET_RUNS_STAY),
                ),
                limit=_FORGOTTEN_AT_ONCE,
            )
            for run in quiet:
                with contextlib.suppress(ObjectNotFound):  # another sweep was quicker
                    await client.delete_flow_run(run.id)
