"""Tracking: every link leads where it led, by a token of its own, and nothing else of the HTML is changed."""

import re
from collections.abc import Callable
from email import message_from_bytes, policy
from html import escape
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lxml import html as lxml_html
from lxml.html import HtmlElement
from sqlalchemy import Engine

from messaging.campaign.email_rendering import EmailRenderer
from messaging.campaign.links import NOBODYS_KEY, Links
from messaging.campaign.planning import check_campaign
from messaging.campaign.rendering import Letterhead, Recipient, RenderError
from messaging.campaign.templates import compile_templates
from messaging.campaign.testing import prepare
from messaging.campaign.tracking import Tracked
from messaging.reports.console import show_tracking
from messaging.settings import settings as outflow_settings
from messaging.tokens import LinkKey, Purpose, read
from messaging.web.tracking import location_of
from schemas.campaign import CampaignSpec

TOKEN = UUID("0190a3c4-5b6d-7e8f-9012-3456789abcde")
KEY = LinkKey(3, bytes(range(32)))
OURS = "https://links.example.org"
ALL = {"opens": True, "clicks": True}
LINK = re.compile(r"https://links\.example\.org/c/[\w-]{44}\?to=[^\"'\s<>]*")
PICTURE = re.compile(
    r'<img src="https://links\.example\.org/o/([\w-]{44})\.gif" width="1" height="1" alt="">', re.ASCII
)


def spec(html: str, **changes: object) -> CampaignSpec:
    values = {"name": "x", "account": "smtp-account/x", "audience": "customers", "subject": "S", "text": "T"}
    return CampaignSpec(**(values | {"html": html, "tracking": ALL} | changes))


def rendered(made: CampaignSpec, url: str = OURS, **attributes: str) -> str:
    renderer = EmailRenderer(made, 18, Letterhead("news@example.org", KEY), url)
    content = renderer.render(Recipient(TOKEN, "ada@example.org", "Ada", None, attributes)).content
    message = message_from_bytes(content, policy=policy.default)
    return message.get_body(("html",)).get_content().replace("\r\n", "\n").removesuffix("\n")


def without(made: CampaignSpec, **attributes: str) -> str:
    return rendered(made.model_copy(update={"tracking": type(made.tracking)()}), **attributes)


def clicks(html: str, **changes: object) -> CampaignSpec:
    return spec(html, tracking={"clicks": True}, **changes)


def led_to(link: str) -> str:
    """Return where the page would lead on to, having looked at the token as it does."""
    parts = urlsplit(link)
    (url,) = parse_qs(parts.query, strict_parsing=True, errors="strict")["to"]
    assert read({3: KEY.key}, Purpose.CLICK, parts.path.removeprefix("/c/"), url) == TOKEN
    assert location_of(url)
    return url


def asked(html: str, url: str = OURS, **changes: object) -> Tracked:
    found = compile_templates(spec(html, **changes), Links(url, NOBODYS_KEY)).tracked
    assert found is not None
    return found


