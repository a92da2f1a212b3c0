"""Read what Amazon SES reports of messages: the body of a queue message or of a webhook's request.

Both forms of notice are read: events of a configuration set, which carry our tags, and notifications of an
identity, which do not; bare, or within the envelope of Amazon SNS. Fields and words: Amazon SES Developer
Guide, "Contents of event data that Amazon SES publishes to Amazon SNS", "Amazon SNS notification contents".
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from messaging.feedback.addresses import first_address
from messaging.feedback.codes import codes_in
from messaging.feedback.dsn import Group
from messaging.feedback.evidence import Bounce, Evidence
from messaging.feedback.machines import LONGEST_AGENT, machine_of
from messaging.feedback.reasons import Judgement, class_of, judge, suppression
from messaging.feedback.ses_notices import bounced, complained, complaint_reason, groups_of, part_of, parts_of
from schemas.bounces import BounceClass, BounceReason, Suppress
from schemas.states import Channel, EventKind

_LONGEST_ADDRESS = 320
_LONGEST_TEXT = 1000
_LONGEST_URL = 2000
_TOKEN = re.compile(r"[0-9a-f]{32}")
_NUMBER = re.compile(r"[0-9]{1,18}")
_MESSAGE_ID = re.compile(r"<[^<>\s]{1,500}>")
_KIND = re.compile(r"[A-Z][A-Za-z ]{1,30}")
_GREETING = "Successfully validated SNS topic"  # plain text, once, when an event destination is made
_SUBSCRIBED = "AmazonSnsSubscriptionSucceeded"  # the same of an identity's notifications

_BY_SUBTYPE = 0.9
_BY_TYPE = 0.5

# Subtypes that say why; the others, General above all, leave it to the words of the receiving server.
_SUBTYPES: Final = {
    "NoEmail": BounceReason.USER_UNKNOWN,
    "Suppressed": BounceReason.USER_UNKNOWN,  # on the list of all of SES: bounced for others of late
    "OnAccountSuppressionList": BounceReason.USER_UNKNOWN,
    "OnTenantSuppressionList": BounceReason.USER_UNKNOWN,
    "EmailValidationSuppressed": BounceReason.INACTIVE,  # not tried: SES's guess of an address's worth
    "MailboxFull": BounceReason.MAILBOX_FULL,
    "MessageTooLarge": BounceReason.TOO_BIG,
    "CustomTimeoutExceeded": BounceReason.EXPIRED,
    "ContentRejected": BounceReason.CONTENT,
    "AttachmentRejected": BounceReason.CONTENT,
}
_OPTED_OUT = "UnsubscribedRecipient"  # of a topic of SES's own contact list
# Without code or words of a server: an automatic reply, mostly (AWS re:Post, "ses-understand-soft-bounces").
_OUT_OF_OFFICE = ("Transient", "General")
# When the words say nothing: what SES itself has made of them. It tries a transient bounce for hours.
_TYPES: Final = {"Permanent": BounceReason.USER_UNKNOWN}
_DELAYS: Final = {
    "MailboxFull": BounceReason.MAILBOX_FULL,
    "SpamDetected": BounceReason.SPAM,
    "IPFailure": BounceReason.BLOCKED,
    "BYOIPHostNameLookupUnavailable": BounceReason.REVERSE_DNS,
    "TransientCommunicationFailure": BounceReason.NETWORK,
    "RecipientServerError": BounceReason.SYSTEM,
    "InternalFailure": BounceReason.SYSTEM,
    "SendingDeferral": BounceReason.TOO_MANY,
}


class Unreadable(ValueError):
    """What came is no event of Amazon SES; the text says why, and names nobody."""


def read_ses_event(body: bytes | str, source: str) -> list[Evidence]:
    """Return what an event says, one piece for each recipient; none when it says nothing about one.

    The same event, delivered again or over both of SES's ways, has the same `source_id`.

    Raises:
        Unreadable: It is no event, or one of a kind that is not known.
    """
    try:
        notice = _notice(body)
        return _read(notice, source) if notice is not None else []
    except RecursionError:
        raise Unreadable("nested too deeply") from None


def _notice(body: bytes | str) -> dict[str, Any] | None:
    """Return the notice without its envelope; None for a greeting, which says nothing."""
    text = _decoded(body)
    if text.startswith(_GREETING):
        return None
    notice = _object(text)
    kind = notice.get("Type")
    if kind is None:
        return notice
    if kind != "Notification":
        raise Unreadable("an envelope of Amazon SNS without a notification")
    message = notice.get("Message")
    if isinstance(message, str):
        return None if message.startswith(_GREETING) else _object(message)
    if isinstance(message, dict):
        return message
    raise Unreadable("an envelope of Amazon SNS without a message")


def _decoded(body: bytes | str) -> str:
    try:
        return body.decode("utf-8-sig") if isinstance(body, bytes) else body
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8") from None


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        raise Unreadable("not JSON") from None
    if not isinstance(found, dict):
        raise Unreadable("JSON, but no object")
    return found


@dataclass(frozen=True, slots=True)
class _Event:
    """One event, and what all of its evidence has in common."""

    notice: dict[str, Any]
    source: str
    word: str
    """SES's word for its kind."""
    part: dict[str, Any]
    """What it says beyond naming the message."""
    sent_at: datetime | None
    occurred_at: datetime
    destinations: tuple[str, ...]
    provider_message_id: str
    message_id: str | None
    token: UUID | None
    campaign_id: int | None

    @classmethod
    def of(cls, notice: dict[str, Any], source: str, word: str, part: str) -> "_Event":
        """Read what names the message."""
        mail = part_of(notice, "mail")
        tags = part_of(mail, "tags")
        token, campaign = _tag(tags, "attempt", _TOKEN), _tag(tags, "campaign", _NUMBER)
        sent_at = _time(mail.get("timestamp"))
        about = part_of(notice, part)
        occurred_at = _time(about.get("timestamp")) or sent_at
        provider_message_id = _text(mail.get("messageId"), _LONGEST_ADDRESS)
        if occurred_at is None:
            raise Unreadable("an event without a time")
        if not (provider_message_id or token):
            raise Unreadable("an event that names no message")
        return cls(
            notice,
            source,
            word,
            about,
            sent_at,
            occurred_at,
            _addresses(mail.get("destination")),
            provider_message_id,
            _message_id(part_of(mail, "commonHeaders")),
            UUID(token) if token else None,
            int(campaign) if campaign else None,
        )

    @property
    def alone(self) -> str:
        """The recipient, when there is one; of several nobody knows who acted."""
        return self.destinations[0] if len(self.destinations) == 1 else ""

    @property
    def age(self) -> float | None:
        """Seconds since the message was sent."""
        return (self.occurred_at - self.sent_at) / timedelta(seconds=1) if self.sent_at else None

    def evidence(
        self,
        kind: EventKind,
        recipient: str,
        *,
        bounce: Bounce | None = None,
        everywhere: bool = True,
        details: Mapping[str, Any] | None = None,
    ) -> Evidence:
        """Return a piece of evidence about a recipient.

        Whoever is named in place of the one recipient stands for it: where its mail was forwarded to.
        """
        details = details or {}
        written_to = self.alone or recipient
        forwarded = recipient and recipient.lower() != written_to.lower()
        # A scanner follows all links of a message in the same moment.
        named = sha256(f"{recipient.lower()} {details.get('url', '')}".encode()).hexdigest()[:16]
        message = self.provider_message_id or (self.token.hex if self.token else "")
        return Evidence(
            kind,
            Channel.EMAIL,
            self.source,
            f"{message}:{self.word}:{self.occurred_at.isoformat()}:{named}",
            self.occurred_at,
            token=self.token,
            campaign_id=self.campaign_id,
            message_id=self.message_id,
            provider_message_id=self.provider_message_id or None,
            recipient=written_to,
            aliases=(recipient,) if forwarded else (),
            bounce=bounce,
            everywhere=everywhere,
            details=details,
        )

    def of_each(self, kind: EventKind, bounce: Bounce | None = None) -> list[Evidence]:
        """Return a piece of evidence about each recipient; about the attempt alone when none is named."""
        return [self.evidence(kind, to, bounce=bounce) for to in self.destinations or ("",)]


