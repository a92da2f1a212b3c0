"""Read Amazon SES's notices that a subscription by e-mail puts into a mailbox: JSON in the text of a mail.

Fields and words: Amazon SES Developer Guide, "Amazon SNS notification contents".
"""

import json
from typing import Any

from messaging.feedback.addresses import first_address
from messaging.feedback.dsn import Group
from messaging.feedback.mail import Mail

_SENDER = "@sns.amazonaws.com"
_WORDS = ("notificationType", "eventType")
_MOST = 1000


def read_notice(mail: Mail) -> dict[str, Any] | None:
    """Return the notice a mail holds; `None` when it holds none."""
    if _SENDER not in mail.headers.text(b"from"):
        return None
    text = mail.report
    notice = _object(text)
    message = notice.get("Message")
    if isinstance(message, str):  # a notice within SNS's own envelope
        notice = _object(message)
    return notice if any(isinstance(notice.get(word), str) for word in _WORDS) else None


def bounced(notice: dict[str, Any]) -> list[Group]:
    """Return what a notice of a bounce says about each recipient, in the fields of RFC 3464."""
    bounce = _part(notice, "bounce")
    return [
        Group(
            {
                "final-recipient": f"rfc822; {recipient.get('emailAddress', '')}",
                "action": str(recipient.get("action", "failed")),
                "status": str(recipient.get("status", "")),
                "diagnostic-code": str(recipient.get("diagnosticCode", "")),
            },
            {"reporting-mta": str(bounce.get("reportingMTA", ""))},
        )
        for recipient in _parts(bounce, "bouncedRecipients")
    ]


def complained(notice: dict[str, Any]) -> tuple[str, ...]:
    """Return who complains in a notice of a complaint."""
    recipients = _parts(_part(notice, "complaint"), "complainedRecipients")
    return tuple(
        filter(None, (first_address(str(recipient.get("emailAddress", ""))) for recipient in recipients))
    )


def _object(text: str) -> dict[str, Any]:
    start = text.find("{")
    if start < 0:
        return {}
    try:
        found, _ = json.JSONDecoder(strict=False).raw_decode(text, start)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _part(notice: dict[str, Any], name: str) -> dict[str, Any]:
    part = notice.get(name)
    return part if isinstance(part, dict) else {}


def _parts(part: dict[str, Any], name: str) -> list[dict[str, Any]]:
    rows = part.get(name)
    return [row for row in rows[:_MOST] if isinstance(row, dict)] if isinstance(rows, list) else []
