"""Messages of a campaign as some of its recipients would get them, to be looked at; nothing is sent."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection

from messaging.campaign.links import Links
from messaging.campaign.renderers import renderer_for
from messaging.campaign.rendering import Letterhead, Recipient, Rendered, Renderer, RenderError
from messaging.campaign.skeleton import Attachment
from messaging.campaign.templates import Templates, compile_templates
from messaging.fields import field_name
from messaging.settings import settings
from messaging.storage import audiences, preview_samples, samples
from messaging.storage.campaigns import CampaignFile
from messaging.storage.link_keys import newest_key
from messaging.storage.samples import Sample
from messaging.tokens import LinkKey
from schemas.accounts import channel_of
from schemas.campaign import CampaignSpec
from schemas.states import Channel

_NO_CAMPAIGN: Final = 0  # the number that no campaign has
_NOBODY: Final = "Outflow <preview@example.org>"
"""Who writes as long as the account is not known."""
_PLACEHOLDERS: Final = "names of fields instead of anybody's values"
_GROUP: Final = "«group»"
_NUMBER: Final = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?")
_EMAIL, _PHONE = "name@example.org", "+447700900000"  # RFC 2606; Ofcom's numbers for drama


@dataclass(frozen=True, slots=True)
class From:
    """An account as its messages show it."""

    account: str
    sender: str = _NOBODY
    return_path: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """One message."""

    account: str
    why: str
    """Why this recipient was chosen."""
    to: str = ""
    sender: str = ""
    subject: str = ""
    text: str = ""
    html: str = ""
    attachments: tuple[str, ...] = ()
    unsubscribe_url: str = ""
    problem: str = ""
    """Why it cannot be made; empty: it was."""
    content: bytes = field(default=b"", repr=False)
    """What the provider would get."""


@dataclass(frozen=True, slots=True)
class Previews:
    """What there is to look at."""

    people: tuple[Shown, ...]
    """With the values of real recipients."""
    nobody: tuple[Shown, ...]
    """With «field» for each value, one per account."""


def previews(
    connection: Connection,
    spec: CampaignSpec,
    senders: Sequence[From],
    files: Iterable[CampaignFile] = (),
    *,
    hidden: bool = False,
) -> Previews:
    """Make the messages of some members of the audience, over the first account of each kind.

    `hidden`: with the names of fields in place of all that is known of a member.

    Raises:
        InputError: The campaign cannot be sent as it is, for its templates or its audience.
    """
    key = newest_key(connection)
    templates = compile_templates(spec)
    attached = [Attachment(*file) for file in files]
    columns: list[str] = []
    if spec.audience:
        columns = list(audiences.attributes(connection, audiences.named(connection, spec.audience)))
    people: list[Shown] = []
    nobody: list[Shown] = []
    for sender in _one_of_each(senders):
        maker = _Maker(spec, sender, key, attached, _GROUP if hidden else next(iter(spec.groups), ""))
        people += [
            maker.shown(why, _hidden(sample) if hidden else sample)
            for why, sample in _members(connection, spec, templates, columns, sender.account).items()
        ]
        nobody.append(maker.shown(_PLACEHOLDERS, _placeholders(templates, columns)))
    return Previews(tuple(people), tuple(nobody))


def _one_of_each(senders: Sequence[From]) -> list[From]:
    """Return the first account of each kind: what Meta's API sends is none of what WhatsApp Web does."""
    kinds: dict[str, From] = {}
    for sender in senders:
        is_email = channel_of(sender.account) is Channel.EMAIL
        kinds.setdefault("email" if is_email else sender.account.partition("/")[0], sender)
    return list(kinds.values())


def _members(
    connection: Connection, spec: CampaignSpec, templates: Templates, columns: Sequence[str], account: str
) -> Mapping[str, Sample]:
    if not spec.audience:
        return {"what groups get": samples.NOBODY}
    used: dict[str, list[str]] = {name: [] for name in sorted(templates.fields)}
    used |= {column: [column] for column in sorted(templates.columns)}
    for column in columns:
        if field_name(column) in templates.fields:
            used[field_name(column)].append(column)
    by_email = channel_of(account) is Channel.EMAIL
    chosen = audiences.members(connection, audiences.named(connection, spec.audience), spec.where)
    return preview_samples.telling(connection, chosen, used, by_email=by_email)


