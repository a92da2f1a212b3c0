"""Which of our messages came back: its campaign, its attempt's token and its Message-ID.

Looked for where each can survive: the address a report is sent to (VERP), the envelope identifier (RFC 3461,
4.4), our own fields and Message-ID in what is returned, the tag in its subject, and what the report answers.
"""

import re
from dataclasses import dataclass

from messaging.feedback.mail import Mail, decoded_words
from messaging.tokens import LENGTH, unverified

_TOKEN = "[0-9a-fA-F]{32}"  # noqa: S105 - what one looks like
_UUID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_ENVELOPE_ID = re.compile(rf"\s*(?:[\w-]+;\s*)?(?P<token>{_TOKEN}|{_UUID})\b")
_VERP = re.compile(rf"\+({_TOKEN}|{_UUID})(?:=[^@\s]*)?@".encode())
_OUR_MESSAGE_ID = re.compile(rb"<[0-9a-f]{32}\.(\d{1,18})@[\w.-]{1,253}>")
_MESSAGE_ID = re.compile(
    rb"^[> \t|]*(?:original-)?message-id:[ \t]*(?:\n[ \t]+)?(<[^<>\s@]{1,250}@[^<>\s]{1,250}>)",
    re.IGNORECASE | re.MULTILINE,
)
# A token of `messaging.tokens` in a link of ours; who folds a header may have ended the line anywhere in it.
_LINK = re.compile(
    rb"/[uopc]/((?:[A-Za-z0-9_-](?:\n[ \t]{1,9})?){%d}[A-Za-z0-9_-])(?![A-Za-z0-9_-])" % (LENGTH - 1)
)
_OLD_LINK = re.compile(rf"/u/({_UUID}|{_TOKEN})\b".encode())
_LINK_STARTS = (b"/u/", b"/o/", b"/p/", b"/c/")
_OUR_FIELD = re.compile(
    rb"^[> \t|]*x-(?:[\w-]{1,30}-)?(?:campaign|cid)(?:[-_]?id)?[ \t]*:[ \t]*\D{0,3}(\d{1,18})\b",
    re.IGNORECASE | re.MULTILINE,
)
_SUBJECT = re.compile(
    rb"^[> \t|]*subject[ \t]*:[ \t]*(.{0,2000}(?:\n[ \t]+.{1,2000}){0,20})", re.IGNORECASE | re.MULTILINE
)
_TAG = re.compile(r"\[CID:(\d{1,18})\]")
_LONGEST_SUBJECTS = 20

_SENT_TO = (
    b"to",
    b"delivered-to",
    b"x-original-to",
    b"envelope-to",
    b"x-envelope-to",
    b"x-rcpt-to",
    b"x-delivered-to",
    b"return-path",
)
_ANSWERED = (b"in-reply-to", b"references", b"x-original-message-id", b"original-message-id")


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of the message that came back; anything may be missing."""

    campaign_id: int | None = None
    token: str | None = None
    """The attempt's token, 32 hexadecimal digits in lower case."""

    message_id: str | None = None
    """The Message-ID header with its angle brackets."""


def read_origin(mail: Mail, envelope_id: str = "") -> Origin:
    """Return what a report says about which message it is about."""
    texts = [mail.body]
    texts += [part.content() for part in mail.parts if part.headers.raw(b"content-transfer-encoding")]
    token = _token(mail, envelope_id, texts)
    message_id = _message_id(mail, texts)
    return Origin(_campaign(mail, message_id, texts), token, message_id)


def _token(mail: Mail, envelope_id: str, texts: list[bytes]) -> str | None:
    for name in _SENT_TO:
        for value in mail.headers.raw(name):
            if match := _VERP.search(value):
                return _bare(match[1].decode())
    if given := _ENVELOPE_ID.fullmatch(envelope_id.strip()):
        return _bare(given["token"])
    for text in texts:
        if token := _linked(text):
            return token
    return None


def _linked(text: bytes) -> str | None:
    """Return the token in the first link of ours."""
    if b"=\n" in text:  # the bodies of a returned message are as they were sent, most often quoted-printable
        text = text.replace(b"=\n", b"")
    if not any(start in text for start in _LINK_STARTS):
        return None
    for link in _LINK.finditer(text):
        if attempt := unverified(b"".join(link[1].split()).decode()):
            return attempt.hex
    old = _OLD_LINK.search(text)
    return _bare(old[1].decode()) if old else None


def _message_id(mail: Mail, texts: list[bytes]) -> str | None:
    answered = b" ".join(value for name in _ANSWERED for value in mail.headers.raw(name))
    for text in (*texts, answered):
        if ours := _OUR_MESSAGE_ID.search(text):
            return ours[0].decode()
    for text in texts:
        if returned := _MESSAGE_ID.search(text):
            return returned[1].decode("utf-8", "replace")
    return None


def _campaign(mail: Mail, message_id: str | None, texts: list[bytes]) -> int | None:
    if message_id and (ours := _OUR_MESSAGE_ID.fullmatch(message_id.encode("utf-8", "replace"))):
        return int(ours[1])
    for text in texts:
        if found := _OUR_FIELD.search(text):
            return int(found[1])
    for text in texts:
        for count, subject in enumerate(_SUBJECT.finditer(text)):
            if tag := _TAG.search(decoded_words(subject[1])):
                return int(tag[1])
            if count >= _LONGEST_SUBJECTS:
                break
    tag = _TAG.search(mail.headers.text(b"subject")) or _TAG.search(mail.report)
    return int(tag[1]) if tag else None


def _bare(token: str) -> str:
    return token.replace("-", "").lower()
