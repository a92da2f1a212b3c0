"""What Amazon SNS posts to an HTTPS endpoint, read strictly; nothing of it is believed before its signature.

Fields and the text that is signed: Amazon SNS Developer Guide, "Parsing Amazon SNS message formats" and
"Verifying the signatures of Amazon SNS messages".
"""

import json
import re
from base64 import b64decode
from binascii import Error
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

# A region's name begins with letters: sns.s3-us-west-2.amazonaws.com would be a bucket of anybody's.
_HOST = r"sns\.[a-z]{2,}(?:-[a-z]+)+-[0-9]{1,2}\.amazonaws\.com(?:\.cn)?"
# Nothing after .pem: with a query the same host answers with words that the asker chose.
_CERTIFICATE = re.compile(rf"https://{_HOST}/SimpleNotificationService-[0-9A-Za-z_-]+\.pem")
_SUBSCRIBE = re.compile(_HOST)
_TOPIC = re.compile(r"arn:aws(?:-[a-z]+)*:sns:[a-z0-9-]+:[0-9]{12}:[0-9A-Za-z_-]{1,256}(?:\.fifo)?")
_MESSAGE_ID = re.compile(r"[0-9A-Za-z-]{1,100}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z")


class SnsKind(StrEnum):
    """What a post is."""

    NOTIFICATION = "Notification"
    SUBSCRIPTION = "SubscriptionConfirmation"
    UNSUBSCRIPTION = "UnsubscribeConfirmation"


_SIGNED: Final = {
    SnsKind.NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    SnsKind.SUBSCRIPTION: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    SnsKind.UNSUBSCRIPTION: (
        "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type",
    ),
}  # fmt: skip
_OPTIONAL: Final = {"Subject"}


@dataclass(frozen=True, slots=True)
class SnsMessage:
    """One post of SNS, its form checked, its signature not yet."""

    kind: SnsKind
    topic: str
    """Its ARN."""
    at: datetime
    text: str = field(repr=False)
    """What was published; of the other kinds, words of Amazon's."""
    signed: bytes = field(repr=False)
    """What the signature is over."""
    signature: bytes = field(repr=False)
    version: str
    """Of the signature: 1 (SHA1) or 2 (SHA256)."""
    certificate_url: str
    subscribe_url: str = field(default="", repr=False)
    """Of the kinds that are no notification: whoever opens it confirms."""


def read_message(raw: bytes) -> SnsMessage | None:
    """Return what a post says; None: it is nothing that Amazon would send.

    The signed text is only names and values, line by line. As the fields at its end are read strictly, no
    value that a stranger chose can pass for another field.
    """
    try:
        found = json.loads(raw)
        return _message(found) if isinstance(found, dict) else None
    except (ValueError, RecursionError):
        return None


def _message(found: dict[str, Any]) -> SnsMessage | None:
    kind = SnsKind(_text(found, "Type"))
    names = [name for name in _SIGNED[kind] if name not in _OPTIONAL or isinstance(found.get(name), str)]
    message = SnsMessage(
        kind=kind,
        topic=_text(found, "TopicArn"),
        at=_time(_text(found, "Timestamp")),
        text=_text(found, "Message"),
        signed="".join(f"{name}\n{_text(found, name)}\n" for name in names).encode(),
        signature=_bytes(_text(found, "Signature")),
        version=_text(found, "SignatureVersion"),
        certificate_url=_text(found, "SigningCertURL"),
        subscribe_url="" if kind is SnsKind.NOTIFICATION else _text(found, "SubscribeURL"),
    )
    named_well = _TOPIC.fullmatch(message.topic) and _MESSAGE_ID.fullmatch(_text(found, "MessageId"))
    asks_well = kind is SnsKind.NOTIFICATION or is_subscribe_url(message.subscribe_url, message.topic)
    signed_well = message.version in {"1", "2"} and is_certificate_url(message.certificate_url)
    return message if named_well and asks_well and signed_well else None


def is_certificate_url(url: str) -> bool:
    """Say whether a certificate would be Amazon's own."""
    return _CERTIFICATE.fullmatch(url) is not None


def is_subscribe_url(url: str, topic: str) -> bool:
    """Say whether opening a URL does no more than to confirm the subscription of a topic at Amazon."""
    if not url.isascii() or not url.isprintable():
        return False
    try:
        parts = urlsplit(url)
        asked = parse_qs(parts.query, strict_parsing=True, max_num_fields=10)
    except ValueError:
        return False
    return (
        parts.scheme == "https"
        and _SUBSCRIBE.fullmatch(parts.netloc) is not None
        and parts.path in {"", "/"}
        and asked.get("Action") == ["ConfirmSubscription"]
        and asked.get("TopicArn") == [topic]
    )


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str):
        raise ValueError(name)  # noqa: TRY004 - as everything else that is not as it should be
    return value


def _time(value: str) -> datetime:
    if not _TIME.fullmatch(value):
        raise ValueError("Timestamp")
    return datetime.fromisoformat(value).astimezone(UTC)


def _bytes(value: str) -> bytes:
    try:
        return b64decode(value, validate=True)
    except Error:
        raise ValueError("Signature") from None
