"""What of a campaign can be sent now, and when the rest can."""

import asyncio
import logging
from collections.abc import AsyncIterator

from sqlalchemy import Engine

from messaging.errors import CampaignStopped, NotSent
from messaging.storage import batches, campaigns
from messaging.storage.batches import Work
from schemas.states import CampaignState

_log = logging.getLogger(__name__)

_LONGEST_NAP = 5.0  # seconds, after which a pause or another process's end is noticed
_IDLE_PASSES = 3  # passes over due batches without one answer, after which we stop


async def next_work(engine: Engine, campaign_id: int, chosen: list[int] | None) -> AsyncIterator[list[int]]:
    """Yield the numbers of batches to send, until nothing is left of those chosen (None: of all).

    Waits for deferred recipients, and for batches whose lease another process holds. Calls the campaign
    finished when nothing is queued or dispatched.

    Raises:
        CampaignStopped: It is paused or cancelled, and recipients are left.
        NotSent: Several passes got no answer at all; who is left stays queued.
    """
    idle = 0
    waiting = False
    progress: tuple[int, int] | None = None
    while True:
        work = await asyncio.to_thread(_look, engine, campaign_id, chosen)
        if work.wait is None:
            return
        if not work.due:
            if not waiting:
                _log.info("waiting for deferred recipients, or for batches that another process holds")
            waiting = True
            await asyncio.sleep(min(_LONGEST_NAP, work.wait))
            continue
        waiting = False
        idle = idle + 1 if work.progress == progress else 0
        progress = work.progress
        if idle == _IDLE_PASSES:
            raise NotSent(
                f"{work.progress[0]} recipients of campaign {campaign_id} are still queued: the server took "
                f"none of them in {_IDLE_PASSES} passes"
            )
        yield work.due


def _look(engine: Engine, campaign_id: int, chosen: list[int] | None) -> Work:
    with engine.begin() as connection:
        campaigns.finish(connection, campaign_id)
        work = batches.work(connection, campaign_id, chosen)
        campaign = campaigns.get(connection, campaign_id)
    if work.wait is not None and campaign is not None and campaign.state is not CampaignState.RUNNING:
        because = f" ({campaign.state_reason})" if campaign.state_reason else ""
        raise CampaignStopped(
            f"campaign {campaign_id} is {campaign.state}{because}: {work.progress[0]} recipients are left"
        )
    return work
