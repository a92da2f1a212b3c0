"""Links and pictures are judged in every branch of a template, as mail programs follow them."""

import pytest

from messaging.campaign.preflight_links import judge_links, plain_of


@pytest.mark.parametrize(
    ("href", "words"),
    [
        ("https://shop.example.com/spring?a=1&amp;b=2", ""),
        ("{{ unsubscribe_url }}", ""),
        ("https://shop.example.com/{{ city }}", ""),
        ("https://{{ city }}.example.com/", ""),
        ("https://grün.example.com/", ""),
        ("mailto:help@example.com", ""),
        ("tel:+441134960000", ""),
        ("#below", ""),
        ("", "leads nowhere"),
        ("#", "leads nowhere"),
        ("mailto:", "leads nowhere"),
        ("/spring", "is not whole"),
        ("spring.html", "is not whole"),
        ("//shop.example.com/", "is not whole"),
        ("www.example.com", "is not whole"),
        ("http://shop.example.com/", "is not encrypted"),
        ("javascript:alert(1)", "begins with javascript:"),
        ("JaVaScRiPt:alert(1)", "begins with javascript:"),
        ("&#106;avascript:alert(1)", "begins with javascript:"),
        ("data:text/html,x", "begins with data:"),
        ("ftp://files.example.com/", "begins with ftp:, which mail programs seldom follow"),
        ("https://", "has no host"),
        ("https:///spring", "has no host"),
        ("https://shop .example.com/", "has no host"),
        ("https://shop.example.com:99999/", "has no host"),
        ("https://me@example.com/", "a name before its host"),
        ("https://localhost/", "a network of yours"),
        ("https://intranet/", "a network of yours"),
        ("https://10.0.0.7/", "a network of yours"),
        ("https://8.8.8.8/", "names a number"),
    ],
)
def test_each_link_gets_its_verdict(href: str, words: str):
    line, _ = judge_links(f'<p><a href="{href}">x</a></p>')

    assert (line.what, line.verdict) == ("links", "warn" if words else "ok")
    assert words in line.said
    assert bool(line.do) == bool(words)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        ('<img src="https://img.example.com/a.png" alt="A shop">', ""),
        ('<img src="https://img.example.com/a.png" alt="">', ""),
        ('<img src="{{ picture }}" alt="x">', ""),
        ('<img src="https://img.example.com/a.png">', "has no alt text"),
        ('<img alt="x">', "has no address"),
        ('<img src="a.png" alt="x">', "is not whole"),
        ('<img src="http://img.example.com/a.png" alt="x">', "is not encrypted"),
        ('<img src="data:image/png;base64,AAAA" alt="x">', "Gmail and Outlook do not show"),
        ('<img src="cid:logo" alt="x">', "no picture is attached"),
        ('<img src="file:///c:/a.png" alt="x">', "begins with file:"),
    ],
)
def test_each_picture_gets_its_verdict(picture: str, words: str):
    _, line = judge_links(picture)

    assert (line.what, line.verdict) == ("pictures", "warn" if words else "ok")
    assert words in line.said


def test_a_link_in_a_branch_that_few_get_is_looked_at_too():
    html = '{% if gold %}<a href="/gold">x</a>{% else %}<a href="https://a.example.com/">x</a>{% endif %}'

    line, _ = judge_links(html)

    assert line.said.startswith("1 link of 2 to look at: /gold is not whole")


def test_what_is_named_is_named_once_and_the_rest_is_counted():
    html = "".join(f'<a href="/{n}">x</a>' for n in [1, 1, 2, 3, 4, 5])

    line, _ = judge_links(html)

    assert line.said.startswith("6 links of 6 to look at: /1 is not whole")
    assert line.said.endswith("; and 2 more")


def test_very_many_links_are_too_many():
    line, _ = judge_links("".join(f'<a href="https://a.example.com/{n}">x</a>' for n in range(101)))

    assert (line.verdict, line.said) == ("warn", "101 links are more than 100")


def test_comments_and_scripts_hold_no_links():
    line, _ = judge_links('<!-- <a href="/a">x</a> --><style>a[href="/b"] {}</style>')

    assert line.said == "none"


def test_values_are_shown_by_their_names():
    assert (
        plain_of("Hi {{ name | default('you') }}{# x #}{% if a %}, {{ 'b' }}{% endif %}") == "Hi «name», «…»"
    )
