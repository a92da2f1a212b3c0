"""Templates: what they may hold, which fields they use, and the text made from HTML."""

import time
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from messaging.campaign.expressions import FILTERS, TESTS, MissingField
from messaging.campaign.merge_fields import MergeFields, Values
from messaging.campaign.pieces import TooLong
from messaging.campaign.templates import Templates, check_fields, compile_templates
from messaging.errors import InputError
from messaging.fields import field_name
from schemas.campaign import CampaignSpec


def templates(**parts: str) -> Templates:
    values = {"subject": "Hello"} | parts
    return compile_templates(
        CampaignSpec(name="spring", account="smtp-account/demo", audience="customers", **values)
    )


def rendered(used: Templates, **fields: str) -> str:
    return used.text.pieces(used.places.found(Values(fields, {})), 1_000_000).joined()


def text_of(html: str, **fields: str) -> str:
    return rendered(templates(html=html), **fields)


def problem_with(**parts: str) -> str:
    with pytest.raises(InputError) as refused:
        templates(**parts)
    return str(refused.value)


@pytest.mark.parametrize(
    "payload",
    [
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ ''|attr('__class__') }}",
        "{{ name.__class__.__mro__[1].__subclasses__() }}",
        "{{ contact.__init__ }}",
        "{{ contact['x'].__class__ }}",
        "{{ contact['x']['__class__'] }}",
        "{{ contact[name] }}",
        "{{ contact }}",
        "{{ contact.items() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ joiner.__init__ }}",
        "{{ lipsum.__globals__ }}",
        "{{ namespace() }}",
        "{{ self }}",
        "{{ self._TemplateReference__context }}",
        "{{ super() }}",
        "{{ dict(a=1) }}",
        "{{ {'a': 1} }}",
        "{{ range(10**9)|list }}",
        "{% for x in range(10**9) %}{{ x }}{% endfor %}",
        "{% for x in name %}{{ x }}{% endfor %}",
        "{{ 10**10 }}",
        "{{ 9**9**9 }}",
        "{{ 'x' * 10**9 }}",
        "{{ name * 1000000 }}",
        "{{ 'a' ~ 'b' }}",
        "{{ '%1000000000s'|format(name) }}",
        "{{ '%1000000000s' % name }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ name|center(1000000000) }}",
        "{{ name|replace('', 'aaaaaaaa') }}",
        "{{ name|safe }}",
        "{{ name|map('upper') }}",
        "{{ [1]|join(name) }}",
        "{{ name|default(*[1]) }}",
        "{{ name|default(**contact) }}",
        "{{ name is divisibleby 3 }}",
        "{{ 'x' if name }}",
        "{% set x = 1 %}",
        "{% set x %}{{ name }}{% endset %}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% from 'os' import path %}",
        "{% extends 'base.html' %}",
        "{% block x %}{% endblock %}",
        "{% macro x() %}{{ x() }}{% endmacro %}",
        "{% call x() %}{% endcall %}",
        "{% filter upper %}x{% endfilter %}",
        "{% with x = 1 %}{% endwith %}",
        "{% autoescape false %}{{ name }}{% endautoescape %}",
        "{% do name %}",
        "{% debug %}",
        "{{ " + "(" * 2000 + "1" + ")" * 2000 + " }}",
        "{{ " + "not " * 5000 + "name }}",
        "{{ " + "name and " * 5000 + "name }}",
        "{{ name" + "|upper" * 5000 + " }}",
        "{{ " + "9" * 5000 + " }}",
        "{% if name %}" * 500 + "{% endif %}" * 500,
        "{% if name %}" + "{% if name|title == 'x' %}{% endif %}" * 501 + "{% endif %}",
        "{{ [name, name, name] }}",
        "{{ (name, name) }}",
        "{{ name, name }}",
        "{{ name|default([name, name]) }}",
        "{{ name in [[name]] }}",
        "{{ name",
        "{% if name %}",
    ],
)
@pytest.mark.parametrize("part", ["html", "text"])
def test_a_hostile_or_broken_template_is_refused_before_anything_is_sent(part: str, payload: str):
    assert problem_with(**{part: "Hi " + payload}).startswith(f"{part}: ")


