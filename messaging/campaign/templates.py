"""Templates: compile a campaign's subject, HTML and text, and check the merge fields they use.

A template is data from a person, so it runs in Jinja2's sandbox and may only hold what costs little and
reaches nothing: merge fields, if/else, comparisons and some filters. No loops, calls, arithmetic,
attributes or assignments: without them a template cannot run for long, grow without end or reach Python.
"""

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import inscriptis
from inscriptis.css_profiles import CSS_PROFILES
from inscriptis.html_properties import Display
from inscriptis.model.config import ParserConfig
from inscriptis.model.html_element import HtmlElement
from inscriptis.model.tag import CustomHtmlTagHandlerMapping
from jinja2 import Template, TemplateSyntaxError, Undefined, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from messaging.audience.fields import field_name
from messaging.errors import InputError
from schemas.campaign import CampaignSpec

STANDARD_FIELDS = ("name", "email", "phone", "unsubscribe_url")

_NODES = {
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getitem),
    *(nodes.If, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not),
    *(nodes.Filter, nodes.Test, nodes.Keyword, nodes.List, nodes.Tuple),
}
# Left out: format and center make a gigabyte from ten characters, a chain of replace grows exponentially.
_FILTERS = (
    *("default", "d", "upper", "lower", "title", "capitalize", "trim", "truncate"),
    *("escape", "e", "int", "float", "round"),
)
_TESTS = ("defined", "undefined", "none", "eq", "equalto", "==", "ne", "!=", "in")
_HELP = f"Templates have merge fields, if/else, comparisons and the filters {', '.join(_FILTERS)}"
_SPACE_HINT = '; a column such as First Name is {{ first_name }} or {{ contact["First Name"] }}'
_REFUSED: dict[type[nodes.Node], str] = {
    nodes.For: "a loop",
    nodes.Call: "a call",
    nodes.Getattr: "a dot",
    nodes.BinExpr: "arithmetic (a column such as First-Name is {{ first_name }})",
    nodes.UnaryExpr: "arithmetic",
}
_MAX_DIGITS = 15  # what a float holds
_MAX_SHOWN = 30

# A hole stands for a Jinja2 tag while the HTML around it becomes text. Private-use characters: nothing parses
# them. The last one tells a merge field from a statement.
_HOLE = re.compile("\ue000([0-9]+)[\ue001\ue002]")
_STATEMENT = re.compile("\ue000[0-9]+\ue002")
_COMMENTED_STATEMENT = re.compile("<!--\\s*(\ue000[0-9]+\ue002)\\s*-->")
_LONE_STATEMENT = re.compile("^ *(\ue000[0-9]+\ue002)\n+", re.MULTILINE)
_KEYWORD = re.compile(r"\{%[-+]?\s*(\w+)")


class MissingField(Undefined):
    """A merge field without a value: false in a condition, an error when printed.

    StrictUndefined is an error in conditions too: `{% if city %}` would refuse the very contacts it is
    written for. Misspelt names never get here: `check_fields` refuses them.
    """

    __slots__ = ()
    __str__ = __len__ = __iter__ = __contains__ = Undefined._fail_with_undefined_error  # noqa: SLF001 - as in StrictUndefined

    @property
    def _undefined_message(self) -> str:
        return str(self._undefined_name)


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, emptied of everything that templates may not use."""

    def __init__(self, *, autoescape: bool) -> None:
        super().__init__(autoescape=autoescape, undefined=MissingField)
        self.globals.clear()
        self.filters = {name: self.filters[name] for name in _FILTERS} | {"round": _round}
        self.tests = {name: self.tests[name] for name in _TESTS}

    def getitem(self, obj: object, argument: object) -> object:
        """Look only inside the mapping: Jinja2 would go on to its methods, and print one."""
        value = obj.get(argument) if isinstance(obj, Mapping) else None
        return self.undefined(name=str(argument)) if value is None else value


def _round(value: float, precision: int = 0) -> float:
    # Jinja2's own raises 10 to the precision, which can take for ever.
    return round(float(value), max(0, min(precision, _MAX_DIGITS)))


_HTML = _Environment(autoescape=True)
_TEXT = _Environment(autoescape=False)


@dataclass(frozen=True, slots=True)
class Templates:
    """A campaign's compiled templates and what they ask of a contact."""

    subject: Template
    html: Template | None
    text: Template
    fields: frozenset[str]
    """Merge fields used, by identifier."""
    columns: frozenset[str]
    """Columns used under the name the file gave them, as in contact["First Name"]."""


