"""Filters: which contacts are meant, as in `country = "DE" and plan in ("pro", "team")`.

A filter is data from a person. It becomes a SQL expression whose every name and value is a bound parameter:
nothing of its text is ever SQL. Every comparison is true or false, never null, so `not` means the others.
"""

import difflib
import operator
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

from sqlalchemy import ColumnElement, Numeric, and_, case, cast, collate, func, not_, or_

from messaging.errors import InputError
from messaging.fields import field_name
from messaging.storage.tables import contacts

_DAYS = ("consent_at", "created_at")  # compared as days in UTC, written 2026-01-31
CONTACT_FIELDS = (
    *("email", "phone", "name", "country", "language", "time_zone", "status"),
    *("phone_type", "phone_region", "consent_source", "consent_text", *_DAYS),
)

_MAX_LENGTH = 10_000  # characters
_MAX_DEPTH = 20  # brackets and nots inside each other
_MAX_SHOWN = 30

_BLANK = " \t\n\r\f\v\xa0"
_NUMBER = r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?"  # Python and PostgreSQL read it alike
_CURLY_QUOTES = "\u201c\u201d\u201e\u2018\u2019\u201a\u00ab\u00bb"  # what word processors make of quotes
_TOKEN = re.compile(
    rf"""(?P<text>"(?:[^"]|"")*"|'(?:[^']|'')*')|(?P<column>`(?:[^`]|``)+`)|(?P<sign><=|>=|!=|[=<>(),])"""
    rf"""|(?P<word>[^\s"'`=<>!(),{_CURLY_QUOTES}]+)"""
)
_ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_WORDS = {"in", "contains", "starts", "ends"}
_TESTS = "= != < <= > >=, in, contains, starts with, ends with or is empty"


@dataclass(frozen=True, slots=True)
class Field:
    """A contact's field or attribute, by normalised name; or an attribute by its column's own name."""

    name: str
    is_column: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """One field against values; `=` holds when it equals any of them, `empty` takes none."""

    field: Field
    test: str
    values: Sequence[str | Decimal] = ()


@dataclass(frozen=True, slots=True)
class Not:
    """The contacts that `part` does not choose."""

    part: "Node"


@dataclass(frozen=True, slots=True)
class Group:
    """Parts joined by `and` or by `or`."""

    word: str
    parts: Sequence["Node"]


Node = Comparison | Not | Group


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed filter and the attributes it asks for: what is not a field of every contact."""

    root: Node
    attributes: frozenset[Field]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int  # as people count

    @property
    def word(self) -> str:
        """The token as keyword: they may be written in capitals."""
        return self.text.lower() if self.kind in {"word", "sign"} else ""

    @property
    def shown(self) -> str:
        """What an error may say of it: text in quotes may hold a person's address."""
        if self.kind == "text" or "@" in self.text:
            return "text"
        return repr(self.text[:_MAX_SHOWN]) if self.text else "the end"


def parse(text: str) -> Filter:
    """Read a filter.

    Raises:
        InputError: It is not one; the text says where and what was expected.
    """
    if len(text) > _MAX_LENGTH:
        raise InputError(f"filter: is longer than {_MAX_LENGTH:,} characters")
    for at, character in enumerate(text):
        if unicodedata.category(character) in {"Cc", "Cs"} and character not in _BLANK:
            raise InputError(f"filter: position {at + 1}: {character!r} cannot stand here")
    parser = _Parser(unicodedata.normalize("NFC", text))  # as imported values are
    root = parser.expression(0)
    parser.expect_end()
    asked = {field for field in parser.fields if field.is_column or field.name not in CONTACT_FIELDS}
    return Filter(root, frozenset(asked))


def unknown_fields(asked: Filter, known: Collection[str]) -> list[str]:
    """List what a filter asks for that is neither a contact's field nor among these columns."""
    normalised = {field_name(column) for column in known}
    return sorted(
        field.name
        for field in asked.attributes
        if field.name not in (known if field.is_column else normalised)
    )


def check_fields(asked: Filter, known: Collection[str]) -> None:
    """Check that everything a filter asks for is a contact's field or among these columns.

    Raises:
        InputError: It is not: nobody would be meant, or with != everybody.
    """
    unknown = unknown_fields(asked, known)
    if not unknown:
        return
    fields = sorted({*CONTACT_FIELDS, *map(field_name, known)})
    matches = difflib.get_close_matches(field_name(unknown[0]), fields, n=1)
    meant = f"; did you mean {matches[0]!r}?" if matches else "."
    shown = ", ".join(fields[:_MAX_SHOWN]) + (", …" if len(fields) > _MAX_SHOWN else "")
    raise InputError(f"filter: no contact has {', '.join(map(repr, unknown))}{meant} Known fields: {shown}")


def condition(asked: Filter, known: Collection[str]) -> ColumnElement[bool]:
    """Turn a filter into an expression over `contacts`; `known` are the columns that attributes come from.

    Raises:
        InputError: As for `check_fields`.
    """
    check_fields(asked, known)
    # As in templates: of several columns with one normalised name, the last in the order of JSONB's keys.
    columns = sorted(known, key=lambda column: (len(column.encode()), column.encode()), reverse=True)
    return _condition(asked.root, columns)


def _condition(node: Node, columns: Sequence[str]) -> ColumnElement[bool]:
    match node:
        case Comparison(field=field, test=test, values=values):
            return _comparison(_value(field, columns), test, values)
        case Not(part=part):
            return not_(_condition(part, columns))
        case Group(word=word, parts=parts):
            join = and_ if word == "and" else or_
            return join(*(_condition(part, columns) for part in parts))


