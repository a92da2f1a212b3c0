"""Templates ready to run: texts and values in the order in which conditions let them through.

A template is a chain of steps, each with text, and then a value to print or a condition to part at. To run
it is to follow the chain, so text and merge fields cost the same whether conditions stand around them or not.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from jinja2 import nodes
from markupsafe import Markup, escape

from messaging.campaign.expressions import Evaluate, Fields, compiled

_NOT_WORDS = re.compile("[&<>'\"=\n\t]")  # escaping would change them, or they are more than a line
_NONE: Final[Mapping[str, Evaluate]] = {}
_MAX_WORDS: Final = 24  # characters of text that may count as a value: more is better encoded ahead


class TooLong(Exception):
    """A template's result is longer than it may be."""


class Pieces(NamedTuple):
    """One contact's text, as what a template says and what it was told."""

    texts: tuple[str | None, ...]
    """The template's own, with None where a value stands: the same objects for contacts who read the same."""
    values: list[str]

    def joined(self) -> str:
        """Return the text."""
        values = iter(self.values)
        return "".join([next(values) if text is None else text for text in self.texts])


class _Step(NamedTuple):
    """Part of a template, with what comes after it."""

    text: str
    show: Evaluate | None
    """What to print behind the text."""
    test: Evaluate | None
    """What to ask behind it: when that is false, the way goes `otherwise`."""
    then: "_Step | None"
    otherwise: "_Step | None"


class Template:
    """A template that runs without Jinja2 and makes the same text."""

    def __init__(
        self, tree: nodes.Template, fields: Fields, *, escaped: bool, values: Mapping[str, Evaluate] = _NONE
    ) -> None:
        """Compile what the allow-list has passed; `escaped` says that values go into HTML.

        `values` has what stands there under names that are no merge fields.
        """
        self._fields = fields
        self._values = values
        self._escaped = escaped
        self._size = sum(len(node.data) for node in tree.find_all(nodes.TemplateData))
        self._first = self._linked(tree.body, None)

    def pieces(self, found: Sequence[object], most: int) -> Pieces:
        """Return the pieces of the text of one contact, of whom these values were found.

        Raises:
            UndefinedError: A value is missing; the message is its field.
            TooLong: The text has more than `most` characters; found out before they take the memory.
        """
        texts: list[str | None] = []
        shown: list[str] = []
        room = most
        odd = False
        step = self._first
        while step is not None:
            text, show, test, then, otherwise = step
            if text:
                texts.append(text)
            if test is not None:
                step = then if test(found) else otherwise
                continue
            if show is not None:
                value = show(found)
                if type(value) is not str:
                    odd = True
                    value = value if isinstance(value, Markup) else str(value)
                room -= len(value)
                if room < 0:
                    raise TooLong
                texts.append(None)
                shown.append(value)
            step = then
        size = most - room
        if self._escaped and (odd or _special("".join(shown))):
            shown = [str(escape(value)) for value in shown]
            size = sum(map(len, shown))
        elif odd:
            shown = list(map(str, shown))
        pieces = Pieces(tuple(texts), shown)
        if size + self._size > most and len(pieces.joined()) > most:
            raise TooLong
        return pieces

    def _linked(self, body: Iterable[nodes.Node], after: _Step | None) -> _Step | None:
        """Compile from the end, as each step knows what comes after it."""
        parts: list[nodes.Node] = []
        for node in body:
            parts += node.nodes if isinstance(node, nodes.Output) else [node]
        step = after
        for node in reversed(parts):
            if isinstance(node, nodes.If) and (show := self._choice(node)):
                step = _Step("", show, None, step, None)
            elif isinstance(node, nodes.If):
                step = self._parting(node, step)
            elif not isinstance(node, nodes.TemplateData):
                step = _Step("", self._shown(node), None, step, None)
            elif step is None or step is after:  # others may lead to it: it stays as it is
                step = _Step(node.data, None, None, step, None)
            else:
                step = step._replace(text=node.data + step.text)
        return step

    def _shown(self, node: nodes.Node) -> Evaluate:
        if isinstance(node, nodes.Name) and node.name in self._values:
            return self._values[node.name]
        return compiled(node, self._fields)

    def _parting(self, node: nodes.If, after: _Step | None) -> _Step | None:
        otherwise = self._linked(node.else_, after)
        for branch in reversed([node, *node.elif_]):
            test = compiled(branch.test, self._fields)
            otherwise = _Step("", None, test, self._linked(branch.body, after), otherwise)
        return otherwise

    def _choice(self, node: nodes.If) -> Evaluate | None:
        """Make a value of an if/else between two values, or a value and words of the template."""
        yes, no = self._alternative(node.body), self._alternative(node.else_)
        if node.elif_ or yes is None or no is None:
            return None
        test = compiled(node.test, self._fields)
        return lambda found: yes(found) if test(found) else no(found)

    def _alternative(self, body: list[nodes.Node]) -> Evaluate | None:
        match body:
            case [nodes.Output(nodes=[nodes.TemplateData(data=str(words))])]:
                return None if len(words) > _MAX_WORDS or _NOT_WORDS.search(words) else lambda _: words
            case [nodes.Output(nodes=[nodes.Expr() as expression])]:
                return self._shown(expression)
        return None


def _special(text: str) -> bool:
    """Say whether a text holds what markupsafe escapes: five looks take a fifth of a pattern's time."""
    return "&" in text or "<" in text or ">" in text or "'" in text or '"' in text
