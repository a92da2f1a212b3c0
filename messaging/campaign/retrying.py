"""Retrying: an operator's choice of what of a planned campaign is sent again."""

from sqlalchemy import Engine

from messaging.campaign.finding import campaign_named
from messaging.errors import InputError
from messaging.storage import attempts, batches, campaigns
from messaging.storage.totals import totals_of
from schemas.campaign import RetryRequest
from schemas.states import CampaignState


def requeue(engine: Engine, request: RetryRequest, actor: str) -> int:
    """Put the chosen recipients back to `queued`, let a paused campaign run on, and return how many.

    Who decided is noted with each recipient.

    Raises:
        InputError: There is no such campaign or batch.
    """
    campaign = campaign_named(engine, request.campaign)
    with engine.begin() as connection:
        campaign = campaigns.lock(connection, campaign.id)
        known = batches.numbers(connection, campaign.id)
        missing = sorted(set(request.batches or []) - set(known))
        if missing:
            raise InputError(
                f"campaign {request.campaign!r} has no batch {missing[0]}: it has 1 to {len(known)}"
            )
        requeued = attempts.requeue(connection, campaign.id, request.states, request.batches, actor)
        left = totals_of(connection, campaign.id).unfinished
        if left and campaign.state in {CampaignState.PAUSED, CampaignState.FINISHED}:
            campaigns.resume(connection, campaign.id, campaign.spec)
    return requeued
