"""What a person limits of an account."""

from pydantic import Field

from schemas.base import Schema
from schemas.durations import SECONDS

_NEARLY = 1e-6


class AccountLimits(Schema):
    """The limits of an account; they hold for all its campaigns together."""

    account: str
    rate: str | None = Field(description="Messages at most, as in 200/s; None for no limit.")
    per_day: int | None = Field(description="Messages at most in any 24 hours.")
    domains: dict[str, str] = Field(
        description="Rate by provider group: gmail.com also counts googlemail.com."
    )

    @property
    def sentence(self) -> str:
        """All of it on one line, for people."""
        parts = [self.rate] if self.rate else []
        parts += [f"{self.per_day:,} in 24 hours"] if self.per_day is not None else []
        parts += [f"{domain} {rate}" for domain, rate in self.domains.items()]
        return ", ".join(parts) or "no limit"


def rate_text(per_second: float) -> str:
    """Return a rate as people write it: 200/s, 50/m."""
    each = {unit: per_second * seconds for unit, seconds in SECONDS.items()}
    whole = (unit for unit, n in each.items() if n >= 1 and abs(n - round(n)) < _NEARLY)
    unit = next(whole, None) or next((unit for unit, n in each.items() if n >= 1), "d")
    return f"{round(each[unit], 2):g}/{unit}"
