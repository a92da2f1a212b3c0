"""Refusals that we heard while sending, as evidence: a server that knows no such mailbox says so at once."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection

from messaging.feedback import thresholds
from messaging.feedback.evidence import Bounce, Evidence
from messaging.feedback.reasons import class_of, judge, suppression
from messaging.feedback.recording import Recorded, record
from messaging.feedback.thresholds import Touched
from messaging.storage import refusals
from messaging.storage.attempts import Answer
from messaging.storage.campaigns import OURSELVES
from schemas.bounces import BounceClass, BounceReason, Suppress
from schemas.states import Channel, EventKind

_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch that was sent."""

    campaign_id: int
    batch_id: int
    leg: int
    """Of the account that it went over."""
    is_final: bool
    """Whether an address that this account cannot reach is an e-mail address tried nowhere else."""
    unreachable: Mapping[int, Answer]
    """Answers that said that an address leads to nobody, by attempt: it may have fallen back since."""
    spared: Collection[int]
    """Attempts whose refusal is, or may turn out to be, about us."""


def record_refusals(connection: Connection, sent: Sent) -> Recorded:
    """Take the unreachable of a batch for bounces, and pause the campaign when too much of it comes back."""
    recorded = Recorded()
    if sent.is_final:
        evidence = _evidence(connection, sent)
        for start in range(0, len(evidence), _CHUNK):
            recorded += record(connection, evidence[start : start + _CHUNK])
    paused = thresholds.check(connection, [Touched(sent.campaign_id)], sent.spared)
    return recorded + Recorded(paused=paused)


def _evidence(connection: Connection, sent: Sent) -> list[Evidence]:
    found = []
    for row in refusals.of_batch(connection, sent.batch_id, sent.unreachable.keys()):
        if row.id in sent.spared:
            continue
        if row.has_moved:  # and has the answer of the next account, or none
            answer = sent.unreachable[row.id]
            code, status, reply = answer.code, answer.status, answer.reply
            at, name = datetime.now(UTC), f"leg{sent.leg}"
        else:
            code, status, reply = row.code, row.status, row.reply
            at, name = row.answered_at, str(row.answered_at.timestamp())
        if code is None:  # we refused it, not a server
            continue
        found.append(
            Evidence(
                kind=EventKind.BOUNCED,
                channel=Channel.EMAIL,
                source=OURSELVES,
                source_id=f"attempt:{row.id}:{name}",
                occurred_at=at,
                token=row.token,
                bounce=_bounce(str(code or ""), status or "", reply or ""),
            )
        )
    return found


def _bounce(code: str, status: str, reply: str) -> Bounce:
    """Read a refusal like a returned mail; where nothing in it is understood, nobody is there."""
    judged = judge([reply] if reply else [], said=status, reply=code)
    bounce_class, suppress, reason = class_of(judged.reason), suppression(judged.reason), judged.reason
    if reason is BounceReason.UNKNOWN:
        bounce_class, suppress, reason = BounceClass.HARD, Suppress.AT_ONCE, BounceReason.USER_UNKNOWN
    return Bounce(
        bounce_class,
        reason,
        suppress,
        status=status,
        reply=code,
        rule=judged.rule,
        confidence=judged.confidence,
        diagnostic=reply,
    )
