"""A filter means in PostgreSQL what it says, and nothing of it is ever run as SQL."""

import json
import operator
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select, text

from messaging.errors import InputError
from messaging.storage import filters
from messaging.storage.tables import contacts

BLANK = " \t\n\r\f\v\xa0"
HOSTILE = [
    "'; DROP TABLE contacts; --",
    '" or "1"="1',
    "`; SELECT 1",
    "%s %(name)s %%",
    ":name $1 ::text",
    "\\",
    "\\' or true --",
    "{}",
]
WORDS = ["pro", "Pro", "team", " pro\t", "", "  ", "DE", "é", "Ä", "ä", "z", "Z", "2026-01-31", *HOSTILE]
NUMBERS = ["5", "5.0", "-3", "+7", "007", "12.50", "1e3", "0x10", "5,0", "٣", "1" * 40, "9" * 29]
COLUMNS = [
    "Plan Type",
    "plan_type",
    "PLAN  TYPE!",
    "Age",
    "it's `a`; DROP TABLE contacts; --",
    "%(x)s",
    "Name",
]
FIELDS = [
    "name",
    "country",
    "NAME",
    "plan_type",
    "Plan_Type",
    "age",
    *(f"`{c.replace('`', '``')}`" for c in COLUMNS),
]

Contact = dict[str, str]


@dataclass(frozen=True)
class Said:
    """A filter's text, and what it means of one contact."""

    text: str
    means: Callable[[Contact], bool]


def value(contact: Contact, field: str) -> str | None:
    """What a field of the language reads, told apart from the code under test."""
    if field.startswith("`"):
        places = [field[1:-1].replace("``", "`")]
    elif field.lower() in {"name", "country"}:
        places = [f"field {field.lower()}"]
    elif field.lower() == "age":
        places = ["Age"]
    else:
        places = ["PLAN  TYPE!", "plan_type", "Plan Type"]  # as in templates: JSONB's last key wins
    return next((found for place in places if (found := (contact.get(place) or "").strip(BLANK))), None)


def number(value: str | None) -> Decimal | None:
    found = re.fullmatch(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?", value or "")
    return Decimal(found[0]) if found else None


def quoted(value: str, quote: str) -> str:
    return quote + value.replace(quote, quote * 2) + quote


values = st.sampled_from(WORDS + NUMBERS) | st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])
)
texts = values.map(lambda value: value.strip(BLANK)).filter(bool)
quotes = st.sampled_from("\"'")
fields = st.sampled_from(FIELDS)
ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@st.composite
def equalities(draw: st.DrawFn) -> Said:
    field, is_not = draw(fields), draw(st.booleans())
    wanted = draw(st.lists(texts | st.sampled_from(NUMBERS).map(number).filter(bool), min_size=1, max_size=3))
    written = [str(one) if isinstance(one, Decimal) else quoted(one, draw(quotes)) for one in wanted]

    def means(contact: Contact) -> bool:
        found = value(contact, field)
        equal = any(number(found) == one if isinstance(one, Decimal) else found == one for one in wanted)
        return equal is not is_not

    if len(wanted) == 1 and draw(st.booleans()):
        return Said(f"{field} {'!=' if is_not else '='} {written[0]}", means)
    return Said(f"{field} {'NOT ' if is_not else ''}in ({', '.join(written)})", means)


@st.composite
def orders(draw: st.DrawFn) -> Said:
    field, sign = draw(fields), draw(st.sampled_from(list(ORDER)))
    if draw(st.booleans()):
        bound = draw(texts)
        return Said(
            f"{field}{sign}{quoted(bound, draw(quotes))}",
            lambda contact: (found := value(contact, field)) is not None and ORDER[sign](found, bound),
        )
    least = draw(st.decimals(-20, 20, places=1))
    return Said(
        f"{field} {sign} {least}",
        lambda contact: (found := number(value(contact, field))) is not None and ORDER[sign](found, least),
    )


@st.composite
def parts_of_text(draw: st.DrawFn) -> Said:
    field, is_not, part = draw(fields), draw(st.booleans()), draw(texts)
    words = {"contains": str.__contains__, "starts with": str.startswith, "Ends  With": str.endswith}
    word = draw(st.sampled_from(list(words)))
    return Said(
        f"{field} {'not ' if is_not else ''}{word} {quoted(part, draw(quotes))}",
        lambda contact: words[word](value(contact, field) or "", part) is not is_not,
    )


