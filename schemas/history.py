"""What became of a campaign, change by change: counts only, never people."""

from datetime import datetime

from pydantic import Field

from schemas.base import Schema
from schemas.states import CampaignState, EventKind


class Change(Schema):
    """One change of a campaign."""

    at: datetime
    kind: EventKind
    state: CampaignState | None = Field(description="The campaign's from then on; None: it was not kept.")
    who: str = Field(description="The person and machine, a flow run, or Outflow itself.")
    said: str = Field(description="What was changed and why, as in `paused: lunch`.")


class SendingRun(Schema):
    """A process that sent the campaign, or was there to."""

    owner: str = Field(description="Machine and process.")
    flow_run_id: str | None = Field(description="Its flow run in Prefect.")
    started_at: datetime
    ended_at: datetime | None = Field(description="None: it is at it.")
    ended_as: str | None = Field(description="How it ended: done, stopped, failed, vanished.")


class CampaignHistory(Schema):
    """All changes of a campaign, and the processes that sent it, oldest first."""

    campaign: str
    number: int = Field(description="The campaign's, as `outflow status` shows it.")
    state: CampaignState
    due_at: datetime | None = Field(description="When it was to start; None: it was launched at once.")
    schedule: str | None = Field(description="Name of the schedule that it is an edition of.")
    scheduled_for: datetime | None = Field(description="The time of the schedule that it is the edition for.")
    changes: list[Change]
    runs: list[SendingRun]
