"""Templates of text and merge fields alone, filled without Jinja2: the same text in less time."""

import re
from dataclasses import dataclass
from typing import Self

from jinja2 import UndefinedError, nodes
from markupsafe import escape

from messaging.campaign.merge_fields import Values

_SPECIAL = re.compile("[&<>'\"]")  # what markupsafe escapes; to ask costs a third of its answer


class TooLong(Exception):
    """A template's result is longer than it may be."""


@dataclass(frozen=True, slots=True)
class _Field:
    """A merge field as a template names it."""

    name: str
    is_column: bool = False


class PlainTemplate:
    """A template of text, {{ field }} and {{ field | default("text") }}."""

    @classmethod
    def of(cls, tree: nodes.Template, *, escaped: bool) -> Self | None:
        """Read a template that the allow-list has passed; None when it needs Jinja2."""
        template = cls(escaped=escaped)
        for output in tree.body:
            if not isinstance(output, nodes.Output):
                return None
            if not all(map(template._take, output.nodes)):
                return None
        return template

    def __init__(self, *, escaped: bool) -> None:
        """Begin without text; `escaped` says that values go into HTML."""
        self._escaped = escaped
        self._pieces = [""]  # text, then a hole and text in turns
        self._fields: dict[_Field, int] = {}
        self._holes: list[tuple[int, str | None]] = []  # which of the fields, and the text without a value

    @property
    def texts(self) -> list[str]:
        """What it writes for everybody."""
        return self._pieces[::2]

    def pieces(self, values: Values, most: int) -> list[str]:
        """Return the pieces of one contact's text; joined, they are what Jinja2 would have made.

        Raises:
            UndefinedError: A value is missing; the message is its field.
            TooLong: The text has more than `most` characters.
        """
        fields, columns = values
        found = [(columns if field.is_column else fields).get(field.name) for field in self._fields]
        if self._escaped:
            found = [str(escape(value)) if value and _SPECIAL.search(value) else value for value in found]
        pieces = self._pieces.copy()
        pieces[1::2] = [
            value if (value := found[number]) is not None else self._default(number, default)
            for number, default in self._holes
        ]
        if sum(map(len, pieces)) > most:
            raise TooLong
        return pieces

    def _default(self, number: int, default: str | None) -> str:
        if default is None:
            raise UndefinedError([*self._fields][number].name)
        return default

    def _take(self, node: nodes.Node) -> bool:
        """Append what a template prints, and say whether that was possible."""
        match node:
            case nodes.TemplateData(data=str(text)):
                self._pieces[-1] += text
            case nodes.Const(value=str(text)):
                self._pieces[-1] += self._shown(text)
            case nodes.Filter(name="default" | "d", args=[nodes.Const(value=str(text))], kwargs=[]):
                return self._take_field(node.node, self._shown(text))
            case _:
                return self._take_field(node, None)
        return True

    def _take_field(self, node: nodes.Node | None, default: str | None) -> bool:
        field = _field(node)
        if field is None:
            return False
        self._holes.append((self._fields.setdefault(field, len(self._fields)), default))
        self._pieces += ("", "")
        return True

    def _shown(self, text: str) -> str:
        return str(escape(text)) if self._escaped else text


def _field(node: nodes.Node | None) -> _Field | None:
    match node:
        case nodes.Name(name=name):
            return _Field(name)
        case nodes.Getitem(arg=nodes.Const(value=str(column))):  # of contact: the allow-list has seen to it
            return _Field(column, is_column=True)
    return None
