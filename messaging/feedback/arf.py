"""Read complaints: feedback reports (RFC 5965, RFC 6591) and the two older forms that are still sent.

Microsoft's junk mail reports are a returned message with a field of its own; Apple's mail asks in words to be
taken off a list.
"""

import re
from dataclasses import dataclass

from messaging.feedback.addresses import addresses, first_address
from messaging.feedback.mail import Headers, Mail
from schemas.bounces import BounceReason

_REPORT = "message/feedback-report"
_HOTMAIL_FIELD = b"x-hmxmroriginalrecipient"
_COMPLAINT_SUBJECT = re.compile(r"\s*complaint about message from [\d.]+", re.IGNORECASE)
_APPLE = "Apple Mail sent this email to unsubscribe from"
_LONGEST_FIELD = 1000
_MOST_RECIPIENTS = 1000
_ID_LIKE = re.compile(r"[0-9a-f-]{24,}@")

# RFC 5965, 7.3 and IANA's registry of feedback report types.
_TYPES = {
    "abuse": BounceReason.ABUSE,
    "fraud": BounceReason.FRAUD,
    "virus": BounceReason.ABUSE,
    "other": BounceReason.ABUSE,
    "miscategorized": BounceReason.ABUSE,
    "opt-out": BounceReason.OPT_OUT,
    "opt-out-list": BounceReason.OPT_OUT,
    "unsubscribe": BounceReason.OPT_OUT,
    "not-spam": BounceReason.NOT_SPAM,
    "auth-failure": BounceReason.AUTHENTICATION_REPORT,
    "dkim": BounceReason.AUTHENTICATION_REPORT,
    "dmarc": BounceReason.AUTHENTICATION_REPORT,
}


@dataclass(frozen=True, slots=True)
class Complaint:
    """Who complains, of what kind, and what says so."""

    recipients: tuple[str, ...]
    reason: BounceReason
    rule: str


def reason_of(feedback_type: str) -> BounceReason:
    """Return why somebody complains, by the type of a feedback report; one that is not known is abuse."""
    return _TYPES.get(feedback_type.lower().split(";")[0].strip(), BounceReason.ABUSE)


def read_complaint(mail: Mail) -> Complaint | None:
    """Return the complaint a mail is; `None` when it is none."""
    if report := next((part for part in mail.parts if part.kind == _REPORT), None):
        return _of_fields(mail, Headers(report.content().replace(b"\r\n", b"\n").lstrip(b"\n")))
    if mail.returned:
        recipient = first_address(Headers(mail.returned.partition(b"\n\n")[0]).text(_HOTMAIL_FIELD))
        if recipient:
            return Complaint((recipient,), BounceReason.ABUSE, "X-HmXmrOriginalRecipient")
        if _COMPLAINT_SUBJECT.match(mail.headers.text(b"subject")):
            return Complaint(_returned_to(mail), BounceReason.ABUSE, "complaint about message from")
    if b"Apple Mail" in mail.body and mail.report.lstrip().startswith(_APPLE):
        sender = first_address(mail.headers.text(b"from"))
        return Complaint((sender,) if sender else (), BounceReason.OPT_OUT, _APPLE)
    return None


def _of_fields(mail: Mail, fields: Headers) -> Complaint:
    kind = fields.text(b"feedback-type").lower().split(";")[0].strip() or "abuse"
    named = [
        first_address(value[:_LONGEST_FIELD].decode("utf-8", "replace"))
        for name in (b"original-rcpt-to", b"removal-recipient", b"original-recipient")
        for value in fields.raw(name)[:_MOST_RECIPIENTS]
    ]
    recipients = tuple(dict.fromkeys(filter(None, named))) or _returned_to(mail)
    return Complaint(recipients, reason_of(kind), f"feedback-type: {kind}")


def _returned_to(mail: Mail) -> tuple[str, ...]:
    """Return to whom the returned message went; local parts that providers make up are nobody."""
    headers = Headers(mail.returned.partition(b"\n\n")[0])
    for name in (b"to", b"x-original-to", b"delivered-to", b"x-rcpt-to", b"envelope-to"):
        found = [
            place.address for place in addresses(headers.text(name)) if not _ID_LIKE.match(place.address)
        ]
        if len(found) == 1:
            return tuple(found)
    return ()
