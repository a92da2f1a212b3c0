"""Tracking: links and a picture in the HTML part that tell of clicks and of opened messages.

The template is changed once per campaign. What differs from recipient to recipient are the tokens, which are
values of the template from then on, so that all around them is encoded ahead as ever. A token is good for the
URL that stood in the template and for no other: no value of a contact can make a link of ours lead elsewhere.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from jinja2 import nodes
from markupsafe import Markup, escape

from messaging.campaign.expressions import Evaluate, Fields
from messaging.campaign.links import Links, click_end, problem_of
from messaging.campaign.pieces import Template
from messaging.campaign.rendering import MAX_RENDERED
from messaging.campaign.tags import Attribute, Tag, decoded, tags
from messaging.hosts import ascii_host
from messaging.tokens import LENGTH
from schemas.accounts import channel_of
from schemas.campaign import CampaignSpec, Tracking
from schemas.report import TrackingReport
from schemas.states import Channel

MAX_LINK: Final = 2_000  # characters of a tracked link: some mail programs and proxies cut longer ones
EXEMPT: Final = "data-no-track"
"""The attribute with which a template leaves a link alone."""

_LONGEST_SHOWN: Final = 100
_LINKS: Final = ("a", "area")
_UNSUBSCRIBE: Final = "unsubscribe_url"
_PICTURE: Final = "the picture"
# What stands for the parts of a template that are not text, while it is read as HTML. Private-use characters:
# nothing parses them.
_VALUE, _STATEMENT = "\ue000", "\ue001"
_WORDS = {ord(_VALUE): " ", ord(_STATEMENT): " "}

_HTTP = re.compile(r"https?://[^/?#\\\s]", re.IGNORECASE)
_ORIGIN = re.compile(r"https?://[^/?#\\\s]+[/?#]", re.IGNORECASE)
_OTHER = re.compile(r"(?!https?:)[A-Za-z][A-Za-z0-9+.-]*:|[/?#]", re.IGNORECASE)  # mailto:, or of no host
_LINE_ENDS = {ord(character): None for character in "\t\n\r"}  # browsers pass over these in a URL
_AROUND = "".join(map(chr, range(0x21)))  # and take these away at its ends (WHATWG URL, 4.4)
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\\\\]")


@dataclass(frozen=True, slots=True)
class Tracked:
    """An HTML template with what tells of clicks and opens."""

    tree: nodes.Template
    values: Mapping[str, Evaluate]
    """What the tree has under names that no merge field can have; the last value they are given is the
    attempt's 16 bytes."""
    links: int
    """Links whose clicks are counted."""
    opens: bool
    left: tuple[str, ...]
    """What was to be tracked and is not, with the reason."""


def tracked(tree: nodes.Template, asked: Tracking, links: Links, fields: Fields) -> Tracked:
    """Return the template of an HTML part with the tracking that is asked for.

    Links that lead to our own pages, to no web page, or are exempt stay as they are, as do those of which a
    contact's value could be the host.
    """
    source = _Source(tree)
    tracker = _Tracker(source, links, fields)
    last: Tag | None = None
    closed = True
    for tag in tags(source.html):
        if tag is None:
            closed = False
        elif tag.closes:
            last = tag if tag.name == "body" and source.run_at(tag.start).unconditional else last
        elif asked.clicks and tag.name in _LINKS:
            tracker.link(tag)
    count = len(tracker.values)
    if opens := asked.opens and (closed or last is not None):
        tracker.picture(last.start if last else None)
    elif asked.opens:
        tracker.left.append("opens: the HTML ends inside a tag, a comment or the like")
    changed = nodes.Template(source.changed(), lineno=tree.lineno)
    return Tracked(changed, tracker.values, count, opens, tuple(dict.fromkeys(tracker.left)))


def tracking_report(spec: CampaignSpec, found: Tracked | None, public_url: str) -> TrackingReport | None:
    """Say what is tracked of a campaign whose links begin with `public_url`; None: nothing was asked for."""
    if not (spec.tracking.opens or spec.tracking.clicks):
        return None
    if Channel.EMAIL not in map(channel_of, spec.accounts):
        return TrackingReport(links=0, opens=False, left=["messages on WhatsApp are never tracked"])
    if found is None:
        return TrackingReport(links=0, opens=False, left=["the campaign has no HTML part"])
    return TrackingReport(
        links=found.links, opens=found.opens, left=list(found.left), problem=problem_of(public_url)
    )


