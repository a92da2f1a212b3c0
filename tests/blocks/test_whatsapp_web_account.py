"""A WhatsApp Web account is off until its owner turns it on, keeps its session under its name, and sends."""

import json

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from blocks.whatsapp_web_account import WhatsAppWebAccount
from messaging.channels.base import Message, Quota
from messaging.errors import AccountError, InputError
from schemas.accounts import CHANNELS
from schemas.states import Outcome
from tests.fakes.whatsapp_web import US
from tests.messaging.channels.whatsapp_web_provider import link, serving

PROXY = "http://someone:canary-Zq9-secret@127.0.0.1:3128"


def account(name: str | None = "shop", **values: object) -> WhatsAppWebAccount:
    made = WhatsAppWebAccount(**({"i_understand_the_risk": True} | values))
    made._block_document_name = name  # noqa: SLF001 - as Prefect does when it loads one
    return made


@pytest.fixture
def ours(ledger: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the block find the ledger of the tests, without a session in it."""
    monkeypatch.setattr("blocks.whatsapp_web_account.engine", lambda: ledger)
    with ledger.begin() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS whatsapp_web CASCADE"))


def test_it_is_described_and_named_as_references_name_it():
    fields = WhatsAppWebAccount.model_fields

    assert [name for name, field in fields.items() if not (field.description or "").endswith(".")] == []
    assert WhatsAppWebAccount.get_description().endswith(".")
    assert WhatsAppWebAccount.get_block_type_slug() in CHANNELS
    assert account().sender_header == ""


def test_its_proxy_shows_nowhere():
    saved = account(proxy=SecretStr(PROXY))

    shown = [repr(saved), str(saved), saved.model_dump_json(), json.dumps(saved.model_dump(mode="json"))]
    shown.append(repr(saved._settings()))  # noqa: SLF001 - what would stand in a traceback
    assert not any("canary" in text for text in shown)


async def test_it_is_off_until_its_owner_understands_the_risk():
    off = WhatsAppWebAccount()
    off._block_document_name = "shop"  # noqa: SLF001 - as Prefect does when it loads one
    refusal = "break WhatsApp's terms .* outflow account add whatsapp-web shop i_understand_the_risk=true"

    with pytest.raises(InputError, match=refusal):
        off.open()
    with pytest.raises(InputError, match=refusal):
        off.pairing()
    with pytest.raises(InputError, match=refusal):
        await off.verify()


def test_an_account_without_a_name_has_no_session():
    with pytest.raises(InputError, match="save the account first"):
        account(None).open()


@pytest.mark.usefixtures("ours")
async def test_verifying_before_pairing_says_how_to_pair():
    async with serving() as server:
        with pytest.raises(AccountError, match="outflow whatsapp pair shop"):
            await account(proxy=SecretStr(server.proxy)).verify()


@pytest.mark.usefixtures("ours")
async def test_an_open_account_sends():
    async def marked() -> None:
        return None

    content = b'{"type":"text","text":{"body":"Hello"}}'
    async with serving() as server:
        await link(server, "shop")
        saved = account(proxy=SecretStr(server.proxy), messages_per_day=40)
        met = await saved.verify()
        async with saved.open() as pool, pool.sender() as sender:
            receipt = await sender.send(Message(1, "", "+447400123456", content), marked)
            quota = await pool.quota()

    assert met == f"+{US} is linked and ready; at most 40 messages in 24 hours"
    assert receipt.outcome is Outcome.ACCEPTED
    assert quota == Quota(0.1, 40)