SHOP = "https://shop.example.org"
URLS = st.one_of(
    st.sampled_from(
        [
            *(
                f"{SHOP}/a?x=1&amp;y=2#f",
                f"{SHOP}/?a=1&copy=2",
                "HTTP://Shop.Example.org",
                f" {SHOP}/\n a%20b+c ",
            ),
            *(
                f"{SHOP}/ä?ö=ü",
                "https://bücher.example.org/x",
                f"{SHOP}/&#39;&quot;&lt;b&gt;",
                f"{SHOP}:8443/x;y",
            ),
            *(
                f"{SHOP}\\@evil.example/",
                "https://u:p@shop.example.org/",
                f"{SHOP}:x/",
                "https://",
                "http:/x",
            ),
            *("mailto:a@example.org?subject=x", "tel:+441234567890", "#top", "/relative", "", "javascript:x"),
            *(OURS, f"{OURS}/u/x", "https://LINKS.example.org/p/", "https://links.example.org.evil.example/"),
            *(
                "{{ unsubscribe_url }}",
                f"{SHOP}/?u={{{{ unsubscribe_url }}}}",
                "{{ site | d('') }}",
                "mailto:{{ site|d('') }}",
            ),
            *(
                f"{SHOP}/{{{{ site|d('') }}}}",
                f"{SHOP}?q={{{{ site|d('') }}}}&amp;n={{{{ name }}}}#{{{{ site|d('x') }}}}",
            ),
            *(
                "https://{{ site|d('x') }}.example.org/",
                f"{SHOP}{{{{ site|d('') }}}}/",
                f"{SHOP}&#47{{{{ site|d('') }}}}",
            ),
            *(
                f"{SHOP}/{{% if site %}}a{{% endif %}}",
                f"{SHOP}/&am{{{{ site|d('') }}}}",
                f"{SHOP}/" + "x" * 2000,
            ),
        ]
    ),
    st.text(st.characters(exclude_characters="{}\"'<>&", exclude_categories=["Cs"]), max_size=30).map(
        lambda text: f"{SHOP}/{escape(text)}"
    ),
)
TAGS = st.one_of(
    st.builds('<a href="{}">x</a>'.format, URLS),
    st.builds("<a title='>' HREF = '{}' class=b>y</a>".format, URLS),
    st.builds('<map><area href="{}"></map>'.format, URLS),
    st.builds('<a href="{}" data-no-track>z</a>'.format, URLS),
    st.builds(
        '{{% if site %}}<a href="{}">x</a>{{% else %}}<a href="{}">y</a>{{% endif %}}'.format, URLS, URLS
    ),
    st.builds('<!-- <a href="{}"> -->'.format, URLS),
    st.builds("<a class={{{{ site|d('') }}}} href='{}'>w</a>".format, URLS),
    st.sampled_from(
        [
            *(f"<a href={SHOP}/bare>b</a>", f"<a href={SHOP}/{{{{ site|d('') }}}}>b</a>", "<a name=x>n</a>"),
            *("<style>a[href='https://x/'] {}</style>", "<p>{{ site|d('') }} é = x</p>\n", "<br/>", "text\n"),
            *(f'<img src="{SHOP}/i.png">', f'<form action="{SHOP}/"></form>', "</body>", f"{SHOP}/in-words "),
            *("{# words #}", "{% raw %}{{ name }}{% endraw %}", "\ue000", "\ue001", "{{ name }}"),
        ]
    ),
)
VALUES = st.one_of(
    st.sampled_from(
        [
            *(
                "x",
                "//evil.example/",
                "@evil.example/",
                ".evil.example/",
                "\\@evil.example",
                "\t\n//evil.example",
            ),
            *(
                '"><a href="https://evil.example/">',
                "' href='https://evil.example/",
                " href=https://evil.example/",
            ),
            *("1.evil.example", "47;.evil.example/", "p;x", "&#47;", "https://evil.example/", "javascript:x"),
            *(
                "?to=https://evil.example/",
                "#",
                "%",
                "%2",
                "+",
                "&to=https://evil.example/",
                "\r\nx",
                "\x00",
                "x" * 3000,
            ),
        ]
    ),
    st.text(max_size=40),
)


def as_browsers_read(href: str) -> str:
    return re.sub("[\t\n\r]", "", href).strip("".join(map(chr, range(33))))


def elements(source: str) -> list[HtmlElement]:
    return list(lxml_html.document_fromstring(f"<html><body><p>{source}").iter())


@given(html=st.lists(TAGS, min_size=1, max_size=6).map("".join), site=VALUES)
@example(html="{# words #}", site="")
@settings(max_examples=400, deadline=None)
def test_links_lead_where_they_led_and_all_else_stays_as_it_was(html: str, site: str):
    made = spec(html)
    before = without(made, Site=site)

    after, pictures = PICTURE.subn("", rendered(made, Site=site))

    assert pictures == asked(html).opens
    pieces = LINK.split(after)
    assert re.fullmatch("(?:.*?)".join(map(re.escape, pieces)), before, re.DOTALL)
    tracked = 0
    for old, new in zip(elements(before), elements(after), strict=True):
        assert (new.tag, new.text, new.tail) == (old.tag, old.text, old.tail)
        if new.tag in {"a", "area"} and (href := new.get("href", "")).startswith(f"{OURS}/c/"):
            tracked += 1
            assert "data-no-track" not in old.attrib
            assert led_to(href) == as_browsers_read(old.get("href"))
            assert urlsplit(led_to(href)).hostname in {
                *("shop.example.org", "bücher.example.org", "links.example.org.evil.example")
            }
            new.set("href", old.get("href"))
        if isinstance(new.tag, str):
            assert sorted(new.items()) == sorted(old.items())
    assert tracked == len(pieces) - 1


def test_a_link_is_decoded_to_be_signed_and_its_end_is_safe_in_any_quotes():
    html = """<a href="https://shop.example.org/a?x=1&amp;y=%20&copy=3&quot;#f">A</a><a href=https://x.example/>B</a>"""

    after = rendered(clicks(html))

    first, second = LINK.findall(after)
    assert led_to(first) == 'https://shop.example.org/a?x=1&y=%20&copy=3"#f'
    assert led_to(second) == "https://x.example/"
    assert after == f'<a href="{first}">A</a><a href={second}>B</a>'


