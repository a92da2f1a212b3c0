"""What a reading of a mailbox or a queue found: counts only, never people."""

from pydantic import Field

from schemas.base import OptionalText, Schema


class FeedbackReport(Schema):
    """One reading of one mailbox or queue."""

    source: str = Field(description="As in imap-mailbox/bounces.")
    seen: int = Field(default=0, description="Mails or queue messages read.")
    recorded: int = Field(default=0, description="New events.")
    repeated: int = Field(default=0, description="Events that were known before.")
    unmatched: int = Field(default=0, description="New events that belong to no attempt of ours.")
    suppressed: int = Field(default=0, description="Addresses that are not written to any more.")
    set_aside: int = Field(default=0, description="Mails or messages that could not be read.")
    kinds: dict[str, int] = Field(default_factory=dict, description="New events by kind.")
    paused: list[int] = Field(
        default_factory=list, description="Campaigns paused, as too much of them came back."
    )
    problem: str = Field(default="", description="Why the reading could not go on.")


class BouncesRequest(Schema):
    """Parameters of the process-bounces flow: references only."""

    mailbox: OptionalText = Field(
        default="",
        description="Mailbox to read, as in imap-mailbox/bounces. Empty: all that are saved.",
        examples=["imap-mailbox/bounces"],
    )
    again: bool = Field(
        default=False,
        description="Read all unseen mail, also what was set aside before; nothing is recorded twice.",
    )
    seconds: float = Field(
        default=240,
        gt=0,
        le=86_400,
        description="Seconds after which no more of a mailbox is read; the next reading goes on from there.",
    )

    @property
    def named(self) -> str:
        """What is read, as the name of a run says it."""
        return self.mailbox or "all-mailboxes"


class Reclassified(Schema):
    """What today's rules make of the mail that was kept: counts only, never people."""

    mails: int = Field(default=0, description="Mails read again.")
    changed: int = Field(default=0, description="Mails of which something else is said now.")
    changes: dict[str, dict[str, int]] = Field(
        default_factory=dict,
        description="Findings by what was said and what is said now, as in soft, system -> hard, moved.",
    )
    lifted: int = Field(default=0, description="Suppressions that rested on what is not said any more.")
    suppressed: int = Field(default=0, description="Addresses that are not written to any more.")
    applied: bool = Field(default=False, description="Whether the ledger was changed, or only asked.")
    seconds: float = 0.0


class EventsRequest(Schema):
    """Parameters of the process-events flow: references only."""

    queue: OptionalText = Field(
        default="",
        description="Queue to read, as in ses-queue/events. Empty: all that are saved.",
        examples=["ses-queue/events"],
    )
    seconds: float = Field(
        default=50, gt=0, le=86_400, description="Seconds after which nothing more is received."
    )
    most: int = Field(
        default=50_000, ge=1, description="Messages of a queue after which nothing more is received."
    )
    wait: int = Field(
        default=20, ge=1, le=20, description="Seconds that an empty queue is waited for before the run ends."
    )

    @property
    def named(self) -> str:
        """What is read, as the name of a run says it."""
        return self.queue or "all-queues"
