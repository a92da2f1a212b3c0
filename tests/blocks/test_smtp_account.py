"""An SMTP account says what it is, keeps its secret to itself, and sends."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

import blocks
from blocks import SmtpAccount
from messaging import sandbox
from messaging.channels.base import Message
from messaging.errors import AccountError, InputError, NotSent
from schemas.states import Outcome
from tests.fakes.scripted_smtp import ScriptedSmtp

PASSWORD = "canary-Zq9-secret"
SENDER = "Shop <news@shop.example.org>"
KINDS = [getattr(blocks, name) for name in blocks.__all__]


def account(port: int = 587, **values: object) -> SmtpAccount:
    return SmtpAccount(host="127.0.0.1", port=port, security="none", sender=SENDER, **values)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described_in_a_sentence(kind: type):
    silent = {
        name for name, field in kind.model_fields.items() if not (field.description or "").endswith(".")
    }

    assert silent == set()
    assert kind.get_description().endswith(".")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_names_its_slug(kind: type):
    assert kind.get_block_type_slug() == kind._block_type_slug  # noqa: SLF001 - chosen, not derived: references hold it
    assert kind.get_block_type_slug().endswith(("-account", "-mailbox", "-queue", "-target"))


def test_its_password_shows_nowhere():
    saved = account(username="news", password=SecretStr(PASSWORD))

    shown = [repr(saved), str(saved), saved.model_dump_json(), json.dumps(saved.model_dump(mode="json"))]
    assert not any(PASSWORD in text for text in shown)
    assert PASSWORD not in repr(saved._settings())  # noqa: SLF001 - what would stand in a traceback


@pytest.mark.parametrize("given", ["", None, " "])
def test_without_a_return_path_bounces_go_to_the_sender(given: str | None):
    assert account().bounce_address == account(return_path=given).bounce_address == ""


def test_a_return_path_is_where_bounces_go():
    assert account(return_path=" bounces@shop.example.org ").bounce_address == "bounces@shop.example.org"


@pytest.mark.parametrize(
    "bad", ["bounces", "Shop <bounces@shop.example.org>", f"{'b' * 32}@shop.example.org"]
)
def test_a_return_path_that_no_message_could_add_to_is_refused_with_a_sentence(bad: str):
    with pytest.raises(ValidationError, match="return_path must"):
        account(return_path=bad)


async def test_verifying_says_what_was_met_and_sends_nothing():
    smtp = ScriptedSmtp(logins={"news": PASSWORD})
    async with smtp.running():
        without = await account(smtp.port).verify()
        met = await account(smtp.port, username="news", password=SecretStr(PASSWORD)).verify()

    assert without == f"fake.example:{smtp.port} answers, not encrypted, no login"
    assert met == f"fake.example:{smtp.port} answers, not encrypted, logged in as news"
    assert "MAIL" not in smtp.verbs()


async def test_verifying_a_refused_login_says_so_without_the_password():
    smtp = ScriptedSmtp(logins={"news": "another"})  # it repeats the password that it refuses
    async with smtp.running():
        with pytest.raises(AccountError, match="535") as refusal:
            await account(smtp.port, username="news", password=SecretStr(PASSWORD)).verify()

    assert PASSWORD not in str(refusal.value)


async def test_verifying_a_server_that_is_away_says_so():
    with pytest.raises(NotSent, match=r"127\.0\.0\.1:1, connecting"):
        await account(1).verify()


async def test_a_user_name_without_a_password_is_refused_in_words():
    with pytest.raises(InputError, match="both a user name and a password"):
        await account(username="news").verify()


async def test_an_open_account_sends(tmp_path: Path):
    async def marked() -> None:
        return None

    with sandbox.running(tmp_path / "outbox") as server:
        async with account(server.port, connections=1).open() as pool, pool.sender() as sender:
            message = Message(1, "news@shop.example.org", "ada@example.org", b"Subject: Hi\r\n\r\nHello\r\n")
            receipt = await sender.send(message, marked)
        [received] = (server.outbox / "new").iterdir()

        assert receipt.outcome is Outcome.ACCEPTED
        assert "X-Sandbox-Rcpt-To: ada@example.org" in received.read_text()
    assert pool.connections == 1
