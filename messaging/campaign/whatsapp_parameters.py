"""Parameters of an approved WhatsApp template: where each stands, and what kind of value it takes.

Their kinds are the template's, so they come from the words of the campaign's file alone: no contact's value
can turn a text into a link.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from messaging.errors import InputError
from schemas.whatsapp import WhatsAppTemplate

# Characters that each may have, from Meta's developer documentation: WhatsApp, Templates, Components.
MAX_HEADER: Final = 60
MAX_BODY: Final = 1_024
MAX_LONE_BODY: Final = 32_768  # of a message that has parameters in the body alone
MAX_LINK: Final = 2_000


class Kind(StrEnum):
    """What a parameter is, in the words of the Cloud API."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    DOCUMENT = "document"
    URL = "url"
    COPY_CODE = "copy_code"


# The ends of files that Meta takes for each (WhatsApp, Media, Supported media types).
_KINDS: Final = {
    **dict.fromkeys((".jpg", ".jpeg", ".png"), Kind.IMAGE),
    **dict.fromkeys((".mp4", ".3gp"), Kind.VIDEO),
    **dict.fromkeys(
        (".pdf", ".txt", ".doc", ".docx", ".xls", ".xlsx", ".ppt", ".pptx"),
        Kind.DOCUMENT,
    ),
}
# What a value may not hold: Meta answers such a text with error 100.
_NO_SPACE = re.compile(r"\s")
_ONE_LINE = re.compile("[\t\n\v\f\r\x85\u2028\u2029]| {5}")
_UNFIT: Final = {
    Kind.TEXT: _ONE_LINE,
    Kind.COPY_CODE: _ONE_LINE,
    **dict.fromkeys((Kind.IMAGE, Kind.VIDEO, Kind.DOCUMENT, Kind.URL), _NO_SPACE),
}
_MEDIA = re.compile(r"(?P<kind>image|video|document)\s*:\s*(?!//)", re.IGNORECASE)
_CODE = re.compile(r"copy_code\s*:\s*", re.IGNORECASE)
_NAMED = re.compile(r"(?P<name>[a-z][a-z0-9_]*)\s*:\s*")
_MERGED = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)

_SAID_OF_UNFIT: Final = {
    _ONE_LINE: "has a line end, a tab or more than four spaces in a row, and WhatsApp takes none there",
    _NO_SPACE: "has a space or a line end, which no link has",
}


class Parameter(NamedTuple):
    """One parameter of an approved template."""

    part: str
    """For a person, as in `template body 1`."""
    component: str
    """header, body or button."""
    kind: Kind
    source: str
    """The merge template that makes its value."""
    most: int
    """Characters that it may have."""
    name: str = ""
    """What the approved template calls it; empty where it is numbered."""
    place: int = 0
    """A button's, from 0."""


def parameters_of(template: WhatsAppTemplate) -> list[Parameter]:
    """Return the parameters of a template in the order in which they are sent.

    Raises:
        InputError: What one of them is cannot be told, or there is no template that they belong to.
    """
    buttons = list(_buttons(template))
    most = MAX_BODY if template.header or buttons else MAX_LONE_BODY
    named = any(not name.isdecimal() for name in template.body)
    body = [
        Parameter(f"template body {name}", "body", Kind.TEXT, source, most, name if named else "")
        for name, source in template.body.items()
    ]
    header = [_header(template.header.strip(), named=named)] if template.header.strip() else []
    parameters = [*header, *body, *buttons]
    if parameters and not template.name:
        raise InputError("template: has parameters but no name; write the name of the approved template")
    return parameters


def problem_with(kind: Kind, value: str) -> str:
    """Say what a value of this kind may not hold and does, or nothing."""
    unfit = _UNFIT[kind]
    return _SAID_OF_UNFIT[unfit] if unfit.search(value) else ""


def _header(source: str, *, named: bool) -> Parameter:
    if match := _MEDIA.match(source):
        kind, link = Kind(match["kind"].lower()), source[match.end() :]
        return Parameter("template header", "header", kind, link, MAX_LINK)
    if source.lower().startswith("https://"):
        return Parameter("template header", "header", _kind_of(source), source, MAX_LINK)
    if not named:
        return Parameter("template header", "header", Kind.TEXT, source, MAX_HEADER)
    if (match := _NAMED.match(source)) is None:
        raise InputError(
            "template header: the body's parameters have names, so write the header's too, "
            "as in sale: {{ sale }}"
        )
    return Parameter("template header", "header", Kind.TEXT, source[match.end() :], MAX_HEADER, match["name"])


def _kind_of(link: str) -> Kind:
    """Tell what a link leads to by the end of its path, which must not come from a contact."""
    path = re.split(r"[?#]", _MERGED.sub("x", link), maxsplit=1)[0]
    kind = _KINDS.get(PurePosixPath(path).suffix.lower())
    if kind is None:
        raise InputError(
            f"template header: the link does not end in {', '.join(_KINDS)}: write what it leads to "
            "before it, as in image: https://…"
        )
    return kind


def _buttons(template: WhatsAppTemplate) -> Iterator[Parameter]:
    for place, source in enumerate(map(str.strip, template.buttons)):
        if not source:
            continue
        part = f"template button {place + 1}"
        if match := _CODE.match(source):
            code = source[match.end() :]
            yield Parameter(part, "button", Kind.COPY_CODE, code, MAX_LINK, place=place)
        else:
            yield Parameter(part, "button", Kind.URL, source, MAX_LINK, place=place)
