"""Tags: found where another reader of HTML finds them, whatever stands around them."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lxml import html

from messaging.campaign.tags import decoded, tags

PIECES = st.sampled_from(
    [
        *(
            "<a href=",
            "<A HREF = ",
            "<a/href=",
            "<area\nhref=",
            "<a title='>' href=",
            "<a ",
            "<ab href=x>",
            "</a>",
        ),
        *(
            '"https://one.example/?a=1&amp;b=2"',
            "'two'",
            "three/",
            '"',
            "'",
            "four>",
            "href=five ",
            'href="six"',
        ),
        *("?a=1&copy=2", "&copy;", "&lt", "&#47;", "&#x2f", "&notit;", "&am", "p;", "&", "=", "/", "//", "é"),
        *(
            "<!--",
            "-->",
            "--!>",
            "<!-->",
            "<!--->",
            "->",
            "<!",
            "<?",
            "</",
            "</ x",
            "<",
            ">",
            ">>",
            "/>",
            "<>",
        ),
        *("<style>", "</style>", "</style ", "<title>", "</TITLE>", "<textarea>", "</textarea>", "</styles>"),
        *("<script>", "</script>", "<xmp>", "</xmp>", "<p>", "</p x='>'>", " ", "\n", "\t", "\x0c", "text"),
    ]
)


def links(source: str) -> list[str | None]:
    found = []
    for tag in tags(source):
        if tag is not None and not tag.closes and tag.name in {"a", "area"}:
            href = tag.attribute("href")
            found.append(decoded(source[href.start : href.end]) if href else None)
    return found


@given(st.lists(PIECES, max_size=25).map("".join))
@example('<a href="?a=1&copy=2&amp;x&lt;&notit;&#47;&copy">x</a>')
@example('<A HREF = ">')
@example("<!-->x--><a href=b><!-- a --!><a href=c></ x <a href=1>")
@example('<title><a href=n></title><a =href="k" href=m/><a href="unclosed><b>')
@settings(max_examples=500, deadline=None)
def test_links_are_those_that_libxml2_finds(source: str):
    # Behind <p>, as whole documents begin in another state. libxml2 reads tags as the WHATWG says since 2.14.
    others = html.document_fromstring(f"<html><body><p>{source}")

    assert links(source) == [element.get("href") for element in others.iter("a", "area")]


@pytest.mark.parametrize(
    ("source", "closed"),
    [
        ("", True),
        ("<p>text</p> < b", True),
        ("<p><!-- x", False),
        ("<p><a href='x", False),
        ("<p><style>", False),
        ("<plaintext>", False),
        ("<!DOCTYPE html", False),
    ],
)
def test_a_text_that_ends_inside_a_tag_or_the_like_is_told(source: str, *, closed: bool):
    assert (None not in list(tags(source))) is closed


def test_where_a_value_stands_is_told():
    source = "<a class=x href='https://shop.example/' data-no-track>"

    (tag,) = tags(source)

    href = tag.attribute("href")
    assert source[href.start : href.end] == "https://shop.example/"
    assert href.quoted
    assert tag.attribute("data-no-track").start == tag.attribute("data-no-track").end
    assert (tag.start, tag.end) == (0, len(source))
