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
    def answered(self) -> int:
        """Recipients whose attempt ended with an answer, or without the hope of one."""
        return self.accepted + self.rejected + self.unknown

    @property
    def unfinished(self) -> int:
        """Recipients whose turn is still to come or whose answer is awaited."""
        return self.queued + self.dispatched


class Plan(Schema):
    """What planning made, or found made before."""

    campaign_id: int
    name: str
    accounts: list[str] = Field(description="References of the accounts that have batches to send.")
    state: CampaignState
    batches: list[int] = Field(description="Batch numbers.")
    recipients: int
    excluded: dict[str, int] = Field(description="Members of the audience left out, by reason.")
    created: bool = Field(description="False when the campaign had been planned before.")


class BatchTotals(Schema):
    """One batch in figures."""

    number: int
    totals: Totals
    seconds: float = Field(description="From its first message to its last answer.")

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return self.totals.answered / self.seconds if self.seconds > 0 else 0.0


class AccountTotals(Schema):
    """One of a campaign's accounts in figures; they add up to the campaign's, without `fell_back`."""

    account: str
    totals: Totals
    fell_back: int = Field(description="Recipients it could not reach, who were tried on another account.")


class BatchReport(Schema):
    """What one task run did with one batch."""

    number: int
    claimed: bool = Field(description="False when another sender held the batch's lease.")
    answers: int = Field(default=0, description="Definite answers and unknowns of this run.")
    totals: Totals | None = Field(default=None, description="The batch as this run left it.")


class Slowdown(Schema):
    """A limit that goes slower than configured, or stands still, because the provider asked for it."""

    what: str = Field(description="The account, or the provider group of the recipients: gmail.com.")
    per_second: float | None = Field(description="Messages per second now; None: none until `until`.")
    until: datetime | None = Field(description="When it goes on, or is back at its usual rate.")
    reason: str = Field(description="The answer's codes, as in 421 4.7.28.")


class Opening(Schema):
    """When recipients may be sent to who cannot be yet."""

    at: datetime
    zone: str = Field(description="Their time zone; empty: the campaign's.")
    is_quiet: bool = Field(description="Whether quiet hours end then; else the campaign's time comes there.")


class Decision(Schema):
    """What was decided about a campaign after its planning."""

    at: datetime
    who: str = Field(description="The person and machine, a flow run, or Outflow itself.")
    said: str = Field(description="What was decided, as in `paused: lunch`.")


class Controlled(Schema):
    """What a command changed about a campaign."""

    campaign: str
    number: int = Field(description="The campaign's, as `outflow status` shows it.")
    state: CampaignState
    changed: bool = Field(description="False when it was so already.")
    recipients: int = Field(description="Recipients whose state the command changed.")
    said: str = Field(description="The same, in a sentence.")


class CampaignReport(Schema):
    """A campaign's figures, all from the ledger."""

    campaign_id: int
    campaign: str
    state: CampaignState
    totals: Totals
    batches: int
    accounts: list[AccountTotals] = Field(
        default_factory=list, description="Each account's part, when the campaign has more than one."
    )
    excluded: dict[str, int] = Field(description="Members of the audience left out when planning, by reason.")
    reasons: dict[str, int] = Field(description="Rejected and unknown by reason, most frequent first.")
    due_at: datetime | None = Field(
        default=None, description="When it is to start, in its time zone; None: it was launched at once."
    )
    started_at: datetime | None
    finished_at: datetime | None
    seconds: float = Field(description="From the first message to the last answer so far.")
    paused_because: str | None = None
    deferred: int = Field(default=0, description="Of the queued, those whose next turn is not yet due.")
    next_turn_at: datetime | None = Field(default=None, description="When the first of the deferred is due.")
    openings: list[Opening] = Field(
        default_factory=list, description="Time zones whose recipients wait, the one to go on first first."
    )
    slowdowns: list[Slowdown] = Field(default_factory=list, description="Limits that are tighter for now.")
    decisions: list[Decision] = Field(default_factory=list, description="The last ones, oldest first.")

    @property
    def success_percent(self) -> float | None:
        """Accepted among those with a definite answer, in percent."""
        answered = self.totals.accepted + self.totals.rejected
        return 100 * self.totals.accepted / answered if answered else None

    @property
    def messages_per_second(self) -> float:
        """Answers per second over the whole campaign."""
        return self.totals.answered / self.seconds if self.seconds > 0 else 0.0


class TrackingReport(Schema):
    """What of a campaign's emails tells who reads them."""

    links: int = Field(description="Links of the HTML part whose clicks are counted.")
    opens: bool = Field(description="Whether a picture tells when a message is opened.")
    left: list[str] = Field(description="What is not tracked though it was asked for, and why.")
    problem: str = Field(default="", description="Why nothing will be heard of it; empty: nothing shows.")


class Preflight(Schema):
    """What launching a campaign would do."""

    campaign: str
    state: CampaignState | None = Field(description="None when the campaign was not planned yet.")
    contacts: int = Field(description="Members of the audience.")
    groups: int = Field(default=0, description="Groups of WhatsApp that the campaign names.")
    recipients: int = Field(description="Members and groups to write to; of a planned campaign, who is left.")
    excluded: dict[str, int] = Field(description="Members and groups left out, by reason.")
    empty_fields: dict[str, int] = Field(
        description="Merge fields of the templates that some contacts have no value for, and how many."
    )
    attachments: dict[str, int] = Field(description="Files that every message carries, and their bytes.")
    tracking: TrackingReport | None = Field(
        default=None, description="What tells who reads it; None when nothing was asked for."
    )
    seconds_at_least: float | None = Field(
        description="Time the campaign's own rate asks for; None: no limit."
    )
