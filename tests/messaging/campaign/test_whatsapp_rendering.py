"""Rendering for WhatsApp: whatever the values, the message object is the one that was meant."""

import json
import re
from collections.abc import Mapping
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2 import ChainableUndefined
from jinja2.sandbox import SandboxedEnvironment

from messaging.campaign.rendering import Letterhead, Recipient, RenderError
from messaging.campaign.templates import check_fields, compile_templates
from messaging.campaign.whatsapp_rendering import WhatsAppRenderer
from messaging.errors import InputError
from messaging.fields import field_name
from messaging.tokens import LinkKey, Purpose, sign
from schemas.campaign import CampaignSpec

TOKEN = UUID("0190a3c4-5b6d-7e8f-9012-3456789abcde")
URL = "https://shop.example.org"
KEY = LinkKey(1, b"k" * 32)
LINK = f"{URL}/u/{sign(KEY, Purpose.UNSUBSCRIBE, TOKEN.bytes)}"
CLOUD, WEB = "whatsapp-cloud-account/main", "whatsapp-web-account/main"
NUMBER = "+447400000001"


def spec(**changes: object) -> CampaignSpec:
    values = {"name": "spring", "channel": "whatsapp", "account": CLOUD, "audience": "customers"}
    return CampaignSpec(**(values | {"text": "Hello"} | changes))


def renderer(account: str = CLOUD, **changes: object) -> WhatsAppRenderer:
    return WhatsAppRenderer(spec(account=account, **changes), account, Letterhead("+15550000001", KEY), URL)


def with_template(**parts: object) -> WhatsAppRenderer:
    text = {"text": parts.pop("text")} if "text" in parts else {}
    return renderer(template={"name": "spring_offer", "language": "en_GB", **parts}, **text)


def recipient(**changes: object) -> Recipient:
    values = {"token": TOKEN, "address": NUMBER, "name": "Ada", "phone": None, "attributes": {}}
    return Recipient(**(values | changes))


def message(made: WhatsAppRenderer, **changes: object) -> dict:
    return json.loads(made.render(recipient(**changes)).content)


def components(made: WhatsAppRenderer, **values: str) -> list[dict]:
    return message(made, attributes=values)["template"]["components"]


def problem(made: WhatsAppRenderer, **changes: object) -> str:
    with pytest.raises(RenderError) as refused:
        made.render(recipient(**changes))
    return str(refused.value)


def refusal(**parts: object) -> str:
    with pytest.raises(InputError) as refused:
        with_template(**parts)
    return str(refused.value)


def test_an_approved_template_is_named_in_its_language_and_gets_its_parameters():
    made = with_template(
        header="{{ name }}",
        body={"1": "{{ name }}", "2": "{{ city | upper }} <b>"},
        buttons=["offers?c={{ coupon }}"],
    )

    assert message(made, attributes={"City": "Zürich", "Coupon": "A&1"}) == {
        "type": "template",
        "template": {
            "name": "spring_offer",
            "language": {"code": "en_GB"},
            "components": [
                {"type": "header", "parameters": [{"type": "text", "text": "Ada"}]},
                {
                    "type": "body",
                    "parameters": [{"type": "text", "text": "Ada"}, {"type": "text", "text": "ZÜRICH <b>"}],
                },
                {
                    "type": "button",
                    "sub_type": "url",
                    "index": "0",
                    "parameters": [{"type": "text", "text": "offers?c=A&1"}],
                },
            ],
        },
    }


def test_a_template_without_parameters_is_its_name_and_language():
    assert message(with_template()) == {
        "type": "template",
        "template": {"name": "spring_offer", "language": {"code": "en_GB"}},
    }


def test_ten_numbered_parameters_go_in_the_order_of_their_numbers():
    body = {str(number): f"value {number}" for number in (10, 2, 9, 1, 3, 8, 4, 7, 5, 6)}

    [sent] = components(with_template(body=body))

    assert [parameter["text"] for parameter in sent["parameters"]] == [f"value {n}" for n in range(1, 11)]


def test_named_parameters_carry_their_names():
    sent = components(
        with_template(header="sale: {{ city }}", body={"first_name": "{{ name }}"}), City="York"
    )

    assert [component["parameters"] for component in sent] == [
        [{"type": "text", "parameter_name": "sale", "text": "York"}],
        [{"type": "text", "parameter_name": "first_name", "text": "Ada"}],
    ]