def test_a_value_in_a_link_is_signed_with_it():
    html = '<a href="https://shop.example.org/{{ city }}?n={{ name | upper }}&amp;m=1">A</a>'

    (link,) = LINK.findall(rendered(clicks(html), City='Zürich & "Co"'))

    assert led_to(link) == 'https://shop.example.org/Zürich & "Co"?n=ADA&m=1'


@pytest.mark.parametrize(
    ("html", "city"),
    [
        ('<a href="https://shop.example.org/{{ city }}">A</a>', "x" * 2_000),
        ('<a href="https://shop.example.org/{{ city }}">A</a>', "\\x"),
        ('<a href="https://shop.example.org&#4{{ city }}">A</a>', "7;evil.example/"),
        ('<a href="https://shop.example.org&#47{{ city }}">A</a>', "1.evil.example/"),
    ],
)
def test_a_link_that_a_value_makes_unfit_stays_as_it_is_for_this_recipient_alone(html: str, city: str):
    assert rendered(clicks(html), City=city) == without(clicks(html), City=city)


def test_a_missing_value_in_a_link_names_its_field():
    made = clicks('<a href="https://shop.example.org/{{ city }}">A</a>')

    with pytest.raises(RenderError, match=r"^html: no value for merge field 'city'$"):
        rendered(made)


@pytest.mark.parametrize(
    ("tag", "left"),
    [
        ("<a href='https://{{ city }}/x'>", "https://{{…}}/x: a merge field stands where its host is named"),
        ("<a href='{{ city }}'>", "{{…}}: a merge field stands where its host is named"),
        (
            "<a {% if city %}href='https://x.example/'{% endif %}>",
            "<a {%…%}href='https://x.example/'{%…%}>: a condition stands inside its tag",
        ),
        (
            "<a class={{ city }} href='https://x.example/'>",
            "<a class={{…}} href='https://x.example/'>: a merge field stands in its tag outside quotes",
        ),
        (
            "<a href='https://u@x.example/'>",
            "https://u@x.example/: a name or password stands before its host",
        ),
        ("<a href='https://:80/'>", "https://:80/: its host or port is none"),
        ("<a href='https://x..example/{{ city }}'>", "https://x..example/{{…}}: its host or port is none"),
        ("<a href='https://x.example:99999/'>", "https://x.example:99999/: its host or port is none"),
        (
            f"<a href='https://x.example/{'x' * 2_000}'>",
            f"https://x.example/{'x' * 82}…: it would be longer than 2,000 characters",
        ),
        (
            "<a href='https://x.example/\\y'>",
            "https://x.example/\\y: it has characters that browsers and servers read differently",
        ),
    ],
)
def test_what_cannot_be_tracked_is_named_once_with_the_reason(tag: str, left: str):
    found = asked(f"<p>{tag}A</a>{tag}B</a><a href='https://x.example/'>C</a>")

    assert found.left == (left,)
    assert found.links == 1


@pytest.mark.parametrize(
    "tag",
    [
        *("<a href='mailto:{{ city }}'>", "<a href='tel:+44'>", "<a href='#{{ city }}'>", "<a href='#'>"),
        *("<a name=x>", "<a {% if city %}class=x{% endif %}>", "<a href='{{ unsubscribe_url }}'>"),
        *(
            "<a href='https://x.example/?u={{ unsubscribe_url | d(\"\") }}'>",
            "<link href='https://x.example/'>",
        ),
        *(
            f"<a href='{OURS}/p/x'>",
            f"<a href='{OURS}?{{{{ city }}}}'>",
            "<a data-no-track href='{{ city }}'>",
        ),
        "<a href='https://x.example/' DATA-NO-TRACK='1'>",
    ],
)
def test_other_links_stay_as_they_are_without_a_word(tag: str):
    found = asked(tag)

    assert (found.links, found.left) == (0, ())
    assert rendered(clicks(tag), City="y") == without(clicks(tag), City="y")


def test_links_beside_the_public_url_are_not_its_own():
    html = "<a href='https://x.example/m/y'></a><a href='https://x.example/mail'></a><a href='http://x.example/m'></a>"

    assert asked(html, url="https://x.example/m/").links == 1


