"""What of a campaign can be sent now, and when the rest can."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from functools import partial
from math import inf
from typing import Final

from sqlalchemy import Engine

from messaging.campaign.finding import campaign_numbered
from messaging.campaign.sending import CampaignRun
from messaging.campaign.turns import LONGEST_HOLD
from messaging.campaign.windows import quiet_zones
from messaging.errors import CampaignStopped, NotSent
from messaging.storage import batches, campaign_runs, campaigns
from messaging.storage.batches import Opening, Work
from messaging.storage.campaigns import Campaign
from messaging.storage.failing import through_outage
from schemas.states import CampaignState

_log = logging.getLogger(__name__)

PATIENCE: Final = 600.0  # seconds that the server may be away before the run fails, to be taken up later
LONGEST_NAP: Final = 5.0  # seconds, after which a pause or another process's end is noticed
LONGEST_STAND_BY: Final = 60.0  # seconds that an account is kept open for who may fall back to it
_SHORT_NAP: Final = 0.2  # seconds, in which another process has taken a batch
_IDLE_PASSES: Final = 3  # passes over due batches without one answer, after which we stop


async def has_work(engine: Engine, campaign_id: int, leg: int, chosen: list[int] | None) -> bool:
    """Wait until one of a campaign's accounts has something to send; False: nothing is left that it could.

    Something may come for it as long as earlier accounts are not done: whom they do not reach.

    Raises:
        CampaignStopped: As for `next_work`.
        DatabaseError: The ledger was away for long.
    """
    told = ""
    while True:
        _, work = await through_outage(partial(_look, engine, campaign_id, leg, chosen))
        if work.due or work.wait is None:
            return bool(work.due)
        if work.opening is not None and told != (told := _said(work.opening)):
            _log.info(told)
        await asyncio.sleep(min(LONGEST_NAP, work.wait))


async def next_work(run: CampaignRun, chosen: list[int] | None) -> AsyncIterator[dict[int, int]]:
    """Yield the account's batches to send, until nothing is left of those chosen.

    None: of all of them. They come by number, with the epochs that their leases have.

    Waits for deferred recipients, for limits and a server that is away, for batches whose lease another
    process holds, and up to a minute for those who may still fall back to this account; for longer `has_work`
    does, which needs no account. Batches made for people who fell back are added to those chosen. Calls the
    campaign finished when nothing is queued or dispatched.

    Raises:
        CampaignStopped: It is paused or cancelled, or its deadline has passed, and recipients are left.
        NotSent: The server was away for long, or took nothing; who is left stays queued.
        DatabaseError: The ledger was away for long.
    """
    idle = 0
    told = ""
    useful_at = time.monotonic()
    progress: tuple[int, int] | None = None
    while True:
        look = partial(_look, run.engine, run.campaign_id, run.leg, chosen)
        asked = time.monotonic()
        campaign, work = await through_outage(look)
        _follow(run, campaign, asked)
        if work.wait is None:
            return
        if work.wait < inf:
            useful_at = time.monotonic()
        elif time.monotonic() - useful_at > LONGEST_STAND_BY:
            return
        left = f"{work.progress[0]} recipients of campaign {run.campaign_id} are still queued"
        if run.failing_for > PATIENCE:
            raise NotSent(f"{left}: the server has been away for {run.failing_for / 60:.0f} minutes")
        wait = run.limits.closed_for()
        if not work.due or wait > LONGEST_HOLD:
            if told != (told := _said(work.opening)):
                _log.info(told)
            idle = 0
            await asyncio.sleep(min(LONGEST_NAP, max(wait, work.wait)))
            continue
        told = ""
        # While the server fails, our patience with it counts instead.
        idle = idle + 1 if work.progress == progress and not run.is_failing else 0
        progress = work.progress
        if idle == _IDLE_PASSES:
            raise NotSent(f"{left}: the server took none of them in {_IDLE_PASSES} passes")
        run.halted = False
        taken = run.claims.taken
        yield work.epochs
        if run.claims.taken == taken:  # others are just taking what was free: that is no lack of progress
            progress = None
            await asyncio.sleep(_SHORT_NAP)


def _follow(run: CampaignRun, campaign: Campaign | None, asked: float) -> None:
    """Take over the ledger's clock and the campaign's deadline, as they were at that monotonic time."""
    if campaign is not None:
        run.clock.observe(asked, campaign.read_at.timestamp(), time.monotonic())
        run.deadline = campaign.deadline  # another launch may have put it off


def _said(opening: Opening | None) -> str:
    """Say what is waited for."""
    if opening is None:
        return "waiting for a limit, for deferred recipients, or for other accounts or processes"
    where = f" in {opening.zone}" if opening.zone else ""
    what = "the end of quiet hours" if opening.is_quiet else "the campaign's time"
    return f"waiting for {what}{where}, at {opening.at:%F %H:%M} UTC"


def _look(
    engine: Engine, campaign_id: int, leg: int, chosen: list[int] | None
) -> tuple[Campaign | None, Work]:
    """Return the campaign and what there is to do."""
    with engine.begin() as connection:
        campaign = campaigns.get(connection, campaign_id)
        if campaign is not None and campaign.deadline is not None and campaign.is_late:
            passed = f"its deadline passed at {campaign.deadline:%F %H:%M} UTC"
            campaigns.pause(connection, campaign_id, passed)
        quiet = {} if campaign is None else quiet_zones(connection, campaign)
        made: list[int] = []
        for _ in range(2):  # the last answer may come between: only then does who was not reached fall back
            made += campaigns.finish(connection, campaign_id)
            numbers = None if chosen is None else [*chosen, *made]
            work = batches.work(connection, campaign_id, numbers, leg, quiet)
            if work.wait is not None:
                break
        campaign = campaigns.get(connection, campaign_id)
    if chosen is not None:
        chosen += made
    if work.wait is not None and campaign is not None and campaign.state is not CampaignState.RUNNING:
        because = f" ({campaign.state_reason})" if campaign.state_reason else ""
        raise CampaignStopped(
            f"campaign {campaign_id} is {campaign.state}{because}: {work.progress[0]} recipients are left"
        )
    return campaign, work


def further_runs(engine: Engine, campaign_id: int) -> int:
    """Return how many more processes may send a campaign that one sends already.

    With all who do now they are its `workers`, but not more than it has batches left.

    Raises:
        InputError: There is no such campaign.
    """
    workers = campaign_numbered(engine, campaign_id).spec.workers
    if workers == 1:
        return 0
    with engine.begin() as connection:
        useful = min(workers, batches.work(connection, campaign_id, None).unfinished)
        return max(0, useful - max(1, campaign_runs.attending(connection, campaign_id)))