@pytest.mark.parametrize(
    ("header", "kind", "link"),
    [
        ("https://x.example/a.jpg", "image", "https://x.example/a.jpg"),
        ("https://x.example/{{ city }}.PNG?v=1.pdf", "image", "https://x.example/York.PNG?v=1.pdf"),
        ("https://x.example/{{ city }}.mp4#t", "video", "https://x.example/York.mp4#t"),
        ("image: https://x.example/{{ city }}", "image", "https://x.example/York"),
        ("video:{{ contact['Film'] }}", "video", "https://x.example/f"),
    ],
)
def test_a_header_may_be_the_link_of_a_picture_or_a_film(header: str, kind: str, link: str):
    [sent] = components(with_template(header=header), City="York", Film="https://x.example/f")

    assert sent == {"type": "header", "parameters": [{"type": kind, kind: {"link": link}}]}


@pytest.mark.parametrize(
    ("link", "name"),
    [
        ("https://x.example/in/{{ city }}.pdf?key=1/2", "York.pdf"),
        ("document: https://x.example/price%20list.xls", "price list.xls"),
        ("document: https://x.example", "document"),
        ("document: https://x.example/a%0Ab", "document"),
    ],
)
def test_a_document_goes_by_the_name_that_its_link_ends_in(link: str, name: str):
    [sent] = components(with_template(header=link), City="York")

    assert sent["parameters"][0]["document"]["filename"] == name


def test_a_button_without_a_value_is_left_out_and_the_others_keep_their_places():
    sent = components(with_template(buttons=["", "a/{{ city }}", "copy_code: {{ city }}"]), City="York")

    assert sent == [
        {
            "type": "button",
            "sub_type": "url",
            "index": "1",
            "parameters": [{"type": "text", "text": "a/York"}],
        },
        {
            "type": "button",
            "sub_type": "copy_code",
            "index": "2",
            "parameters": [{"type": "coupon_code", "coupon_code": "York"}],
        },
    ]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"header": "https://x.example/{{ city }}"}, "template header: the link does not end in .jpg"),
        ({"header": "https://x.example/a.gif"}, "template header: the link does not end in .jpg"),
        ({"header": "{{ city }}", "body": {"city": "{{ city }}"}}, "write the header's too, as in sale:"),
        ({"name": "", "body": {"1": "{{ city }}"}}, "template: has parameters but no name"),
        ({"body": {"1": "{{ city"}}, "template body 1: line 1:"),
        ({"body": {"city": "{{ city.name }}"}}, "template body city: line 1: a dot cannot be used"),
        ({"buttons": ["", "{% for x in y %}{% endfor %}"]}, "template button 2: line 1: a loop"),
        ({"header": "{{ city | safe }}"}, "template header: line 1: the filter safe"),
        ({"body": {"1": "{{ name }}\nof {{ city }}"}}, "template body 1: has a line end"),
        (
            {"body": {"1": "{{ name }}     {{ city }}"}},
            "template body 1: has a line end, a tab or more than four",
        ),
        ({"buttons": ["a b"]}, "template button 1: has a space"),
    ],
)
def test_a_template_that_cannot_be_sent_is_refused_before_anybody_is_written_to(parts: dict, expected: str):
    assert expected in refusal(**parts)


@pytest.mark.parametrize("part", ["header", "body", "buttons"])
def test_a_merge_field_that_nobody_has_is_refused_wherever_it_stands(part: str):
    value = {"header": "{{ citty }}", "body": {"1": "{{ citty }}"}, "buttons": ["x/{{ citty }}"]}[part]
    templates = compile_templates(spec(template={"name": "spring_offer", part: value}))

    with pytest.raises(InputError, match="unknown merge field 'citty'; did you mean 'city'"):
        check_fields(templates, ["City"])


@pytest.mark.parametrize("bad", ["", " \n", "a\nb", "a\rb", "a\tb", "a\u2028b", "a     b", "x" * 32_769])
def test_a_value_that_no_parameter_takes_is_refused_alone(bad: str):
    made = with_template(body={"1": "{{ city | d('') }}"})

    said = problem(made, attributes={"City": bad})

    assert said.startswith("template body 1: ")
    assert message(made, attributes={"City": "a    b"})["template"]["components"]


