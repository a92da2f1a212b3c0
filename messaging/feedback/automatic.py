"""Recognise answers that no person wrote: out of office, receipts, challenges (RFC 3834, words)."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from messaging.feedback.mail import Mail
from messaging.feedback.reasons import folded
from schemas.bounces import BounceReason

_BEGINNING = 1500
_ANSWER = (
    "re:",
    "re :",
    "aw:",
    "sv:",
    "vs:",
    "antw:",
    "tr:",
    "r:",
    "rv:",
    "res:",
    "odp:",
    "ynt:",
    "回复:",
    "答复:",
    "re\uff1a",
)


@dataclass(frozen=True, slots=True)
class _Words:
    fields: tuple[tuple[bytes, str], ...]
    subjects: tuple[str, ...]
    words: tuple[str, ...]
    challenge_senders: tuple[str, ...]
    challenge_subjects: tuple[str, ...]
    challenge_words: tuple[str, ...]
    not_challenge: tuple[str, ...]


def automatic_reason(mail: Mail, text: str) -> tuple[BounceReason, str] | None:
    """Return whether a mail is an automatic answer or a challenge, and what says so."""
    words = _words()
    subject = folded(mail.headers.text(b"subject"))
    answered = subject.startswith(_ANSWER)
    bare = subject.partition(":")[2].strip() if answered else subject
    start = folded(text[:_BEGINNING])
    names = mail.headers.names()
    if b"list-id" in names or b"list-unsubscribe" in names:
        return None
    if said := _challenge(words, mail.headers.text(b"from").lower(), bare, start):
        return BounceReason.CHALLENGED, said
    for name, value in words.fields:
        if name in names and any(
            v.strip().lower().startswith(value.encode()) for v in mail.headers.raw(name)
        ):
            return BounceReason.ANSWER, f"{name.decode()}: {value}".rstrip(": ")
    if bare.startswith(words.subjects):
        return BounceReason.ANSWER, next(word for word in words.subjects if bare.startswith(word))
    first = next((word for word in words.words if word in start), "")
    return (BounceReason.ANSWER, first) if first else None


def _challenge(words: _Words, sender: str, subject: str, start: str) -> str:
    """Two of these: who asks, how the subject begins, what is asked, another thing that is asked."""
    asked = [word for word in words.challenge_words if word in start]
    by_subject = next(
        (word for word in words.challenge_subjects if subject.startswith(word) or f" {word}" in subject), ""
    )
    by_sender = next((word for word in words.challenge_senders if word in sender), "")
    strong = min(len(asked), 2) + bool(by_subject) + bool(by_sender)
    if strong < 2 or (not by_sender and any(word in f"{subject} {start}" for word in words.not_challenge)):  # noqa: PLR2004 - of four
        return ""
    return asked[0] if asked else by_subject


@cache
def _words() -> _Words:
    data = tomllib.loads(resources.files(__package__).joinpath("automatic.toml").read_text("utf-8"))
    fields = tuple((row.partition(": ")[0].encode(), row.partition(": ")[2]) for row in data.pop("fields"))
    return _Words(fields=fields, **{name: tuple(folded(row) for row in rows) for name, rows in data.items()})
