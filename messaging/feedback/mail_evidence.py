"""From what a mail says to evidence for the ledger, and to the form in which its findings are kept."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain, count
from typing import Any, Final
from uuid import UUID

from messaging.feedback.evidence import Bounce, Evidence
from messaging.feedback.findings import Finding
from schemas.bounces import BounceClass
from schemas.states import Channel, EventKind

_DELAYED: Final = "delayed"
_KINDS: Final[dict[BounceClass, EventKind]] = {
    BounceClass.HARD: EventKind.BOUNCED,
    BounceClass.SOFT: EventKind.BOUNCED,
    BounceClass.BLOCK: EventKind.BOUNCED,
    BounceClass.COMPLAINT: EventKind.COMPLAINED,
    BounceClass.AUTO_REPLY: EventKind.AUTO_REPLIED,
    BounceClass.CHALLENGE: EventKind.CHALLENGED,
    BounceClass.DELIVERED: EventKind.DELIVERED,
}
_JUDGED: Final = (EventKind.BOUNCED, EventKind.DELAYED, EventKind.COMPLAINED)


def event_kind(finding: Finding) -> EventKind:
    """Return what kind of event a finding is; what a system is still trying is only delayed."""
    kind = _KINDS[finding.bounce_class]
    return EventKind.DELAYED if kind is EventKind.BOUNCED and finding.action == _DELAYED else kind


def source_id(digest: bytes, number: int) -> str:
    """Return the name of a mail's n-th finding, by the mail's SHA-256: the same evidence is kept once."""
    return f"{digest.hex()}:{number}"


def evidence_of(
    findings: Mapping[int, Finding], mailbox: str, digest: bytes, received_at: datetime
) -> list[Evidence]:
    """Return what a mail's findings, by their numbers, are evidence of."""
    return [
        _evidence(finding, mailbox, source_id(digest, number), received_at)
        for number, finding in findings.items()
    ]


def _evidence(finding: Finding, mailbox: str, name: str, received_at: datetime) -> Evidence:
    kind = event_kind(finding)
    origin = finding.origin
    return Evidence(
        kind=kind,
        channel=Channel.EMAIL,
        source=mailbox,
        source_id=name,
        occurred_at=received_at,
        token=UUID(origin.token) if origin.token else None,
        campaign_id=origin.campaign_id,
        message_id=origin.message_id,
        recipient=finding.recipient or "",
        aliases=finding.aliases,
        bounce=_bounce(finding) if kind in _JUDGED else None,
    )


def _bounce(finding: Finding) -> Bounce:
    return Bounce(
        bounce_class=finding.bounce_class,
        reason=finding.reason,
        suppress=finding.suppress,
        status=finding.status,
        reply=finding.reply,
        rule=finding.rule,
        confidence=finding.confidence,
        diagnostic=finding.diagnostic,
    )


def kept(findings: Mapping[int, Finding]) -> list[dict[str, Any]]:
    """Return findings as JSON, each with the number that its event is named by."""
    return [
        {
            "number": number,
            "recipient": finding.recipient and storable(finding.recipient),
            "aliases": list(map(storable, finding.aliases)),
            "class": finding.bounce_class,
            "reason": finding.reason,
            "suppress": finding.suppress,
            "kind": event_kind(finding),
            "confidence": finding.confidence,
            "rule": storable(finding.rule),
            "action": storable(finding.action),
            "status": storable(finding.status),
            "reply": storable(finding.reply),
            "diagnostic": storable(finding.diagnostic),
            "reporting_mta": storable(finding.reporting_mta),
            "campaign_id": finding.origin.campaign_id,
            "token": finding.origin.token,
            "message_id": finding.origin.message_id and storable(finding.origin.message_id),
        }
        for number, finding in findings.items()
    ]


def numbered_like(before: Sequence[Mapping[str, Any]], findings: Sequence[Finding]) -> dict[int, Finding]:
    """Return findings by number: those of recipients known before keep theirs, the others follow.

    The recipient tells whom a finding is about; what names nobody, or another than before, takes the places
    that are left in order, as a better rule may read the address anew.
    """
    known = {int(row["number"]): row["recipient"] for row in before}
    numbers: dict[int, int] = {}  # by place among the findings
    for place, finding in enumerate(findings):
        same = (n for n, recipient in known.items() if recipient and recipient == finding.recipient)
        if (number := next(same, None)) is not None:
            numbers[place] = number
            del known[number]
    left = chain(sorted(known), count(max((int(row["number"]) for row in before), default=-1) + 1))
    return {
        numbers[place] if place in numbers else next(left): finding for place, finding in enumerate(findings)
    }


def storable(text: str) -> str:
    """Return text that PostgreSQL takes: without NUL, and without halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
