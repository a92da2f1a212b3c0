"""How an account is: its connection, its limits, what it sent."""

from datetime import datetime

from pydantic import Field

from schemas.base import Schema
from schemas.limits import AccountLimits
from schemas.states import AccountState


class AccountStatus(Schema):
    """One account, as its heartbeats and the ledger tell."""

    account: str
    state: AccountState | None = Field(description="None: no campaign has used it yet.")
    reason: str | None = Field(default=None, description="Why it is paused, when it is.")
    paused_until: datetime | None = Field(default=None, description="None: until a person resumes.")
    identity: str = Field(default="", description="Who we are to the provider: a login and a server.")
    seen_at: datetime | None = Field(default=None, description="When a process that uses it said so.")
    limits: AccountLimits
    used: int = Field(description="Messages of the last 24 hours, as a daily cap counts them.")
    per_day: int | None = Field(description="How many they may be; None: any number.")