@pytest.mark.parametrize(
    "payload",
    [  # after "Server Side Template Injection" in swisskyrepo/PayloadsAllTheThings
        "{{4*4}}[[5*5]]",
        "{{7*'7'}}",
        "{{config}}",
        "{{config.items()}}",
        "{{ [].class.base.subclasses() }}",
        "{{''.class.mro()[1].subclasses()}}",
        "{{ ''.__class__.__mro__[2].__subclasses__() }}",
        "{% for key, value in config.iteritems() %}<dt>{{ key|e }}</dt>{% endfor %}",
        "{{settings.SECRET_KEY}}",
        "{% debug %}",
        "{{ ''.__class__.__mro__[2].__subclasses__()[40]('/etc/passwd').read() }}",
        "{{ config.items()[4][1].__class__.__mro__[2].__subclasses__()[40]('/tmp/flag').read() }}",
        "{{ get_flashed_messages.__globals__.__builtins__.open('/etc/passwd').read() }}",
        "{{ self._TemplateReference__context.cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ self._TemplateReference__context.joiner.__init__.__globals__.os.popen('id').read() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ joiner.__init__.__globals__.os.popen('id').read() }}",
        "{{ namespace.__init__.__globals__.os.popen('id').read() }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ url_for.__globals__.os.popen('id').read() }}",
        "{{ x.__init__.__builtins__.exec('import os') }}",
        "{{ request.application.__globals__.__builtins__.__import__('os').popen('id').read() }}",
        "{{ request['application']['\\x5f\\x5fglobals\\x5f\\x5f'] }}",
        "{{ request|attr('application')|attr('\\x5f\\x5fglobals\\x5f\\x5f') }}",
        "{{ request|attr(['_'*2,'class','_'*2]|join) }}",
        "{{ request|attr(request.args.param) }}",
        "{{ request|attr([request.args.usc*2,request.args.class,request.args.usc*2]|join) }}",
        "{{ request|attr('%s%sclass%s%s'|format('_','_','_','_')) }}",
        "{% with a = request['application']['\\x5f\\x5fglobals\\x5f\\x5f'] %}{{ a }}{% endwith %}",
        "{{ ()|select|string|list }}",
        "{{ (lipsum|string|list)[18] }}",
        "{% set chr = x.__init__.__globals__.__builtins__.chr %}",
        "{% print(''.__class__) %}",
        "{{ ''.__class__.__base__.__subclasses__()[227]('cat /etc/passwd', shell=True, stdout=-1) }}",
        "{{ config.from_pyfile('/tmp/owned.cfg') }}",
        "{{ config['RUNCMD']('id', shell=True) }}",
        "{{ dict(__class__=1)|first }}",
        "{{ ''|attr(dict(__clas=1,s__=2)|join) }}",
        "${7*7}{{ 7|abs }}",
    ],
)
@pytest.mark.parametrize("part", ["subject", "html", "text"])
def test_what_reaches_for_the_server_is_refused(part: str, payload: str):
    with pytest.raises(InputError):
        check_fields(templates(**{"text": "x", part: payload}), ["City"])


def test_a_list_may_stand_after_in():
    source = "{{ plan in ['Gold', city] }} {{ plan not in ('Gold',) }} {{ plan is in ['Free'] }}"

    assert rendered(templates(text=source), plan="Free", city="Free") == "True True True"


def test_a_mistake_is_named_with_part_and_line():
    assert problem_with(text="x", subject="Hi {{ name }") == "subject: line 1: unexpected '}'"
    assert problem_with(html="<p>\n<p>{{ name.x }}").startswith("html: line 2: a dot cannot be used")


@pytest.mark.parametrize("written", ["{{ First Name }}", "{{ First-Name }}"])
def test_a_column_with_spaces_gets_a_hint(written: str):
    assert "{{ first_name }}" in problem_with(text=written)


def test_rounding_is_bounded():
    text = templates(text="{{ price|round(2) }} {{ 1|round(999999999) }}")

    assert rendered(text, price="3.14159") == "3.14 1.0"


def test_conditions_filters_and_comparisons_work():
    source = (
        '{% if plan in ["Gold", "Silver"] and not trial %}{{ plan|upper }}{% elif plan == "Free" %}free'
        '{% else %}{{ plan | default("none") }}{% endif %} {{ city|truncate(3, true, "") if city else "?" }}'
    )
    text = templates(text=source)

    assert rendered(text, plan="Gold", city="Liverpool") == "GOLD Liv"
    assert rendered(text, plan="Free") == "free ?"
    assert rendered(text) == "none ?"


