"""Links that are not ours, or not for this: 404, nothing kept and nothing repeated."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from messaging.errors import DatabaseError
from messaging.storage.engine import open_engine
from messaging.storage.link_keys import add_key, newest_key
from messaging.tokens import LinkKey, Purpose, sign
from messaging.web import keys as keys_module
from messaging.web.keys import Keys
from messaging.web.ledger import Ledger
from messaging.web.tracking import PIXEL, location_of
from tests.messaging.web.site import Links, Site, rows, running, sent

SHOP = "https://shop.example.org/offer?id=7&x=ä%20b#top"


def changed(token: str, place: int) -> str:
    raw = bytearray(urlsafe_b64decode(token))
    raw[place] ^= 1
    return urlsafe_b64encode(raw).decode()


@pytest.mark.parametrize("place", [0, 1, 16, 17, 32])
def test_a_changed_token_is_nobody_s(ledger: Engine, site: Site, place: int):
    links = sent(ledger)
    for path in (links.unsubscribe(), links.preferences(), links.pixel(), links.click(SHOP)):
        page, token, rest = path[:3], path[3:47], path[47:]
        assert site.get(page + token + rest).status in {200, 302}
        assert site.get(page + changed(token, place) + rest).status == 404
    assert site.one_click(f"/u/{changed(links.unsubscribe()[3:], place)}").status == 404
    assert rows(ledger, "SELECT count(*) FROM events WHERE kind = 'unsubscribed'") == [(0,)]


def test_truncated_lengthened_and_other_tokens_are_nobody_s(ledger: Engine, site: Site):
    links = sent(ledger)
    token = links.unsubscribe()[3:]
    for other in (
        "",
        "x",
        token[:-1],
        token[:-4],
        token + "A",
        token + "=",
        token.lower(),
        "é" * 44,
        "." * 44,
    ):
        path = f"/u/{other.encode().hex() if not other.isascii() else other}"
        assert site.get(path).status == 404
        assert site.one_click(path).status == 404


def test_a_token_is_good_for_its_purpose_alone(ledger: Engine, site: Site):
    links = sent(ledger)
    key, attempt = links.key, links.tokens[0].bytes
    for purpose in Purpose:
        token = sign(key, purpose, attempt)
        assert (site.get(f"/u/{token}").status == 200) is (purpose is Purpose.UNSUBSCRIBE)
        assert (site.get(f"/p/{token}").status == 200) is (purpose is Purpose.UNSUBSCRIBE)
        assert (site.get(f"/o/{token}").status == 200) is (purpose is Purpose.OPEN)
        assert site.get(f"/c/{token}?to=https://example.org/").status == 404  # signed without the URL


def test_a_key_of_our_own_making_opens_nothing(ledger: Engine, site: Site):
    links = sent(ledger)
    forged = Links(links.tokens, LinkKey(links.key.id, b"x" * 32))
    unknown = Links(links.tokens, LinkKey(77, links.key.key))
    for each in (forged, unknown):
        assert site.one_click(each.unsubscribe()).status == 404
        assert site.get(each.click(SHOP)).status == 404
        assert site.get(each.pixel()).status == 404
    assert rows(ledger, "SELECT count(*) FROM audience_opt_outs") == [(0,)]


def test_a_click_leads_to_the_url_it_was_signed_for_and_no_other(ledger: Engine, site: Site):
    links = sent(ledger)
    led = site.get(links.click(SHOP))
    assert led.status == 302
    assert led.headers["location"] == "https://shop.example.org/offer?id=7&x=%C3%A4%20b#top"
    token = links.click(SHOP)[3:47]
    evil = "https://evil.example.net/"
    for query in (
        f"?to={evil}",
        f"?to={SHOP}x",
        "",
        "?to=",
        f"?u={evil}",
        f"?to={evil}&to={SHOP}",
        "?to=%FF",
        "?" + "&".join(f"a{n}=1" for n in range(100)),
    ):
        refused = site.get(f"/c/{token}{query.replace('ä', '%C3%A4').replace('#', '%23')}")
        assert refused.status == 404
        assert "location" not in refused.headers
        assert "evil" not in refused.text
    # What mail clients and scanners append does no harm.
    assert site.get(links.click(SHOP) + "&fbclid=1&utm_source=x").status == 302


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "//evil.example.net/",
        "/relative",
        "ftp://example.org/",
        "https://",
        "https:///path",
        "https://user@example.org/",
        "https://user:password@example.org/",
        "https://example.org\\@evil.example.net/",
        "https://example.org\r\nSet-Cookie: a=b",
        "https://example.org/\x00",
        "https://[::1",
        "https://example.org:port/",
        "https://" + "ä" * 70 + ".example.org/",
        "https://example.org/" + "x" * 8000,
        "mailto:a@example.org",
        "",
    ],
)
def test_even_a_signed_link_leads_only_to_web_pages(ledger: Engine, site: Site, url: str):
    assert location_of(url) == ""
    refused = site.get(sent(ledger).click(url))
    assert refused.status == 404
    assert "location" not in refused.headers


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("HTTP://Example.org", "HTTP://Example.org"),
        ("https://example.org:8443/a?b=c&d=%20#e", "https://example.org:8443/a?b=c&d=%20#e"),
        ("https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC"),
        ("https://bücher.example:81/", "https://xn--bcher-kva.example:81/"),
        ("https://straße.example/", "https://xn--strae-oqa.example/"),  # IDNA 2003 made strasse of it
        ("https://BÜCHER.example/", "https://xn--bcher-kva.example/"),
        ("https://☃.example/", "https://xn--n3h.example/"),
        ("https://[2001:db8::1]/", "https://[2001:db8::1]/"),
        ('https://example.org/"<script>', "https://example.org/%22%3Cscript%3E"),
    ],
)
def test_a_url_is_led_to_as_it_was_meant(url: str, location: str):
    assert location_of(url) == location


def test_after_a_rotation_old_links_and_new_ones_are_good(
    ledger: Engine, site: Site, monkeypatch: pytest.MonkeyPatch
):
    old = sent(ledger, 2)
    assert site.get(old.unsubscribe()).status == 200
    monkeypatch.setattr(keys_module, "FRESH_SECONDS", 0.0)
    with ledger.begin() as connection:
        assert add_key(connection) == 2
        new = Links(old.tokens, newest_key(connection))
    assert new.key.id == 2
    for links in (new, old):
        assert site.get(links.click(SHOP, 1)).status == 302
        assert site.get(links.pixel(1)).body == PIXEL
        assert site.one_click(links.unsubscribe(1)).status == 200


async def test_while_the_ledger_is_away_a_link_of_a_new_key_is_not_called_wrong(ledger: Engine):
    new = sign(LinkKey(7, bytes(32)), Purpose.UNSUBSCRIBE, bytes(16))
    known = Keys(Ledger(ledger))
    assert await known.read(Purpose.UNSUBSCRIBE, new) is None
    away = open_engine("postgresql+psycopg://nobody@127.0.0.1:9/none")
    keys = Keys(Ledger(away))
    for _ in range(3):
        with pytest.raises(DatabaseError):
            await keys.read(Purpose.UNSUBSCRIBE, new)
    away.dispose()


@pytest.fixture(scope="module")
def one_site(migrated: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Links]]:
    with running(migrated, tmp_path_factory.mktemp("home")) as opened:
        yield opened, Links((), LinkKey(1, b""))


paths = st.one_of(
    st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters=" "), max_size=80),
    st.text(max_size=40).map(lambda t: t.encode("utf-8", "replace").hex()),
    st.binary(max_size=40).map(lambda b: "".join(f"%{n:02x}" for n in b)),
    st.sampled_from(["..", "../../etc/passwd", "%2e%2e%2f", "u/", "//", "u//x", ";", "?to=", "%00", "*"]),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    page=st.sampled_from(["/u/", "/p/", "/o/", "/c/", "/", "/hooks/", "//", "/health/", "/robots.txt/"]),
    path=paths,
    query=st.none() | paths,
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"]),
)
def test_whatever_is_asked_for_is_answered(one_site, page: str, path: str, query: str | None, method: str):
    site, _ = one_site
    asked = page + path.replace("#", "%23") + ("" if query is None else f"?{query}".replace("#", "%23"))
    answer = site.ask(method, asked)
    assert answer.status in {200, 204, 400, 404, 405}, (method, asked)
    if answer.status != 200:
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_home_of_the_pages_is_no_page(site: Site, tmp_path: Path):
    assert tmp_path.exists()
    assert site.get("/").status == 404
