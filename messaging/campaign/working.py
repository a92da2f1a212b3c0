"""What of a campaign can be sent now, and when the rest can."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy import Engine

from messaging.campaign.sending import CampaignRun
from messaging.campaign.turns import LONGEST_HOLD
from messaging.errors import CampaignStopped, NotSent
from messaging.storage import batches, campaigns
from messaging.storage.batches import Work
from messaging.storage.failing import through_outage
from schemas.states import CampaignState

_log = logging.getLogger(__name__)

PATIENCE: Final = 600.0  # seconds that the server may be away before the run fails, to be taken up later
LONGEST_NAP: Final = 5.0  # seconds, after which a pause or another process's end is noticed
_IDLE_PASSES = 3  # passes over due batches without one answer, after which we stop


async def has_work(engine: Engine, campaign_id: int, leg: int, chosen: list[int] | None) -> bool:
    """Wait until one of a campaign's accounts has something to send; False: nothing is left that it could.

    Something may come for it as long as earlier accounts are not done: whom they do not reach.

    Raises:
        CampaignStopped: As for `next_work`.
        DatabaseError: The ledger was away for long.
    """
    while True:
        _, work = await through_outage(partial(_look, engine, campaign_id, leg, chosen))
        if work.due or work.wait is None:
            return bool(work.due)
        await asyncio.sleep(min(LONGEST_NAP, work.wait))


async def next_work(run: CampaignRun, chosen: list[int] | None) -> AsyncIterator[list[int]]:
    """Yield the numbers of the account's batches to send, until nothing is left of those chosen.

    None: of all of them.

    Waits for deferred recipients, for limits and a server that is away, for batches whose lease another
    process holds, and for those who may still fall back to this account. Batches made for people who fell
    back are added to those chosen. Calls the campaign finished when nothing is queued or dispatched.

    Raises:
        CampaignStopped: It is paused or cancelled, or its deadline has passed, and recipients are left.
        NotSent: The server was away for long, or took nothing; who is left stays queued.
        DatabaseError: The ledger was away for long.
    """
    idle = 0
    waiting = False
    progress: tuple[int, int] | None = None
    while True:
        look = partial(_look, run.engine, run.campaign_id, run.leg, chosen)
        run.deadline, work = await through_outage(look)  # another launch may have put it off
        if work.wait is None:
            return
        left = f"{work.progress[0]} recipients of campaign {run.campaign_id} are still queued"
        if run.failing_for > PATIENCE:
            raise NotSent(f"{left}: the server has been away for {run.failing_for / 60:.0f} minutes")
        wait = run.limits.closed_for()
        if not work.due or wait > LONGEST_HOLD:
            if not waiting:
                _log.info("waiting for a limit, for deferred recipients, or for other accounts or processes")
            waiting = True
            idle = 0
            await asyncio.sleep(min(LONGEST_NAP, max(wait, work.wait)))
            continue
        waiting = False
        idle = idle + 1 if work.progress == progress else 0
        progress = work.progress
        if idle == _IDLE_PASSES:
            raise NotSent(f"{left}: the server took none of them in {_IDLE_PASSES} passes")
        run.halted = False
        yield work.due


def _look(
    engine: Engine, campaign_id: int, leg: int, chosen: list[int] | None
) -> tuple[datetime | None, Work]:
    """Return the campaign's deadline and what there is to do."""
    with engine.begin() as connection:
        campaign = campaigns.get(connection, campaign_id)
        if campaign is not None and campaign.deadline is not None and campaign.is_late:
            passed = f"its deadline passed at {campaign.deadline:%F %H:%M} UTC"
            campaigns.pause(connection, campaign_id, passed)
        made = campaigns.finish(connection, campaign_id)
        work = batches.work(connection, campaign_id, None if chosen is None else [*chosen, *made], leg)
        campaign = campaigns.get(connection, campaign_id)
    if chosen is not None:
        chosen += made
    if work.wait is not None and campaign is not None and campaign.state is not CampaignState.RUNNING:
        because = f" ({campaign.state_reason})" if campaign.state_reason else ""
        raise CampaignStopped(
            f"campaign {campaign_id} is {campaign.state}{because}: {work.progress[0]} recipients are left"
        )
    return campaign.deadline if campaign else None, work
