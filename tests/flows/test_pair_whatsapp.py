"""Pairing shows a code on the run's page, replaces it when it has run out, and leaves none behind."""

import asyncio
import contextlib
import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import segno
from prefect.artifacts import Artifact
from pydantic import SecretStr
from sqlalchemy import Engine, text

from blocks.whatsapp_web_account import WhatsAppWebAccount
from flows.pair_whatsapp import pair_whatsapp
from messaging.channels import whatsapp_web
from messaging.errors import AccountError, InputError
from outflow.whatsapp import groups, pair
from tasks.pairing import NOTHING
from tests.fakes.whatsapp_web import US, WhatsAppWeb
from tests.messaging.channels.whatsapp_web_provider import serving

# Prefect leaves sockets and streams of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

SHOP = "whatsapp-web-account/shop"
GROUP = "120363025246125486@g.us"
KEY = "pair-whatsapp-web-account-shop"
PICTURE = "data:image/png"


@pytest.fixture(autouse=True)
def no_session(ledger: Engine) -> None:
    with ledger.begin() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS whatsapp_web CASCADE"))


@contextlib.asynccontextmanager
async def with_account() -> AsyncIterator[WhatsAppWeb]:
    async with serving() as running:
        account = WhatsAppWebAccount(i_understand_the_risk=True, proxy=SecretStr(running.proxy))
        await account.asave("shop", overwrite=True)
        yield running


@pytest.fixture
async def server() -> AsyncIterator[WhatsAppWeb]:
    async with with_account() as running:
        yield running


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[str], object]], None]]:
    """Do something with each code that is drawn, as the camera of a phone reads it."""
    draw = segno.make_qr

    def look(then: Callable[[str], object]) -> None:
        def drawn(code: str) -> segno.QRCode:
            then(code)
            return draw(code)

        monkeypatch.setattr(segno, "make_qr", drawn)

    return look


@pytest.fixture
def stored(prefect_database: Path) -> Callable[[], Awaitable[str]]:
    """Read whatever Prefect keeps as text, in all its tables, once the end of the artifact is among it."""
    ended = """SELECT count(*) FROM events
        WHERE event = 'prefect.artifact-collection.deleted' AND resource LIKE '%' || ? || '%'"""
    with contextlib.closing(sqlite3.connect(prefect_database)) as connection:
        before = connection.execute(ended, [KEY]).fetchone()

    async def read() -> str:
        with contextlib.closing(sqlite3.connect(prefect_database)) as connection:
            async with asyncio.timeout(60):
                while connection.execute(ended, [KEY]).fetchone() == before:  # noqa: ASYNC110 - another process writes
                    await asyncio.sleep(0.3)
            return "\n".join(connection.iterdump())

    return read


async def picture_other_than(known: str | None) -> str:
    async with asyncio.timeout(60):
        while (found := await Artifact.aget(KEY)) is None or found.data in {known, NOTHING}:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.1)
    return found.data


async def test_the_code_is_a_picture_that_follows_the_code_and_goes_with_it(
    server: WhatsAppWeb, seen, stored
):
    codes = []
    seen(codes.append)
    pairing = asyncio.create_task(pair_whatsapp(SHOP))
    first = await picture_other_than(None)
    await server.rotate()
    second = await picture_other_than(first)
    assert first.startswith(PICTURE)
    assert second.startswith(PICTURE)
    await server.scan(codes[-1])
    await pairing

    assert await Artifact.aget(KEY) is None
    kept = await stored()
    assert PICTURE not in kept
    assert "linked_devices" not in kept
    assert US not in kept


async def test_what_nobody_scans_ends_in_a_sentence_and_leaves_no_code(
    server: WhatsAppWeb, stored, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(whatsapp_web.pairing, "__defaults__", (6.0,))
    with pytest.raises(AccountError, match="nobody scanned"):
        await pair_whatsapp(SHOP)

    assert server.connects == 0
    assert PICTURE not in await stored()


async def test_an_account_that_is_off_shows_no_code(server: WhatsAppWeb):
    await WhatsAppWebAccount(proxy=SecretStr(server.proxy)).asave("shop", overwrite=True)
    with pytest.raises(InputError, match="i_understand_the_risk=true"):
        await pair_whatsapp(SHOP)

    assert await Artifact.aget(KEY) is None


async def test_another_kind_of_account_needs_no_pairing(account, server: WhatsAppWeb):
    smtp = await account(25)
    with pytest.raises(InputError, match="only a whatsapp-web-account/NAME"):
        await pair_whatsapp(smtp)

    assert server.connects == 0


@pytest.fixture
def elsewhere() -> Iterator[tuple[WhatsAppWeb, asyncio.AbstractEventLoop]]:
    """Run the stand-in on another thread: a command has this one to itself."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    serving_there = with_account()
    server = asyncio.run_coroutine_threadsafe(serving_there.__aenter__(), loop).result(60)
    yield server, loop
    asyncio.run_coroutine_threadsafe(serving_there.__aexit__(None, None, None), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_the_commands_show_the_code_in_the_terminal_and_then_the_groups(
    elsewhere, seen, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    server, loop = elsewhere
    codes = []

    def scan(code: str) -> None:
        codes.append(code)
        asyncio.run_coroutine_threadsafe(server.scan(code), loop)

    seen(scan)
    monkeypatch.setattr("outflow.whatsapp.reach_prefect", lambda: None)  # the tests' own is chosen already
    pair("shop", as_json=True)
    first = capsys.readouterr()
    pair("shop")
    second = capsys.readouterr()

    groups("shop")
    none = capsys.readouterr().out
    server.groups = {GROUP: ["447400123456"]}
    groups("shop")
    listed = capsys.readouterr().out
    groups("shop", as_json=True)

    assert none == "the account is in no group\n"
    assert listed == f"{GROUP}  Neighbours (2 members)\n"
    found = {"address": GROUP, "name": "Neighbours", "members": 2}
    assert json.loads(capsys.readouterr().out) == {"groups": [found]}
    assert json.loads(first.out) == {"account": SHOP, "state": "ready"}
    assert "Linked devices" in first.err
    assert "▄" in first.err
    assert second.out == f"{SHOP} is linked and ready\n"
    assert "▄" not in second.err
    assert len(codes) == 1
    assert codes[0] not in first.out + first.err
