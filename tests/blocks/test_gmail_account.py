"""A Gmail account signs in at Google, keeps what came of it, and keeps its secrets to itself."""

import asyncio
import json
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect import settings as prefect_settings
from prefect.settings import temporary_settings
from prefect.testing.utilities import prefect_test_harness
from pydantic import SecretStr, ValidationError

from blocks.gmail_account import GmailAccount, alone_with
from deployments import environment
from messaging.channels.gmail_login import Tokens
from messaging.errors import AccountError, InputError
from messaging.settings import settings
from messaging.storage.engine import engine
from schemas.states import Outcome
from tasks.gmail_login import Login, Terminal, log_in
from tests.fakes.gmail import CLIENT_ID, CLIENT_SECRET, MAILBOX, FakeGoogle, end_of
from tests.messaging.channels.gmail_provider import a_message, dispatched

# Prefect leaves sockets of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

SENDER = f"Shop <{MAILBOX}>"
OUTFLOW = Path(sys.executable).with_name("outflow")
BROWSER = """#!{python}
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1]).read().decode(), file=sys.stderr)
"""


@pytest.fixture
async def google(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    async with FakeGoogle().running() as running:
        yield running


@pytest.fixture(scope="module")
def prefect_api() -> Iterator[str]:
    """A Prefect server of our own; its address."""
    environment.apply()
    with (
        tempfile.TemporaryDirectory(prefix="outflow-prefect-") as folder,
        temporary_settings({prefect_settings.PREFECT_HOME: folder}),
        prefect_test_harness(server_startup_timeout=180),
    ):
        yield str(prefect_settings.PREFECT_API_URL.value())


@pytest.fixture
def installation(prefect_api: str, database_url: str, tmp_path: Path, monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    monkeypatch.setenv("OUTFLOW_DATABASE_URL", database_url)
    monkeypatch.setenv("OUTFLOW_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    engine.cache_clear()
    yield
    engine().dispose()
    engine.cache_clear()
    settings.cache_clear()


def account(google: FakeGoogle, **values: object) -> GmailAccount:
    usual = {"sender": SENDER, "endpoint": google.url, "token_uri": f"{google.url}/token"}
    return GmailAccount(**(usual | values))


def signed_in(google: FakeGoogle, **values: object) -> GmailAccount:
    usual = {
        "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "refresh_token": google.a_refresh_token(),
    }  # fmt: skip
    return account(google, **(usual | values))


async def sent(by: GmailAccount) -> Outcome:
    async with by.open() as pool, pool.sender() as sender:
        return (await sender.send(a_message(), dispatched)).outcome


def test_every_field_is_described_in_a_sentence():
    silent = {
        name for name, field in GmailAccount.model_fields.items() if not field.description.endswith(".")
    }

    assert silent == set()
    assert GmailAccount.get_description().endswith(".")
    assert GmailAccount.get_block_type_slug() == "gmail-account"


def test_its_secrets_show_nowhere():
    secrets = ("client_secret", "refresh_token", "access_token", "service_account")
    made = GmailAccount(sender=SENDER, **{name: SecretStr(f"canary-{name}") for name in secrets})

    shown = [repr(made), str(made), made.model_dump_json(), repr(made._settings()), repr(made.tokens)]  # noqa: SLF001 - what would stand in a traceback
    assert not any("canary" in text for text in shown)


@pytest.mark.parametrize(
    "values", [{"sender": "nobody"}, {"units_per_minute": 99}, {"connections": 0}, {"messages_per_day": 0}]
)
def test_what_cannot_be_an_account_is_refused(values: dict):
    with pytest.raises(ValidationError):
        GmailAccount(**({"sender": SENDER} | values))


async def test_verifying_says_whose_mailbox_it_is_and_sends_nothing(google: FakeGoogle):
    said = await signed_in(google).verify()
    other = await signed_in(google, sender="Shop <shop@example.com>", units_per_minute=15_000).verify()

    assert said == (
        "signed in at Google as news@example.com, may send; "
        "at most 60 messages a minute and 2,000 in 24 hours"
    )
    assert "; shop@example.com must be among that mailbox's addresses to send as; at most 150" in other
    assert google.messages == []


async def test_verifying_without_a_login_says_what_to_run(google: FakeGoogle):
    with pytest.raises(AccountError, match="run outflow gmail login NAME"):
        await account(google).verify()


async def test_a_service_account_sends(google: FakeGoogle):
    by = account(google, service_account=google.key_file, subject=MAILBOX)

    assert "signed in at Google as news@example.com, may send" in await by.verify()
    assert await sent(by) is Outcome.ACCEPTED


@pytest.mark.usefixtures("installation")
async def test_a_stored_account_keeps_its_hours_token_for_the_next_process(google: FakeGoogle):
    await signed_in(google).asave("hour", overwrite=True)

    for _ in range(2):
        assert await sent(await GmailAccount.aload("hour")) is Outcome.ACCEPTED

    assert google.asked("/token") == 1
    assert (await GmailAccount.aload("hour")).sender == SENDER


@pytest.mark.usefixtures("installation")
async def test_a_refresh_token_that_google_changes_reaches_the_block(google: FakeGoogle):
    google.rotates = True
    google.token_seconds = 60
    await signed_in(google).asave("rotating", overwrite=True)

    for _ in range(3):
        assert await sent(await GmailAccount.aload("rotating")) is Outcome.ACCEPTED

    stored = (await GmailAccount.aload("rotating")).tokens
    assert {stored.refresh_token} == google.refresh_tokens


@pytest.mark.usefixtures("installation")
async def test_processes_that_renew_at_once_lose_no_refresh_token(google: FakeGoogle):
    google.rotates = True
    await signed_in(google).asave("busy", overwrite=True)
    accounts = [await GmailAccount.aload("busy") for _ in range(4)]

    outcomes = await asyncio.gather(*(sent(by) for by in accounts), return_exceptions=True)

    # Whoever comes late with the changed token reads the stored one, or is refused; the one stored is good.
    assert Outcome.ACCEPTED in outcomes
    assert all(o is Outcome.ACCEPTED or isinstance(o, AccountError) for o in outcomes)
    assert (await GmailAccount.aload("busy")).tokens.refresh_token in google.refresh_tokens
    assert await sent(await GmailAccount.aload("busy")) is Outcome.ACCEPTED


@pytest.mark.usefixtures("installation")
async def test_a_login_of_meanwhile_is_not_overwritten(google: FakeGoogle):
    await signed_in(google, refresh_token=(first := google.a_refresh_token())).asave("two", overwrite=True)
    old = await GmailAccount.aload("two")
    await signed_in(google, refresh_token=(second := google.a_refresh_token())).asave("two", overwrite=True)

    assert await sent(old) is Outcome.ACCEPTED

    assert first != second
    assert (await GmailAccount.aload("two")).tokens == Tokens(second)


@pytest.mark.usefixtures("installation")
async def test_changes_of_an_accounts_tokens_wait_for_each_other():
    order = []

    async def second() -> None:
        async with alone_with("main"):
            order.append("second")

    async with alone_with("main"):
        waiting = asyncio.create_task(second())
        async with alone_with("another"):
            await asyncio.sleep(0.3)
        order.append("first")
    await waiting

    assert order == ["first", "second"]


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def client_file(google: FakeGoogle, tmp_path: Path) -> Path:
    file = tmp_path / "client.json"
    file.write_text(google.client_file)
    return file


async def login(*arguments: str | Path, browser: Path | None = None, brings: bool = False) -> Done:
    """Run the command, with a browser on this machine or with a person who `brings` the address."""
    process = await asyncio.create_subprocess_exec(
        OUTFLOW, "gmail", "login", *(str(argument) for argument in arguments), "--json",
        env=os.environ | ({"BROWSER": f"{browser} %s"} if browser else {}),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    seen = b""
    if brings:
        while not (page := re.search(rb"http://\S+/auth\S+", seen)):
            line = await process.stderr.readline()
            assert line, seen.decode()
            seen += line
        process.stdin.write(f"{await end_of(page[0].decode())}\n".encode())
    out, err = await process.communicate()
    return Done(process.returncode, out.decode(), (seen + err).decode())


@pytest.mark.usefixtures("installation")
async def test_a_login_makes_an_account_that_sends(google: FakeGoogle, client_file: Path, tmp_path: Path):
    browser = tmp_path / "browser"
    browser.write_text(BROWSER.format(python=sys.executable))
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)

    done = await login("made", "--client-secrets", client_file, "--sender", SENDER, browser=browser)

    assert done.code == 0, done.err
    assert json.loads(done.out) == {"account": "gmail-account/made", "signed_in_as": MAILBOX}
    assert "You can close this page" in done.err
    assert "canary" not in done.out + done.err
    made = await GmailAccount.aload("made")
    assert await sent(made.model_copy(update={"endpoint": google.url})) is Outcome.ACCEPTED


@pytest.mark.usefixtures("installation")
async def test_a_login_without_a_browser_keeps_what_the_account_was(google: FakeGoogle, client_file: Path):
    before = signed_in(google, refresh_token="withdrawn", units_per_minute=15_000, connections=1)
    await before.asave("kept", overwrite=True)

    done = await login("kept", "--no-browser", "--client-secrets", client_file, brings=True)

    assert done.code == 0, done.err
    assert "canary-refresh" not in done.out + done.err
    assert "canary-access" not in done.out + done.err
    after = await GmailAccount.aload("kept")
    assert (after.sender, after.units_per_minute, after.connections) == (SENDER, 15_000, 1)
    assert await sent(after) is Outcome.ACCEPTED


@pytest.mark.usefixtures("installation")
async def test_a_service_accounts_key_signs_in_without_a_person(google: FakeGoogle, tmp_path: Path):
    await account(google).asave("domain", overwrite=True)
    key = tmp_path / "key.json"
    key.write_text(google.key_file)

    done = await login("domain", "--client-secrets", key, "--subject", MAILBOX)

    assert done.code == 0, done.err
    assert json.loads(done.out)["signed_in_as"] == MAILBOX
    assert "PRIVATE KEY" not in done.out + done.err
    assert await sent(await GmailAccount.aload("domain")) is Outcome.ACCEPTED


@pytest.mark.usefixtures("installation")
@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (Login("Not A Name", sender=SENDER), "no name for an account"),
        (Login("absent"), "there is no account gmail-account/absent yet: give --sender"),
        (Login("absent", sender="nobody"), "--sender must be an address"),
        (Login("absent", sender=SENDER), "give --client-secrets FILE"),
        (Login("absent", Path("nowhere.json"), SENDER), "nowhere.json cannot be read"),
        (Login("absent", Path(__file__), SENDER), "of type Desktop app"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_login_that_cannot_be_is_refused_before_a_page_opens(asked: Login, sentence: str):
    pages = []

    with pytest.raises(InputError, match=re.escape(sentence)):
        await log_in(asked, Terminal(pages.append))

    assert pages == []


@pytest.mark.usefixtures("installation")
async def test_a_refused_login_changes_nothing(google: FakeGoogle, client_file: Path):
    await signed_in(google).asave("unchanged", overwrite=True)
    before = await GmailAccount.aload("unchanged")
    google.consents = False
    pages = []

    def bring() -> str:
        return asyncio.run(end_of(pages[0]))

    with pytest.raises(AccountError, match="access_denied: nothing was changed"):
        await log_in(Login("unchanged", client_file), Terminal(pages.append, bring))

    assert (await GmailAccount.aload("unchanged")).tokens == before.tokens