def _read(notice: dict[str, Any], source: str) -> list[Evidence]:
    kind = notice.get("eventType", notice.get("notificationType"))
    if not isinstance(kind, str):
        raise Unreadable("JSON, but no event of Amazon SES")
    if kind == _SUBSCRIBED:
        return []
    if kind not in _READERS:
        raise Unreadable(f"an event of an unknown kind{f': {kind}' if _KIND.fullmatch(kind) else ''}")
    part, read = _READERS[kind]
    return read(_Event.of(notice, source, kind, part))


def _sent(event: _Event) -> list[Evidence]:
    return event.of_each(EventKind.SENT)


def _delivered(event: _Event) -> list[Evidence]:
    recipients = _addresses(event.part.get("recipients")) or event.destinations or ("",)
    return [event.evidence(EventKind.DELIVERED, recipient) for recipient in recipients]


def _bounced(event: _Event) -> list[Evidence]:
    groups = bounced(event.notice)
    kind, subtype = (_text(event.part.get(name), 40) for name in ("bounceType", "bounceSubType"))
    if not groups:
        raise Unreadable("a bounce of nobody")
    if subtype == _OPTED_OUT:
        said = {"said": f"Amazon SES: {subtype}"}
        return [
            event.evidence(EventKind.UNSUBSCRIBED, _final(group), everywhere=False, details=said)
            for group in groups
        ]
    return [
        event.evidence(
            EventKind.AUTO_REPLIED, _final(group), details={"said": f"Amazon SES: {kind}/{subtype}"}
        )
        if (kind, subtype) == _OUT_OF_OFFICE and not (group.status or group.diagnostic)
        else event.evidence(EventKind.BOUNCED, _final(group), bounce=_meaning(group, kind, subtype))
        for group in groups
    ]


