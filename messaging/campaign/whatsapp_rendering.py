"""Rendering for WhatsApp: the Cloud API's message object as JSON, without its recipient.

What Meta would refuse of one recipient's values is refused here, where it costs nothing. Its rules are in the
developer documentation of the WhatsApp Business Platform: Templates, Components; Messages, Text messages.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol
from urllib.parse import unquote

from messaging.campaign.links import Links
from messaging.campaign.merge_fields import MergeFields, Values
from messaging.campaign.pieces import Template
from messaging.campaign.rendering import Letterhead, Recipient, Rendered, RenderError, pieces_of
from messaging.campaign.templates import Templates, compile_templates
from messaging.campaign.whatsapp_parameters import Kind, Parameter, problem_with
from messaging.errors import InputError
from schemas.campaign import CampaignSpec

MAX_TEXT: Final = 4_096  # characters
_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)  # E.164: at most 15 digits
_GROUP = re.compile(r"[0-9]{5,}(-[0-9]+)?@g\.us", re.ASCII)
_LINK = re.compile(r"https?://[^\s/]")  # what WhatsApp shows a preview of
_MEDIA_LINK = re.compile(r"https://[^\s/?#]+(?:[/?#]\S*)?")
_CLOUD = "whatsapp-cloud-account/"

_quoted = json.JSONEncoder(ensure_ascii=False).encode


class WhatsAppRenderer:
    """Makes the WhatsApp messages of one campaign."""

    def __init__(self, spec: CampaignSpec, account: str, letterhead: Letterhead, public_url: str) -> None:
        """Compile the templates and build the skeleton, once per campaign and account.

        The Cloud API gets the approved template, if the campaign names one; WhatsApp Web, which has none,
        gets the text.

        Raises:
            InputError: A template or the public URL cannot be used.
        """
        templates = compile_templates(spec)
        self._merge_fields = MergeFields(templates.fields, templates.columns)
        self._found = templates.places.found
        self._links = Links(public_url, letterhead.key)
        self._sender = letterhead.sender
        """The account's own name for who writes; recipients see what WhatsApp knows of it."""
        by_cloud = account.startswith(_CLOUD)
        self._writes_to_groups = not by_cloud
        self._message: _Message = (
            _TemplateMessage(spec, templates.parameters)
            if by_cloud and spec.template.name
            else _TextMessage(templates.text)
        )

    def render(self, recipient: Recipient) -> Rendered:
        """Return one recipient's message: the same bytes for every try.

        Raises:
            RenderError: This recipient alone cannot be written to; the others can.
        """
        address = recipient.address
        number = address if _NUMBER.fullmatch(address) else None
        if number is None and not (self._writes_to_groups and _GROUP.fullmatch(address)):
            raise RenderError("the phone number is not in E.164: a plus sign and 7 to 15 digits")
        found = self._found(
            self._merge_fields.values(
                recipient.name,
                recipient.email,
                recipient.phone or number,
                self._links.unsubscribe(recipient.token.bytes) if number else "",  # a group has many readers
                recipient.attributes,
            )
        )
        # Halves of characters, which no message can hold, become question marks.
        content = self._message.filled(found).encode("utf-8", "replace")
        return Rendered(content, message_id="", envelope_sender=self._sender)


def check_for_groups(templates: Templates) -> None:
    """Check that a campaign's text can be made without anybody's data, as that for a group is.

    Raises:
        InputError: It cannot.
    """
    try:
        _TextMessage(templates.text).filled(templates.places.found(Values({}, {})))
    except RenderError as error:
        raise InputError(
            f"{error}, and a group has no name, data or unsubscribe link of its own: give merge fields a "
            'default, as in {{ name | default("everybody") }}'
        ) from None


class _Message(Protocol):
    def filled(self, found: list[object]) -> str:
        """Return the JSON for one contact, of whom these values were found."""
        ...


