"""Campaigns that are due, and editions: those that a schedule has made."""

from datetime import datetime

from sqlalchemy import Connection, func, select, text, update

from messaging.storage import alerts, decisions
from messaging.storage.tables import campaigns
from schemas.states import AlertKind, CampaignState, EventKind

_ENDED = [CampaignState.FINISHED, CampaignState.CANCELLED]


def due(connection: Connection) -> list[int]:
    """Return the campaigns whose time to start has come, the longest due first."""
    found = (
        select(campaigns.c.id)
        .where(campaigns.c.state == CampaignState.SCHEDULED, campaigns.c.due_at <= text("clock_timestamp()"))
        .order_by(campaigns.c.due_at, campaigns.c.id)
    )
    return list(connection.execute(found).scalars())


def skip(connection: Connection, campaign_id: int, reason: str) -> None:
    """Cancel an edition that was just made and is not to be sent, and tell people why."""
    cancelled = (
        update(campaigns)
        .where(campaigns.c.id == campaign_id)
        .values(
            state=CampaignState.CANCELLED,
            state_reason=f"skipped: {reason}",
            finished_at=text("clock_timestamp()"),
        )
        .returning(campaigns.c.name)
    )
    name = connection.execute(cancelled).scalar_one()
    decisions.note(connection, campaign_id, EventKind.CANCELLED, decisions.OURSELVES, f"skipped: {reason}")
    said = f"campaign '{name}' (number {campaign_id}) was skipped, so nobody gets it: {reason}"
    alerts.alert(connection, AlertKind.SKIPPED, said, campaign_id=campaign_id)


def unfinished(connection: Connection, schedule_id: int) -> tuple[str, CampaignState] | None:
    """Return name and state of an edition that is, or will be, sent; not of one that was paused unsent."""
    unsent = (campaigns.c.state == CampaignState.PAUSED) & campaigns.c.planned_at.is_(None)
    found = (
        select(campaigns.c.name, campaigns.c.state)
        .where(campaigns.c.schedule_id == schedule_id, campaigns.c.state.not_in(_ENDED), ~unsent)
        .order_by(campaigns.c.id.desc())
        .limit(1)
    )
    row = connection.execute(found).one_or_none()
    return (row.name, CampaignState(row.state)) if row is not None else None


def count(connection: Connection, schedule_id: int) -> tuple[int, str]:
    """Return how many editions a schedule has, and the name of the newest."""
    of_it = campaigns.c.schedule_id == schedule_id
    newest = select(campaigns.c.name).where(of_it).order_by(campaigns.c.id.desc()).limit(1)
    many = connection.execute(select(func.count()).select_from(campaigns).where(of_it)).scalar_one()
    return many, connection.execute(newest).scalar_one_or_none() or ""


def is_made(connection: Connection, schedule_id: int, scheduled_for: datetime) -> bool:
    """Say whether a schedule has its edition of that time."""
    found = select(campaigns.c.id).where(
        campaigns.c.schedule_id == schedule_id, campaigns.c.scheduled_for == scheduled_for
    )
    return connection.execute(found).one_or_none() is not None
