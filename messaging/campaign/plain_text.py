"""The text part made from the HTML part: the same words, merge fields and conditions."""

import re
from collections.abc import Iterable

import inscriptis
from inscriptis.css_profiles import CSS_PROFILES
from inscriptis.html_properties import Display
from inscriptis.model.config import ParserConfig
from inscriptis.model.html_element import HtmlElement
from inscriptis.model.tag import CustomHtmlTagHandlerMapping

from messaging.errors import InputError

# A hole stands for a Jinja2 tag while the HTML around it becomes text. Private-use characters: nothing parses
# them. The last one tells a merge field from a statement.
_HOLE = re.compile("\ue000([0-9]+)[\ue001\ue002]")
_STATEMENT = re.compile("\ue000[0-9]+\ue002")
_COMMENTED_STATEMENT = re.compile("<!--\\s*(\ue000[0-9]+\ue002)\\s*-->")
_LONE_STATEMENT = re.compile("^ *(\ue000[0-9]+\ue002)\n+", re.MULTILINE)
_KEYWORD = re.compile(r"\{%[-+]?\s*(\w+)")


def text_of(tokens: Iterable[tuple[int, str, str]]) -> str:
    """Turn an HTML template, as Jinja2 lexed it, into a text template with the same fields and conditions.

    Raises:
        InputError: The HTML shows no words, or holds a condition that the text would lose.
    """
    source, tags = _with_holes(tokens)
    text = inscriptis.get_text(_COMMENTED_STATEMENT.sub(r"\1", source), _text_layout())
    _check_conditions(source, tags, {int(number) for number in _HOLE.findall(text)})
    text = re.sub(r"\[([^][\n]+)\]\(\1\)", r"\1", text)  # a link that is its own text
    text = re.sub("\\{(?=[{%#\ue000])", '{{ "{" }}', text)  # &#123; in HTML is a brace, not a tag
    text = "\n".join(line.rstrip(" \t") for line in text.split("\n"))
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    text = _LONE_STATEMENT.sub(r"\1", text)  # what is left out leaves no gap
    if not _STATEMENT.sub("", text).strip():
        raise InputError("text: cannot be made, the HTML shows no words; give the campaign a text part")
    return _HOLE.sub(lambda hole: tags[int(hole[1])], text)


def _with_holes(tokens: Iterable[tuple[int, str, str]]) -> tuple[str, list[str]]:
    """Cut the Jinja2 tags out, so that quotes and < inside them cannot confuse an HTML parser."""
    pieces: list[str] = []
    tags: list[str] = []
    tag = ""
    for _, kind, value in tokens:
        if kind == "data":
            pieces.append(re.sub("[\ue000-\ue002\\x00-\\x08\\x0b-\\x1f\ud800-\udfff]", " ", value))
        elif not kind.startswith(("comment", "raw")):  # raw text is text: its braces are mended later
            tag += value
            if kind in {"variable_end", "block_end"}:
                end = "\ue001" if kind == "variable_end" else "\ue002"
                pieces.append(f"\ue000{len(tags)}{end}")
                tags.append(tag)
                tag = ""
    return "".join(pieces), tags


def _check_conditions(source: str, tags: list[str], kept: set[int]) -> None:
    """Refuse when a condition got lost but not what it guards: everybody would read it.

    Conditions inside an attribute are lost with all they guard.
    """
    opened: list[list[int]] = []
    for number, tag in enumerate(tags):
        keyword = match[1] if (match := _KEYWORD.match(tag)) else ""
        if keyword == "if":
            opened.append([number])
        elif keyword:
            opened[-1].append(number)
        if keyword == "endif":
            group = opened.pop()
            lost = [number for number in group if number not in kept]
            if lost and (len(lost) < len(group) or ">" in _between(source, group[0], number)):
                raise InputError(f"text: cannot be made, {tags[lost[0]]} stands where text cannot; give one")


def _between(source: str, first: int, last: int) -> str:
    return source.partition(f"\ue000{first}\ue002")[2].partition(f"\ue000{last}\ue002")[0]


def _text_layout() -> ParserConfig:
    """Lay tables out as blocks: in email they are columns that phones stack."""
    block = HtmlElement(display=Display.block)
    tables = dict.fromkeys(("table", "tr", "td", "th"))
    return ParserConfig(
        css=CSS_PROFILES["strict"] | dict.fromkeys(tables, block),
        display_links=True,
        custom_html_tag_handler_mapping=CustomHtmlTagHandlerMapping(tables, tables),
    )
