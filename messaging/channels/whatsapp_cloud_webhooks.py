"""What Meta reports by webhook about messages of ours, and who wrote to us.

Payloads: https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages/status
and .../messages, .../user_preferences. One POST may hold several reports, of several phone numbers; their
order is not promised, a report may come twice, and `delivered` may be missing when `read` comes. Fields that
we do not know are passed over, and so is whatever is not as documented: the rest of the POST still counts.
"""

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_PREFIX = "sha256="
_LONGEST_TOKEN = 512  # characters of biz_opaque_callback_data (Meta: Send messages)
_LATEST = 253402300799  # the last second of the year 9999


@dataclass(frozen=True, slots=True)
class Status:
    """One report about one message; the same report is the same `message_id` and `status`."""

    phone_number_id: str
    """Which number of ours it is about."""
    message_id: str
    """The wamid: `provider_message_id` of the attempt."""
    status: str
    """sent, delivered, read, played or failed."""
    at: datetime
    recipient: str
    """In E.164; it may differ from the number that was written to, and is empty for a group."""
    token: str = ""
    """The attempt's, as it was sent with the message."""
    code: int | None = None
    """Of `failed`: Meta's error code."""
    title: str = ""
    """Of `failed`: Meta's words, which may name the recipient."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """Somebody wrote to us: free text may go to them for 24 hours from then."""

    phone_number_id: str
    """The number of ours that they wrote to."""
    phone: str
    """In E.164."""
    at: datetime
    message_id: str = ""
    """The wamid of what they wrote."""
    text: str = ""
    """What they wrote, or what stands on the button of ours that they touched."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Somebody wants no more marketing messages of ours, and told WhatsApp so in its settings."""

    phone_number_id: str
    """The number of ours that it is about."""
    phone: str
    """In E.164."""
    at: datetime


def verify_signature(app_secret: str, raw_body: bytes, header: str | None) -> bool:
    """Say whether a POST is Meta's: its X-Hub-Signature-256 is made from these bytes and the app's secret.

    Takes the same time whatever is wrong. Without a secret nothing is Meta's.
    """
    if not app_secret or not header or not header.startswith(_PREFIX):
        return False
    expected = hmac.new(app_secret.encode(), raw_body, hashlib.sha256).hexdigest()
    given = header.removeprefix(_PREFIX).lower().encode("utf-8", "replace")
    return hmac.compare_digest(expected.encode(), given)


def confirm(verify_token: str, query: Mapping[str, str]) -> str | None:
    """Return what to answer when Meta asks by GET whether the webhook is ours; None: it has another word.

    `query` has hub.mode, hub.verify_token and hub.challenge (Meta: Create a webhook endpoint).
    """
    given = query.get("hub.verify_token", "").encode("utf-8", "replace")
    known = bool(verify_token) and hmac.compare_digest(verify_token.encode(), given)
    return query.get("hub.challenge", "") if known and query.get("hub.mode") == "subscribe" else None


def read_statuses(payload: object) -> list[Status]:
    """Return the reports of a POST's JSON, in its order."""
    found = []
    for number, value in _values(payload):
        for status in _objects(value.get("statuses")):
            message_id, state = _text(status, "id"), _text(status, "status")
            at = _time(status)
            if not message_id or not state or at is None:
                continue
            error = next(_objects(status.get("errors")), {})
            code = error.get("code")
            found.append(
                Status(
                    phone_number_id=number,
                    message_id=message_id,
                    status=state,
                    at=at,
                    recipient=_phone(_text(status, "recipient_id")),
                    token=_text(status, "biz_opaque_callback_data")[:_LONGEST_TOKEN],
                    code=code if isinstance(code, int) and not isinstance(code, bool) else None,
                    title=_text(error, "title") or _text(error, "message"),
                )
            )
    return found


def read_inbound(payload: object) -> list[Inbound]:
    """Return who wrote to us in a POST's JSON, in its order, but not in groups, nor without a number."""
    found = []
    for number, value in _values(payload):
        for message in _objects(value.get("messages")):
            phone, at = _phone(_text(message, "from")), _time(message)
            if phone and at is not None and not _text(message, "group_id"):
                found.append(Inbound(number, phone, at, _text(message, "id"), _words(message)))
    return found


def read_stops(payload: object) -> list[Stop]:
    """Return who told WhatsApp to stop marketing messages of ours; who resumes them is not in it."""
    found = []
    for number, value in _values(payload, "user_preferences"):
        for told in _objects(value.get("user_preferences")):
            phone, at = _phone(_text(told, "wa_id")), _time(told)
            wish = _text(told, "category"), _text(told, "value")
            if phone and at is not None and wish == ("marketing_messages", "stop"):
                found.append(Stop(number, phone, at))
    return found


def _words(message: dict[str, Any]) -> str:
    """Return the text of a message, or of the template's button that it answers."""
    for kind, name in (("text", "body"), ("button", "text")):
        part = message.get(kind)
        if message.get("type") == kind and isinstance(part, dict):
            return _text(part, name)
    return ""


def _values(payload: object, field: str = "messages") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what was reported with the phone number id it is about."""
    if not isinstance(payload, dict) or payload.get("object") != "whatsapp_business_account":
        return
    for entry in _objects(payload.get("entry")):
        for change in _objects(entry.get("changes")):
            value = change.get("value")
            if change.get("field") == field and isinstance(value, dict):
                metadata = value.get("metadata")
                yield _text(metadata, "phone_number_id") if isinstance(metadata, dict) else "", value


def _objects(found: object) -> Iterator[dict[str, Any]]:
    return (each for each in found if isinstance(each, dict)) if isinstance(found, list) else iter(())


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    return value if isinstance(value, str) else ""


def _time(found: dict[str, Any]) -> datetime | None:
    """Read `timestamp`: seconds since 1970, as a string."""
    value = str(found.get("timestamp"))
    seconds = int(value) if re.fullmatch(r"[0-9]{1,12}", value) else _LATEST + 1
    return datetime.fromtimestamp(seconds, UTC) if seconds <= _LATEST else None


def _phone(digits: str) -> str:
    return f"+{digits}" if re.fullmatch(r"[1-9][0-9]{6,14}", digits) else ""
