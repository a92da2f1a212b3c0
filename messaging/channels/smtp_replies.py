"""What an SMTP server's words mean: data tables from phase and code to what we do."""

import re
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from messaging.channels.base import Receipt
from messaging.errors import AccountError, BrokenOff, MessagingError, NotSent, Unknown
from schemas.states import Outcome


class Phase(StrEnum):
    """What the server was asked, in the words of our error texts."""

    GREETING = "connecting"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL FROM"
    RCPT = "RCPT TO"
    DATA = "DATA"
    CONTENT = "the message before its end"
    DOT = "the message"
    CHUNK = "the message by BDAT"


class Verdict(Enum):
    """What a reply makes us do."""

    GO_ON = auto()
    ACCEPTED = auto()
    DEFERRED = auto()
    REJECTED = auto()
    NOT_SENT = auto()
    ACCOUNT = auto()
    """A fault of the account or of the envelope sender, never of the recipient."""
    NO_CHUNKS = auto()
    """The server offers BDAT and does not know it: the same message goes by DATA."""
    NONSENSE = auto()
    """No answer to what we asked: as good as silence."""


@dataclass(slots=True)
class Reply:
    """One whole reply of a server."""

    code: int
    lines: list[bytes]
    """As they came, without the code."""

    @property
    def text(self) -> str:
        """The lines on one line, printable."""
        return one_line(self.lines)

    @property
    def status(self) -> str | None:
        """The RFC 3463 enhanced status; one of another class than the code is something else, a version."""
        return _status(self.code, self.text)

    @property
    def closes(self) -> bool:
        """Whether the connection cannot be used after it: closing, or client and server are out of step."""
        return self.code in _CLOSING_CODES


_COMPLETED = 250
_ALL_WELL = "2.0.0 "
_STATUS = re.compile(r"(?<![\w.])[245]\.\d{1,3}\.\d{1,3}(?![\w.]*\w)")
_CLOSING_CODES = {421, 503}

_ENDED = {Phase.DOT, Phase.CHUNK}
_ENVELOPED = {Phase.RCPT, Phase.DATA, Phase.CONTENT}  # the server has heard of this message

_SETUP = {"4": Verdict.NOT_SENT, "5": Verdict.ACCOUNT}

# 421 at the end is a definite "not taken"; at any other place it says nothing about this recipient.
_STORED = {"2": Verdict.ACCEPTED, "421": Verdict.DEFERRED, "4": Verdict.DEFERRED, "5": Verdict.REJECTED}

# A whole code wins over its first digit. RFC 5321 4.2 and 4.3.2, RFC 4954 6 (AUTH), RFC 3207 4 (STARTTLS).
_BY_PHASE: dict[Phase, dict[str, Verdict]] = {
    Phase.GREETING: _SETUP,
    Phase.EHLO: _SETUP,
    Phase.STARTTLS: _SETUP,
    Phase.AUTH: _SETUP,
    # 552 answers our SIZE=: this message is too big, the account is not at fault (RFC 1870, 6.1).
    Phase.MAIL: {"2": Verdict.GO_ON, "4": Verdict.NOT_SENT, "552": Verdict.REJECTED, "5": Verdict.ACCOUNT},
    Phase.RCPT: {"2": Verdict.GO_ON, "4": Verdict.DEFERRED, "5": Verdict.REJECTED},
    Phase.DATA: {"354": Verdict.GO_ON, "4": Verdict.DEFERRED, "5": Verdict.REJECTED},
    Phase.CONTENT: {"4": Verdict.DEFERRED, "5": Verdict.REJECTED},
    Phase.DOT: _STORED,
    Phase.CHUNK: _STORED | dict.fromkeys(("500", "502", "503", "504"), Verdict.NO_CHUNKS),
}

_IN_ANY_PHASE = {
    "421": Verdict.NOT_SENT,  # closing; must not read as a bad address
    "503": Verdict.NOT_SENT,  # out of sequence: we and the server disagree about where we are
    "530": Verdict.ACCOUNT,  # authentication or STARTTLS required
    "534": Verdict.ACCOUNT,  # mechanism too weak, or an application password is asked for
    "535": Verdict.ACCOUNT,  # credentials invalid
    "538": Verdict.ACCOUNT,  # encryption required
}

# Said at RCPT or after the dot, with codes that would else read as a bad address.
_BY_STATUS = {
    "5.4.5": Verdict.ACCOUNT,  # Gmail: daily sending quota exceeded
    "5.7.60": Verdict.ACCOUNT,  # Exchange: not permitted to send as this sender
}

# A "not now" about the server or about us, whoever the recipient (RFC 3463, 3.4 and 3.8; Gmail's 4.7.2x and
# 4.7.3x, Outlook's 4.7.5xx to 4.7.7xx, Amazon SES's 454 "Throttling failure").  Greylisting says 4.7.1.
_THROTTLED_CODES = {421, 454}
_THROTTLED_STATUS = re.compile(r"4\.3\.\d+|4\.4\.5|4\.5\.3|4\.7\.(0|2\d|3\d|[5-7]\d\d)")

