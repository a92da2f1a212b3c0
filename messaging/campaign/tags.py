"""HTML as a browser cuts it: start tags, their attributes and where each stands (WHATWG HTML, 13.2.5).

Nothing is built of it and nothing is mended: whoever changes an attribute must leave all else as it is.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from html.entities import html5
from typing import Final

_BLANK = r"[\t\n\f\r ]"
_NEXT = re.compile(r"<(?:(?P<comment>!--)|(?P<slash>/?)(?P<name>[A-Za-z][^\t\n\f\r />]*)|(?P<other>[!?/]))")
_COMMENT = re.compile(r"-?>|.*?--!?>", re.DOTALL)
_GAP = re.compile(r"[\t\n\f\r /]*")
_ATTRIBUTE = re.compile(  # a quote that never closes is no value: `_tag` sees the = behind the name
    r"(?P<name>=?[^\t\n\f\r />=]+|=)"
    rf"(?P<given>{_BLANK}*={_BLANK}*+"
    r"(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<bare>(?![\"'])[^\t\n\f\r >]*)))?"
)
_ASSIGNED = re.compile(rf"{_BLANK}*=")
_REFERENCE = re.compile(r"&(?:#[0-9]+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*)[;=]?")
# What is in these is text to a browser, whatever it looks like.
_RAW: Final = frozenset({"script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"})


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a start tag; the first of a name counts."""

    name: str
    """In lower case."""
    start: int
    """Where its value begins, behind the quote."""
    end: int
    quoted: bool


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag that a browser would see."""

    name: str
    """In lower case."""
    start: int
    end: int
    closes: bool
    attributes: tuple[Attribute, ...]

    def attribute(self, name: str) -> Attribute | None:
        """Return the attribute of that name which counts."""
        return next((attribute for attribute in self.attributes if attribute.name == name), None)


def tags(html: str) -> Iterator[Tag | None]:
    """Yield the tags of an HTML text; None at last, if it ends inside a tag, a comment or the like."""
    at = 0
    while (found := _NEXT.search(html, at)) is not None:
        end: int | None
        if found["comment"]:
            comment = _COMMENT.match(html, found.end())
            end = comment.end() if comment else None
        elif found["other"]:
            end = html.find(">", found.end()) + 1 or None
        elif tag := _tag(html, found):
            yield tag
            end = _end_of_raw(html, tag) if not tag.closes else tag.end
        else:
            end = None
        if end is None:
            yield None
            return
        at = end


def decoded(value: str) -> str:
    """Return an attribute's value without character references, as a browser reads them.

    In an attribute, one without its semicolon counts only if neither a letter, a digit nor = is behind it:
    "?a=1&copy=2" has no copyright sign.
    """
    return _REFERENCE.sub(_decoded, value) if "&" in value else value


def _decoded(reference: re.Match[str]) -> str:
    name = reference[0][1:]
    return unescape(reference[0]) if name.startswith("#") or name in html5 else reference[0]


def _tag(html: str, found: re.Match[str]) -> Tag | None:
    """Read a tag to its end; None: it has none."""
    attributes: list[Attribute] = []
    at = found.end()
    while True:
        gap = _GAP.match(html, at)
        at = gap.end() if gap else at
        if html.startswith(">", at):
            name, closes = found["name"].lower(), bool(found["slash"])
            return Tag(name, found.start(), at + 1, closes, tuple(attributes))
        attribute = _ATTRIBUTE.match(html, at)
        if attribute is None or (attribute["given"] is None and _ASSIGNED.match(html, attribute.end())):
            return None  # the text ends here, or the quote never closes
        kind = next((kind for kind in ("double", "single", "bare") if attribute[kind] is not None), None)
        start, end = attribute.span(kind) if kind else (attribute.end(), attribute.end())
        attributes.append(
            Attribute(attribute["name"].lower(), start, end, quoted=kind in {"double", "single"})
        )
        at = attribute.end()


def _end_of_raw(html: str, tag: Tag) -> int | None:
    """Return where text may hold tags again behind a start tag."""
    if tag.name == "plaintext":
        return None
    if tag.name not in _RAW:
        return tag.end
    found = re.compile(rf"</{tag.name}(?=[\t\n\f\r />])", re.IGNORECASE).search(html, tag.end)
    return found.start() if found else None