def _delayed(event: _Event) -> list[Evidence]:
    kind = _text(event.part.get("delayType"), 40)
    return [
        event.evidence(
            EventKind.DELAYED,
            _final(group),
            bounce=_bounce(
                group,
                _judgement(group, kind, _DELAYS, BounceReason.UNKNOWN),
                BounceClass.SOFT,
                Suppress.NEVER,
            ),
        )
        for group in groups_of(event.part, "delayedRecipients")
    ]


def _complained(event: _Event) -> list[Evidence]:
    reason = complaint_reason(event.notice)
    if reason is BounceReason.NOT_SPAM:
        return []
    named = [_text(event.part.get(name), 40) for name in ("complaintFeedbackType", "complaintSubType")]
    rule = "/".join(filter(None, named)) or "complaint"
    bounce = Bounce(class_of(reason), reason, suppression(reason), rule=f"Amazon SES: {rule}")
    recipients = complained(event.notice) or event.destinations or ("",)
    return [event.evidence(EventKind.COMPLAINED, recipient, bounce=bounce) for recipient in recipients]


def _rejected(event: _Event) -> list[Evidence]:
    return event.of_each(EventKind.FAILED, _of_ours(BounceReason.VIRUS, event.part.get("reason")))


def _not_rendered(event: _Event) -> list[Evidence]:
    return event.of_each(EventKind.FAILED, _of_ours(BounceReason.CONTENT, event.part.get("errorMessage")))


def _opened(event: _Event) -> list[Evidence]:
    return [event.evidence(EventKind.OPENED, event.alone, details=_hit(event))]


def _clicked(event: _Event) -> list[Evidence]:
    url = _text(event.part.get("link"), _LONGEST_URL)
    return [event.evidence(EventKind.CLICKED, event.alone, details={"url": url} | _hit(event))]


def _subscription(event: _Event) -> list[Evidence]:
    new = part_of(event.part, "newTopicPreferences")
    everything = new.get("unsubscribeAll") is True
    left = _left_topics(new) - _left_topics(part_of(event.part, "oldTopicPreferences"))
    if not everything and not left:
        return []
    details: dict[str, Any] = {
        "said": "Amazon SES: subscription management",
        "list": _text(event.part.get("contactList"), _LONGEST_TEXT),
    }
    if left and not everything:
        details["topics"] = sorted(left)
    return [
        event.evidence(EventKind.UNSUBSCRIBED, recipient, everywhere=everything, details=details)
        for recipient in event.destinations or ("",)
    ]