# There is no such mailbox or domain, or it has moved or takes nothing any more (RFC 3463, 3.2 and 3.3;
# RFC 7505).
_NOBODY = re.compile(r"5\.1\.([1236]|10)|5\.2\.1")

_LONGEST_WAIT = 24 * 3600.0
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WAITS = [
    # "try again in 5 minutes", "greylisted for 300 seconds", "wait 1 h"
    re.compile(
        r"\b(?:in|after|for|wait)\s+(?:at\s+least\s+|about\s+)?(?P<count>\d{1,9})\s*"
        r"(?P<unit>s|m|h|d)(?:ec|ecs|econd|econds|in|ins|inute|inutes|our|ours|r|rs|ay|ays)?\b",
        re.IGNORECASE,
    ),
    # milter-greylist: "please come back in 00:05:00"
    re.compile(r"\bin\s+(?P<hours>\d{1,3}):(?P<minutes>\d\d):(?P<seconds>\d\d)\b", re.IGNORECASE),
    # as in an HTTP header: retry-after, colon, seconds
    re.compile(r"\bretry[- ]after[: ]\s*(?P<seconds>\d{1,9})\b", re.IGNORECASE),
]

# The server's own name of the message, by which its later reports and its log speak of it. The words before
# each pattern are in every text that it matches, lower case, and are looked for first.
_MESSAGE_IDS = [
    ("queued as ", re.compile(r"\bqueued as (\S+)", re.IGNORECASE)),  # Postfix, Haraka
    ("id=", re.compile(r"\bid=([\w-]+)")),  # Exim
    ("ok ", re.compile(r"^Ok ([0-9a-f-]{20,})$")),  # Amazon SES
    (" message accepted", re.compile(r"(\S+) Message accepted for delivery")),  # Sendmail
]

_REPLY_LENGTH = 500


def one_line(lines: list[bytes]) -> str:
    """Join the lines of a reply into printable text that a database takes."""
    text = " ".join(b" ".join(lines).decode("utf-8", "replace").split())
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def judge(phase: Phase, reply: Reply) -> Verdict:
    """Say what a reply makes us do."""
    code = str(reply.code)
    verdicts = _BY_PHASE[phase]
    if code[0] == "5" and (status := reply.status) in _BY_STATUS:
        return _BY_STATUS[status]
    return (
        verdicts.get(code)
        or _IN_ANY_PHASE.get(code)
        or verdicts.get(code[0], Verdict.NONSENSE)
    )  # fmt: skip


def receipt(verdict: Verdict, reply: Reply) -> Receipt:
    """Return the receipt of a definite answer."""
    text = reply.text
    status = _status(reply.code, text)
    words = text[:_REPLY_LENGTH]
    if verdict is Verdict.ACCEPTED:
        return Receipt(Outcome.ACCEPTED, reply.code, status, words, provider_message_id=_message_id(text))
    if verdict is Verdict.REJECTED:
        nobody = _NOBODY.fullmatch(status or "") is not None
        return Receipt(Outcome.REJECTED, reply.code, status, words, unreachable=nobody)
    throttled = reply.code in _THROTTLED_CODES or bool(_THROTTLED_STATUS.fullmatch(status or ""))
    return Receipt(Outcome.DEFERRED, reply.code, status, words, throttled, named_wait(text))


def failure(verdict: Verdict, where: str, phase: Phase, reply: Reply) -> MessagingError:
    """Return the error of a reply that is no answer about the recipient.

    Its text has codes only: servers echo addresses and user names in theirs.
    """
    said = " ".join(filter(None, (str(reply.code), reply.status)))
    text = f"{where}, {phase}: answered {said}"
    if verdict is Verdict.ACCOUNT:
        return AccountError(text)
    if verdict is Verdict.NONSENSE:
        return silence(phase, text)
    error = BrokenOff(text) if phase in _ENVELOPED else NotSent(text)
    answer = receipt(Verdict.DEFERRED, reply)
    error.throttle = answer if answer.throttled else None
    return error


def silence(phase: Phase, text: str) -> MessagingError:
    """Return the error of an answer that never came, or of bytes that are none."""
    if phase in _ENDED:
        return Unknown(text)
    return BrokenOff(text) if phase in _ENVELOPED else NotSent(text)


def named_wait(text: str) -> float | None:
    """Return the seconds that a server's words ask us to wait, when they name a time."""
    for pattern in _WAITS:
        if match := pattern.search(text):
            found = match.groupdict(default="0")
            seconds = (
                int(found.get("count", 0)) * _UNIT_SECONDS[found.get("unit", "s").lower()]
                + int(found.get("hours", 0)) * 3600
                + int(found.get("minutes", 0)) * 60
                + int(found.get("seconds", 0))
            )
            return min(float(seconds), _LONGEST_WAIT)
    return None


def _status(code: int, text: str) -> str | None:
    if code == _COMPLETED and text.startswith(_ALL_WELL):
        return _ALL_WELL[:-1]
    for match in _STATUS.finditer(text):
        if match[0][0] == str(code)[0]:
            return match[0]
    return None


def _message_id(text: str) -> str | None:
    words = text.lower()
    for hint, pattern in _MESSAGE_IDS:
        if hint in words and (match := pattern.search(text)):
            return match[1]
    return None
