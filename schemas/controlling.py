"""What a person asks of a campaign or an account that is at work: the parameters of the controlling flows."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from schemas.base import OptionalText, Schema
from schemas.pacing import Pacing
from schemas.problems import first_problem

LONGEST_REASON: Final = 200  # characters
_LIMITED_DOMAIN = r"^[^\s@=]+=[^\s=]+$"


def reason_of(because: str) -> str:
    """Return a person's reason on one line, fit to be shown in Prefect.

    Raises:
        ValueError: It may hold an address, or is too long.
    """
    said = " ".join(because.split())
    if "@" in said:
        raise ValueError("the reason is shown in Prefect, so it may not hold addresses: leave the @ out")
    if len(said) > LONGEST_REASON:
        raise ValueError(f"the reason has {len(said)} characters: at most {LONGEST_REASON} are kept")
    return said


# The server knows the form by its schema: what must not be stored, it refuses before it is.
Because = Annotated[
    OptionalText,
    AfterValidator(reason_of),
    Field(
        title="Because",
        description="Why, to be shown with the campaign. Name no recipients.",
        examples=["the offer has a mistake"],
        json_schema_extra={"pattern": "^[^@]*$", "maxLength": LONGEST_REASON},
    ),
]
"""Why a person does something to a campaign; empty: they do not say."""

CampaignName = Annotated[
    str,
    Field(
        title="Campaign",
        description="Name of the campaign, as in spring-offer.",
        examples=["spring-offer"],
        min_length=1,
    ),
]


def _nothing(value: object) -> object:
    return [] if value is None else value


Batches = Annotated[
    list[Annotated[int, Field(ge=1)]],
    BeforeValidator(_nothing),
    Field(title="Batches", description="Only these batch numbers; none: all of them.", examples=[[17]]),
]


class PauseRequest(Schema):
    """Parameters of the pause-campaign flow."""

    campaign: CampaignName
    because: Because = ""


class CancelRequest(Schema):
    """Parameters of the cancel-campaign flow."""

    campaign: CampaignName
    because: Because = ""
    for_good: bool = Field(
        default=False,
        title="Yes, for good",
        description="Switch this on to say that it is meant: whoever has not been written to yet will not "
        "be, and the name cannot be sent again.",
    )


class PaceRequest(Schema):
    """Parameters of the pace-campaign flow: one of the four paces."""

    campaign: CampaignName
    rate: OptionalText = Field(
        default="",
        title="Rate",
        description="At most this many messages per second (s), minute (m), hour (h) or day (d), as in 50/s.",
        examples=["50/s", "3000/h"],
    )
    delay: OptionalText = Field(
        default="",
        title="Or: delay",
        description="The same wait after each message, as in 2s.",
        examples=["2s"],
    )
    human: OptionalText = Field(
        default="",
        title="Or: like a person",
        description="A random time between these two after each message, as in 10-25s.",
        examples=["10-25s"],
    )
    free: bool = Field(
        default=False, title="Or: free", description="As fast as the account takes them. A warm-up stays."
    )
    because: Because = ""

    @model_validator(mode="after")
    def _is_one_of_them(self) -> "PaceRequest":
        if sum(map(bool, (self.rate, self.delay, self.human, self.free))) != 1:
            raise ValueError("choose one of rate, delay, human and free")
        try:
            Pacing(rate=self.rate, delay=self.delay, human=self.human)
        except ValidationError as error:
            raise ValueError(first_problem(Pacing, error)) from None
        return self

    @property
    def pacing(self) -> Pacing:
        """The pace that was chosen."""
        return Pacing(rate=self.rate, delay=self.delay, human=self.human)


class ResolveRequest(Schema):
    """Parameters of the resolve-campaign flow."""

    campaign: CampaignName
    decision: Literal["accepted", "resend"] = Field(
        title="Decision",
        description="accepted: they have the message. resend: send it to them again; who has it gets it "
        "twice.",
    )
    batches: Batches = Field(default_factory=list)
    because: Because = ""


class LimitRequest(Schema):
    """Parameters of the limit-account flow; what is left empty stays as it is."""

    account: str = Field(
        title="Account",
        description="The account, as type/name of its block: smtp-account/main.",
        examples=["smtp-account/main"],
        pattern=r"^[a-z0-9-]+/[a-z0-9-]+$",
    )
    rate: OptionalText = Field(
        default="",
        title="Rate",
        description="Messages at most, over all its campaigns: 200/s, 5000/h. none lifts it. Empty: stays.",
        examples=["200/s", "none"],
    )
    per_day: OptionalText = Field(
        default="",
        title="Per day",
        description="Messages at most in any 24 hours. none lifts it. Empty: stays.",
        examples=["50000", "none"],
    )
    domains: Annotated[list[Annotated[str, Field(pattern=_LIMITED_DOMAIN)]], BeforeValidator(_nothing)] = (
        Field(
            default=[],
            title="Domains",
            description="Messages at most to one provider, as DOMAIN=RATE: gmail.com=20/s, which counts "
            "googlemail.com too; gmail.com=none lifts it.",
            examples=[["gmail.com=20/s"]],
        )
    )
    clear: bool = Field(default=False, title="Clear", description="Lift all limits that are not named here.")

    @property
    def by_domain(self) -> dict[str, str]:
        """Rates by domain, as typed."""
        return dict(domain.split("=", 1) for domain in self.domains)
