"""Retrying: an operator's choice of what of a planned campaign is sent again."""

import logging
from collections.abc import Sequence

from sqlalchemy import Connection, Engine

from messaging.campaign.finding import (
    campaign_named,
    refuse_cancelled,
    refuse_late,
    refuse_missing_batches,
    refuse_waiting,
)
from messaging.errors import InputError
from messaging.storage import attempts, campaigns, decisions
from messaging.storage.campaigns import Campaign
from messaging.storage.totals import totals_of
from schemas.campaign import RetryRequest
from schemas.states import AttemptState, CampaignState, EventKind

_log = logging.getLogger(__name__)


def check_retry(engine: Engine, request: RetryRequest) -> None:
    """Refuse what would send nothing, before anything is started for it.

    Raises:
        InputError: There is no such campaign or batch, the campaign was cancelled or is too late, or there is
            nobody to send to; the text says which.
    """
    campaign = campaign_named(engine, request.campaign)
    refuse_cancelled(campaign)
    if campaign.planned_at is None:
        _refuse_unsent(campaign, request)
        return
    with engine.begin() as connection:
        campaigns.finish(connection, campaign.id)  # perhaps somebody is still to be tried on another account
        refuse_missing_batches(connection, campaign, request.batches)
        found = totals_of(connection, campaign.id, request.batches or None)
    chosen = sum(getattr(found, state) for state in request.states)
    refuse_late(campaign, found.queued + chosen)
    if not found.unfinished and not chosen:
        raise InputError(_nobody(request))


def resume_unsent(engine: Engine, request: RetryRequest, actor: str) -> Campaign | None:
    """Schedule a campaign again that was paused before it was planned, and return it; None: it is planned.

    Its time stays when that is still ahead, or `not_after` counts from it; else it is due now.

    Raises:
        InputError: There is no such campaign or batch; it was cancelled, is too late, or waits.
    """
    campaign = campaign_named(engine, request.campaign)
    with engine.begin() as connection:
        campaign = campaigns.lock(connection, campaign.id)
        refuse_cancelled(campaign)
        if campaign.planned_at is not None:
            return None
        _refuse_unsent(campaign, request)
        if campaign.state is CampaignState.PAUSED:
            due_at = campaign.due_at or campaign.read_at
            if due_at < campaign.read_at and not campaign.spec.not_after:
                due_at = campaign.read_at
            campaigns.reschedule(connection, campaign, due_at, actor, request.because)
        return campaigns.lock(connection, campaign.id)


def _refuse_unsent(campaign: Campaign, request: RetryRequest) -> None:
    if request.batches:
        raise InputError(
            f"campaign {campaign.spec.name!r} has no batch {request.batches[0]}: it has none yet"
        )
    if campaign.state is CampaignState.DRAFT or not campaign.is_due:
        refuse_waiting(campaign)
    refuse_late(campaign, 1)


def requeue(engine: Engine, request: RetryRequest, actor: str) -> int:
    """Put the chosen recipients back to `queued`, let a stopped campaign run on, and return how many.

    Who decided is noted with each recipient and with the campaign.

    Raises:
        InputError: There is no such campaign or batch, or the campaign was cancelled or is too late.
    """
    campaign = campaign_named(engine, request.campaign)
    with engine.begin() as connection:
        campaigns.finish(connection, campaign.id)
        campaign = campaigns.lock(connection, campaign.id)
        refuse_cancelled(campaign)
        refuse_missing_batches(connection, campaign, request.batches)
        requeued = attempts.requeue(connection, campaign.id, request, actor)
        found = totals_of(connection, campaign.id, request.batches or None)
        refuse_late(campaign, found.queued)
        if requeued:
            _note(connection, campaign.id, request, requeued, actor)
        if found.unfinished and campaign.state in {CampaignState.PAUSED, CampaignState.FINISHED}:
            campaigns.resume(connection, campaign, campaign.spec, actor, request.because)
    if requeued:
        _log.info("%d recipients were put back into the queue", requeued)
    elif not found.unfinished:
        _log.info("%s", _nobody(request))
    return requeued


def _note(connection: Connection, campaign_id: int, request: RetryRequest, requeued: int, actor: str) -> None:
    where = f" in batch {', '.join(map(str, request.batches))}" if request.batches else ""
    most = f", at most {request.limit:,}" if request.limit else ""
    why = f": {request.because}" if request.because else ""
    said = f"to be sent to again: {requeued:,} {_either(request.states)}{where}{most}{why}"
    decisions.note(connection, campaign_id, EventKind.REQUEUED, actor, said)


def _nobody(request: RetryRequest) -> str:
    where = f"batch {', '.join(map(str, request.batches))} of " if request.batches else ""
    if request.states:
        return (
            f"nobody in {where}campaign {request.campaign!r} is {_either(request.states)}, and nothing is "
            "missing, so nothing was sent"
        )
    return (
        f"nothing of {where}campaign {request.campaign!r} is missing, so nothing was sent; to send again to "
        "those who were rejected: --state rejected"
    )


def _either(states: Sequence[AttemptState]) -> str:
    return " or ".join(states)
