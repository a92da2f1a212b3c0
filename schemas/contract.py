"""The data contract of an audience: what a file as a whole must be like before it is loaded."""

from pydantic import Field

from schemas.base import Schema

_DIGITS = 9  # after the point; a file has fewer rows


class Contract(Schema):
    """Thresholds, per audience. Shares are percent of the file's rows unless said otherwise."""

    from_rows: int = Field(
        default=1_000,
        ge=0,
        description="Smaller files are not judged by shares: a person sees at a glance what is wrong with "
        "them. A small file after a large one is judged: it may be a collapse.",
    )
    max_refused_percent: float = Field(
        default=20,
        ge=0,
        le=100,
        description="Rows that may be refused for faults; those that `--on-duplicate refuse` asks for apart.",
    )
    max_drop_percent: float = Field(
        default=50,
        ge=0,
        le=100,
        description="How much smaller than the audience's last import the file may be.",
    )
    max_unknown_country_percent: float = Field(
        default=5, ge=0, le=100, description="Rows with a country that is none, among rows that name one."
    )
    max_domain_shift_percent: float = Field(
        default=60,
        ge=0,
        le=100,
        description="How far the mix of e-mail domains may move from the last import's (total variation).",
    )
    max_duplicate_percent: float = Field(
        default=80, ge=0, le=100, description="Good rows that may repeat an address of the file."
    )
    min_consent_percent: float = Field(
        default=0, ge=0, le=100, description="Good rows that must have a basis of consent."
    )
    min_rows: int = Field(default=1, ge=0, description="Rows that the file must have.")


class Check(Schema):
    """One expectation and what was observed."""

    name: str = Field(description="The threshold's name in `Contract`.")
    says: str = Field(description="The expectation in words: at most 20 % of rows refused.")
    observed: float | None = Field(
        description="None: nothing to measure, or no import to compare with, so it holds."
    )
    bound: float
    holds: bool

    @property
    def found(self) -> str:
        """Say what was observed, exactly enough to tell it from the bound."""
        if self.observed is None:
            return "not measured"
        value = round(self.observed, next(filter(self._tells, range(1, _DIGITS)), _DIGITS))
        amount = f"{value:,.{_DIGITS}f}".rstrip("0").rstrip(".")
        if self.name.endswith("_percent"):
            return f"{amount} %"
        return f"{amount} {'row' if value == 1 else 'rows'}"

    def _tells(self, digits: int) -> bool:
        observed = self.observed or 0.0
        rounded = round(observed, digits)
        return (rounded < self.bound, rounded > self.bound) == (observed < self.bound, observed > self.bound)


class ContractResult(Schema):
    """What the contract said of one file."""

    holds: bool
    checks: list[Check]
    accepted_by: str | None = Field(default=None, description="Who loaded the file in spite of a breach.")
    accepted_because: str | None = None
