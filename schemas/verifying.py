"""What is known of an audience's addresses before anything is sent to them, in counts."""

from enum import StrEnum

from pydantic import Field

from schemas.base import Schema
from schemas.states import Channel


class AddressVerdict(StrEnum):
    """Whether an address should be written to."""

    GOOD = "good"
    RISKY = "risky"  # mail may arrive; worth a look
    UNKNOWN = "unknown"  # DNS gave no answer, or nobody asked; held against nobody
    BAD = "bad"


class AddressFault(StrEnum):
    """Why, beyond the words of `Reason`, `Warn`, `DomainVerdict` and "suppressed: …"."""

    COMPLAINED = "complained before"
    BOUNCED = "bounced before"
    LEADS_TO_NOBODY = "refused before: leads to nobody"
    NO_ANSWER = "DNS gave no answer"
    NOT_ASKED = "DNS was not asked"
    NOT_ON_WHATSAPP = "not on WhatsApp"
    NUMBER_NOT_ASKED = "not asked whether it is on WhatsApp"


class VerdictCount(Schema):
    """Addresses of which the same is said."""

    channel: Channel
    verdict: AddressVerdict
    reason: str = Field(description="The first that applies; empty: good.")
    addresses: int


class AudienceVerification(Schema):
    """What is known of an audience's addresses."""

    audience: str
    contacts: int
    addresses: int = Field(description="Addresses that were judged.")
    verdicts: dict[AddressVerdict, int]
    counts: list[VerdictCount] = Field(description="By channel, verdict and reason, most frequent first.")
    suggestions: dict[str, int] = Field(
        description="Likely domains for mistyped ones, as `gmial.com → gmail.com`."
    )
    domains_asked: int = Field(description="Domains that DNS was asked about now; others are remembered.")
    domains_left: int = Field(description="Domains that could not be asked about.")
    dns_is_silent: bool = Field(description="DNS does not answer here, or knows an inner network only.")
    numbers_asked: int = Field(default=0, description="Numbers that WhatsApp was asked about now.")
    file: str = Field(default="", description="CSV of those that are not good.")
    seconds: float