@pytest.mark.parametrize(
    ("parts", "most"),
    [
        ({"header": "{{ city }}"}, 60),
        ({"body": {"1": "{{ city }}"}}, 32_768),
        ({"body": {"1": "{{ city }}"}, "buttons": ["x"]}, 1_024),
        ({"buttons": ["{{ city }}"]}, 2_000),
    ],
)
def test_a_parameter_is_as_long_as_meta_allows_and_no_longer(parts: dict, most: int):
    made = with_template(**parts)

    assert components(made, City="x" * most)
    assert problem(made, attributes={"City": "x" * (most + 1)}).endswith(
        f"is longer than {most:,} characters"
    )


@pytest.mark.parametrize(
    "bad", ["York", "http://x.example/a", "https://", "https://x.example/a b", "https:///a"]
)
def test_media_without_an_https_link_is_refused_alone(bad: str):
    for kind in ("image", "video", "document"):
        made = with_template(header=f"{kind}: {{{{ city }}}}")
        assert problem(made, attributes={"City": bad}) == "template header: is no https link"


def test_a_link_in_a_text_parameter_stays_a_text():
    [sent] = components(with_template(header="{{ city }}"), City="https://x.example/a.jpg")

    assert sent["parameters"] == [{"type": "text", "text": "https://x.example/a.jpg"}]


def test_a_missing_value_names_the_parameter_and_the_field_and_no_value():
    made = with_template(body={"1": "{{ name }}", "2": "{{ city }}"})

    assert problem(made) == "template body 2: no value for merge field 'city'"


@pytest.mark.parametrize(
    "address", ["", "447400000001", "+0740000", "+4474", "+" + "1" * 16, "+44 7400", "+٤٤٧٤٠٠٠٠٠٠٠١"]
)
def test_whoever_has_no_number_in_e164_is_refused_alone(address: str):
    for made in (with_template(), renderer(), renderer(WEB)):
        said = problem(made, address=address)
        assert "E.164" in said
        assert not address or address not in said


def test_groups_are_written_to_over_whatsapp_web_alone():
    group = "120363000000000001@g.us"

    assert message(renderer(WEB), address=group)["type"] == "text"
    assert "E.164" in problem(renderer(CLOUD), address=group)


def test_whatsapp_web_gets_the_text_and_the_cloud_api_the_template():
    template = {"name": "spring_offer"}

    assert message(renderer(WEB, template=template)) == {"type": "text", "text": {"body": "Hello"}}
    assert message(renderer(CLOUD))["type"] == "text"
    assert message(renderer(CLOUD, template=template))["type"] == "template"


def test_a_campaign_of_a_template_alone_needs_no_text():
    made = with_template(text="", body={"1": "{{ name }}"})

    assert message(made)["type"] == "template"


def test_a_text_with_a_link_asks_for_its_preview():
    with_link = message(renderer(text="See {{ unsubscribe_url }}"))

    assert with_link["text"] == {"body": f"See {LINK}", "preview_url": True}
    assert message(renderer(text="See example.org, https:// is safer"))["text"].keys() == {"body"}


@pytest.mark.parametrize("bad", ["", " \n\n ", "x" * 4_097])
def test_a_text_that_is_empty_or_too_long_is_refused_alone(bad: str):
    made = renderer(text="{{ notes | d('') }}")

    assert problem(made, attributes={"Notes": bad}).startswith("text: is ")
    assert message(made, attributes={"Notes": "é" * 4_096})["text"]["body"] == "é" * 4_096


def test_the_contacts_own_address_and_number_are_known():
    made = renderer(text="{{ email }} {{ phone }}")

    assert message(made, email="ada@example.org")["text"]["body"] == f"ada@example.org {NUMBER}"
    assert problem(made) == "text: no value for merge field 'email'"


def test_a_message_is_the_same_for_every_try_and_has_no_message_id():
    made = with_template(body={"1": "{{ name }}"})

    first, second = made.render(recipient()), made.render(recipient())

    assert first == second
    assert first.message_id == ""
    assert first.envelope_sender == "+15550000001"