_READERS: Final[dict[str, tuple[str, Callable[[_Event], list[Evidence]]]]] = {
    "Send": ("send", _sent),
    "Delivery": ("delivery", _delivered),
    "Bounce": ("bounce", _bounced),
    "Complaint": ("complaint", _complained),
    "DeliveryDelay": ("deliveryDelay", _delayed),
    "Reject": ("reject", _rejected),
    "Rendering Failure": ("failure", _not_rendered),
    "Open": ("open", _opened),
    "Click": ("click", _clicked),
    "Subscription": ("subscription", _subscription),
}


def _meaning(group: Group, kind: str, subtype: str) -> Bounce:
    """Judge a bounce: what SES says of it, else what the receiving server said."""
    judgement = _judgement(group, subtype, _SUBTYPES, _TYPES.get(kind, BounceReason.UNKNOWN), kind)
    meaning, suppress = class_of(judgement.reason), suppression(judgement.reason)
    if kind != "Permanent" and meaning is BounceClass.HARD:  # SES has seen more than the last words
        meaning, suppress = BounceClass.SOFT, Suppress.WHEN_IT_LASTS
    return _bounce(group, judgement, meaning, suppress)


def _judgement(
    group: Group, word: str, table: Mapping[str, BounceReason], otherwise: BounceReason, kind: str = ""
) -> Judgement:
    rule = f"Amazon SES: {'/'.join(filter(None, (kind, word)))}"
    if (reason := table.get(word)) is not None:
        return Judgement(reason, rule, _BY_SUBTYPE)
    codes = codes_in(group.diagnostic)
    judgement = judge((group.diagnostic,), said=codes.status, status=group.status, reply=codes.reply)
    if judgement.reason is BounceReason.UNKNOWN and otherwise is not BounceReason.UNKNOWN:
        return Judgement(otherwise, rule, _BY_TYPE)
    return judgement


def _bounce(group: Group, judgement: Judgement, meaning: BounceClass, suppress: Suppress) -> Bounce:
    said = _text(group.diagnostic, _LONGEST_TEXT)
    codes = codes_in(said)
    return Bounce(
        meaning,
        judgement.reason,
        suppress,
        codes.status or group.status,
        codes.reply,
        judgement.rule,
        judgement.confidence,
        said,
    )


def _of_ours(reason: BounceReason, said: object) -> Bounce:
    """Return what it means that SES gave up a message for what it is."""
    text = _text(said, _LONGEST_TEXT)
    return Bounce(class_of(reason), reason, suppression(reason), rule="Amazon SES", diagnostic=text)


def _hit(event: _Event) -> dict[str, Any]:
    """Return what is kept of who opened or clicked: no address of a machine."""
    agent = _text(event.part.get("userAgent"), LONGEST_AGENT)
    machine = machine_of(agent, seconds_after_sending=event.age)
    return {"agent": agent} | ({"machine": machine} if machine else {})


def _left_topics(preferences: dict[str, Any]) -> set[str]:
    return {
        _text(topic.get("topicName"), _LONGEST_TEXT)
        for topic in parts_of(preferences, "topicSubscriptionStatus")
        if topic.get("subscriptionStatus") == "OptOut"
    }


def _final(group: Group) -> str:
    return _text(group.final, _LONGEST_ADDRESS)


def _addresses(value: object) -> tuple[str, ...]:
    given = value[:1000] if isinstance(value, list) else []
    found = (first_address(_text(one, _LONGEST_TEXT)) for one in given)
    return tuple(dict.fromkeys(filter(None, found)))


def _tag(tags: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    """Return a tag's value: SES gives each as a list."""
    values = tags.get(name)
    value = values[0] if isinstance(values, list) and values else values
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""


def _message_id(headers: dict[str, Any]) -> str | None:
    """Return the Message-ID that we gave, when SES says it: over SMTP it is named here."""
    given = _text(headers.get("messageId"), _LONGEST_TEXT)
    return given if _MESSAGE_ID.fullmatch(given) else None


def _time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _text(value: object, most: int) -> str:
    """Return text as PostgreSQL takes it: no NUL, no half of a surrogate pair."""
    if not isinstance(value, str):
        return ""
    return value[:most].replace("\x00", "").encode("utf-8", "replace").decode().strip()
