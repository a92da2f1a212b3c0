"""Opens and clicks: all are kept, and what no person did is marked."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from messaging.feedback.machines import machine_of
from messaging.web import hits as hits_module
from messaging.web.hits import Hit, Hits
from messaging.web.journal import Journal
from messaging.web.ledger import Ledger
from messaging.web.tracking import PIXEL
from schemas.states import EventKind
from tests.messaging.web.site import Site, events, rows, sent, until

SHOP = "https://shop.example.org/offer"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


def test_the_pixel_is_a_transparent_gif_that_nobody_may_cache(ledger: Engine, site: Site):
    links = sent(ledger)
    for path in (links.pixel(), links.pixel().removesuffix(".gif")):
        answer = site.get(path)
        assert (answer.status, answer.body) == (200, PIXEL)
        assert len(answer.body) == 43
        assert answer.body.startswith(b"GIF89a")
        assert answer.headers["content-type"] == "image/gif"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    until(lambda: len(events(ledger, "opened")) == 2)


def test_opens_and_clicks_are_in_the_ledger_within_seconds(ledger: Engine, site: Site):
    links = sent(ledger, 3)
    assert site.get(links.pixel(1), User_Agent=FIREFOX).status == 200
    assert site.get(links.click(SHOP, 2), User_Agent=FIREFOX).status == 302
    until(lambda: rows(ledger, "SELECT count(*) FROM events WHERE campaign_id IS NULL") == [(2,)], 10)
    heard = "SELECT kind, attempt_id, source, details FROM events WHERE campaign_id IS NULL"
    found = rows(ledger, f"{heard} ORDER BY attempt_id")
    assert [row[:3] for row in found] == [("opened", 2, "web"), ("clicked", 3, "web")]
    assert found[0][3]["agent"] == FIREFOX
    assert found[1][3]["url"] == SHOP
    assert not any("machine" in row[3] for row in found)


@pytest.mark.parametrize(
    ("method", "agent", "more", "machine"),
    [
        ("GET", FIREFOX, {}, None),
        ("HEAD", FIREFOX, {}, "method: HEAD"),
        ("GET", FIREFOX, {"Sec-Purpose": "prefetch;prerender"}, "prefetch: browser"),
        ("GET", "Mozilla/5.0", {}, "prefetch: Apple Mail Privacy Protection"),
        ("GET", "Barracuda Sentinel (EE)", {}, "scanner: Barracuda"),
        (
            "GET",
            "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
            {},
            "proxy: Gmail's image proxy",
        ),
        ("GET", "", {}, "program: no user agent"),
    ],
)
def test_machines_are_marked(
    ledger: Engine, site: Site, method: str, agent: str, more: dict[str, str], machine: str | None
):
    links = sent(ledger)
    site.ask(method, links.click(SHOP), headers={"User-Agent": agent, **more})
    until(lambda: events(ledger, "clicked"))
    assert events(ledger, "clicked")[0].get("machine") == machine


@pytest.mark.parametrize(("ago", "machine"), [("3 seconds", "too soon"), ("30 seconds", None)])
def test_what_comes_seconds_after_sending_is_marked(
    ledger: Engine, site: Site, ago: str, machine: str | None
):
    links = sent(ledger, ago=ago)
    site.get(links.pixel(), User_Agent=FIREFOX)
    until(lambda: events(ledger, "opened"))
    assert events(ledger, "opened")[0].get("machine") == machine


@pytest.mark.parametrize(
    "agent",
    [
        FIREFOX,
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Version/17.5 Mobile/15E148 Safari/604.1"
        ),
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0"
        ),
        "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17628; Pro)",
        "Mozilla/5.0 (X11; Linux x86_64; rv:115.0) Gecko/20100101 Thunderbird/115.12.0",
        (
            "Mozilla/5.0 (Linux; Android 9; CUBOT_X19) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 "
            "Mobile Safari/537.36 Cubot/1.0"
        ),
        "Outlook-iOS/723.4027091.prod.iphone (4.2420.0)",
        (
            "Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) "
            "SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36"
        ),
    ],
)
def test_people_s_programs_are_not_marked(agent: str):
    assert machine_of(agent) == ""
    assert machine_of(agent, seconds_after_sending=9.9) == "too soon"
    assert machine_of(agent, seconds_after_sending=10) == ""


def test_a_link_in_a_test_message_works_and_is_of_no_attempt(ledger: Engine, site: Site):
    links = sent(ledger)
    strange = type(links)((uuid4(),), links.key)
    assert site.get(strange.click(SHOP)).status == 302
    until(lambda: rows(ledger, "SELECT attempt_id FROM events WHERE kind = 'clicked'") == [(None,)])


def test_who_opens_in_a_loop_does_not_fill_the_ledger(ledger: Engine, site: Site):
    links = sent(ledger, 2)
    for _ in range(100):
        assert site.get(links.pixel(), User_Agent=FIREFOX).status == 200
    site.get(links.pixel(1), User_Agent=FIREFOX)
    until(lambda: rows(ledger, "SELECT count(*) FROM events WHERE attempt_id = 2") == [(1,)])
    until(lambda: site.health["journal"]["in_memory"] == 0)
    assert rows(ledger, "SELECT count(*) FROM events WHERE attempt_id = 1") == [(30,)]


def test_strange_characters_do_not_keep_a_hit_from_the_ledger(ledger: Engine, site: Site):
    links = sent(ledger)
    answer = site.raw(
        f"GET {links.pixel()} HTTP/1.1\r\nHost: x\r\nUser-Agent: \xff\x80 \u00e4 {'x' * 5000}\r\n"
        "Connection: close\r\n\r\n".encode("latin-1")
    )
    assert answer.startswith(b"HTTP/1.1 200")
    until(lambda: events(ledger, "opened"))
    assert len(events(ledger, "opened")[0]["agent"]) == 300


def hit(ledger: Engine, **changes: object) -> Hit:
    usual = {"kind": EventKind.OPENED, "token": sent_token(ledger), "method": "GET", "agent": FIREFOX}
    return Hit(**(usual | changes))


def sent_token(ledger: Engine):
    return rows(ledger, "SELECT token FROM attempts LIMIT 1")[0][0]


async def settled(hits: Hits) -> None:
    """Let the writer do what it can, then stop it."""
    hits.start()
    await asyncio.sleep(0.2)
    await hits.stop()


async def test_one_hit_that_the_ledger_refuses_costs_no_other(ledger: Engine, tmp_path: Path):
    sent(ledger)
    hits = Hits(Ledger(ledger), Journal(tmp_path))
    ages_away = datetime.max.replace(tzinfo=UTC) - timedelta(days=1)
    good = [hit(ledger) for _ in range(20)]
    with ledger.begin() as connection:  # a check that one of them does not pass
        connection.exec_driver_sql(
            "ALTER TABLE events ADD CONSTRAINT test_only CHECK (details ->> 'url' IS DISTINCT FROM 'refuse')"
        )
    try:
        for each in [*good[:7], hit(ledger, url="refuse"), *good[7:], hit(ledger, at=ages_away)]:
            hits.put(each)
        hits.start()
        await asyncio.to_thread(
            until, lambda: rows(ledger, "SELECT count(*) FROM events WHERE kind = 'opened'") == [(21,)]
        )
        await asyncio.to_thread(until, lambda: not list(tmp_path.glob("*.jsonl")))
        await hits.stop()
    finally:
        with ledger.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE events DROP CONSTRAINT test_only")
    assert '"refuse"' in (tmp_path / "refused.txt").read_text()


async def test_memory_is_bounded_and_what_is_lost_is_counted(
    ledger: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sent(ledger)
    monkeypatch.setattr(hits_module, "_MOST_IN_MEMORY", 10)
    hits = Hits(Ledger(ledger), Journal(tmp_path))
    for _ in range(15):
        hits.put(hit(ledger))
    assert hits.figures() == {"in_memory": 10, "bytes": 0, "lost": 5}
    await settled(hits)
    assert rows(ledger, "SELECT count(*) FROM events WHERE campaign_id IS NULL") == [(10,)]


async def test_the_same_hit_replayed_twice_is_one_event(ledger: Engine, tmp_path: Path):
    sent(ledger)
    lines = [hit(ledger).as_line() for _ in range(5)]
    for _ in range(3):
        journal = Journal(tmp_path)
        journal.append(lines)
        journal.close()
    (tmp_path / "1.jsonl").write_text('{"id": 7}\n{"id": "x", "kind": "opened"}\n')
    hits = Hits(Ledger(ledger), Journal(tmp_path))
    hits.start()
    await asyncio.to_thread(until, lambda: not list(tmp_path.glob("*.jsonl")))
    await hits.stop()
    assert rows(ledger, "SELECT count(*) FROM events WHERE campaign_id IS NULL") == [(5,)]