SOURCES = {
    "header": "{{ city | d('-') }}",
    "first": "Dear {{ name | d('friend') }}",
    "second": '{% if notes %}{{ notes }}{% else %}"none"{% endif %} \\ {{ contact["City"] | d("?") }}',
    "button": "c/{{ city | d('x') }}?t={{ name | d('') }}",
    "text": "{{ name | d('') }} {{ notes | d('') }}\n\"{{ city | d('') }}\" {{ unsubscribe_url }}",
}
TEMPLATE = {
    "name": "spring_offer",
    "header": SOURCES["header"],
    "body": {"1": SOURCES["first"], "2": SOURCES["second"]},
    "buttons": ["", SOURCES["button"]],
}
BY_TEMPLATE = renderer(text=SOURCES["text"], template=TEMPLATE)
BY_TEXT = renderer(WEB, text=SOURCES["text"], template=TEMPLATE)
VALUES = st.one_of(
    st.text(st.characters(), max_size=80),  # lone surrogates too
    st.text(st.characters(max_codepoint=0x2F), max_size=20),
    st.text(st.sampled_from(' \t\n"\\{}[],:/u0ax'), max_size=60),
    st.sampled_from(
        [
            '"}]}}',
            '","type":"image',
            "\\",
            '\\"',
            "\ud83d",
            "\0",
            "a     b",
            "\u2028",
            "👩‍👩‍👧",
            "{{ name }}",
            "null",
        ]
    ),
)


def plainly(attributes: Mapping[str, str], name: str | None) -> dict[str, str]:
    """Render every source with Jinja2 as it comes."""
    given = {column: value for column, value in attributes.items() if value.strip()}
    values: dict[str, object] = {field_name(column): value for column, value in given.items()}
    values |= {"contact": given, "unsubscribe_url": LINK}
    if name and name.strip():
        values["name"] = name
    environment = SandboxedEnvironment(undefined=ChainableUndefined)
    rendered = {part: environment.from_string(source).render(values) for part, source in SOURCES.items()}
    return {part: re.sub("[\ud800-\udfff]", "?", value) for part, value in rendered.items()}


@given(name=st.none() | VALUES, city=VALUES, notes=VALUES)
@example(name='"}]}}', city="\\", notes='","type":"image')
@settings(max_examples=300, deadline=None)
def test_whatever_the_values_the_parameters_are_what_jinja2_makes_and_nothing_else_changes(
    name: str | None, city: str, notes: str
):
    to = recipient(name=name, attributes={"City": city, "Notes": notes, "Other": '"'})
    wanted = plainly(to.attributes, name)
    unfit = re.compile("[\t\n\v\f\r\x85\u2028\u2029]| {5}")
    texts = [wanted["header"], wanted["first"], wanted["second"]]
    if (
        any(unfit.search(text) or not text.strip() for text in texts)
        or len(wanted["header"]) > 60
        or re.search(r"\s", wanted["button"])
    ):
        with pytest.raises(RenderError, match=r"^template (header|body [12]|button 2): "):
            BY_TEMPLATE.render(to)
        return

    content = BY_TEMPLATE.render(to).content

    def text(value: str) -> dict[str, str]:
        return {"type": "text", "text": value}

    assert json.loads(content) == {
        "type": "template",
        "template": {
            "name": "spring_offer",
            "language": {"code": "en"},
            "components": [
                {"type": "header", "parameters": [text(wanted["header"])]},
                {"type": "body", "parameters": [text(wanted["first"]), text(wanted["second"])]},
                {"type": "button", "sub_type": "url", "index": "1", "parameters": [text(wanted["button"])]},
            ],
        },
    }


@given(name=st.none() | VALUES, city=VALUES, notes=VALUES)
@settings(max_examples=200, deadline=None)
def test_whatever_the_values_a_text_is_what_jinja2_makes(name: str | None, city: str, notes: str):
    to = recipient(name=name, attributes={"City": city, "Notes": notes})

    content = BY_TEXT.render(to).content

    wanted = plainly(to.attributes, name)["text"]
    assert json.loads(content) == {"type": "text", "text": {"body": wanted, "preview_url": True}}