@dataclass(slots=True)
class _Run:
    """Texts and values of a template with no condition between them, and what is to stand there instead."""

    start: int
    unconditional: bool
    parts: list[nodes.Expr] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    edits: list[tuple[int, int, list[nodes.Expr]]] = field(default_factory=list)

    def between(self, start: int, end: int) -> list[nodes.Expr]:
        """Return what stands between two places; a text is cut there."""
        found: list[nodes.Expr] = []
        if start >= end:
            return found
        for number in range(bisect_right(self.starts, start) - 1, bisect_left(self.starts, end)):
            part, at = self.parts[number], self.starts[number]
            if not isinstance(part, nodes.TemplateData):
                found.append(part)
            elif data := part.data[max(0, start - at) : end - at]:
                found.append(nodes.TemplateData(data, lineno=part.lineno))
        return found

    def changed(self, end: int) -> list[nodes.Expr]:
        """Return all of it, up to its end, with the edits made."""
        made: list[nodes.Expr] = []
        at = self.start
        for first, last, parts in sorted(self.edits, key=lambda edit: edit[:2]):
            made += self.between(at, first)
            made += parts
            at = last
        return made + self.between(at, end)


class _Source:
    """A template read as HTML, in which every value and every end of a branch is one character."""

    def __init__(self, tree: nodes.Template) -> None:
        self._body = tree.body
        self._runs: list[_Run] = []
        self._texts: list[str] = []
        self._html: list[str] = []
        self._size = 0
        self.tail: list[nodes.Expr] = []
        """What is to stand behind it."""
        self._read(tree.body, unconditional=True)
        self.text = "".join(self._texts)
        self.html = "".join(self._html)

    def run_at(self, place: int) -> _Run:
        """Return the run that a place is in."""
        return self._runs[bisect_right(self._runs, place, key=lambda run: run.start) - 1]

    def changed(self) -> list[nodes.Node]:
        """Return the template's body with the edits made."""
        ends = [*(run.start for run in self._runs), self._size][1:]
        outputs = [run.changed(end) for run, end in zip(self._runs, ends, strict=True)]
        return [*_with_outputs(self._body, iter(outputs)), *([nodes.Output(self.tail)] if self.tail else [])]

    def _read(self, body: Sequence[nodes.Node], *, unconditional: bool) -> None:
        for node in body:
            if isinstance(node, nodes.Output):
                run = _Run(self._size, unconditional)
                self._runs.append(run)
                for part in node.nodes:
                    run.parts.append(part)
                    run.starts.append(self._size)
                    if isinstance(part, nodes.TemplateData):
                        self._add(part.data, part.data.translate(_WORDS))
                    else:
                        self._add(_VALUE, _VALUE)
            elif isinstance(node, nodes.If):
                branches = [node.body, *(other.body for other in node.elif_), node.else_]
                for branch in branches if node.else_ else branches[:-1]:
                    self._add(_STATEMENT, _STATEMENT)
                    self._read(branch, unconditional=False)
                self._add(_STATEMENT, _STATEMENT)

    def _add(self, text: str, html: str) -> None:
        self._texts.append(text)
        self._html.append(html)
        self._size += len(text)


def _with_outputs(body: Sequence[nodes.Node], outputs: Iterator[list[nodes.Expr]]) -> list[nodes.Node]:
    """Return a body in which these stand instead of what it prints, in the same order."""
    made: list[nodes.Node] = []
    for node in body:
        if isinstance(node, nodes.Output):
            made.append(nodes.Output(next(outputs), lineno=node.lineno))
        elif isinstance(node, nodes.If):
            inside = _with_outputs(node.body, outputs)
            others = [
                nodes.If(other.test, _with_outputs(other.body, outputs), [], [], lineno=other.lineno)
                for other in node.elif_
            ]
            made.append(
                nodes.If(node.test, inside, others, _with_outputs(node.else_, outputs), lineno=node.lineno)
            )
    return made


