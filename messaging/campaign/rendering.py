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
from messaging.tokens import LinkKey

MAX_RENDERED: Final = 1_000_000  # characters of a part; Gmail clips at a tenth of it
_MAX_LOCAL_PART: Final = 64  # RFC 5321 4.5.3.1.1
_MAX_ADDRESS: Final = 254  # RFC 5321 4.5.3.1.3, without the angle brackets
_TAG_LENGTH: Final = len("+") + 32  # of what each message adds to the return path

_MAILBOX = re.compile(r'\s*"?(?P<name>[^<>\r\n]*?)"?\s*<(?P<address>[^<>\r\n]+)>\s*')


class RenderError(MessagingError):
    """This recipient's message cannot be made; the text names the merge field, never its value."""


@dataclass(frozen=True, slots=True)
class Letterhead:
    """What is the same of all messages that one account sends."""

    sender: str
    """Who the reader sees, as in `Shop <news@example.org>`."""
    key: LinkKey
    """What links are signed with."""
    return_path: str = ""
    """Where bounces go, each message's to an address of its own there; empty: to the sender."""


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
    envelope_sender: str
    """Who the message comes from, as the channel's envelope says it."""


class Renderer(Protocol):
    """Makes the messages of one campaign for one account."""

    def render(self, recipient: Recipient) -> Rendered:
        """Return one recipient's message.

        Raises:
            RenderError: This recipient alone cannot be written to; the others can.
        """
        ...


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


def bounce_address(return_path: str) -> tuple[str, str]:
    """Return what stands before and behind a message's token in the address that its bounces go to.

    Raises:
        InputError: The return path is no address, or leaves no room for the token.
    """
    name, address = mailbox("return_path", return_path)
    local, _, domain = address.rpartition("@")
    if name or local.startswith('"'):
        raise InputError("return_path must be an address alone, as in bounces@example.org")
    if len(local) + _TAG_LENGTH > _MAX_LOCAL_PART or len(address) + _TAG_LENGTH > _MAX_ADDRESS:
        raise InputError(
            f"return_path must have at most {_MAX_LOCAL_PART - _TAG_LENGTH} characters before the @ and "
            f"{_MAX_ADDRESS - _TAG_LENGTH} in all: each message adds a + and 32 more"
        )
    return f"{local}+", f"@{domain}"
