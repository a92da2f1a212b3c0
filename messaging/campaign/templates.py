"""Templates: compile a campaign's subject, HTML and text, and check the merge fields they use.

A template is data from a person, so it runs in Jinja2's sandbox and may only hold what costs little and
reaches nothing: merge fields, if/else, comparisons and some filters. No loops, calls, arithmetic,
attributes or assignments: without them a template cannot run for long, grow without end or reach Python.
One of text and merge fields alone, with or without default(), needs no Jinja2 when it runs (`PlainTemplate`).
"""

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import jinja2
from jinja2 import TemplateSyntaxError, Undefined, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from messaging.audience.fields import field_name
from messaging.campaign.merge_fields import STANDARD_FIELDS, Values
from messaging.campaign.pieces import PlainTemplate, TooLong
from messaging.campaign.plain_text import text_of
from messaging.errors import InputError
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
    nodes.List: "a list other than after in",  # printed, it is longer than all else
    nodes.Tuple: "a comma other than in a list after in",
}
_MAX_OPERATIONS: Final = (
    1_000  # filters, comparisons, conditions: on values of 32 KB, the costliest take 3 ms each
)
_MAX_DIGITS = 15  # what a float holds
_MAX_SHOWN = 30


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


class Template(Protocol):
    """A compiled template."""

    @property
    def texts(self) -> Collection[str]:
        """Texts that it writes the same for everybody, each as one of its pieces."""
        ...

    def pieces(self, values: Values, most: int) -> list[str]:
        """Return the pieces of one contact's text.

        Raises:
            UndefinedError: A value is missing; the message is its field.
            TooLong: The text has more than `most` characters.
        """
        ...


class ConditionalTemplate:
    """A template that needs Jinja2: it has conditions, comparisons or filters."""

    def __init__(self, template: jinja2.Template, texts: Iterable[str]) -> None:
        """Take the compiled template and the texts between its tags."""
        self._template = template
        self.texts = frozenset(texts)

    def pieces(self, values: Values, most: int) -> list[str]:
        """Return the pieces of one contact's text; stops as soon as they are too long."""
        pieces: list[str] = []
        for piece in self._template.generate(values.fields, contact=values.columns):
            pieces.append(piece)
            most -= len(piece)
            if most < 0:
                raise TooLong
        return pieces


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
    text = _compile("text", spec.text or text_of(_HTML.lex(spec.html)), _TEXT, used)
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


def _compile(part: str, source: str, environment: _Environment, used: tuple[set[str], set[str]]) -> Template:
    try:
        tree = environment.parse(source)
        _check(tree, *used)
        if plain := PlainTemplate.of(tree, escaped=environment is _HTML):
            return plain
        texts = [node.data for node in tree.find_all(nodes.TemplateData)]
        return ConditionalTemplate(environment.from_string(tree), texts)
    except TemplateSyntaxError as error:
        hint = _SPACE_HINT if "got 'Name'" in str(error) or "unexpected char" in str(error) else ""
        raise InputError(f"{part}: line {error.lineno}: {error.message}{hint}") from None
    except (RecursionError, SyntaxError, ValueError, MemoryError):
        raise InputError(f"{part}: is nested too deeply or holds too long a number") from None


def _check(tree: nodes.Template, fields: set[str], columns: set[str]) -> None:
    """Refuse every node that is not on the list, and collect the merge fields."""
    waiting: list[nodes.Node] = [tree]
    operations = 0
    while waiting:
        node = waiting.pop()
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
        waiting.extend(_parts(node))


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
