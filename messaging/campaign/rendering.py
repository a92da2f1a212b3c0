"""Rendering: the bytes of one recipient's message."""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from jinja2 import Template, TemplateError, UndefinedError

from messaging.audience.fields import field_name
from messaging.campaign.templates import compile_templates, context
from messaging.errors import InputError, MessagingError
from schemas.campaign import CampaignSpec

MAX_RENDERED = 1_000_000  # characters of a part; Gmail clips at a tenth of it
MAX_SUBJECT = 1_000
MAX_PUBLIC_URL = 900  # leaves room for the token in a line of 998
_MAX_NAME = 100  # characters of a display name: more is no name
_MAX_LINE = 78  # characters of a header line, where it can be folded
_MAX_WORD = 900  # one word that long cannot be folded, only encoded
_MAX_QP_LINE = 76  # RFC 2045
_WORD_SIZE = 39  # bytes: as base64 after "Subject: =?utf-8?b?" they fit RFC 2047's 76 characters

_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029\ud800-\udfff]+")
_UNSENDABLE = re.compile(
    "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f\ud800-\udfff]"
)  # NUL and the like, in bodies
_MAILBOX = re.compile(r'\s*"?(?P<name>[^<>\r\n]*?)"?\s*<(?P<address>[^<>\r\n]+)>\s*')
_PHRASE = re.compile(r"[A-Za-z0-9 ]+")
_ADDRESS = re.compile(
    '[^\\s\\x00-\\x1f\\x7f-\\x9f\ud800-\udfff()<>@,;:\\\\"\\[\\]]{1,64}@[A-Za-z0-9-]+(?:\\.[A-Za-z0-9-]+)*'
)
_URL = re.compile(r"https?://[!#-;=?-~]+")  # printable ASCII, no space, quote or angle bracket


