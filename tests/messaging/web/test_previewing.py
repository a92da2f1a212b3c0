"""`/preview/TOKEN` shows a campaign's messages, and nobody's values, to whoever has the link, for a week."""

from base64 import urlsafe_b64decode
from html import unescape
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from messaging.campaign import preview_links
from messaging.storage.link_keys import newest_key
from messaging.tokens import Purpose, sign
from tests.faults import crowds
from tests.messaging.web import chromium
from tests.messaging.web.site import Site

HTML = (
    '<h1 id="greeting">Hello {{ name | d("you") }}</h1><script>document.title = "ran"</script>'
    '<img src="x" onerror="top.document.title = 1" alt="">'
)
NAME = "spring-offer"


@pytest.fixture
def link(ledger: Engine) -> str:
    """Plan a campaign and return the path of its page."""
    crowds.plan(ledger, 3, name=NAME, html=HTML)
    return path_of(ledger, NAME)


def path_of(engine: Engine, campaign: str) -> str:
    with engine.begin() as connection:
        key = newest_key(connection)
    return preview_links.link(key, campaign, "https://links.example.com/").removeprefix(
        "https://links.example.com"
    )


def test_it_shows_the_messages_and_nothing_of_anybody(ledger: Engine, site: Site, link: str):
    with ledger.begin() as connection:
        connection.execute(
            text("""
                UPDATE contacts SET name = 'Adalbert ' || id, phone = '+44740000000' || id,
                    attributes = '{"City": "Leeds", "Born": "1815"}'
            """)
        )
        told = "Hello {{ name }} of {{ city }}, {{ born | int }}, {{ email }}, {{ phone }}"
        statement = text(
            "UPDATE campaigns SET spec = spec || jsonb_build_object('html', CAST(:html AS text))"
        )
        connection.execute(statement, {"html": told})
        known = connection.execute(text("SELECT email, name, phone FROM contacts")).all()

    answer = site.get(link)

    assert answer.status == 200
    assert f"{NAME}: what recipients would get" in answer.text
    assert "Hello «name»···· of «city», 1, name@example.org, +447700900000" in unescape(answer.text)
    for value in {*(value for one in known for value in one), "Leeds", "1815", "Adalbert"}:
        assert value not in answer.text


def test_files_are_named_and_not_read(ledger: Engine, site: Site, link: str):
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO campaign_files (campaign_id, position, name, content_type, content, sha256)
                SELECT id, 1, 'terms.pdf', 'application/pdf', '%PDF', 'abc' FROM campaigns
            """)
        )

    assert "<dd>terms.pdf</dd>" in site.get(link).text


def test_nothing_may_keep_find_or_run_it(site: Site, link: str):
    headers = site.get(link).headers

    assert headers["cache-control"] == "no-store"
    assert headers["x-robots-tag"] == "noindex, nofollow"
    assert headers["referrer-policy"] == "no-referrer"
    policy = headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "frame-ancestors 'none'", "sandbox"} <= set(policy)
    assert not any(rule.startswith("script-src") for rule in policy)


def test_before_the_campaign_is_in_the_ledger_there_is_no_page(ledger: Engine, site: Site):
    link = path_of(ledger, "later")
    assert site.get(link).status == 404

    crowds.plan(ledger, 2, name="later")

    assert site.get(link).status == 200


def test_a_link_whose_time_is_over_shows_nothing(
    ledger: Engine, site: Site, link: str, monkeypatch: pytest.MonkeyPatch
):
    assert site.get(link).status == 200
    monkeypatch.setattr(preview_links, "LASTS", -preview_links.LASTS / 1000)

    assert site.get(path_of(ledger, NAME)).status == 404


def test_a_forged_link_shows_nothing(ledger: Engine, site: Site, link: str):
    with ledger.begin() as connection:
        key = newest_key(connection)
    token = link.rpartition("/")[2]
    named = urlsafe_b64decode(token)[1:17]
    forged = [
        token[:-1] + ("A" if token[-1] != "A" else "B"),
        token[:30],
        sign(key, Purpose.UNSUBSCRIBE, named),
        "x",
    ]

    assert {site.get(f"/preview/{one}").status for one in forged} == {404}
    assert site.get(f"/u/{token}").status == 404


async def test_in_a_browser_each_message_is_seen_and_no_script_runs(site: Site, link: str, tmp_path: Path):
    async with chromium.page(chromium.found(), scripts=True) as page:
        await page.size(1280, 1400)
        await page.open(f"{site.url}{link}")

        tree = await page.do("Page.getFrameTree")
        frames = [child["frame"]["id"] for child in tree["frameTree"].get("childFrames", [])]
        seen = [
            await _value(page, frame, "document.getElementById('greeting').innerText") for frame in frames
        ]
        titles = {await _value(page, frame, "document.title") for frame in frames}
        await page.picture(tmp_path / "page.png")

        assert len(seen) >= 2
        assert all(words.startswith("Hello ") for words in seen)
        assert titles == {""}  # a script would have named it
        assert await page.value("document.title") == f"Preview of {NAME}"
        assert await page.value("document.querySelector('iframe').contentDocument") is None


async def _value(page: chromium.Page, frame: str, expression: str) -> object:
    """Return what an expression is in a frame, in a world that the sandbox does not bind."""
    world = await page.do("Page.createIsolatedWorld", frameId=frame)
    found = await page.do(
        "Runtime.evaluate",
        expression=expression,
        contextId=world["executionContextId"],
        returnByValue=True,
    )
    return found["result"].get("value")
