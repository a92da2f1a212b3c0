"""Rendering: what every channel's renderer takes, returns and refuses."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from jinja2 import TemplateError, UndefinedError

from messaging.campaign.pieces import Pieces, Template, TooLong
from messaging.errors import InputError, MessagingError

MAX_PUBLIC_URL: Final = 900  # leaves room for the token in a line of 998

_MAILBOX = re.compile(r'\s*"?(?P<name>[^<>\r\n]*?)"?\s*<(?P<address>[^<>\r\n]+)>\s*')
_URL = re.compile(r"https?://[!#-;=?-~]+")  # printable ASCII, no space, quote or angle bracket


class RenderError(MessagingError):
    """This recipient's message cannot be made; the text names the merge field, never its value."""


@dataclass(slots=True)  # frozen ones take twice the time to make, and there is one per message
class Recipient:
    """The contact that one attempt is for."""

    token: UUID
    """Names the attempt in links."""
    address: str
    """Where the message goes: an e-mail address, checked at import, its domain in ASCII (an A-label); a phone
    number in E.164; the JID of a group."""
    name: str | None
    phone: str | None
    attributes: Mapping[str, str]
    email: str | None = None
    """The contact's, for a message that goes elsewhere."""


@dataclass(slots=True)
class Rendered:
    """One message, ready to be handed over."""

    content: bytes
    """As `Message.content` of this channel."""
    message_id: str
    """The Message-ID header; empty where messages have none."""


class Renderer(Protocol):
    """Makes the messages of one campaign for one account."""

    @property
    def envelope_sender(self) -> str:
        """Who the message comes from, as the channel's envelope says it."""
        ...

    def render(self, recipient: Recipient) -> Rendered:
        """Return one recipient's message.

        Raises:
            RenderError: This recipient alone cannot be written to; the others can.
        """
        ...


class UnsubscribeLinks:
    """The links with which recipients end their subscription."""

    def __init__(self, public_url: str) -> None:
        """Check the URL that they begin with.

        Raises:
            InputError: It could not stand in a link or a header.
        """
        check_public_url(public_url)
        self._start = f"{public_url.rstrip('/')}/u/"

    def of(self, recipient: Recipient) -> str:
        """Return one recipient's link."""
        digits = recipient.token.bytes.hex()  # str(UUID) takes thrice as long
        return f"{self._start}{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def pieces_of(part: str, template: Template, found: list[object], most: int) -> Pieces:
    """Run one template; its result has `most` characters at most.

    Raises:
        RenderError: It could not, or the result would be longer; the text begins with `part`.
    """
    try:
        return template.pieces(found, most)
    except UndefinedError as error:
        raise RenderError(f"{part}: no value for merge field {error.message!r}") from None
    except TooLong:
        raise RenderError(f"{part}: is longer than {most:,} characters") from None
    except (TemplateError, TypeError, ValueError, ArithmeticError, AssertionError) as error:
        # Their texts hold values: `from None` keeps those out of logs.
        raise RenderError(f"{part}: a filter or comparison failed ({type(error).__name__})") from None


def check_public_url(public_url: str) -> None:
    """Refuse a public URL that could not stand in a link or a header.

    Raises:
        InputError: It cannot.
    """
    if not _URL.fullmatch(public_url) or len(public_url) > MAX_PUBLIC_URL:
        raise InputError(
            f"OUTFLOW_PUBLIC_URL must be http(s)://… in at most {MAX_PUBLIC_URL} ASCII characters"
        )


def mailbox(what: str, value: str) -> tuple[str, str]:
    """Split `Shop <news@example.org>` into name and address.

    Raises:
        InputError: It is not an address that a header and a server take; the text begins with `what`.
    """
    match = _MAILBOX.fullmatch(value)
    name, address = (match["name"], match["address"]) if match else ("", value.strip())
    try:
        # The relay judges whether a name inside a company's network, or of a test, is deliverable.
        valid = validate_email(address, check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError as error:
        raise InputError(f"{what} must be an address, or a name and <address>: {error}") from None
    if valid.ascii_email is None:
        raise InputError(f"{what}: the part before @ must be ASCII, few servers take anything else")
    return name, valid.ascii_email
