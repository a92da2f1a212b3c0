"""What goes over the wire for one message: MAIL and RCPT with their options, and the content."""

import functools
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import email_validator

from messaging.channels.base import Message, Receipt
from messaging.errors import AccountError
from schemas.states import Outcome

_UNWRITABLE = re.compile(r"[\x00-\x20\x7f<>]")  # would end the command, or the path within it
_LONGEST_ADDRESS = 254  # RFC 5321 4.5.3.1.3: 256 with its angle brackets
_BARE_LINE_END = re.compile(rb"\r\n|\r|\n")
_XTEXT = re.compile(r"[!-*,-<>-~]*")  # RFC 3461 4: printable ASCII without + and =
_NOT_XTEXT = re.compile(rb"[^!-*,-<>-~]")


@dataclass(frozen=True, slots=True)
class Offers:
    """The extensions that a server offers and that change what we write."""

    size: bool
    eight_bit: bool
    utf8: bool
    reports: bool
    """DSN: who is told of failures, and under which name (RFC 3461)."""
    groups: bool
    """PIPELINING (RFC 2920)."""
    chunks: bool
    """CHUNKING (RFC 3030)."""

    @classmethod
    def of(cls, extensions: Mapping[str, str]) -> Self:
        """Read the keywords of an EHLO reply."""
        return cls(
            *(
                name in extensions
                for name in ("size", "8bitmime", "smtputf8", "dsn", "pipelining", "chunking")
            )
        )


EVERYTHING = Offers(*[True] * 6)


@dataclass(slots=True)
class Envelope:
    """A message as it is written to a server with these offers."""

    message: Message
    mail_rcpt: bytes
    """Both commands."""
    content: bytes
    fits: bool
    """The server offers all that the message makes use of."""


def write_envelope(message: Message, offers: Offers) -> Envelope | Receipt:
    """Write the envelope of a message, or say why no server, or not this one, would take it.

    Raises:
        AccountError: The envelope sender cannot be written.
    """
    recipient = writable(message.recipient)
    if recipient is None:
        return Receipt(Outcome.REJECTED, reply="the address cannot be written in an SMTP command")
    sender = _sender(message.envelope_sender) if message.envelope_sender else ""
    if sender is None:
        raise AccountError("the envelope sender cannot be written in an SMTP command")
    content = crlf(message.content)
    mail_options = f" SIZE={len(content)}" if offers.size else ""
    rcpt_options = ""
    fits = True
    if not content.isascii():
        fits = offers.eight_bit
        mail_options += " BODY=8BITMIME" if fits else ""
    if not (recipient.isascii() and sender.isascii()):
        if not offers.utf8:
            if recipient.isascii():
                raise AccountError("the server does not take an envelope sender outside ASCII (SMTPUTF8)")
            return Receipt(
                Outcome.REJECTED, reply="the server does not take addresses outside ASCII (SMTPUTF8)"
            )
        mail_options += " SMTPUTF8"
    if offers.reports and message.token:
        mail_options += f" RET=HDRS ENVID={xtext(message.token)}"
        rcpt_options = " NOTIFY=FAILURE,DELAY"
        if recipient.isascii():  # RFC 6533 has another type for the others, which few servers know
            rcpt_options += f" ORCPT=rfc822;{xtext(recipient)}"
    commands = f"MAIL FROM:<{sender}>{mail_options}\r\nRCPT TO:<{recipient}>{rcpt_options}\r\n"
    return Envelope(message, commands.encode(), content, fits)


def writable(address: str) -> str | None:
    """Return an address as it can stand in an SMTP command, or None.

    Only a local part outside ASCII needs SMTPUTF8: a domain outside ASCII has an ASCII form.
    """
    if not address or _UNWRITABLE.search(address) is not None:
        return None
    if address.isascii():
        return address if len(address) <= _LONGEST_ADDRESS else None
    try:
        known = email_validator.validate_email(
            address, check_deliverability=False, globally_deliverable=False
        )
    except email_validator.EmailNotValidError:
        return None
    address = f"{known.local_part}@{known.ascii_domain}"
    return address if len(address.encode()) <= _LONGEST_ADDRESS else None


_sender = functools.lru_cache(maxsize=256)(
    writable
)  # nearly always the same one, unless each has its own (VERP)


def xtext(text: str) -> str:
    """Write a value of an option so that nothing in it can end the option (RFC 3461 4)."""
    if _XTEXT.fullmatch(text):
        return text
    return _NOT_XTEXT.sub(lambda found: b"+%02X" % found[0][0], text.encode()).decode()


def crlf(content: bytes) -> bytes:
    """Return content whose lines all end in CRLF, the last one too.

    A lone CR or LF before a dot is read as the end of the message by some servers, and what follows as
    commands (SMTP smuggling). Looking for that costs a tenth of always replacing.
    """
    lines = io.IncrementalNewlineDecoder(None, translate=False)  # notes which line ends it has come by
    lines.decode(content.decode("latin-1"), final=True)
    if lines.newlines not in (None, "\r\n"):
        content = _BARE_LINE_END.sub(b"\r\n", content)
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def dot_stuffed(content: bytes) -> bytes:
    """Double the dot that begins a line (RFC 5321 4.5.2); all lines end in CRLF."""
    if content.rfind(b"\r\n.") >= 0:  # a third of the price of replacing nothing
        content = content.replace(b"\r\n.", b"\r\n..")
    return b"." + content if content.startswith(b".") else content
