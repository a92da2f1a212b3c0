"""Expressions of templates: what stands in {{ }} and after if, as functions of one contact's values.

They are put together from Jinja2's own filters and tests and the operators that Jinja2 compiles to, so they
answer and fail as Jinja2 does; but nothing is looked up by name when a message is made, and nothing in them
can reach Python.
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, cast

from jinja2 import Environment, Undefined, nodes
from jinja2.filters import FILTERS as _JINJA_FILTERS
from jinja2.tests import TESTS as _JINJA_TESTS

from messaging.campaign.merge_fields import Values

_MAX_DIGITS: Final = 15  # what a float holds


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


def _round(value: float, precision: int = 0) -> float:
    # Jinja2's own raises 10 to the precision, which can take for ever.
    return round(float(value), max(0, min(precision, _MAX_DIGITS)))


_JINJA: dict[str, Any] = {
    **_JINJA_FILTERS,
    "truncate": partial(_JINJA_FILTERS["truncate"], Environment()),  # noqa: S701 - it reads a policy there
    "round": _round,
}
# Left out: format and center make a gigabyte from ten characters, a chain of replace grows exponentially.
FILTERS: Final[dict[str, Callable[..., Any]]] = {
    name: _JINJA[name]
    for name in (
        *("default", "d", "upper", "lower", "title", "capitalize", "trim", "truncate"),
        *("escape", "e", "int", "float", "round"),
    )
}
TESTS: Final[dict[str, Any]] = {
    name: _JINJA_TESTS[name]
    for name in ("defined", "undefined", "none", "eq", "equalto", "==", "ne", "!=", "in")
}
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gteq": operator.ge,
    "lt": operator.lt,
    "lteq": operator.le,
    "in": lambda one, other: one in other,
    "notin": lambda one, other: one not in other,  # codespell:ignore notin
}

Evaluate = Callable[[Sequence[object]], Any]
"""An expression, ready to be asked for its value; it takes what `Fields.found` returns."""


class Fields:
    """The merge fields of a campaign, each in a place of its own."""

    def __init__(self, names: Iterable[str], columns: Iterable[str]) -> None:
        """Take the identifiers and the columns that the templates name."""
        self._names, self._columns = tuple(names), tuple(columns)
        self._missing = tuple(MissingField(name=name) for name in (*self._names, *self._columns))
        self._missing_columns = self._missing[len(self._names) :]

    def found(self, values: Values) -> list[object]:
        """Return one contact's values, each in its place."""
        fields, columns = values
        return [
            *map(fields.get, self._names, self._missing),
            *map(columns.get, self._columns, self._missing_columns),
        ]

    def field(self, name: str) -> Evaluate:
        """Return what finds {{ name }}."""
        return operator.itemgetter(self._names.index(name))

    def column(self, name: str) -> Evaluate:
        """Return what finds {{ contact["name"] }}."""
        return operator.itemgetter(len(self._names) + self._columns.index(name))


def compiled(node: nodes.Node | None, fields: Fields) -> Evaluate:  # noqa: C901, PLR0911 - a case for each kind of node
    """Make a function of an expression that the allow-list has passed."""
    compile_ = partial(compiled, fields=fields)
    match node:
        case nodes.Const(value=value):
            return lambda _: value
        case nodes.Name(name=name):
            return fields.field(name)
        case nodes.Getitem(arg=nodes.Const(value=str(column))):  # of contact
            return fields.column(column)
        case nodes.Compare():
            return _comparison(node, fields)
        case nodes.And(left=left, right=right):
            one, other = compile_(left), compile_(right)
            return lambda found: one(found) and other(found)
        case nodes.Or(left=left, right=right):
            one, other = compile_(left), compile_(right)
            return lambda found: one(found) or other(found)
        case nodes.Not(node=negated):
            positive = compile_(negated)
            return lambda found: not positive(found)
        case nodes.CondExpr(test=condition, expr1=yes, expr2=no):
            test, one, other = compile_(condition), compile_(yes), compile_(no)
            return lambda found: one(found) if test(found) else other(found)
        case nodes.List(items=members) | nodes.Tuple(items=members):
            items = [compile_(item) for item in members]
            return lambda found: [item(found) for item in items]
        case nodes.Filter(name=name):
            return _call(FILTERS[name], node, fields)
        case nodes.Test(name=name):
            return _call(TESTS[name], node, fields)
    raise TypeError(f"the allow-list has passed a {type(node).__name__}")


def _comparison(node: nodes.Compare, fields: Fields) -> Evaluate:
    """Compare as Python does: a < b < c asks for c when a < b."""
    first = compiled(node.expr, fields)
    others = [(_OPERATORS[other.op], compiled(other.expr, fields)) for other in node.ops]
    if len(others) == 1:
        ((compare, second),) = others
        if isinstance(constant := node.ops[0].expr, nodes.Const):
            value = constant.value
            return lambda found: compare(first(found), value)
        return lambda found: compare(first(found), second(found))

    def all_of(found: Sequence[object]) -> object:
        answer: object = None
        left = first(found)
        for compare, expression in others:
            right = expression(found)
            answer = compare(left, right)
            if not answer:
                break
            left = right
        return answer

    return all_of


def _call(function: Callable[..., Any], node: nodes.Filter | nodes.Test, fields: Fields) -> Evaluate:
    value = compiled(node.node, fields)
    positional = [compiled(argument, fields) for argument in node.args]
    keywords = cast("list[nodes.Keyword]", node.kwargs)
    named = {keyword.key: compiled(keyword.value, fields) for keyword in keywords}
    if not positional and not named:
        return lambda found: function(value(found))
    if len(positional) == 1 and not named:
        (only,) = positional
        return lambda found: function(value(found), only(found))
    return lambda found: function(
        value(found),
        *[argument(found) for argument in positional],
        **{key: argument(found) for key, argument in named.items()},
    )