class _TextMessage:
    """Free text."""

    def __init__(self, template: Template) -> None:
        self._template = template

    def filled(self, found: list[object]) -> str:
        body = pieces_of("text", self._template, found, MAX_TEXT).joined()
        if not body or body.isspace():
            raise RenderError("text: is empty, and WhatsApp takes no empty message")
        preview = ',"preview_url":true' if _LINK.search(body) else ""
        return f'{{"type":"text","text":{{"body":{_quoted(body)}{preview}}}}}'


class _TemplateMessage:
    """An approved template with its parameters."""

    def __init__(self, spec: CampaignSpec, parameters: Sequence[tuple[Parameter, Template]]) -> None:
        self._parameters = [
            (parameter.part, template, parameter.most, _WRITERS[parameter.kind])
            for parameter, template in parameters
        ]
        hole = secrets.token_hex(16)  # in no template: nobody can guess it
        content: dict[str, object] = {
            "name": spec.template.name,
            "language": {"code": spec.template.language},
        }
        if components := _components([parameter for parameter, _ in parameters], hole):
            content["components"] = components
        message = json.dumps(
            {"type": "template", "template": content}, ensure_ascii=False, separators=(",", ":")
        )
        self._start, *self._behind = message.split(f'"{hole}"')

    def filled(self, found: list[object]) -> str:
        pieces = [self._start]
        behind = iter(self._behind)
        for part, template, most, write in self._parameters:
            value = pieces_of(part, template, found, most).joined()
            if not value or value.isspace():
                raise RenderError(f"{part}: is empty, and WhatsApp takes no empty parameter")
            for written in write(part, value):
                pieces += (_quoted(written), next(behind))
        return "".join(pieces)


def _components(parameters: Iterable[Parameter], hole: str) -> list[dict[str, object]]:
    """Return a template message's components, with a hole for each value that a writer returns."""
    components: dict[tuple[str, int], dict[str, object]] = {}
    values: dict[tuple[str, int], list[dict[str, object]]] = {}
    for parameter in parameters:
        where = (parameter.component, parameter.place)
        if where not in components:
            values[where] = []
            button = {"sub_type": parameter.kind, "index": str(parameter.place)}
            components[where] = {
                "type": parameter.component,
                **(button if parameter.component == "button" else {}),
                "parameters": values[where],
            }
        values[where].append(_shape(parameter, hole))
    return list(components.values())


def _shape(parameter: Parameter, hole: str) -> dict[str, object]:
    match parameter.kind:
        case Kind.IMAGE | Kind.VIDEO as kind:
            return {"type": kind, kind: {"link": hole}}
        case Kind.DOCUMENT as kind:
            return {"type": kind, kind: {"link": hole, "filename": hole}}
        case Kind.COPY_CODE:
            return {"type": "coupon_code", "coupon_code": hole}
    named = {"parameter_name": parameter.name} if parameter.name else {}
    return {"type": "text", **named, "text": hole}


def _as_it_is(kind: Kind) -> Callable[[str, str], tuple[str, ...]]:
    def write(part: str, value: str) -> tuple[str, ...]:
        if problem := problem_with(kind, value):
            raise RenderError(f"{part}: {problem}")
        return (value,)

    return write


def _media(part: str, value: str) -> tuple[str, ...]:
    if not _MEDIA_LINK.fullmatch(value):
        raise RenderError(f"{part}: is no https link")
    return (value,)


def _document(part: str, value: str) -> tuple[str, ...]:
    """Return the link and the file's name: without one, WhatsApp shows the document as untitled."""
    path = re.split("[?#]", value.removeprefix("https://"), maxsplit=1)[0]
    name = unquote(path.partition("/")[2].rpartition("/")[2])
    return (*_media(part, value), name if name.isprintable() and name.strip() else "document")


_WRITERS: Final[dict[Kind, Callable[[str, str], tuple[str, ...]]]] = {
    Kind.TEXT: _as_it_is(Kind.TEXT),
    Kind.IMAGE: _media,
    Kind.VIDEO: _media,
    Kind.DOCUMENT: _document,
    Kind.URL: _as_it_is(Kind.URL),
    Kind.COPY_CODE: _as_it_is(Kind.COPY_CODE),
}