def _value(field: Field, columns: Sequence[str]) -> ColumnElement[Any]:
    """Return a contact's value as trimmed text, null when it has none."""
    if not field.is_column and field.name in CONTACT_FIELDS:
        column = contacts.c[field.name]
        if field.name in _DAYS:
            return func.to_char(func.timezone("UTC", column), "YYYY-MM-DD")
        return _trimmed(column)
    if field.is_column:
        names = [field.name]
    else:
        names = [column for column in columns if field_name(column) == field.name]
    values = [_trimmed(contacts.c.attributes[name].astext) for name in names]
    return values[0] if len(values) == 1 else func.coalesce(*values)


def _trimmed(value: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.nullif(func.btrim(value, _BLANK), "")


def _comparison(value: ColumnElement[Any], test: str, values: Sequence[str | Decimal]) -> ColumnElement[bool]:
    if test == "empty":
        return value.is_(None)
    # Text that is no number is none, rather than an error.
    number = case((value.regexp_match(f"^{_NUMBER}$"), cast(value, Numeric)))
    if test == "=":
        texts = [one for one in values if isinstance(one, str)]
        numbers = [one for one in values if isinstance(one, Decimal)]
        found = [*([value.in_(texts)] if texts else []), *([number.in_(numbers)] if numbers else [])]
        return or_(*(func.coalesce(one, False) for one in found))
    [bound] = values
    if test == "contains":
        holds = func.strpos(value, bound) > 0
    elif test == "starts":
        holds = func.starts_with(value, bound)
    elif test == "ends":
        holds = func.right(value, len(str(bound))) == bound
    elif isinstance(bound, Decimal):
        holds = _ORDER[test](number, bound)
    else:
        holds = _ORDER[test](collate(value, "C"), bound)  # the same order in every database
    return func.coalesce(holds, False)


class _Parser:
    """Recursive descent, a method per rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.fields: set[Field] = set()
        self._tokens = list(_tokens(text))
        self._at = 0

    def expression(self, depth: int) -> Node:
        """Read conjunctions joined by `or`."""
        return self._joined("or", lambda: self._joined("and", lambda: self._negation(depth)))

    def expect_end(self) -> None:
        """Refuse anything more."""
        if self._next.kind != "end":
            self._refuse("and, or or the end")

    def _joined(self, word: str, part: Callable[[], Node]) -> Node:
        parts = [part()]
        while self._take(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Group(word, parts)

    def _negation(self, depth: int) -> Node:
        if depth > _MAX_DEPTH:
            raise InputError(
                f"filter: position {self._next.position}: brackets and nots stand more than {_MAX_DEPTH} deep"
            )
        if self._take("not"):
            return Not(self._negation(depth + 1))
        if self._take("("):
            inner = self.expression(depth + 1)
            self._expect(")", "and, or or )")
            return inner
        return self._comparison(self._field())

    def _field(self) -> Field:
        token = self._next
        if token.kind == "column":
            field = Field(token.text[1:-1].replace("``", "`"), is_column=True)
        elif token.kind != "word" or token.word in {"and", "or"}:
            self._refuse("a field such as country")
        elif not token.text.isidentifier():
            self._refuse("a field such as country, or a column's own name in backquotes as in `Plan-Type`")
        else:
            field = Field(field_name(token.text), is_column=False)
        self._at += 1
        self.fields.add(field)
        return field

    def _comparison(self, field: Field) -> Node:
        if self._take("is"):
            negated = self._take("not")
            self._expect("empty", "empty")
            node: Node = Comparison(field, "empty")
        else:
            negated = self._take("not")
            test = self._next.word
            if test not in _WORDS and (negated or test not in {"=", "!=", *_ORDER}):
                self._refuse("in, contains, starts with or ends with" if negated else _TESTS)
            self._at += 1
            if test in {"starts", "ends"}:
                self._expect("with", "with")
            if test == "in":
                node = Comparison(field, "=", self._values())
            elif test == "!=":
                node = Not(Comparison(field, "=", [self._value()]))
            else:
                node = Comparison(field, test, [self._value(text_only=test in _WORDS)])
        return Not(node) if negated else node

    def _values(self) -> list[str | Decimal]:
        self._expect("(", '( as in ("pro", "team")')
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
        self._expect(")", ", or )")
        return values

    def _value(self, *, text_only: bool = False) -> str | Decimal:
        token = self._next
        if token.kind == "text":
            quote = token.text[0]
            value: str | Decimal = token.text[1:-1].replace(quote * 2, quote).strip(_BLANK)
            if not value:
                self._refuse("some text; for none there is `is empty`")
        elif token.kind == "word" and not text_only and re.fullmatch(_NUMBER, token.text):
            value = Decimal(token.text)
        else:
            self._refuse('text in quotes, as in "pro"' + ("" if text_only else ", or a number"))
        self._at += 1
        return value

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, word: str) -> bool:
        taken = self._next.word == word
        self._at += taken
        return taken

    def _expect(self, word: str, expected: str) -> None:
        if not self._take(word):
            self._refuse(expected)

    def _refuse(self, expected: str) -> NoReturn:
        token = self._next
        raise InputError(f"filter: position {token.position}: expected {expected}, found {token.shown}")


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        if text[at] in _BLANK:
            at += 1
            continue
        match = _TOKEN.match(text, at)
        if match is None:
            raise InputError(f"filter: position {at + 1}: {_flaw(text[at])}")
        yield _Token(str(match.lastgroup), match[0], at + 1)
        at = match.end()
    yield _Token("end", "", len(text) + 1)


def _flaw(character: str) -> str:
    if character in _CURLY_QUOTES:
        return f"{character} is no quote here: write a straight one"
    if character in "\"'`":
        return f"the quote {character} is not closed"
    return f"{character!r} cannot stand here"
