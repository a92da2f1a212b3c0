"""Templates: compile a campaign's subject, HTML, text and parameters, and check the merge fields they use.

A template is data from a person, so it may only hold what costs little and
reaches nothing: merge fields, if/else, comparisons and some filters. No loops, calls, arithmetic,
attributes or assignments: without them a template cannot run for long, grow without end or reach Python.
Jinja2 reads it and `Template` runs it.
"""

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from jinja2 import Environment, TemplateSyntaxError, nodes

from messaging.campaign.expressions import FILTERS, TESTS, Fields
from messaging.campaign.links import Links
from messaging.campaign.merge_fields import STANDARD_FIELDS
from messaging.campaign.pieces import Template
from messaging.campaign.plain_text import text_of
from messaging.campaign.tracking import Tracked, tracked
from messaging.campaign.whatsapp_parameters import Parameter, parameters_of, problem_with
from messaging.errors import InputError
from messaging.fields import field_name
from schemas.campaign import CampaignSpec

_NODES = {
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getitem),
    *(nodes.If, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not),
    *(nodes.Filter, nodes.Test, nodes.Keyword),
}
_OPERATIONS = (
    nodes.Filter,
    nodes.Test,
    nodes.Compare,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.If,
    nodes.CondExpr,
)
_HELP = f"Templates have merge fields, if/else, comparisons and the filters {', '.join(FILTERS)}"
_SPACE_HINT = '; a column such as First Name is {{ first_name }} or {{ contact["First Name"] }}'
_REFUSED: dict[type[nodes.Node], str] = {
    nodes.For: "a loop",
    nodes.Call: "a call",
    nodes.Getattr: "a dot",
    nodes.BinExpr: "arithmetic (a column such as First-Name is {{ first_name }})",
    nodes.UnaryExpr: "arithmetic",
    nodes.List: "a list other than after in",  # printed, it is longer than all else
    nodes.Tuple: "a comma other than in a list after in",
}
_MAX_OPERATIONS: Final = (
    1_000  # filters, comparisons, conditions: on values of 32 KB, the costliest take 3 ms each
)
_MAX_DEPTH: Final = 100  # of conditions and expressions in each other: each level is a call when it runs
_MAX_SHOWN = 30
_PARSER = Environment()  # noqa: S701 - it only parses; `Template` escapes


@dataclass(frozen=True, slots=True)
class Templates:
    """A campaign's compiled templates and what they ask of a contact."""

    subject: Template
    html: Template | None
    text: Template
    parameters: tuple[tuple[Parameter, Template], ...]
    """Of the approved WhatsApp template, in the order in which they are sent."""
    fields: frozenset[str]
    """Merge fields used, by identifier."""
    columns: frozenset[str]
    """Columns used under the name the file gave them, as in contact["First Name"]."""
    places: Fields
    """Finds a contact's values of both, for the templates."""
    tracked: Tracked | None
    """What tells of clicks and opens in the HTML; for it the values end with the attempt's 16 bytes."""


def compile_templates(spec: CampaignSpec, links: Links | None = None) -> Templates:
    """Compile a campaign's templates; the text is made from the HTML when there is none.

    With `links`, the HTML has the tracking that the campaign asks for.

    Raises:
        InputError: A template does not parse, or holds what templates may not use.
    """
    used: tuple[set[str], set[str]] = set(), set()
    subject = _parsed("subject", spec.subject, used)
    html = _parsed("html", spec.html, used) if spec.html else None
    # A campaign of a WhatsApp template alone has neither.
    text = spec.text or (text_of(_PARSER.lex(spec.html)) if spec.html else "")
    plain = _parsed("text", text, used)
    parameters = [(parameter, _parameter(parameter, used)) for parameter in parameters_of(spec.template)]
    places = Fields(*used)
    asked = spec.tracking
    changed = (
        tracked(html, asked, links, places) if html and links and (asked.opens or asked.clicks) else None
    )
    return Templates(
        Template(subject, places, escaped=False),
        _html(html, changed, places) if html else None,
        Template(plain, places, escaped=False),
        tuple((parameter, Template(tree, places, escaped=False)) for parameter, tree in parameters),
        frozenset(used[0]),
        frozenset(used[1]),
        places,
        changed,
    )


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


def _html(tree: nodes.Template, changed: Tracked | None, places: Fields) -> Template:
    if changed is None:
        return Template(tree, places, escaped=True)
    return Template(changed.tree, places, escaped=True, values=changed.values)


def _parsed(part: str, source: str, used: tuple[set[str], set[str]]) -> nodes.Template:
    try:
        tree = _PARSER.parse(source)
        _check(tree, *used)
    except TemplateSyntaxError as error:
        hint = _SPACE_HINT if "got 'Name'" in str(error) or "unexpected char" in str(error) else ""
        raise InputError(f"{part}: line {error.lineno}: {error.message}{hint}") from None
    except (RecursionError, ValueError):
        raise InputError(f"{part}: is nested too deeply or holds too long a number") from None
    return tree


def _parameter(parameter: Parameter, used: tuple[set[str], set[str]]) -> nodes.Template:
    tree = _parsed(parameter.part, parameter.source, used)
    for words in tree.find_all(nodes.TemplateData):
        if problem := problem_with(parameter.kind, words.data):
            raise InputError(f"{parameter.part}: {problem}")
    return tree


def _check(tree: nodes.Template, fields: set[str], columns: set[str]) -> None:
    """Refuse every node that is not on the list, and collect the merge fields."""
    waiting: list[tuple[nodes.Node, int]] = [(tree, 0)]
    operations = 0
    while waiting:
        node, depth = waiting.pop()
        if column := _column(node):
            columns.add(column)
            continue
        if problem := _problem(node):
            raise TemplateSyntaxError(f"{problem} cannot be used. {_HELP}", node.lineno)
        operations += isinstance(node, _OPERATIONS)
        if operations > _MAX_OPERATIONS:
            raise TemplateSyntaxError(
                f"there are more than {_MAX_OPERATIONS:,} filters, comparisons and conditions", node.lineno
            )
        if isinstance(node, nodes.Name):
            fields.add(node.name)
        if depth > _MAX_DEPTH:
            raise RecursionError
        waiting.extend((part, depth + 1) for part in _parts(node))


def _parts(node: nodes.Node) -> Iterable[nodes.Node]:
    """Return what a node is made of; of a list after `in`, its members."""
    match node:
        case nodes.Operand(
            op="in" | "notin",  # codespell:ignore notin
            expr=nodes.List(items=members) | nodes.Tuple(items=members),
        ):
            return members
        case nodes.Test(name="in", args=[nodes.List(items=members) | nodes.Tuple(items=members)]):
            return [node.node, *members]
    return node.iter_child_nodes()


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
        case nodes.Filter(name=name) if name not in FILTERS:
            problem = f"the filter {name}"
        case nodes.Test(name=name) if name not in TESTS:
            problem = f"the test {name}"
        case nodes.Filter() | nodes.Test() if node.dyn_args or node.dyn_kwargs:
            problem = "a star"
        case nodes.CondExpr(expr2=None):
            problem = "an if without else inside {{ }}"
        case _ if type(node) not in _NODES:
            words = (text for refused, text in _REFUSED.items() if isinstance(node, refused))
            problem = next(words, f"this ({type(node).__name__.lower()})")
    return problem
