"""Links and pictures of an HTML template, in all of its branches, as a mail program would follow them."""

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import urlsplit

from jinja2 import Environment, TemplateSyntaxError

from messaging.campaign.tags import Tag, decoded, tags
from messaging.hosts import ascii_host
from schemas.preflight import Line, Verdict

MOST_LINKS: Final = 100
"""More in one message are hard to read, and filters count them."""
_MOST_NAMED: Final = 3
_LONGEST_NAMED: Final = 60
_FIELD: Final = re.compile(r"\{\{-?\s*([A-Za-z_]\w*)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_UNSAFE: Final = frozenset({"javascript", "vbscript", "data", "file", "blob"})
_ELSEWHERE: Final = frozenset({"mailto", "tel", "sms", "whatsapp", "geo", "webcal", "maps"})
_WEB: Final = frozenset({"http", "https"})
_NOT_WHOLE: Final = "is not whole: a message has no place that it could start from"
_PICTURES: Final = {
    "": _NOT_WHOLE,
    "data": "stands in the message itself (data:), which Gmail and Outlook do not show",
    "cid": "is meant to be in the message (cid:), and no picture is attached there",
}
_NOWHERE: Final = ("localhost", "local", "internal", "test", "invalid", "example")
_VALUE: Final = "«"  # begins what stands for a value
_PARSER = Environment()  # noqa: S701 - it only lexes


def judge_links(html: str) -> list[Line]:
    """Return a line on links and one on pictures."""
    found = list(_tags(html))
    hrefs = [value for tag, shown in found for value in _hrefs(tag, shown)]
    return [_links(hrefs), _pictures([(tag, shown) for tag, shown in found if tag.name == "img"])]


def _links(hrefs: list[str]) -> Line:
    problems = Counter((problem, _shortened(href)) for href in hrefs if (problem := _problem_of_link(href)))
    if problems:
        said = f"{_counted(sum(problems.values()), 'link')} of {len(hrefs)} to look at: {_named(problems)}"
        return Line(
            what="links",
            verdict=Verdict.WARN,
            said=said,
            do="write each link whole, with https://, and try it",
        )
    if len(hrefs) > MOST_LINKS:
        said = f"{len(hrefs)} links are more than {MOST_LINKS}"
        return Line(what="links", verdict=Verdict.WARN, said=said, do="leave out what few would follow")
    said = f"{_counted(len(hrefs), 'link')}, all whole" if hrefs else "none"
    return Line(what="links", verdict=Verdict.OK, said=said)


def _pictures(found: list[tuple[Tag, str]]) -> Line:
    problems: Counter[tuple[str, str]] = Counter()
    for tag, html in found:
        source = _value(tag, html, "src") or ""
        if problem := _problem_of_picture(source):
            problems[problem, _shortened(source)] += 1
        elif tag.attribute("alt") is None:
            problems["has no alt text", _shortened(source)] += 1
    if problems:
        said = f"{_counted(sum(problems.values()), 'picture')} of {len(found)} to look at: {_named(problems)}"
        return Line(
            what="pictures",
            verdict=Verdict.WARN,
            said=said,
            do='give each an https:// address and an alt text; alt="" where it is only decoration',
        )
    said = f"{_counted(len(found), 'picture')}, all with alt text" if found else "none"
    return Line(what="pictures", verdict=Verdict.OK, said=said)


def _tags(html: str) -> Iterator[tuple[Tag, str]]:
    """Yield the start tags of a template, its conditions taken away and its values replaced by names."""
    plain = plain_of(html)
    for tag in tags(plain):
        if tag is not None and not tag.closes:
            yield tag, plain


def plain_of(template: str) -> str:
    """Return a template with every branch in it, and «field» for each value."""
    pieces: list[str] = []
    expression = ""
    inside = False
    try:
        for _, kind, value in _PARSER.lex(template):
            if kind == "variable_begin":
                inside, expression = True, value
            elif kind == "variable_end":
                inside = False
                field = _FIELD.match(expression)
                pieces.append(f"{_VALUE}{field[1] if field else '…'}»")
            elif inside:
                expression += value
            elif kind == "data":
                pieces.append(value)
    except TemplateSyntaxError:
        return ""  # it is refused elsewhere
    return "".join(pieces)


def _hrefs(tag: Tag, html: str) -> Iterable[str]:
    if tag.name in {"a", "area"} and (href := _value(tag, html, "href")) is not None:
        yield href


def _value(tag: Tag, html: str, name: str) -> str | None:
    attribute = tag.attribute(name)
    return None if attribute is None else decoded(html[attribute.start : attribute.end]).strip()


def _problem_of_link(href: str) -> str:
    """Say why a link would not lead where it should; empty: it may well."""
    name = _scheme(href)
    if href in {"", "#", f"{name}:"}:
        return "leads nowhere"
    if href.startswith((_VALUE, "#")) or name in _ELSEWHERE:
        return ""  # a contact's value, a place in the message itself, or no page
    if name in _WEB:
        return _problem_of_page(href)
    if not name:
        return _NOT_WHOLE
    return f"begins with {name}:, which mail programs {'block' if name in _UNSAFE else 'seldom follow'}"


def _problem_of_picture(source: str) -> str:
    """Say why a picture would not be shown; empty: it may well be."""
    name = _scheme(source)
    if not source:
        return "has no address"
    if source.startswith(_VALUE):
        return ""
    if name in _WEB:
        return _problem_of_page(source)
    return _PICTURES.get(name, f"begins with {name}:, which mail programs block")


def _scheme(url: str) -> str:
    found = _SCHEME.match(url)
    return found[1].lower() if found else ""


def _problem_of_page(url: str) -> str:
    return _problem_of_host(url) or ("is not encrypted (http:)" if _scheme(url) == "http" else "")


def _problem_of_host(url: str) -> str:
    try:
        parts = urlsplit(url.replace("\\", "/"))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "has no host that could be found"
    if _VALUE in parts.netloc:
        return ""
    if not host or not parts.netloc or port == 0 or any(letter.isspace() for letter in parts.netloc):
        return "has no host that could be found"
    if "@" in parts.netloc:
        return "has a name before its host, as forged ones have"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _problem_of_name(host)
    return "leads into a network of yours" if not address.is_global else "names a number instead of a host"


def _problem_of_name(host: str) -> str:
    try:
        name = ascii_host(host)
    except ValueError:
        return "has no host that could be found"
    if name.rpartition(".")[2] in _NOWHERE or "." not in name:
        return "leads into a network of yours"
    return ""


def _named(problems: Counter[tuple[str, str]]) -> str:
    shown = [f"{href or 'an empty one'} {problem}" for problem, href in list(problems)[:_MOST_NAMED]]
    more = len(problems) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _shortened(href: str) -> str:
    return href if len(href) <= _LONGEST_NAMED else f"{href[:_LONGEST_NAMED]}…"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