class RenderError(MessagingError):
    """This recipient's message cannot be made; the text names the merge field, never its value."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """The contact that one attempt is for."""

    token: UUID
    """Names the attempt in links."""
    address: str
    """Checked at import; its domain is ASCII (an A-label)."""
    name: str | None
    phone: str | None
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Rendered:
    """One message, ready to be handed over."""

    content: bytes
    """RFC 5322 bytes, lines ended by CRLF."""
    message_id: str


class _Prepared(EmailPolicy):
    """Takes header values as they come: encoded, folded, and raw where they must be.

    Python's own folding encodes any List-Unsubscribe longer than a line, and mail clients then see no link
    (python/cpython#85725).
    """

    def header_store_parse(self, name: str, value: str) -> tuple[str, str]:
        """Return the value untouched."""
        return name, value

    def header_fetch_parse(self, name: str, value: str) -> str:  # noqa: ARG002 - the signature is Python's
        """Return the value untouched; parsing Content-Type at each look is half the cost of a message."""
        return value


_POLICY = _Prepared(linesep="\r\n", refold_source="none", max_line_length=_MAX_QP_LINE)
_POLICY_UTF8 = _POLICY.clone(utf8=True)  # RFC 6532, for a local part that is not ASCII


class Renderer:
    """Makes the messages of one campaign."""

    def __init__(self, spec: CampaignSpec, campaign_id: int, sender: str, public_url: str) -> None:
        """Compile the templates and check the sender, once per campaign.

        Raises:
            InputError: A template, the sender, Reply-To or the public URL cannot be used.
        """
        self._templates = compile_templates(spec)
        self._campaign_id = campaign_id
        self._tag = f" [CID:{campaign_id}]" if spec.subject_tag else ""
        name, self._envelope_sender = mailbox("the account's sender", sender)
        self._domain = self._envelope_sender.rpartition("@")[2]
        check_public_url(public_url)
        self._public_url = public_url.rstrip("/")
        # Mailboxes group and mute by List-Id, so it names the audience, not this campaign (RFC 2919).
        audience = field_name(spec.audience).strip("_").replace("_", "-")[:63].strip("-") or "list"
        self._headers = {
            "From": _with_name(name, self._envelope_sender),
            **({"Reply-To": _with_name(*mailbox("reply_to", spec.reply_to))} if spec.reply_to else {}),
            "List-Id": f"<{audience}.{self._domain}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        }

    @property
    def envelope_sender(self) -> str:
        """The bare address of the sender, where bounces go."""
        return self._envelope_sender

    def render(self, recipient: Recipient) -> Rendered:
        """Return one recipient's message.

        Raises:
            RenderError: This recipient alone cannot be written to; the others can.
        """
        if not _ADDRESS.fullmatch(recipient.address):
            raise RenderError("the address cannot stand in a header")
        unsubscribe_url = f"{self._public_url}/u/{recipient.token}"
        # The same for every try, so that a receiver who sees two copies can tell; hashed, because a
        # Message-ID travels on in replies and the token unsubscribes.
        name_of_attempt = hashlib.sha256(recipient.token.bytes).hexdigest()[:32]
        message_id = f"<{name_of_attempt}.{self._campaign_id}@{self._domain}>"
        values = context(
            recipient.name, recipient.address, recipient.phone, recipient.attributes, unsubscribe_url
        )
        templates = self._templates
        message = EmailMessage(_POLICY if recipient.address.isascii() else _POLICY_UTF8)
        message["To"] = _with_name(recipient.name or "", recipient.address)
        message["Subject"] = self._subject(_rendered("subject", templates.subject, values))
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = message_id
        message["List-Unsubscribe"] = f"<{unsubscribe_url}>"
        for header, value in self._headers.items():
            message[header] = value
        text = _body("text", templates.text, values)
        message.set_content(text, cte=_encoding(text))
        if templates.html:
            html = _body("html", templates.html, values)
            message.add_alternative(html, subtype="html", cte=_encoding(html))
            # Chosen here, because the generator would compile a pattern for each of its own.
            message.set_boundary(f"=_{name_of_attempt}")
        return Rendered(message.as_bytes(), message_id)

    def _subject(self, rendered: str) -> str:
        subject = _one_line(rendered)
        if not subject:
            raise RenderError("the subject is empty")
        if len(subject) > MAX_SUBJECT:
            raise RenderError(f"the subject is longer than {MAX_SUBJECT} characters")
        return _unstructured("Subject", subject + self._tag)


def _rendered(part: str, template: Template, values: Mapping[str, object]) -> str:
    """Run one template, and stop as soon as the result is too long."""
    pieces: list[str] = []
    size = 0
    try:
        for piece in template.generate(values):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_RENDERED:
                raise RenderError(f"{part}: is longer than {MAX_RENDERED:,} characters")
    except UndefinedError as error:
        raise RenderError(f"{part}: no value for merge field {error.message!r}") from None
    except (TemplateError, TypeError, ValueError, ArithmeticError, AssertionError) as error:
        # Their texts hold values: `from None` keeps those out of logs.
        raise RenderError(f"{part}: a filter or comparison failed ({type(error).__name__})") from None
    return "".join(pieces)


def _body(part: str, template: Template, values: Mapping[str, object]) -> str:
    body = _UNSENDABLE.sub(" ", _rendered(part, template, values))
    return body.replace("\r\n", "\n").replace("\r", "\n")


def _encoding(body: str) -> str:
    """Choose 7bit when lines are short and plain, else quoted-printable; relays may refuse 8bit."""
    short = body.isascii() and all(len(line) <= _MAX_QP_LINE for line in body.split("\n"))
    return "7bit" if short else "quoted-printable"


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


def _one_line(text: str) -> str:
    """Make header text of a value: nothing in it can end the header."""
    return _CONTROL.sub(" ", text).strip(" ")


def _with_name(name: str, address: str) -> str:
    """Write `name <address>` as a header value."""
    name = _one_line(name)[:_MAX_NAME].strip()
    if not name:
        return address
    if not name.isascii() or "=?" in name:  # that would read as an encoded word
        return f"{_encoded_words(name)}\r\n <{address}>"
    if not _PHRASE.fullmatch(name):
        name = '"' + name.replace("\\", r"\\").replace('"', r"\"") + '"'
    fits = len("Reply-To: ") + len(name) + len(address) + len(" <>") <= _MAX_LINE
    return f"{name}{'' if fits else chr(13) + chr(10)} <{address}>"


def _unstructured(header: str, text: str) -> str:
    """Fold plain text at its spaces, and encode any other."""
    pieces = re.findall(r" *[^ ]+", text)
    if not text.isascii() or "=?" in text or any(len(piece) > _MAX_WORD for piece in pieces):
        return _encoded_words(text)
    lines = [pieces[0]]
    room = _MAX_LINE - len(header) - len(": ")
    for piece in pieces[1:]:
        if len(lines[-1]) + len(piece) <= room:
            lines[-1] += piece
        else:
            lines.append(piece)
            room = _MAX_LINE
    return "\r\n".join(lines)


def _encoded_words(text: str) -> str:
    """Write text as RFC 2047 words on lines of their own; readers join them without the space between."""
    words = [b""]
    for character in text:
        encoded = character.encode()
        if len(words[-1]) + len(encoded) > _WORD_SIZE:
            words.append(b"")
        words[-1] += encoded
    return "\r\n ".join(f"=?utf-8?b?{base64.b64encode(word).decode()}?=" for word in words)