def test_the_fields_of_all_parts_are_known():
    used = templates(subject="{{ name }}", html="<p>{{ city }}", text='{{ contact["First Name"] }}{{ plan }}')

    assert used.fields == {"name", "city", "plan"}
    assert used.columns == {"First Name"}


def test_known_fields_pass_under_both_names():
    used = templates(text='{{ name }}{{ unsubscribe_url }}{{ first_name }}{{ contact["First Name"] }}')

    check_fields(used, {"First Name": 12})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ citty }}", "unknown merge field 'citty'; did you mean 'city'? Known fields: city, email,"),
        ('{{ contact["city"] }}', "unknown merge field 'city'; did you mean 'city'?"),
        ("{{ zzz }}{{ qqq }}", "unknown merge fields 'qqq', 'zzz'. Known fields:"),
        ("{{ lipsum }}", "unknown merge field 'lipsum'"),
    ],
)
def test_an_unknown_field_is_named_with_what_was_meant(source: str, expected: str):
    with pytest.raises(InputError) as refused:
        check_fields(templates(text=source), ["City"])

    assert expected in str(refused.value)


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ("First Name", "first_name"),
        ("E-mail", "e_mail"),
        ("Prénom", "prenom"),
        ("Straße", "strasse"),
        ("2nd line", "_2nd_line"),
        ("  Ünïts / month ", "units_month"),
        ("客户", "客户"),
        ("한국", "한국"),
        ("%", "_"),
    ],
)
def test_a_column_becomes_an_identifier(column: str, field: str):
    assert field_name(column) == field


@given(st.text(max_size=30))
@settings(max_examples=100, deadline=None)
def test_a_field_name_stays_what_it_is(column: str):
    assert field_name(field_name(column)) == field_name(column)


def test_empty_values_are_left_out_and_standard_fields_win():
    fields = MergeFields({"name", "email", "phone", "city", "plan"}, ["Name", "City", "Plan", "Other"])
    attributes = {"Name": "x", "Email": "y", "City": " ", "Plan": "Gold", "PLAN": "", "Notes": "z"}

    values = fields.values(" ", "ada@example.org", None, "u", attributes)

    assert values.fields == {"email": "ada@example.org", "unsubscribe_url": "u", "plan": "Gold"}
    assert values.columns == {"Name": "x", "Plan": "Gold"}


def test_of_columns_with_one_field_name_the_last_one_with_a_value_counts():
    fields = MergeFields({"first_name"}, [])

    values = fields.values(None, "", None, "", {"First Name": "a", "first-name": "b", "First name": ""})

    assert values.fields["first_name"] == "b"


def test_ever_new_columns_do_not_fill_the_memory():
    fields = MergeFields({"city"}, [])

    for number in range(10_000):
        assert fields.values(None, "", None, "", {f"c{number}": "x", "City": "y"}).fields["city"] == "y"

    assert len(fields._field_of) <= 4096  # noqa: SLF001 - what else grows cannot be seen


def test_a_contact_without_a_value_gets_the_default():
    text = templates(text='{{ name | default("there") }} {{ contact["items"] | default("none") }}')

    assert rendered(text) == "there none"


TEXTS = st.text(st.sampled_from("ab <&>\"'\n\r\t é\u2028"), max_size=30)
FIELDS = st.sampled_from(["name", "city", "size", 'contact["My City"]', 'contact["city"]'])
STRINGS = st.sampled_from(["''", "'Leeds'", "'<b> & \\'x\\''", '"a\\nb"', "'é\\r'", "'12'"])
CONSTANTS = STRINGS | st.sampled_from(["none", "true", "1", "2.5", "'2.5'", "1000"])
COMPARISONS = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in"])
ARGUMENTS = st.sampled_from(
    [
        *("", "()", "('x')", "(none)", "(true)", "(2)", "(name)", "(2, true)", "('a', '')", "(city, size)"),
        *("(default_value=city)", "(length=3, end='')", "('x', boolean=true)", "(nonsense=1)"),
    ]
)


