"""A person's approval of a campaign before anything of it is sent."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from schemas.base import Schema
from schemas.report import Decision


class ApprovalRequest(Schema):
    """Parameters of the approve-campaign flow: ids only."""

    campaign_id: int = Field(description="Number of the campaign, as `outflow status` shows it.", ge=1)


class Answer(StrEnum):
    """What a person may say to a campaign that waits for approval."""

    APPROVE = "approve"
    REJECT = "reject"
    COMMENT = "comment"  # decides nothing: the campaign is tried again, and waits


class Draft(Schema):
    """What a person should know of a campaign who is to approve it; its text is in the preview."""

    name: str
    accounts: list[str]
    audience: str
    subject: str
    recipients: int = Field(description="Members and groups that would be written to now.")
    excluded: dict[str, int] = Field(description="Members and groups that would be left out, by reason.")
    begins_at: datetime = Field(description="When it is to start, in its own zone.")
    time_zone: str
    own_time: str = Field(default="", description="What each recipient's clock is to show; empty: no matter.")
    is_due: bool = Field(description="Whether that time has come.")
    ends_at: datetime | None = Field(description="When it is too late to send it, in its own zone.")
    tested: str = Field(description="What became of the test messages; empty: none has been sent.")
    comments: list[Decision] = Field(description="What people have said to it, oldest first.")