@st.composite
def emptiness(draw: st.DrawFn) -> Said:
    field, is_not = draw(fields), draw(st.booleans())
    return Said(
        f"{field} is{' not' if is_not else ''} empty",
        lambda contact: (value(contact, field) is None) is not is_not,
    )


def joined(parts: list[Said], word: str) -> Said:
    judge = {"and": all, "or": any}[word]
    return Said(
        f"({f' {word} '.join(part.text for part in parts)})",
        lambda contact: judge(part.means(contact) for part in parts),
    )


everything = st.recursive(
    equalities() | orders() | parts_of_text() | emptiness(),
    lambda inner: (
        st.builds(joined, st.lists(inner, min_size=1, max_size=3), st.sampled_from(["and", "or"]))
        | inner.map(lambda part: Said(f"not {part.text}", lambda contact: not part.means(contact)))
    ),
    max_leaves=6,
)


@pytest.fixture
def people(ledger: Engine) -> dict[int, Contact]:
    """Some hundred contacts with all kinds of values, by id."""
    chance = random.Random(7)  # noqa: S311 - the same people each time
    made = {}
    with ledger.begin() as connection:
        for n in range(1, 301):
            contact = {
                place: chance.choice(WORDS + NUMBERS)
                for place in ["field name", "field country", *COLUMNS]
                if chance.random() < 0.6
            }
            row = {
                "name": contact.get("field name"),
                "country": contact.get("field country"),
                "attributes": json.dumps({c: contact[c] for c in COLUMNS if c in contact}),
            }
            made[n] = contact
            connection.execute(
                text("""
                    INSERT INTO contacts (id, phone, name, country, attributes) OVERRIDING SYSTEM VALUE
                    VALUES (:id, :phone, :name, :country, CAST(:attributes AS jsonb))
                """),
                {"id": n, "phone": f"+4474000{n:05}", **row},
            )
    return made


def chosen(ledger: Engine, where: str, known: list[str] = COLUMNS) -> set[int]:
    condition = filters.condition(filters.parse(where), known)
    with ledger.begin() as connection:
        return set(connection.execute(select(contacts.c.id).where(condition)).scalars())