@pytest.mark.parametrize(
    ("html", "place"),
    [
        ("<html><body><p>x</p></body></html>", "<p>x</p>{}</body>"),
        ("<p>x</p>", "<p>x</p>{}"),
        ("<p>{{ name }}</p>{% if city %}<p>y</p></body>{% endif %}", "<p>y</p></body>{}"),
        ("<p></p></BODY ></body><!-- </body> -->", "</BODY >{}</body>"),
        ("{% if city %}y{% endif %}", "y{}"),
        ("<p></p></body><!-- cut", "<p></p>{}</body><!-- cut"),
    ],
)
def test_the_picture_stands_at_the_end_of_the_body(html: str, place: str):
    made = spec(html, tracking={"opens": True})

    after = rendered(made, City="York")

    (picture,) = PICTURE.finditer(after)
    assert read({3: KEY.key}, Purpose.OPEN, picture[1]) == TOKEN
    assert place.format(picture[0]) in after
    assert after.replace(picture[0], "") == without(made, City="York")


@pytest.mark.parametrize("html", ["<p>x</p><!-- cut", "<p>x<style>p {}", "<p>x</p><a href='"])
def test_a_picture_that_nobody_would_see_is_left_out(html: str):
    found = asked(html)

    assert (found.opens, found.left) == (False, ("opens: the HTML ends inside a tag, a comment or the like",))
    assert rendered(spec(html)) == without(spec(html))


def test_nothing_is_tracked_unless_it_is_asked_for_and_never_in_the_text():
    html = '<a href="https://shop.example.org/">x</a>'
    made = CampaignSpec(**(spec(html).model_dump() | {"tracking": None, "text": ""}))
    renderer = EmailRenderer(spec(html, text=""), 18, Letterhead("news@example.org", KEY), OURS)

    assert rendered(made) == html
    content = renderer.render(Recipient(TOKEN, "ada@example.org", "Ada", None, {})).content
    text = message_from_bytes(content, policy=policy.default).get_body(("plain",)).get_content()
    assert text.strip() == "[x](https://shop.example.org/)"


def test_a_public_url_of_odd_characters_stands_in_the_html_as_it_is():
    url = "https://links.example.org/a'&amp;b"
    html = "<a href='https://shop.example.org/'></a><a href='https://shop.example.org/{{ city }}'></a>"

    after = rendered(spec(html), url=url, City="York")

    first, second = (element.get("href") for element in elements(after) if element.tag == "a")
    (picture,) = (element.get("src") for element in elements(after) if element.tag == "img")
    assert first.startswith(f"{url}/c/")
    assert second.startswith(f"{url}/c/")
    assert picture.startswith(f"{url}/o/")


@pytest.fixture
def campaign(audience: Callable[..., None], spec: CampaignSpec) -> CampaignSpec:
    audience("ada@example.org", city="York")
    html = '<a href="https://shop.example.org/">x</a><a href="{{ city }}">y</a>'
    return CampaignSpec(**(spec.model_dump() | {"html": html, "tracking": ALL}))


def test_a_check_and_a_test_tell_what_is_tracked(
    ledger: Engine, campaign: CampaignSpec, capsys: pytest.CaptureFixture[str]
):
    checked = check_campaign(ledger, campaign)
    tried = prepare(ledger, campaign, None, ["me@example.com"])

    assert tried.tracking == checked.tracking
    show_tracking(checked.tracking)
    said = " ".join(capsys.readouterr().out.split())
    assert "Tracked: opens, clicks on 1 link." in said
    assert "not tracked: {{…}}: a merge field stands where its host is named" in said
    assert "the links of messages lead to https://localhost:8422, where no recipient gets" in said


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"html": ""}, "the campaign has no HTML part"),
        (
            {"account": "whatsapp-web-account/x", "channel": "whatsapp"},
            "messages on WhatsApp are never tracked",
        ),
    ],
)
def test_a_check_tells_why_nothing_is_tracked(
    ledger: Engine,
    campaign: CampaignSpec,
    changes: dict[str, str],
    left: str,
    capsys: pytest.CaptureFixture[str],
):
    found = check_campaign(ledger, CampaignSpec(**(campaign.model_dump() | changes))).tracking

    assert (found.links, found.opens, found.left) == (0, False, [left])
    show_tracking(found)
    assert capsys.readouterr().out.startswith("Tracked: nothing.\n  not tracked: ")


def test_nothing_is_said_of_tracking_that_nobody_asked_for(ledger: Engine, campaign: CampaignSpec):
    plain = CampaignSpec(**(campaign.model_dump() | {"tracking": {}}))

    assert check_campaign(ledger, plain).tracking is None


def test_with_an_address_of_ones_own_nothing_is_warned_of(
    ledger: Engine, campaign: CampaignSpec, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OUTFLOW_PUBLIC_URL", "https://links.shop.example.org")
    outflow_settings.cache_clear()
    try:
        assert check_campaign(ledger, campaign).tracking.problem == ""
    finally:
        monkeypatch.undo()
        outflow_settings.cache_clear()
