"""Flow runs started for campaigns by themselves: each once, whoever asks, and however often."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound

from messaging.campaign import lateness, recovering
from messaging.campaign.finding import campaign_numbered
from messaging.errors import MessagingError
from messaging.storage import campaigns
from messaging.storage.engine import engine
from tasks.flow_runs import is_cancelled
from tasks.guarding import guarded, in_thread

START: Final = "start-campaign/start-campaign"
_LONGEST_REST: Final = timedelta(minutes=15)
PATIENCE: Final = timedelta(minutes=10)
"""How long a run may be about to start, or running, before somebody else is asked."""


async def start_run(
    campaign_id: int,
    deployment: str = START,
    purpose: str = "start",
    *,
    patience: timedelta = PATIENCE,
) -> UUID | None:
    """Have a deployment run for a campaign, once, and return the run's id; None: a person has cancelled it.

    Call it for a campaign that nobody is at, as often as you like: it makes a run with the idempotency key
    campaign-ID-PURPOSE-STARTS, so that of several callers, in several processes, one makes it and the others
    get the same one. A run of that key that has ended, or that has been about to start or running for longer
    than `patience` (its worker died, or its machine), will not do it: then `starts` of the campaign is raised
    by one, by one caller, and the next key is used. A run that waits, for a worker or for a person, is left;
    one that failed is followed by the next after some minutes, which double up to a quarter of an hour: its
    mail server may be away for long. One that a person has cancelled in Prefect pauses the campaign, which
    has a new key when it is resumed.

    `deployment` is flow/deployment, of a flow whose parameters are a `StartRequest`.

    Raises:
        InputError: There is no such campaign.
        MessagingError: No such deployment, or Prefect does not answer; calling again is safe.
    """
    campaign = await in_thread(lambda: campaign_numbered(engine(), campaign_id))
    given = {"request": {"campaign_id": campaign_id}}
    starts = campaign.starts
    while True:
        run = await _run_of(deployment, given, f"campaign-{campaign_id}-{purpose}-{starts}")
        if deployment == START and is_cancelled(run):
            await in_thread(recovering.pause_cancelled, engine(), campaign_id, run.name, starts)
            return None
        if not _is_used_up(run, patience) or _rests(run, starts):
            return run.id
        starts = await in_thread(_next_start, campaign_id, starts)


@asynccontextmanager
async def refusal_pauses(campaign_id: int) -> AsyncIterator[None]:
    """Pause a scheduled campaign that cannot be started, and tell people, instead of trying every minute.

    What may be mended by itself, such as a server that is away, leaves it scheduled.
    """
    try:
        yield
    except MessagingError as error:
        if not error.retryable:
            reason = f"it cannot be sent: {error}"
            await in_thread(lambda: lateness.pause_refused(engine(), campaign_id, reason))
        raise


async def _run_of(deployment: str, parameters: dict[str, Any], key: str) -> FlowRun:
    """Return the run of a key, made now unless it is there."""
    with guarded():
        try:
            async with get_client() as client:
                found = await client.read_deployment_by_name(deployment)
                return await client.create_flow_run_from_deployment(
                    found.id, parameters=parameters, idempotency_key=key
                )
        except ObjectNotFound:
            raise MessagingError(
                f"there is no deployment {deployment}: make them with outflow init"
            ) from None


def _is_used_up(run: FlowRun, patience: timedelta) -> bool:
    if run.state is None:
        return False
    if run.state.is_final():
        return True
    is_at_it = run.state.is_running() or run.state.is_pending() or run.state.is_cancelling()
    return is_at_it and datetime.now(UTC) - run.state.timestamp > patience


def _rests(run: FlowRun, starts: int) -> bool:
    """Say whether it is too early to try again after a run that failed; the first is followed at once."""
    if run.state is None or not run.state.is_failed() or not starts:
        return False
    rest = min(_LONGEST_REST, timedelta(minutes=2 ** min(starts, 10)))
    return datetime.now(UTC) - run.state.timestamp < rest


def _next_start(campaign_id: int, seen: int) -> int:
    with engine().begin() as connection:
        return campaigns.raise_starts(connection, campaign_id, seen)