def test_every_filter_chooses_whom_a_plain_reading_of_it_chooses(ledger: Engine, people: dict[int, Contact]):
    @settings(max_examples=300, deadline=None)
    @given(everything)
    def check(said: Said) -> None:
        assert chosen(ledger, said.text) == {n for n, contact in people.items() if said.means(contact)}

    check()
    with ledger.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM contacts")).scalar_one() == len(people)


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ('country = "DE" or country = "FR" and name = "Cy"', "Ada Bo Cy"),  # and binds closer
        ('(country = "DE" or country = "FR") and name = "Cy"', "Cy"),
        ('not country = "DE" and name != "Cy"', "Di"),
        ('COUNTRY In ("DE")\n  AND Name Starts With "A"', "Ada"),
        ("country is empty", "Di"),
        ('country != "DE"', "Cy Di"),  # who has no country is not in Germany
        ('country not in ("DE", "FR")', "Di"),
        ('plan = "gold"', "Bo Cy"),
        ("plan is not empty", "Bo Cy"),
        ('`Plan` = "gold"', "Bo"),
        ("score < 10", "Ada"),
        ('score < "10"', ""),
        ('score = "9.0"', ""),
        ("score = 9.0", "Ada"),
        ("not score < 10", "Bo Cy Di"),
        ('name = "Bo "', "Bo"),
        ("name = 'Ada'", "Ada"),
        ('created_at = "2026-01-31"', "Ada"),
        ('created_at <= "2026-01-31"', "Ada"),
        ('created_at starts with "2026-02"', "Bo Cy Di"),
        ('name = "Ada" or `name` = "other"', "Ada Bo"),  # a contact's field wins over a column of its name
    ],
)
def test_a_filter_means_what_people_expect(ledger: Engine, where: str, names: str):
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO contacts (phone, name, country, attributes, created_at) VALUES
                ('+1', 'Ada', 'DE', '{"Score": "9"}', '2026-02-01 00:30+01:00'),
                ('+2', 'Bo', 'DE', '{"Plan": "gold", "Score": "10", "name": "other"}', '2026-02-01Z'),
                ('+3', 'Cy', 'FR', '{"plan": " gold", "Score": "many"}', '2026-02-02Z'),
                ('+4', 'Di', NULL, '{"plan": " "}', '2026-02-03Z')
            """)
        )
    condition = filters.condition(filters.parse(where), ["Score", "Plan", "plan", "name"])
    with ledger.begin() as connection:
        found = connection.execute(select(contacts.c.name).where(condition).order_by("id")).scalars()
        assert " ".join(found) == names


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("", "position 1: expected a field such as country, found the end"),
        ("country", "position 8: expected = != < <= > >=, in, contains"),
        ("country =", 'position 10: expected text in quotes, as in "pro", or a number, found the end'),
        ("country = DE", "position 11: expected text in quotes, as in \"pro\", or a number, found 'DE'"),
        ("country == 'DE'", "position 10: expected text in quotes"),
        ("country like 'D%'", "position 9: expected = !="),
        ("born > 2026-01-31", "position 8: expected text in quotes"),
        ("country = 'DE", "position 11: the quote ' is not closed"),
        ("`Plan Type = 'x'", "position 1: the quote ` is not closed"),
        ("country = \u201cDE\u201d", "position 11: \u201c is no quote here: write a straight one"),
        (
            "Plan-Type = 'x'",
            "position 1: expected a field such as country, or a column's own name in backquotes",
        ),
        ("country = 'DE' plan = 'x'", "position 16: expected and, or or the end, found 'plan'"),
        ("country = 'DE' and", "position 19: expected a field"),
        ("(country = 'DE'", "position 16: expected and, or or ), found the end"),
        ("country = 'DE')", "position 15: expected and, or or the end, found ')'"),
        ("country in ()", "position 13: expected text in quotes"),
        ("country in 'DE'", "position 12: expected ( as in"),
        ("country in ('DE' 'FR')", "position 18: expected , or ), found text"),
        ("country not = 'DE'", "position 13: expected in, contains, starts with or ends with"),
        ("country starts 'D'", "position 16: expected with"),
        ("country starts with 4", "position 21: expected text in quotes, as in \"pro\", found '4'"),
        ("country is null", "position 12: expected empty"),
        ("country = ' '", "position 11: expected some text; for none there is `is empty`"),
        ("country ! 'DE'", "position 9: '!' cannot stand here"),
        ("country = 'D\0E'", "position 13: '\\x00' cannot stand here"),
        ("country = 'D\ud800'", "position 13: '\\ud800' cannot stand here"),
        ("(" * 4000 + "a = 1" + ")" * 4000, "filter: position 22: brackets and nots stand more than 20 deep"),
        ("not " * 2000 + "a = 1", "brackets and nots stand more than 20 deep"),
        ("a = 1 or " * 2000 + "a = 1", "is longer than 10,000 characters"),
        ("email = ada@example.org", 'expected text in quotes, as in "pro", or a number, found text'),
    ],
    ids=lambda value: value[:20].encode("unicode_escape").decode(),
)
def test_a_mistake_is_named_with_its_place(where: str, sentence: str):
    with pytest.raises(InputError) as raised:
        filters.parse(where)

    assert sentence in str(raised.value)


def test_what_nobody_has_is_refused_with_what_it_may_have_meant():
    with pytest.raises(
        InputError, match=r"no contact has 'cuontry'; did you mean 'country'\? Known fields: "
    ):
        filters.condition(filters.parse('cuontry != "DE"'), [])
    with pytest.raises(InputError, match=r"no contact has 'Plan'; did you mean 'plan_type'\?"):
        filters.check_fields(filters.parse("`Plan` is empty"), ["Plan Type"])
    with pytest.raises(InputError, match=r"no contact has 'city', 'zip'\. Known fields: consent_at, "):
        filters.check_fields(filters.parse("city is empty or zip = 1 or name is empty"), [])
    filters.check_fields(filters.parse("plan_type is empty and `Plan Type` is empty"), ["Plan Type"])


def test_the_deepest_and_longest_filters_still_run(ledger: Engine, people: dict[int, Contact]):
    deepest = "not (" * 10 + 'name = "pro"' + ")" * 10
    longest = " or ".join(['name = "pro"'] * 600)

    pros = {n for n, contact in people.items() if (contact.get("field name") or "").strip(BLANK) == "pro"}
    assert chosen(ledger, deepest) == chosen(ledger, longest) == pros
