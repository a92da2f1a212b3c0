"""Rendering of email: the RFC 5322 bytes of one recipient's message."""

import hashlib
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Final

from messaging.campaign.bodies import Body
from messaging.campaign.headers import one_line, unstructured, with_name
from messaging.campaign.links import Links
from messaging.campaign.merge_fields import MergeFields
from messaging.campaign.rendering import (
    MAX_RENDERED,
    Letterhead,
    Recipient,
    Rendered,
    RenderError,
    bounce_address,
    mailbox,
    pieces_of,
)
from messaging.campaign.skeleton import Attachment, Skeleton
from messaging.campaign.templates import compile_templates
from messaging.fields import field_name
from schemas.campaign import CampaignSpec

MAX_SUBJECT: Final = 1_000
_MAX_ADDRESS: Final = 254  # RFC 5321 4.5.3.1.3, without the angle brackets
_MAX_LABEL: Final = 63

# The headers that differ from recipient to recipient, in the order of their values in `render`.
_CHANGING = ("To", "Subject", "Date", "Message-ID", "List-Unsubscribe")

_ADDRESS = re.compile(
    '[^\\s\\x00-\\x1f\\x7f-\\x9f\ud800-\udfff()<>@,;:\\\\"\\[\\]]{1,64}+@[A-Za-z0-9-]++(?:\\.[A-Za-z0-9-]++)*+'
)


class EmailRenderer:
    """Makes the emails of one campaign."""

    def __init__(
        self,
        spec: CampaignSpec,
        campaign_id: int,
        letterhead: Letterhead,
        public_url: str,
        attachments: Sequence[Attachment] = (),
    ) -> None:
        """Compile the templates, check the sender and build the skeleton, once per campaign.

        Raises:
            InputError: A template, the sender, Reply-To, the public URL or an attachment cannot be used.
        """
        self._links = Links(public_url, letterhead.key)
        templates = compile_templates(spec, self._links)
        self._merge_fields = MergeFields(templates.fields, templates.columns)
        self._found = templates.places.found
        self._subject = templates.subject
        self._tag = f" [CID:{campaign_id}]" if spec.subject_tag else ""
        parts = [("text", templates.text), *([("html", templates.html)] if templates.html else [])]
        self._parts = [(part, template, Body()) for part, template in parts]
        name, self._sender = mailbox("the account's sender", letterhead.sender)
        self._bounces = bounce_address(letterhead.return_path) if letterhead.return_path else None
        domain = self._sender.rpartition("@")[2]
        self._message_id_end = f".{campaign_id}@{domain}>"
        fixed = {
            "From": with_name(name, self._sender),
            **({"Reply-To": with_name(*mailbox("reply_to", spec.reply_to))} if spec.reply_to else {}),
            "List-Id": f"<{_label(spec.audience)}.{domain}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        }
        self._skeleton = Skeleton(_CHANGING, fixed, html=bool(templates.html), attachments=attachments)

    def render(self, recipient: Recipient) -> Rendered:
        """Return one recipient's message.

        Raises:
            RenderError: This recipient alone cannot be written to; the others can.
        """
        address = recipient.address
        if not _ADDRESS.fullmatch(address) or len(address) > _MAX_ADDRESS:
            raise RenderError("the address cannot stand in a header")
        attempt = recipient.token.bytes
        unsubscribe_url = self._links.unsubscribe(attempt)
        # The same for every try, so that a receiver who sees two copies can tell; hashed, because a
        # Message-ID travels on in replies and the token unsubscribes.
        name_of_attempt = hashlib.sha256(attempt).hexdigest()[:32]
        message_id = f"<{name_of_attempt}{self._message_id_end}"
        found = self._found(
            self._merge_fields.values(
                recipient.name, address, recipient.phone, unsubscribe_url, recipient.attributes
            )
        )
        found.append(attempt)  # what tracking asks for
        filled = [
            with_name(
                recipient.name or "", address
            ).encode(),  # UTF-8 for a local part that needs it (RFC 6532)
            self._subject_of(found).encode(),
            _date(int(time.time())),
            message_id.encode(),
            f"<{unsubscribe_url}>".encode(),
        ]
        for part, template, body in self._parts:
            filled += body.encode(pieces_of(part, template, found, MAX_RENDERED))
        bounces = self._bounces
        envelope_sender = attempt.hex().join(bounces) if bounces else self._sender
        return Rendered(self._skeleton.fill(filled), message_id, envelope_sender)

    def _subject_of(self, found: list[object]) -> str:
        subject = one_line(pieces_of("subject", self._subject, found, MAX_RENDERED).joined())
        if not subject:
            raise RenderError("the subject is empty")
        if len(subject) > MAX_SUBJECT:
            raise RenderError(f"the subject is longer than {MAX_SUBJECT} characters")
        return unstructured("Subject", subject + self._tag)


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return format_datetime(datetime.fromtimestamp(second, UTC)).encode()


def _label(audience: str) -> str:
    """Name an audience in a List-Id, which is ASCII (RFC 2919 2).

    Mailboxes group and mute by List-Id, so it names the audience, not the campaign.
    """
    name = field_name(audience)
    label = re.sub(r"[^a-z0-9]+", "-", name).strip("-")
    if not name.isascii():  # what is left may be nothing, or that of another audience
        label = f"{label[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return label[:_MAX_LABEL].strip("-") or "list"