def compile_templates(spec: CampaignSpec) -> Templates:
    """Compile a campaign's templates; the text is made from the HTML when there is none.

    Raises:
        InputError: A template does not parse, or holds what templates may not use.
    """
    used: tuple[set[str], set[str]] = set(), set()
    subject = _compile("subject", spec.subject, _TEXT, used)
    html = _compile("html", spec.html, _HTML, used) if spec.html else None
    text = _compile("text", spec.text or _text_of(spec.html or ""), _TEXT, used)
    return Templates(subject, html, text, frozenset(used[0]), frozenset(used[1]))


def check_fields(templates: Templates, known: Collection[str]) -> None:
    """Check that every merge field is a standard one or among the attributes `known`, named as imported.

    Raises:
        InputError: A template uses another one; the text names it and what it may have meant.
    """
    fields = sorted({*STANDARD_FIELDS, *(field_name(column) for column in known)})
    unknown = [*sorted(templates.fields - set(fields)), *sorted(templates.columns - set(known))]
    if not unknown:
        return
    names = ", ".join(map(repr, unknown))
    matches = difflib.get_close_matches(field_name(unknown[0]), fields, n=1)
    meant = f"; did you mean {matches[0]!r}?" if matches else "."
    shown = ", ".join(fields[:_MAX_SHOWN]) + (", …" if len(fields) > _MAX_SHOWN else "")
    raise InputError(f"unknown merge field{'s' * (len(unknown) > 1)} {names}{meant} Known fields: {shown}")


def context(
    name: str | None, email: str, phone: str | None, attributes: Mapping[str, str], unsubscribe_url: str
) -> dict[str, object]:
    """Return one contact's values for the templates; what is empty is left out, so that default() works."""
    standard = {"name": name, "email": email, "phone": phone, "unsubscribe_url": unsubscribe_url}
    columns = {column: value for column, value in attributes.items() if value and not value.isspace()}
    values: dict[str, object] = {field_name(column): value for column, value in columns.items()}
    for field, value in standard.items():
        if value and not value.isspace():
            values[field] = value
        else:
            values.pop(field, None)  # a column of that name is not the standard field
    values["contact"] = columns
    return values


def _compile(part: str, source: str, environment: _Environment, used: tuple[set[str], set[str]]) -> Template:
    try:
        tree = environment.parse(source)
        _check(tree, *used)
        return environment.from_string(tree)
    except TemplateSyntaxError as error:
        hint = _SPACE_HINT if "got 'Name'" in str(error) or "unexpected char" in str(error) else ""
        raise InputError(f"{part}: line {error.lineno}: {error.message}{hint}") from None
    except (RecursionError, SyntaxError, ValueError, MemoryError):
        raise InputError(f"{part}: is nested too deeply or holds too long a number") from None


def _check(tree: nodes.Template, fields: set[str], columns: set[str]) -> None:
    """Refuse every node that is not on the list, and collect the merge fields."""
    waiting: list[nodes.Node] = [tree]
    while waiting:
        node = waiting.pop()
        if column := _column(node):
            columns.add(column)
            continue
        if problem := _problem(node):
            raise TemplateSyntaxError(f"{problem} cannot be used. {_HELP}", node.lineno)
        if isinstance(node, nodes.Name):
            fields.add(node.name)
        waiting.extend(node.iter_child_nodes())


def _column(node: nodes.Node) -> str | None:
    """Return the column that contact["First Name"] reads."""
    match node:
        case nodes.Getitem(node=nodes.Name(name="contact"), arg=nodes.Const(value=str(column))):
            return column
    return None


def _problem(node: nodes.Node) -> str:
    """Say what of a node is not allowed, or nothing."""
    problem = ""
    match node:
        case nodes.Getitem() | nodes.Name(name="contact"):
            problem = 'contact other than as contact["First Name"], and brackets after anything else,'
        case nodes.Name(name="self"):  # Jinja2's own object
            problem = "self"
        case nodes.Filter(name=name) if name not in _FILTERS:
            problem = f"the filter {name}"
        case nodes.Test(name=name) if name not in _TESTS:
            problem = f"the test {name}"
        case nodes.Filter() | nodes.Test() if node.dyn_args or node.dyn_kwargs:
            problem = "a star"
        case nodes.CondExpr(expr2=None):
            problem = "an if without else inside {{ }}"
        case _ if type(node) not in _NODES:
            words = (text for refused, text in _REFUSED.items() if isinstance(node, refused))
            problem = next(words, f"this ({type(node).__name__.lower()})")
    return problem


def _text_of(html: str) -> str:
    """Turn an HTML template into a text template with the same merge fields and conditions."""
    source, tags = _with_holes(html)
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


def _with_holes(html: str) -> tuple[str, list[str]]:
    """Cut the Jinja2 tags out, so that quotes and < inside them cannot confuse an HTML parser."""
    pieces: list[str] = []
    tags: list[str] = []
    tag = ""
    for _, kind, value in _HTML.lex(html):
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
