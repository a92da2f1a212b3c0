"""What a mail says about our recipients, as values."""

from collections.abc import Iterator
from dataclasses import dataclass

from messaging.feedback.origin import Origin
from messaging.feedback.reasons import class_of, suppression
from schemas.bounces import BounceClass, BounceReason, Suppress

_NOWHERE = Origin()
_UNREAD = "could not be read"  # how `read_bounces` says that it met a mail it has no answer to


@dataclass(frozen=True, slots=True)
class Finding:
    """What a mail says about one recipient."""

    recipient: str | None
    """The address that was written to, as well as the report tells."""

    bounce_class: BounceClass
    reason: BounceReason
    confidence: float
    """From 0, a guess, to 1."""

    rule: str
    """The words, code or field that decided; empty when nothing did."""

    action: str = ""
    """RFC 3464's word: failed, delayed, delivered, relayed, expanded; empty in what is no bounce."""

    status: str = ""
    """The enhanced status code (RFC 3463); x.0.0 when no more than the first digit is known."""

    reply: str = ""
    """The three digits of the SMTP reply, or nothing."""

    diagnostic: str = ""
    """What was said, at most 1,000 characters. It may hold addresses."""

    reporting_mta: str = ""
    aliases: tuple[str, ...] = ()
    """Other addresses that the report has for this recipient: where its mail was forwarded to or from."""

    origin: Origin = _NOWHERE

    @property
    def campaign_id(self) -> int | None:
        """The campaign whose message came back, when the mail tells."""
        return self.origin.campaign_id

    @property
    def suppress(self) -> Suppress:
        """When this is enough to stop writing to the address."""
        if self.bounce_class is class_of(self.reason):
            return suppression(self.reason)
        return Suppress.WHEN_IT_LASTS  # a hard reason of a report that the system is still trying


@dataclass(frozen=True, slots=True)
class Findings:
    """What a mail says about every recipient it is about; none when it is no bounce."""

    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    """What was not read, and why."""

    @property
    def bounce_class(self) -> BounceClass:
        """What the mail is as a whole: what it says about its first recipient."""
        return self.findings[0].bounce_class if self.findings else BounceClass.NOT_A_BOUNCE

    @property
    def failed(self) -> bool:
        """Whether our parser had no answer, which is our fault and not the mail's."""
        return not self.findings and any(note.startswith(_UNREAD) for note in self.notes)

    def __iter__(self) -> Iterator[Finding]:
        """Yield the findings."""
        return iter(self.findings)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.findings)
