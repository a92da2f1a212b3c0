"""Campaigns by name or number, or a sentence that says which there are and what can be done with them."""

from datetime import UTC
from typing import Final

from sqlalchemy import Connection, Engine

from messaging.errors import InputError
from messaging.storage import batches, campaigns
from messaging.storage.campaigns import Campaign
from schemas.states import CampaignState

WAITING: Final = frozenset({CampaignState.DRAFT, CampaignState.SCHEDULED})
"""States of a campaign that is not planned yet."""
UNSTARTED: Final = WAITING | {CampaignState.PAUSED}
"""States of a campaign without a plan that may still start."""
_MOST_LISTED = 20


def campaign_named(engine: Engine, name: str) -> Campaign:
    """Return the campaign of that name.

    Raises:
        InputError: There is none; the text lists those there are.
    """
    with engine.begin() as connection:
        found = campaigns.find(connection, name)
        if found is None:
            known = ", ".join(campaigns.names(connection)[:_MOST_LISTED]) or "none yet"
            raise InputError(f"there is no campaign {name!r} (campaigns: {known})")
        return found


def campaign_numbered(engine: Engine, number: int) -> Campaign:
    """Return the campaign of that number.

    Raises:
        InputError: There is none.
    """
    with engine.begin() as connection:
        found = campaigns.get(connection, number)
        if found is None:
            raise InputError(f"there is no campaign {number}; `outflow status` lists them")
        return found


def refuse_cancelled(campaign: Campaign) -> None:
    """Say that nothing more of a cancelled campaign is sent.

    Raises:
        InputError: It was cancelled.
    """
    if campaign.state is CampaignState.CANCELLED:
        raise InputError(f"campaign {campaign.spec.name!r} was cancelled: give it a new name to send it anew")


def refuse_waiting(campaign: Campaign) -> None:
    """Say that a campaign is not sent before its time, or before it is approved.

    Raises:
        InputError: It waits.
    """
    name = campaign.spec.name
    if campaign.state is CampaignState.DRAFT:
        raise InputError(f"campaign {name!r} waits for approval: outflow approve {name!r}")
    if campaign.state in WAITING and campaign.due_at is not None:
        raise InputError(
            f"campaign {name!r} is scheduled for {campaign.due_at:%F %H:%M} UTC; to send it now, send its "
            "file with --at now"
        )


def refuse_late(campaign: Campaign, left: int) -> None:
    """Say that it is too late to send to the recipients who are left.

    Raises:
        InputError: The campaign's time is over.
    """
    if not left or campaign.deadline is None or not campaign.is_late:
        return
    deadline = campaign.deadline.astimezone(UTC)
    instead = (
        "a campaign of a new name"
        if campaign.state is CampaignState.FINISHED or campaign.schedule_id is not None
        else "a later not_after in its definition, launched again"
    )
    raise InputError(
        f"campaign {campaign.spec.name!r} was to be sent by {deadline:%Y-%m-%d %H:%M} UTC (not_after: "
        f"{campaign.spec.not_after}), so nothing more is sent; who is left can still be reached by {instead}"
    )


def refuse_missing_batches(connection: Connection, campaign: Campaign, numbers: list[int] | None) -> None:
    """Say which of these batches the campaign does not have.

    Raises:
        InputError: One of them is not there.
    """
    known = batches.numbers(connection, campaign.id)
    missing = sorted(set(numbers or []) - set(known))
    if missing:
        there_are = f"it has 1 to {len(known)}" if known else "it has none"
        raise InputError(f"campaign {campaign.spec.name!r} has no batch {missing[0]}: {there_are}")