def wider(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Make expressions of expressions: everything that the allow-list takes."""
    members = st.lists(inner, max_size=3)
    lists = st.one_of(
        members.map(lambda items: f"[{', '.join(items)}]"),
        members.map(lambda items: f"({''.join(f'{item}, ' for item in items)})"),
    )
    return st.one_of(
        st.builds("{}|{}{}".format, inner, st.sampled_from(sorted(FILTERS)), ARGUMENTS),
        st.builds("({} {} {})".format, inner, COMPARISONS, inner),
        st.builds("({} < {} {} {})".format, inner, inner, COMPARISONS, inner),
        st.builds("({} {} {})".format, inner, st.sampled_from(["in", "not in", "is in"]), lists),
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner),
        st.builds("(not {})".format, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds(
            "({} is {})".format, inner, st.sampled_from(["defined", "not defined", "undefined", "none"])
        ),
        st.builds("({} is {} {})".format, inner, st.sampled_from(["eq", "ne", "equalto", "in"]), inner),
    )


EXPRESSIONS = st.recursive(FIELDS | CONSTANTS, wider, max_leaves=5)
LEAVES = st.one_of(
    *(TEXTS, st.builds("{{{{ {} }}}}".format, EXPRESSIONS), st.builds("{{{{- {} -}}}}".format, EXPRESSIONS)),
    *(st.builds("{{{{ {} | d('x') }}}}".format, FIELDS), st.just("{{ name }}")),
    st.builds("{{% if {} %}}{}{{% else %}}{}{{% endif %}}".format, FIELDS, TEXTS, st.just("{{ name }}")),
    *(st.just("{# note #}"), st.just("{% raw %}{{{% endraw %}")),
)


def conditional(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, max_size=4).map("".join)
    branches = st.lists(st.builds("{{% elif {} %}}{}".format, EXPRESSIONS, several), max_size=2).map("".join)
    ends = st.just("") | several.map("{{% else %}}{}".format)
    return several | st.builds(
        "{{% if {} %}}{}{}{}{{% endif %}}".format, EXPRESSIONS, several, branches, ends
    )


SOURCES = st.recursive(LEAVES, conditional, max_leaves=8)
FOUND = st.one_of(
    *(st.none(), st.text(min_size=1).filter(str.strip), TEXTS.filter(str.strip)),
    st.sampled_from(["<b>", "&amp;", "'\"", "é\r\n", "Leeds", "12", "2.5", "o'brien (x)-y"]),
)


class Jinja(ImmutableSandboxedEnvironment):
    """The same language, compiled and run by Jinja2."""

    def __init__(self, *, autoescape: bool) -> None:
        super().__init__(autoescape=autoescape, undefined=MissingField)
        self.filters, self.tests = dict(FILTERS), dict(TESTS)

    def getitem(self, obj: dict[str, str], argument: str) -> object:
        return obj[argument] if argument in obj else self.undefined(name=argument)


JINJA = {"html": Jinja(autoescape=True), "text": Jinja(autoescape=False)}


@given(source=SOURCES, values=st.tuples(FOUND, FOUND, FOUND, FOUND))
@settings(max_examples=400, deadline=None)
def test_without_jinja2_the_text_or_the_error_is_the_same(source: str, values: tuple[str | None, ...]):
    fields = {name: value for name, value in zip(("name", "city", "size"), values, strict=False) if value}
    columns = {"My City": values[3]} if values[3] else {}
    for part, jinja in JINJA.items():
        used = templates(**{"text": "x", part: f"x{source}."})
        run = partial(getattr(used, part).pieces, used.places.found(Values(fields, columns)))
        usual = partial(jinja.from_string(f"x{source}.").generate, fields, contact=columns)

        text, problem = outcome(lambda run=run: run(1_000_000).joined())

        assert (text, problem) == outcome(lambda usual=usual: "".join(usual()))
        if not problem:
            assert run(len(text)).joined() == text
            assert {type(value) for value in run(len(text)).values} <= {str}  # Markup escapes its neighbours
            with pytest.raises(TooLong):
                run(len(text) - 1)


def outcome(make: Callable[[], str]) -> tuple[str, str]:
    """Return a text, or what became of it: the field without a value, or the kind of error."""
    try:
        return make(), ""
    except UndefinedError as error:
        return "", f"no {error.message}"
    except Exception as error:  # noqa: BLE001 - whatever a filter or an operator raises
        return "", type(error).__name__


def test_what_follows_many_branches_is_not_made_for_each():
    source = "".join(f"{{% if name == '{number}' %}}a{{% else %}}b{{% endif %}}" for number in range(150))

    text = rendered(templates(text=source + "{{ city }}"), name="7", city="é")

    assert text == "b" * 7 + "a" + "b" * 142 + "é"


def test_conditions_may_stand_in_conditions_but_not_too_deeply():
    nested = "{% if name %}" * 90 + "x" + "{% endif %}" * 90

    assert rendered(templates(text=nested), name="Ada") == "x"
    assert "nested too deeply" in problem_with(text="{% if name %}" * 101 + "{% endif %}" * 101)
    assert "nested too deeply" in problem_with(text="{{ " + "name and " * 101 + "name }}")


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ('<p>Hi {{ name | default("there &quot;you&quot;") }},</p>', "Hi there &quot;you&quot;,"),
        ("<p>Hi {{ name|default('a  <b>  c') }}</p>", "Hi a  <b>  c"),
        ('<a href="{{ url | default("https://x.example/?a=1&amp;b=2") }}">Go</a>', "[Go](https://x.example/?a=1&amp;b=2)"),
        ('<a href="https://x.example/?c={{ code }}&amp;d=1">Go &amp; see</a>', "[Go & see](https://x.example/?c=A&B&d=1)"),
        ('<a href="{{ code }}">{{ code }}</a>', "[A&B](A&B)"),
        ('<a href="https://x.example">https://x.example</a>', "https://x.example"),
        ("<p>one</p>{% if vip %}<p>VIP</p>{% endif %}<p>two</p>", "one\n\ntwo"),
        ("<table>{% if vip %}<tr><td>VIP</td></tr>{% endif %}<tr><td>all</td></tr></table>", "all"),
        ("<ul><li>a</li>{% if code %}<li>{{ code }}</li>{% else %}b{% endif %}</ul>", "* a\n  * A&B"),
        ("<p>a</p><!-- {% if vip %} --><p>VIP</p><!-- {% endif %} -->", "a"),
        ("<p {% if vip %}class='x'{% endif %} style=\"color: {{ code }}\">a</p>", "a"),
        ("<style>p > a {}</style><title>t</title><script>x</script>{# note #}<p>a", "a"),
        ("<p>{% raw %}{{ not a field }}{% endraw %}</p>", "{{ not a field }}"),
        ("<p>&#123;&#123; name }} &#123;% x %}</p>", "{{ name }} {% x %}"),
        ("<p>{% if 1 < 2 %}a &lt; b{% endif %}</p>", "a < b"),
        ("<table><tr><td><p>one</p></td><td>two</td></tr></table>", "one\n\ntwo"),
        ("<p>Café \ue0000\ue001 \U0001f600 {{ code }}</p>", "Café 0 😀 A&B"),
        ('<?xml version="1.0" encoding="latin-1"?><meta charset="latin-1"><p>é', "é"),
        ("plain words", "plain words"),
        ("<p>{{ code }}</p>", "A&B"),
    ],
)  # fmt: skip
def test_the_text_says_what_the_html_says(html: str, expected: str):
    lines = text_of(html, code="A&B").splitlines()

    assert "\n".join(line.strip() if len(lines) == 1 else line.rstrip() for line in lines).strip() == expected


@pytest.mark.parametrize(
    "html",
    [
        "<!-- {% if vip %} x --><p>VIP</p><!-- {% endif %} -->",
        "<title>{% if vip %}</title><p>VIP</p>{% endif %}",
        "<title>{% if vip %}a{% else %}</title><p>VIP</p>{% endif %}",
    ],
)
def test_a_condition_that_the_text_would_lose_is_refused(html: str):
    assert "text: cannot be made" in problem_with(html=html)


@pytest.mark.parametrize("html", ["<img src=x>", "<!-- a -->", " ", "<p>{% if x %}{% endif %}</p>"])
def test_html_without_words_needs_a_text_part(html: str):
    assert "give the campaign a text part" in problem_with(html=html)


@pytest.mark.parametrize("html", ["<div>" * 200 + "x", "<pre>x" + " " * 190_000 + "x", "[" * 190_000])
def test_odd_html_does_not_take_long(html: str):
    started = time.process_time()

    assert text_of(html)

    assert time.process_time() - started < 2  # a quadratic pattern takes a minute
