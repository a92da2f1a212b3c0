"""What a person limits of an account."""

from pydantic import Field

from schemas.base import Schema
from schemas.durations import SECONDS

_NEARLY = 1e-6


class AllowedByProvider(Schema):
    """What the provider of an account allows, as it said last; None: it names no limit."""

    rate: str | None = Field(default=None, description="Messages at most, as in 14/s.")
    per_day: int | None = Field(default=None, description="Messages at most in any 24 hours.")
    portfolio: str | None = Field(
        default=None, description="Of a WhatsApp account: the business portfolio whose numbers share a limit."
    )
    portfolio_per_day: int | None = Field(
        default=None,
        description="Different people at most in any 24 hours, over all accounts in the portfolio.",
    )

    def __str__(self) -> str:
        """Say it, as in 14/s and 50,000 a day; nothing, if it names no limit."""
        parts = [self.rate] if self.rate else []
        parts += [f"{self.per_day:,} a day"] if self.per_day is not None else []
        if self.portfolio_per_day is not None:
            parts.append(f"{self.portfolio_per_day:,} people a day in portfolio {self.portfolio}")
        return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


class AccountLimits(Schema):
    """The limits of an account; they hold for all its campaigns together.

    Where a person and the provider name one, the smaller counts.
    """

    account: str
    rate: str | None = Field(default=None, description="Messages at most, as in 200/s; None for no limit.")
    per_day: int | None = Field(default=None, description="Messages at most in any 24 hours.")
    domains: dict[str, str] = Field(
        default_factory=dict, description="Rate by provider group: gmail.com also counts googlemail.com."
    )
    runs: int | None = Field(
        default=None,
        description="Flow runs that may use it at once, where Prefect was asked; None for no limit.",
    )
    provider: AllowedByProvider = AllowedByProvider()

    @property
    def set_by_person(self) -> bool:
        """Whether a person limited anything."""
        return bool(self.rate or self.per_day is not None or self.domains or self.runs)

    @property
    def sentence(self) -> str:
        """All of it on one line, as in 200/s (the provider allows 14/s and 50,000 a day)."""
        parts = [self.rate] if self.rate else []
        parts += [f"{self.per_day:,} in 24 hours"] if self.per_day is not None else []
        parts += [f"{domain} {rate}" for domain, rate in self.domains.items()]
        parts += [f"{self.runs} run{'s' * (self.runs != 1)} at once"] if self.runs is not None else []
        own, allowed = ", ".join(parts) or "no limit", str(self.provider)
        return f"{own} (the provider allows {allowed})" if allowed else own


def rate_text(per_second: float) -> str:
    """Return a rate as people write it: 200/s, 50/m."""
    each = {unit: per_second * seconds for unit, seconds in SECONDS.items()}
    whole = (unit for unit, n in each.items() if n >= 1 and abs(n - round(n)) < _NEARLY)
    unit = next(whole, None) or next((unit for unit, n in each.items() if n >= 1), "d")
    return f"{round(each[unit], 2):g}/{unit}"
