"""Campaigns that could not start: paused rather than sent at a time nobody chose, or tried for ever."""

from datetime import UTC, timedelta
from typing import Final

from sqlalchemy import Connection, Engine

from messaging.campaign.local_time import moment_of
from messaging.storage import campaigns
from messaging.storage.campaigns import Campaign
from schemas.states import AlertKind, CampaignState
from schemas.times import local_time, zone_named

LATEST_START: Final = timedelta(hours=4)
"""After its time, without a `not_after`: who chose nine in the morning may not want the evening."""


def why_late(campaign: Campaign) -> str | None:
    """Say why a scheduled campaign is not started any more; None: it may start."""
    if campaign.state is not CampaignState.SCHEDULED or campaign.due_at is None:
        return None
    if campaign.is_late and campaign.deadline is not None:
        deadline = campaign.deadline.astimezone(UTC)
        return f"it was to be sent by {deadline:%F %H:%M} UTC (not_after: {campaign.spec.not_after})"
    begins_at = campaign.due_at
    if campaign.spec.recipient_local:  # due when the first clock on Earth shows the time
        begins_at = max(
            begins_at, moment_of(local_time(campaign.spec.send_at), zone_named(campaign.spec.time_zone))
        )
    late = campaign.read_at - begins_at
    if campaign.spec.not_after or late <= LATEST_START:
        return None
    return (
        f"it was to start at {begins_at.astimezone(UTC):%F %H:%M} UTC, and for "
        f"{late // timedelta(hours=1)} hours nothing was there to start it"
    )


def pause_late(connection: Connection, campaign: Campaign) -> str | None:
    """Pause a campaign that the caller has locked, when it is too late to start it, and tell people.

    Returns why; None: it may start.
    """
    late = why_late(campaign)
    if late is not None:
        campaigns.pause_unsent(connection, campaign, AlertKind.LATE, late)
    return late


def pause_refused(engine: Engine, campaign_id: int, reason: str) -> None:
    """Pause a campaign that was to start and cannot, and tell people; one that has started is left."""
    with engine.begin() as connection:
        campaign = campaigns.lock(connection, campaign_id)
        if campaign.state is CampaignState.SCHEDULED:
            campaigns.pause_unsent(connection, campaign, AlertKind.PAUSED, reason)
