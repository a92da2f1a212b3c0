"""What Meta's webhooks tell about messages, as evidence.

Statuses and codes: https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status
and .../support/error-codes. Who wants no more: .../webhooks/reference/user_preferences, and the words below.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from messaging.channels.whatsapp_cloud_errors import RULES, Kind, Refusal, words_of
from messaging.channels.whatsapp_cloud_webhooks import Inbound, Status, Stop
from messaging.feedback.evidence import Bounce, Evidence
from schemas.bounces import BounceClass, BounceReason, Suppress
from schemas.states import Channel, EventKind

STOP_WORDS: Final = frozenset({"stop", "unsubscribe", "stop promotions"})
"""Alone in a message, however written: the word that people are told to send, and what stands on the button
that WhatsApp Manager offers for marketing templates."""

_KINDS: Final = {
    "sent": EventKind.SENT,
    "delivered": EventKind.DELIVERED,
    "read": EventKind.OPENED,
    "played": EventKind.OPENED,  # a voice message
}
_FAILED = "failed"
_TOKEN = re.compile(r"[0-9a-f]{32}")
_LONGEST_ID = 256  # characters; Meta's have about 60
_LONGEST_TITLE = 500


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a message that failed for one code tells."""

    kind: EventKind
    bounce_class: BounceClass = BounceClass.BLOCK
    reason: BounceReason = BounceReason.UNKNOWN
    suppress: Suppress = Suppress.NEVER


def _ours(reason: BounceReason, bounce_class: BounceClass = BounceClass.BLOCK) -> _Meaning:
    return _Meaning(EventKind.FAILED, bounce_class, reason)


_BY_CODE: Final = {
    # Not on WhatsApp; or on an old version of it, or without having agreed to its new terms, which passes.
    131026: _Meaning(
        EventKind.BOUNCED, BounceClass.HARD, BounceReason.USER_UNKNOWN, Suppress.SECOND_TIME
    ),
    131050: _Meaning(EventKind.UNSUBSCRIBED),
    131048: _ours(BounceReason.REPUTATION),
    368: _ours(BounceReason.REPUTATION),
    131031: _ours(BounceReason.REPUTATION),
    131049: _ours(BounceReason.TOO_MANY),  # has had enough marketing for now, of all businesses
    130472: _ours(BounceReason.POLICY),  # in an experiment of Meta's
    130497: _ours(BounceReason.POLICY),  # in a country that we may not write to
    131047: _ours(BounceReason.POLICY),  # text, out of the service window
    131062: _ours(BounceReason.POLICY),
}  # fmt: skip
_BY_KIND: Final = {
    Kind.ACCOUNT: _ours(BounceReason.SENDER_REFUSED),
    Kind.THROTTLE: _ours(BounceReason.TOO_MANY),
    Kind.LATER: _ours(BounceReason.TOO_MANY),
    Kind.RECIPIENT: _ours(BounceReason.POLICY),
    Kind.MESSAGE: _ours(BounceReason.CONTENT),
    Kind.TRANSIENT: _ours(BounceReason.SYSTEM, BounceClass.SOFT),
}
_UNKNOWN = _ours(BounceReason.UNKNOWN)


def of_status(status: Status, source: str) -> Evidence | None:
    """Return what a report tells; None: a status that we do not know.

    `source` is the account, as in whatsapp-cloud-account/main.
    """
    if len(status.message_id) > _LONGEST_ID or not status.message_id.isprintable():
        return None
    meaning = _meaning(status)
    if meaning is None:
        return None
    failed = status.status == _FAILED
    token = status.token
    return Evidence(
        kind=meaning.kind,
        channel=Channel.WHATSAPP,
        source=source,
        source_id=f"{status.message_id} {status.status}",
        occurred_at=status.at,
        token=UUID(hex=token) if _TOKEN.fullmatch(token) else None,
        provider_message_id=status.message_id,
        recipient=status.recipient,
        bounce=_bounce(status, meaning) if failed and meaning.kind is not EventKind.UNSUBSCRIBED else None,
        details={"code": status.code} if failed and status.code is not None else {},
    )


def of_inbound(inbound: Inbound, source: str) -> Evidence | None:
    """Return that somebody wants no more messages, when that is all they wrote."""
    if inbound.text.strip().casefold() not in STOP_WORDS:
        return None
    name = inbound.message_id[:_LONGEST_ID]
    return _unsubscribed(inbound, source, f"{name if name.isprintable() else ''} stop", "message")


def of_stop(stop: Stop, source: str) -> Evidence:
    """Return that somebody wants no more messages."""
    return _unsubscribed(stop, source, f"stop {stop.at:%Y%m%dT%H%M%S}", "WhatsApp's settings")


def _meaning(status: Status) -> _Meaning | None:
    if status.status != _FAILED:
        kind = _KINDS.get(status.status)
        return _Meaning(kind) if kind else None
    rule = RULES.get(status.code) if status.code is not None else None
    by_kind = _BY_KIND[rule.kind] if rule else _UNKNOWN
    return by_kind if status.code is None else _BY_CODE.get(status.code, by_kind)


def _bounce(status: Status, meaning: _Meaning) -> Bounce:
    code = status.code or 0
    return Bounce(
        bounce_class=meaning.bounce_class,
        reason=meaning.reason,
        suppress=meaning.suppress,
        rule=f"Meta's code {code}" if code else "no code",
        diagnostic=words_of(Refusal(code, None, status.title[:_LONGEST_TITLE], transient=False)),
    )


def _unsubscribed(told: Inbound | Stop, source: str, name: str, how: str) -> Evidence:
    # The same person may say so in two ways, and two people in the same second: hence who, as a digest.
    who = hashlib.sha256(told.phone.encode()).hexdigest()[:16]
    return Evidence(
        kind=EventKind.UNSUBSCRIBED,
        channel=Channel.WHATSAPP,
        source=source,
        source_id=f"{name} {who}",
        occurred_at=told.at,
        recipient=told.phone,
        details={"by": how},
    )