def _placeholders(templates: Templates, columns: Iterable[str]) -> Sample:
    """Return a contact whose values are the names of their fields."""
    attributes = {column: f"«{field_name(column)}»" for column in {*columns, *templates.columns}}
    return replace(
        samples.NOBODY, email=_EMAIL, email_key=_EMAIL, phone=_PHONE, name="«name»", attributes=attributes
    )


def _hidden(sample: Sample) -> Sample:
    """Return a contact of whom only shows which values there are, and how long the name is."""
    return replace(
        sample,
        email=sample.email and _EMAIL,
        email_key=sample.email_key and _EMAIL,
        phone=sample.phone and _PHONE,
        name=sample.name and "«name»".ljust(len(sample.name), "·"),
        attributes={column: _stand_in(column, value) for column, value in sample.attributes.items()},
    )


def _stand_in(column: str, value: str) -> str:
    """Return what stands for a value: for a number a number, as templates may reckon with it."""
    if not value.strip():
        return value
    return "1" if _NUMBER.fullmatch(value.strip()) else f"«{field_name(column)}»"


class _Maker:
    """Makes messages of one account."""

    def __init__(
        self, spec: CampaignSpec, sender: From, key: LinkKey, files: Sequence[Attachment], group: str
    ) -> None:
        self._sender = sender
        self._links = Links(settings().public_url, key)
        letterhead = Letterhead(sender.sender, key, sender.return_path)
        self._renderer: Renderer = renderer_for(sender.account, spec, _NO_CAMPAIGN, letterhead, files)
        self._is_email = channel_of(sender.account) is Channel.EMAIL
        self._group = group

    def shown(self, why: str, sample: Sample) -> Shown:
        """Return a contact's message."""
        address = (sample.email if self._is_email else sample.phone) or self._group
        recipient = Recipient(
            token=uuid4(),  # an unsubscribe link with it belongs to nobody
            address=address,
            name=sample.name,
            phone=sample.phone,
            attributes=sample.attributes,
            email=sample.email,
        )
        shown = Shown(
            account=self._sender.account,
            why=why,
            to=address,
            sender="" if self._sender.sender == _NOBODY else self._sender.sender,
            unsubscribe_url=self._links.unsubscribe(recipient.token.bytes),
        )
        try:
            rendered = self._renderer.render(recipient)
        except RenderError as error:
            return replace(shown, problem=str(error))
        return _of_email(shown, rendered) if self._is_email else _of_whatsapp(shown, rendered)


def _of_email(shown: Shown, rendered: Rendered) -> Shown:
    message = message_from_bytes(rendered.content, policy=default)
    return replace(
        shown,
        subject=str(message["Subject"]),
        text=_part(message, "plain"),
        html=_part(message, "html"),
        attachments=tuple(part.get_filename() or "" for part in message.iter_attachments()),
        content=rendered.content,
    )


def _part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    return str(body.get_content()) if body is not None else ""


def _of_whatsapp(shown: Shown, rendered: Rendered) -> Shown:
    """Show what the Cloud API's message object says (`text` is what WhatsApp Web gets too)."""
    message: dict[str, Any] = json.loads(rendered.content)
    if message["type"] == "text":
        return replace(shown, text=message["text"]["body"], content=rendered.content)
    template = message["template"]
    lines = [f"Template {template['name']} ({template['language']['code']})"]
    for component in template.get("components", []):
        values = [str(parameter.get(parameter["type"], "")) for parameter in component.get("parameters", [])]
        place = re.sub(r"\W+", " ", f"{component['type']} {component.get('index', '')}").strip()
        lines += [f"{place} {number}: {value}" for number, value in enumerate(values, 1)]
    return replace(shown, text="\n".join(lines), content=rendered.content)
