"""Events of Amazon SES as its developer guide describes them, for people that nobody is."""

import json
from typing import Any
from uuid import UUID

SENT_AT = "2025-03-20T09:00:00.123Z"
LATER = "2025-03-20T09:05:00.456Z"
MESSAGE = "010201900000000a-3f1ab2cd-0000-4000-8000-00000000000a-000000"
TOKEN = UUID("0123456789abcdef0123456789abcdef")
ADA = "ada@example.org"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def mail(*destination: str, tags: bool = True, **changes: Any) -> dict[str, Any]:
    """Return what each event says of its message."""
    ours = {"campaign": ["18"], "attempt": [TOKEN.hex]} if tags else {}
    return {
        "timestamp": SENT_AT,
        "source": "Shop <news@shop.example.org>",
        "sendingAccountId": "123456789012",
        "messageId": MESSAGE,
        "destination": list(destination) or [ADA],
        "headersTruncated": False,
        "tags": {"ses:configuration-set": ["outflow"], **ours},
    } | changes


def event(kind: str, part: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return an event of a configuration set."""
    names = {"Rendering Failure": "failure", "DeliveryDelay": "deliveryDelay"}
    return {"eventType": kind, "mail": mail(), names.get(kind, kind.lower()): part or {}} | changes


def bounce(
    kind: str, subtype: str, said: str | None = None, address: str = ADA, **more: str
) -> dict[str, Any]:
    """Return what a bounce says of one recipient."""
    recipient = {"emailAddress": address, "action": "failed"} | more
    if said is not None:
        recipient |= {"diagnosticCode": said}
    return {
        "bounceType": kind,
        "bounceSubType": subtype,
        "bouncedRecipients": [recipient],
        "timestamp": LATER,
        "feedbackId": "010201900000000a-feedback-000000",
        "reportingMTA": "dns; amazonses.com",
    }


def complaint(**more: Any) -> dict[str, Any]:
    """Return what a complaint says."""
    return {"complainedRecipients": [{"emailAddress": ADA}], "timestamp": LATER, "feedbackId": "f"} | more


def of_all_kinds() -> dict[str, dict[str, Any]]:
    """Return one event of each kind."""
    return {
        "Send": event("Send"),
        "Delivery": event(
            "Delivery", {"timestamp": LATER, "recipients": [ADA], "smtpResponse": "250 2.0.0 queued"}
        ),
        "Bounce": event("Bounce", bounce("Permanent", "General", "smtp; 550 5.1.1 user unknown")),
        "Complaint": event("Complaint", complaint(complaintFeedbackType="abuse")),
        "DeliveryDelay": event(
            "DeliveryDelay",
            {
                "timestamp": LATER,
                "delayType": "MailboxFull",
                "expirationTime": LATER,
                "delayedRecipients": [
                    {"emailAddress": ADA, "status": "4.2.2", "diagnosticCode": "smtp; 452 4.2.2 mailbox full"}
                ],
            },
        ),
        "Reject": event("Reject", {"reason": "Bad content"}),
        "Rendering Failure": event(
            "Rendering Failure", {"errorMessage": "Attribute 'name' is not present", "templateName": "T"}
        ),
        "Open": event("Open", {"timestamp": LATER, "ipAddress": "192.0.2.1", "userAgent": BROWSER}),
        "Click": event(
            "Click",
            {
                "timestamp": LATER,
                "ipAddress": "192.0.2.1",
                "userAgent": BROWSER,
                "link": "https://shop.example.org/spring",
                "linkTags": None,
            },
        ),
        "Subscription": event(
            "Subscription",
            {
                "timestamp": LATER,
                "contactList": "news",
                "source": "UnsubscribeHeader",
                "newTopicPreferences": {"unsubscribeAll": True, "topicSubscriptionStatus": []},
                "oldTopicPreferences": {"unsubscribeAll": False, "topicSubscriptionStatus": []},
            },
        ),
    }


def enveloped(notice: dict[str, Any] | str, *, nested: bool = False) -> str:
    """Put a notice into the envelope of SNS; nested, as moto does it, the message is an object."""
    message = notice if nested or isinstance(notice, str) else json.dumps(notice)
    return json.dumps(
        {
            "Type": "Notification",
            "MessageId": "a8a1c2f0-0000-4000-8000-000000000000",
            "TopicArn": "arn:aws:sns:eu-west-1:123456789012:outflow",
            "Message": message,
            "Timestamp": LATER,
        }
    )
