"""Topics of Amazon SNS that post to us."""

from datetime import datetime

from pydantic import Field

from schemas.base import Schema


class Topic(Schema):
    """One topic, and whether it is listened to."""

    topic: str = Field(description="Its ARN.")
    asked_at: datetime = Field(description="When it last asked to post to us.")
    confirmed_at: datetime | None = Field(default=None, description="When an operator last agreed.")

    @property
    def state(self) -> str:
        """Say in a word or two where it stands."""
        if self.confirmed_at is None:
            return "waits to be confirmed"
        return "confirmed" if self.confirmed_at >= self.asked_at else "asks again"
