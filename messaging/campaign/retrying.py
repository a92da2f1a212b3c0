"""Retrying: an operator's choice of what of a planned campaign is sent again."""

import logging
from collections.abc import Sequence

from sqlalchemy import Connection, Engine

from messaging.campaign.finding import campaign_named, refuse_cancelled, refuse_late, refuse_missing_batches
from messaging.errors import InputError
from messaging.storage import attempts, campaigns, decisions
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
    with engine.begin() as connection:
        campaigns.finish(connection, campaign.id)  # perhaps somebody is still to be tried on another account
        refuse_missing_batches(connection, campaign, request.batches)
        found = totals_of(connection, campaign.id, request.batches)
    chosen = sum(getattr(found, state) for state in request.states)
    refuse_late(campaign, found.queued + chosen)
    if not found.unfinished and not chosen:
        raise InputError(_nobody(request))


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
        requeued = attempts.requeue(connection, campaign.id, request.states, request.batches, actor)
        found = totals_of(connection, campaign.id, request.batches)
        refuse_late(campaign, found.queued)
        if requeued:
            _note(connection, campaign.id, request, requeued, actor)
        if found.unfinished and campaign.state in {CampaignState.PAUSED, CampaignState.FINISHED}:
            campaigns.resume(connection, campaign, campaign.spec, actor)
    if requeued:
        _log.info("%d recipients were put back into the queue", requeued)
    elif not found.unfinished:
        _log.info("%s", _nobody(request))
    return requeued


def _note(connection: Connection, campaign_id: int, request: RetryRequest, requeued: int, actor: str) -> None:
    where = f" in batch {', '.join(map(str, request.batches))}" if request.batches else ""
    said = f"to be sent to again: {requeued:,} {_either(request.states)}{where}"
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