class _Tracker:
    """Puts what tells of clicks and opens into a template."""

    def __init__(self, source: _Source, links: Links, fields: Fields) -> None:
        self._source, self._links, self._fields = source, links, fields
        self._own = _place(links.public_url)
        self.values: dict[str, Evaluate] = {}
        self.left: list[str] = []

    def link(self, tag: Tag) -> None:
        """Have a link's clicks counted, unless it is to stay as it is."""
        html = self._source.html
        inside = html[tag.start : tag.end]
        href = tag.attribute("href")
        if tag.attribute(EXEMPT):
            return
        if _STATEMENT in inside:
            if "href" in inside.lower():
                self._leave(tag, "a condition stands inside its tag")
        elif href is None:
            return
        elif inside.count(_VALUE) > sum(
            html.count(_VALUE, attribute.start, attribute.end)
            for attribute in tag.attributes
            if attribute.quoted
        ):
            self._leave(tag, "a merge field stands in its tag outside quotes")
        elif _VALUE in html[href.start : href.end]:
            self._link_with_values(href)
        else:
            self._fixed_link(href)

    def picture(self, place: int | None) -> None:
        """Put the picture that tells of opens at a place, or at the end."""
        links = self._links

        def token(found: Sequence[Any]) -> str:
            return links.open_token(found[-1])

        self.values[_PICTURE] = token
        parts: list[nodes.Expr] = [
            nodes.TemplateData(f'<img src="{escape(links.open_start)}'),
            nodes.Name(_PICTURE, "load"),
            nodes.TemplateData('.gif" width="1" height="1" alt="">'),
        ]
        if place is None:
            self._source.tail = parts
        else:
            self._source.run_at(place).edits.append((place, place, parts))

    def _fixed_link(self, href: Attribute) -> None:
        url = _url(self._source.text[href.start : href.end])
        if not _HTTP.match(url) or self._is_own(url):
            return
        if problem := self._problem(url) or _problem_of_host(url):
            self._leave(href, problem)
            return
        sign, bound = self._links.click_token, url.encode()

        def token(found: Sequence[Any]) -> str:
            return sign(found[-1], bound)

        self._replace(href, token, before=str(escape(self._links.click_start)), after=click_end(url))

    def _link_with_values(self, href: Attribute) -> None:
        html = self._source.html[href.start : href.end]
        ahead = _url(self._source.text[href.start : href.start + html.index(_VALUE)])
        origin = _ORIGIN.match(ahead)
        parts = self._source.run_at(href.start).between(href.start, href.end)
        if _OTHER.match(ahead) or any(map(_unsubscribes, parts)) or (origin and self._is_own(ahead)):
            return
        if origin is None:
            self._leave(href, "a merge field stands where its host is named")
            return
        if problem := _problem_of_host(origin[0]):
            self._leave(href, problem)
            return
        template = Template(nodes.Template([nodes.Output(parts)]), self._fields, escaped=True)
        self._replace(href, _LinkWithValues(template, origin[0], self._links, self._problem))

    def _replace(self, href: Attribute, value: Evaluate, before: str = "", after: str = "") -> None:
        name = f"link {len(self.values)}"
        self.values[name] = value
        parts: list[nodes.Expr] = [
            *([nodes.TemplateData(before)] if before else []),
            nodes.Name(name, "load"),
            *([nodes.TemplateData(after)] if after else []),
        ]
        self._source.run_at(href.start).edits.append((href.start, href.end, parts))

    def _problem(self, url: str) -> str:
        if _UNFIT.search(url):
            return "it has characters that browsers and servers read differently"
        if len(self._links.click_start) + LENGTH + len(click_end(url)) > MAX_LINK:
            return f"it would be longer than {MAX_LINK:,} characters"
        return ""

    def _is_own(self, url: str) -> bool:
        return f"{_place(url)}/".startswith(f"{self._own}/")

    def _leave(self, where: Attribute | Tag, reason: str) -> None:
        text = self._source.html[where.start : where.end]
        shown = " ".join(text.replace(_VALUE, "{{…}}").replace(_STATEMENT, "{%…%}").split())
        shown = shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}…"
        self.left.append(f"{shown}: {reason}")


class _LinkWithValues:
    """A link that contacts' values are part of: its URL is known, and signed, when the message is made."""

    def __init__(self, template: Template, origin: str, links: Links, problem: Callable[[str], str]) -> None:
        self._template, self._origin, self._links, self._problem = template, origin, links, problem

    def __call__(self, found: Sequence[Any]) -> str:
        """Return the attribute's value; what it would have been if the contact's values make it unfit."""
        text = self._template.pieces(found, MAX_RENDERED).joined()
        url = _url(text)
        # What stands before a value may read otherwise with the value behind it: &#4 and 7 are a slash.
        if not url.startswith(self._origin) or self._problem(url):
            return Markup(text)  # noqa: S704 - escaped by the template
        token = self._links.click_token(found[-1], url.encode())
        return f"{self._links.click_start}{token}{click_end(url)}"


def _url(attribute: str) -> str:
    """Return the URL in an attribute's value, as a browser reads it."""
    return decoded(attribute).translate(_LINE_ENDS).strip(_AROUND)


def _problem_of_host(url: str) -> str:
    """Say why a page of ours would not lead on to it, as it could be taken for another place."""
    try:
        parts = urlsplit(url)
        usable = ascii_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        return "its host or port is none"
    return "a name or password stands before its host" if "@" in parts.netloc else ""


def _place(url: str) -> str:
    """Return where a URL leads to, without its scheme, query and fragment; the host in lower case."""
    authority, _, path = re.split("[?#]", url.partition("://")[2], maxsplit=1)[0].partition("/")
    return f"{authority.lower()}/{path}".rstrip("/")


def _unsubscribes(part: nodes.Expr) -> bool:
    names = [part] if isinstance(part, nodes.Name) else part.find_all(nodes.Name)
    return any(name.name == _UNSUBSCRIBE for name in names)
