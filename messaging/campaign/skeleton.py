"""The skeleton: a campaign's message, built once by the `email` package, with holes for each recipient's."""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage, MIMEPart
from email.policy import SMTP, EmailPolicy
from typing import Final

from messaging.campaign.bodies import BOUNDARY_START
from messaging.errors import InputError

MAX_ATTACHED: Final = 20_000_000  # bytes; base64 adds a third, and few servers take more than 30 MB
_MAX_FILE_NAME: Final = 255

# RFC 6838 4.2. Not multipart and message: those cannot be base64 (RFC 2046 5).
_TYPE = re.compile(
    r"(?P<main>application|audio|font|image|model|text|video)/(?P<sub>[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126})"
)
# Slashes, controls, line ends, halves of characters, and what turns text round: exe.fdp reads as pdf.exe.
_UNFIT = re.compile("[/\\\\\\x00-\\x1f\\x7f-\\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that every recipient of a campaign gets."""

    name: str
    content_type: str
    """As in application/pdf."""
    content: bytes


class _Prepared(EmailPolicy):
    """Takes header values as they come: encoded, folded, and raw where they must be.

    Python's own folding encodes any List-Unsubscribe longer than a line, and mail clients then see no link
    (python/cpython#85725).
    """

    def header_store_parse(self, name: str, value: str) -> tuple[str, str]:
        """Return the value untouched."""
        return name, value

    def header_fetch_parse(self, name: str, value: str) -> str:  # noqa: ARG002 - the signature is Python's
        """Return the value untouched."""
        return value


_POLICY = _Prepared(linesep="\r\n", refold_source="none")


class Skeleton:
    """All of a message that is the same for every recipient."""

    def __init__(
        self,
        changing: Sequence[str],
        fixed: Mapping[str, str],
        *,
        html: bool,
        attachments: Sequence[Attachment] = (),
    ) -> None:
        """Build the message around these headers: `changing` ones get their bodies from `fill`.

        Raises:
            InputError: An attachment cannot be sent.
        """
        hole = secrets.token_hex(16)  # in no header or attachment: nobody can guess it
        lines = f"{hole} lines"  # a body's own last line end stays out of the skeleton
        message = EmailMessage(_POLICY)
        for header in changing:
            message[header] = hole
        for header, value in fixed.items():
            message[header] = value
        message.set_content(lines)
        if html:
            message.add_alternative(lines, subtype="html")
            message.set_boundary(f"{BOUNDARY_START}alternative")
        for part in message.walk():
            if not part.is_multipart():
                part.replace_header("Content-Transfer-Encoding", hole)
            if part is not message:
                del part["MIME-Version"]  # it is the message's (RFC 2045 4)
        if attachments:
            _check_size(attachments)
            message.make_mixed(f"{BOUNDARY_START}mixed")
            for attachment in attachments:
                message.attach(_part(attachment))  # type: ignore[arg-type] # typeshed asks for a whole message
        self._fixed = re.split(rf"{hole}(?: lines\r\n)?".encode(), message.as_bytes())

    def fill(self, values: Sequence[bytes]) -> bytes:
        """Return a message. Values: of each changing header its body, of each part its encoding and lines."""
        pieces = [b""] * (2 * len(self._fixed) - 1)
        pieces[::2] = self._fixed
        pieces[1::2] = values  # not one more or less, or this is an error
        return b"".join(pieces)


def _check_size(attachments: Sequence[Attachment]) -> None:
    size = sum(len(attachment.content) for attachment in attachments)
    if size > MAX_ATTACHED:
        raise InputError(
            f"the attachments have {size:,} bytes, {MAX_ATTACHED:,} is the most: put a link into the message"
        )


def _part(attachment: Attachment) -> MIMEPart:
    """Encode an attachment, its name after RFC 2231 where it must be."""
    name = attachment.name
    if (
        not 0 < len(name) <= _MAX_FILE_NAME
        or name.strip() != name
        or not name.strip(".")
        or _UNFIT.search(name)
    ):
        raise InputError(
            f"attachment {name!r}: this is no file name; take letters and digits, no slashes or control "
            "characters, and no blanks around them"
        )
    found = _TYPE.fullmatch(attachment.content_type)
    if found is None:
        raise InputError(f"attachment {name!r}: its type must be as application/pdf or image/png")
    part = MIMEPart(policy=SMTP)  # this policy folds and encodes parameters
    part.set_content(
        attachment.content, maintype=found["main"], subtype=found["sub"], cte="base64", filename=name
    )
    return part
