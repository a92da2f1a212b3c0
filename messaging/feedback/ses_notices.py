"""Read Amazon SES's notices that a subscription by e-mail puts into a mailbox: JSON in the text of a mail.

The same notices come over queues and webhooks: `ses_events` reads those.

Fields and words: Amazon SES Developer Guide, "Amazon SNS notification contents".
"""

import json
from typing import Any

from messaging.feedback.addresses import first_address
from messaging.feedback.arf import reason_of
from messaging.feedback.dsn import Group
from messaging.feedback.mail import Mail
from schemas.bounces import BounceReason

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
    return groups_of(part_of(notice, "bounce"), "bouncedRecipients")


def groups_of(part: dict[str, Any], name: str) -> list[Group]:
    """Return what a list of recipients within a notice says about each, in the fields of RFC 3464."""
    return [
        Group(
            {
                "final-recipient": f"rfc822; {recipient.get('emailAddress') or ''}",
                "action": str(recipient.get("action") or "failed"),
                "status": str(recipient.get("status") or ""),
                "diagnostic-code": str(recipient.get("diagnosticCode") or ""),
            },
            {"reporting-mta": str(part.get("reportingMTA") or "")},
        )
        for recipient in parts_of(part, name)
    ]


def complained(notice: dict[str, Any]) -> tuple[str, ...]:
    """Return who complains in a notice of a complaint."""
    recipients = parts_of(part_of(notice, "complaint"), "complainedRecipients")
    return tuple(
        filter(None, (first_address(str(recipient.get("emailAddress") or "")) for recipient in recipients))
    )


def complaint_reason(notice: dict[str, Any]) -> BounceReason:
    """Return why somebody complains: the type of the receiver's feedback report, when it came with one."""
    return reason_of(str(part_of(notice, "complaint").get("complaintFeedbackType") or ""))


def part_of(notice: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object within another; an empty one when there is none."""
    part = notice.get(name)
    return part if isinstance(part, dict) else {}


def parts_of(part: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the objects of a list within an object, the first thousand at most."""
    rows = part.get(name)
    return [row for row in rows[:_MOST] if isinstance(row, dict)] if isinstance(rows, list) else []


def _object(text: str) -> dict[str, Any]:
    start = text.find("{")
    if start < 0:
        return {}
    try:
        found, _ = json.JSONDecoder(strict=False).raw_decode(text, start)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
