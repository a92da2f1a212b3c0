"""What became of a campaign, from the ledger."""

from datetime import datetime

from sqlalchemy import Engine

from messaging.campaign.finding import campaign_numbered
from messaging.reports.console import show
from messaging.storage import decisions, histories
from schemas.history import CampaignHistory


def campaign_history(engine: Engine, campaign_id: int) -> CampaignHistory:
    """Return every change of a campaign and who sent it, in one snapshot.

    Raises:
        InputError: There is no such campaign.
    """
    campaign = campaign_numbered(engine, campaign_id)
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        changes = decisions.history(connection, campaign_id)
        if campaign.spec.fallback:
            fallen = histories.fallen_back(connection, campaign_id)
            changes = sorted([*changes, *fallen], key=lambda change: change.at)
        schedule, scheduled_for = histories.edition(connection, campaign_id)
        return CampaignHistory(
            campaign=campaign.spec.name,
            number=campaign.id,
            state=campaign.state,
            due_at=campaign.due_at,
            schedule=schedule,
            scheduled_for=scheduled_for,
            changes=changes,
            runs=histories.runs(connection, campaign_id),
        )


def show_history(history: CampaignHistory) -> None:
    """Print every change of a campaign, a line each, and who sent it; times are those of this machine."""
    show(f"Campaign {history.campaign!r} is {history.state}.")
    if history.due_at is not None:
        edition = f", an edition of schedule {history.schedule!r}" if history.schedule else ""
        show(f"It was to start at {_local(history.due_at)}{edition}.")
    for change in history.changes:
        show(f"{_local(change.at)}  {change.state or '':9}  {change.said}  (by {change.who})")
    for run in history.runs:
        ended = f"{run.ended_as or 'ended'} at {_local(run.ended_at)}" if run.ended_at else "is at it"
        flow_run = f", flow run {run.flow_run_id}" if run.flow_run_id else ""
        show(f"Sent by {run.owner}{flow_run}: from {_local(run.started_at)}, {ended}.")


def _local(at: datetime) -> str:
    """Return a time in the zone of this machine, with its name."""
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S %Z}"
