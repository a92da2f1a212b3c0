"""A session pairs by a scanned code, resumes without one, has one owner, and says why it cannot go on."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, text

from messaging.channels.whatsapp_web import WhatsAppWebPool, pairing, verify
from messaging.channels.whatsapp_web_session import Step, WhatsAppWebSession
from messaging.channels.whatsapp_web_settings import WhatsAppWebSettings
from messaging.channels.whatsapp_web_store import owned
from messaging.errors import AccountError, InputError, NotSent
from schemas.states import AccountState
from tests.fakes.whatsapp_web import US, WhatsAppWeb
from tests.fakes.whatsapp_web_wire import Node
from tests.messaging.channels.whatsapp_web_provider import link, serving, settings_of, until

pytestmark = pytest.mark.usefixtures("migrated")


@pytest.fixture
async def server() -> AsyncIterator[WhatsAppWeb]:
    async with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def no_sessions(migrated: Engine) -> None:
    """Forget every account of the test before."""
    with migrated.begin() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS whatsapp_web CASCADE"))


@pytest.fixture
def session(database_url: str, server: WhatsAppWeb):
    """Make a session of an account."""

    def make(account: str = "shop", **how: object) -> WhatsAppWebSession:
        return WhatsAppWebSession(settings_of(server, account), database_url, **how)

    return make


async def steps_of(settings: WhatsAppWebSettings, engine: Engine) -> AsyncIterator[Step]:
    async with contextlib.aclosing(pairing(settings, lambda: engine)) as steps:
        async for step in steps:
            yield step


async def test_pairing_shows_a_code_then_follows_it_to_ready(server: WhatsAppWeb, migrated: Engine):
    states = []
    async for step in steps_of(settings_of(server, "shop"), migrated):
        states.append(step.state)
        assert bool(step.code) == (step.state is AccountState.SCAN_QR)
        assert step.code not in repr(step) or not step.code
        if step.code:
            await server.scan(step.code)

    assert states == [
        AccountState.INITIALIZING, AccountState.SCAN_QR, AccountState.AUTHENTICATED, AccountState.READY,
    ]  # fmt: skip


async def test_a_code_that_has_run_out_is_followed_by_the_next(server: WhatsAppWeb, migrated: Engine):
    codes = []
    async for step in steps_of(settings_of(server, "shop"), migrated):
        if step.code:
            codes.append(step.code)
            await (server.rotate() if len(codes) == 1 else server.scan(step.code))

    assert len(set(codes)) == 2


async def test_a_code_that_nobody_scans_ends_in_a_sentence(server: WhatsAppWeb, migrated: Engine):
    steps = pairing(settings_of(server, "shop"), lambda: migrated, seconds=3)
    with pytest.raises(AccountError, match=r"nobody scanned .* outflow whatsapp pair shop"):
        async for _ in steps:
            pass


async def test_what_was_paired_resumes_without_a_code(server: WhatsAppWeb, migrated: Engine):
    await link(server, "shop")

    states = [step.state async for step in steps_of(settings_of(server, "shop"), migrated)]

    assert states == [AccountState.INITIALIZING, AccountState.READY]
    assert await verify(settings_of(server, "shop"), lambda: migrated) == f"+{US}"


async def test_each_account_has_its_own_device(server: WhatsAppWeb, session):
    await link(server, "shop")
    await link(server, "office")
    assert len(server.world.devices) >= 2
    async with session("shop") as shop, session("office") as office:
        await asyncio.gather(shop.ready(), office.ready())
        await server.replaces()  # only those that are connected, both
        await until(lambda: shop.over and office.over)

    assert server.connects == 4  # one at pairing and one now, each


async def test_an_account_that_was_never_paired_says_how_to(session):
    async with session() as new:
        with pytest.raises(AccountError, match="outflow whatsapp pair shop"):
            await new.ready()
        assert new.steps.get_nowait() == Step(AccountState.SCAN_QR)  # a state, and no code


async def test_a_second_owner_is_refused_until_the_first_ends(server: WhatsAppWeb, session):
    await link(server, "shop")
    async with session() as first:
        await first.ready()
        async with session() as second:
            with pytest.raises(AccountError, match="in use by another process"):
                await second.ready()
        assert first.state is AccountState.READY
    async with session() as third:
        await third.ready()


async def test_a_killed_session_is_noticed_and_its_lock_is_free(server: WhatsAppWeb, session):
    await link(server, "shop")
    async with session() as first:
        await first.ready()
        os.kill(first._process.pid, signal.SIGKILL)  # noqa: SLF001 - the worst that can happen
        await until(lambda: first.over)
        assert isinstance(first.over, NotSent)
        async with session() as second:
            await second.ready()


async def test_an_unlinked_account_has_to_be_paired_again(server: WhatsAppWeb, session):
    await link(server, "shop")
    async with session() as open_session:
        await open_session.ready()
        await server.removes_device()
        await until(lambda: open_session.over)
        assert open_session.state is AccountState.LOGGED_OUT
    async with session() as later:
        with pytest.raises(AccountError, match="pair it again with: outflow whatsapp pair shop"):
            await later.ready()
        assert AccountState.SCAN_QR not in [
            later.steps.get_nowait().state for _ in range(later.steps.qsize())
        ]

    await link(server, "shop")
    async with session() as anew:
        await anew.ready()


async def test_a_struck_device_is_known_no_more_and_its_account_is_paired_with_a_new_one(
    database_url: str, server: WhatsAppWeb
):
    await link(server, "shop")
    with owned(database_url, "shop") as kept:
        struck, _ = kept.device()
        assert struck
        kept.strike(struck)
        assert kept.device() == (None, True)

    await link(server, "shop")
    with owned(database_url, "shop") as kept:
        assert kept.device()[0] not in {None, struck}


@pytest.mark.parametrize(
    ("refusal", "state", "sentence"),
    [
        ({"reason": "401"}, AccountState.LOGGED_OUT, "the phone has unlinked"),
        ({"reason": "403"}, AccountState.LOGGED_OUT, r"\(403\)"),
        ({"reason": "406"}, AccountState.BANNED, "has banned"),
        (
            {"reason": "402", "code": "101", "expire": "7200"},
            AccountState.BANNED,
            r"until 2\d{3}-\d\d-\d\d \d\d:\d\d UTC \(reason send to too many people\)",
        ),
        ({"reason": "405"}, AccountState.AUTHENTICATION_FAILED, "pip install --upgrade neonize"),
        ({"reason": "409"}, AccountState.AUTHENTICATION_FAILED, "bad user agent"),
    ],
    ids=["logged out", "locked", "banned", "banned for a while", "outdated", "refused"],
)
async def test_a_refused_connection_says_why(
    server: WhatsAppWeb, session, refusal: dict[str, str], state: AccountState, sentence: str
):
    await link(server, "shop")
    server.login = Node("failure", refusal)
    async with session() as refused:
        with pytest.raises(AccountError, match=sentence) as error:
            await refused.ready()
        assert refused.state is state

    assert US not in str(error.value)


async def test_whatsapp_away_is_not_the_accounts_fault(database_url: str, server: WhatsAppWeb):
    await link(server, "shop")
    settings = WhatsAppWebSettings("shop", proxy="http://127.0.0.1:1", connecting=20)
    async with WhatsAppWebSession(settings, database_url) as away:
        with pytest.raises(NotSent, match="cannot be reached"):
            await away.ready()


@pytest.mark.parametrize(
    ("module", "sentence"),
    [("neonize", r"pip install 'outflow\[whatsapp-web\]'"), ("magic", "apt install libmagic1")],
)
async def test_a_missing_library_is_named(
    database_url: str, server: WhatsAppWeb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    module: str, sentence: str,
):  # fmt: skip
    kind = "ModuleNotFoundError" if module == "neonize" else "ImportError"
    (tmp_path / f"{module}.py").write_text(f"raise {kind}('failed to find it')")
    known = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    monkeypatch.setenv("PYTHONPATH", known)
    async with WhatsAppWebSession(settings_of(server, "shop"), database_url, pairs=True) as without:
        with pytest.raises(InputError, match=sentence):
            await without.ready()


def test_importing_the_channel_does_not_import_the_library():
    code = "import sys, messaging.channels.whatsapp_web; print('neonize' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


def test_the_library_is_told_a_database_as_its_driver_wants_it(database_url: str):
    with owned(database_url, "shop") as kept:
        address = kept.address

    assert address.startswith("postgres://postgres@/postgres?search_path=whatsapp_web&")
    assert "host=%2F" in address


async def test_its_tables_do_not_mix_with_ours(server: WhatsAppWeb, migrated: Engine):
    await link(server, "shop")
    with migrated.connect() as connection:
        where = (
            "SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_name LIKE 'whatsmeow%'"
        )
        assert connection.execute(text(where)).scalars().all() == ["whatsapp_web"]


def test_a_database_that_is_away_is_not_the_accounts_fault():
    with pytest.raises(psycopg.OperationalError), owned("postgresql://127.0.0.1:1/nowhere", "shop"):
        pass


async def test_a_pool_without_a_message_starts_nothing(server: WhatsAppWeb, migrated: Engine):
    async with WhatsAppWebPool(settings_of(server, "shop"), lambda: migrated) as pool:
        quota = await pool.quota()
        assert pool.state is AccountState.DISCONNECTED

    assert (quota.rate, quota.per_day) == (0.1, 100)
    assert server.connects == 0
