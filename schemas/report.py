"""Figures of a campaign: counts only, never people."""

from datetime import datetime

from pydantic import Field, computed_field

from schemas.base import Schema
from schemas.states import CampaignState


class Totals(Schema):
    """Recipients by attempt state; they add up to `planned`."""

    queued: int = 0
    dispatched: int = 0
    accepted: int = 0
    rejected: int = 0
    unknown: int = 0
    suppressed: int = 0
    cancelled: int = 0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def planned(self) -> int:
        """All recipients of the plan."""
        return (
            self.queued
            + self.dispatched
            + self.accepted
            + self.rejected
            + self.unknown
            + self.suppressed
            + self.cancelled
        )

    @property
    def unfinished(self) -> int:
        """Recipients whose turn is still to come or whose answer is awaited."""
        return self.queued + self.dispatched


class Plan(Schema):
    """What planning made, or found made before."""

    campaign_id: int
    name: str
    state: CampaignState
    batches: list[int] = Field(description="Batch numbers.")
    recipients: int
    excluded: dict[str, int] = Field(description="Members of the audience left out, by reason.")
    created: bool = Field(description="False when the campaign had been planned before.")


class BatchReport(Schema):
    """One batch as a task run left it."""

    number: int
    totals: Totals
    claimed: bool = Field(description="False when another sender held the batch's lease.")
    sent: int = Field(description="Answers this run got.")
    seconds: float

    @property
    def per_second(self) -> float:
        """Answers per second of this run."""
        return self.sent / self.seconds if self.seconds > 0 else 0.0


class CampaignReport(Schema):
    """A campaign's figures, all from the ledger."""

    campaign_id: int
    campaign: str
    state: CampaignState
    totals: Totals
    batches: int
    excluded: dict[str, int] = Field(description="Members of the audience left out when planning, by reason.")
    reasons: dict[str, int] = Field(description="Rejected recipients by reason, most frequent first.")
    started_at: datetime | None
    finished_at: datetime | None
    seconds: float = Field(description="From the first message to the last answer so far.")
    paused_because: str | None = None

    @property
    def success_percent(self) -> float | None:
        """Accepted among all that have a final state, in percent."""
        final = self.totals.planned - self.totals.unfinished
        return 100 * self.totals.accepted / final if final else None

    @property
    def messages_per_second(self) -> float:
        """Answers per second over the whole campaign."""
        answered = self.totals.accepted + self.totals.rejected + self.totals.unknown
        return answered / self.seconds if self.seconds > 0 else 0.0
