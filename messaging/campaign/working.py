"""What of a campaign can be sent now, and when the rest can."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import Final

from messaging.campaign.sending import CampaignRun
from messaging.campaign.turns import LONGEST_HOLD
from messaging.errors import CampaignStopped, NotSent
from messaging.storage import batches, campaigns
from messaging.storage.batches import Work
from messaging.storage.failing import through_outage
from schemas.states import CampaignState

_log = logging.getLogger(__name__)

PATIENCE: Final = 600.0  # seconds that the server may be away before the run fails, to be taken up later
_LONGEST_NAP = 5.0  # seconds, after which a pause or another process's end is noticed
_IDLE_PASSES = 3  # passes over due batches without one answer, after which we stop


async def next_work(run: CampaignRun, chosen: list[int] | None) -> AsyncIterator[list[int]]:
    """Yield the numbers of batches to send, until nothing is left of those chosen (None: of all).

    Waits for deferred recipients, for limits and a server that is away, and for batches whose lease another
    process holds. Calls the campaign finished when nothing is queued or dispatched.

    Raises:
        CampaignStopped: It is paused or cancelled, or its deadline has passed, and recipients are left.
        NotSent: The server was away for long, or took nothing; who is left stays queued.
        DatabaseError: The ledger was away for long.
    """
    idle = 0
    waiting = False
    progress: tuple[int, int] | None = None
    while True:
        work = await through_outage(partial(_look, run, chosen))
        if work.wait is None:
            return
        left = f"{work.progress[0]} recipients of campaign {run.campaign_id} are still queued"
        if run.failing_for > PATIENCE:
            raise NotSent(f"{left}: the server has been away for {run.failing_for / 60:.0f} minutes")
        wait = run.limits.closed_for()
        if not work.due or wait > LONGEST_HOLD:
            if not waiting:
                _log.info("waiting for a limit, for deferred recipients or for batches of another process")
            waiting = True
            idle = 0
            await asyncio.sleep(min(_LONGEST_NAP, max(wait, work.wait)))
            continue
        waiting = False
        idle = idle + 1 if work.progress == progress else 0
        progress = work.progress
        if idle == _IDLE_PASSES:
            raise NotSent(f"{left}: the server took none of them in {_IDLE_PASSES} passes")
        run.halted = False
        yield work.due


def _look(run: CampaignRun, chosen: list[int] | None) -> Work:
    with run.engine.begin() as connection:
        campaign = campaigns.get(connection, run.campaign_id)
        run.deadline = campaign.deadline if campaign else None  # another launch may have put it off
        if run.deadline is not None and run.deadline <= datetime.now(UTC):
            passed = f"its deadline passed at {run.deadline:%F %H:%M} UTC"
            campaigns.pause(connection, run.campaign_id, passed)
        campaigns.finish(connection, run.campaign_id)
        work = batches.work(connection, run.campaign_id, chosen)
        campaign = campaigns.get(connection, run.campaign_id)
    if work.wait is not None and campaign is not None and campaign.state is not CampaignState.RUNNING:
        because = f" ({campaign.state_reason})" if campaign.state_reason else ""
        raise CampaignStopped(
            f"campaign {run.campaign_id} is {campaign.state}{because}: {work.progress[0]} recipients are left"
        )
    return work
