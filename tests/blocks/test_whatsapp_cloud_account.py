"""A WhatsApp Cloud account keeps its secrets to itself, says what Meta says of it, and sends."""

import json

import pytest
from pydantic import SecretStr, ValidationError

from blocks.whatsapp_cloud_account import WhatsAppCloudAccount
from messaging.channels.base import Message, Quota
from messaging.errors import AccountError, InputError, NotSent
from schemas.accounts import CHANNELS
from schemas.states import Outcome
from tests.fakes.whatsapp_cloud import CloudApi

SECRETS = {name: f"canary-{name}-Zq9" for name in ("token", "app_secret", "verify_token")}


def account(server: CloudApi | None = None, **values: object) -> WhatsAppCloudAccount:
    usual = {"phone_number_id": "106540352242922", "token": SecretStr("EAAG")}
    if server is not None:
        usual = {"phone_number_id": server.phone_number_id, "token": SecretStr(server.token)}
        usual["endpoint"] = server.url
    return WhatsAppCloudAccount(**(usual | values))


def test_it_is_described_and_named_as_references_name_it():
    fields = WhatsAppCloudAccount.model_fields

    assert [name for name, field in fields.items() if not (field.description or "").endswith(".")] == []
    assert WhatsAppCloudAccount.get_block_type_slug() in CHANNELS
    assert account().sender_header == ""


def test_its_secrets_show_nowhere():
    saved = account(**{name: SecretStr(value) for name, value in SECRETS.items()})

    shown = [repr(saved), str(saved), saved.model_dump_json(), json.dumps(saved.model_dump(mode="json"))]
    shown.append(repr(saved._settings()))  # noqa: SLF001 - what would stand in a traceback
    assert not any(secret in text for secret in SECRETS.values() for text in shown)


async def test_verifying_says_what_was_met_and_sends_nothing():
    async with CloudApi().running() as server:
        met = await account(server).verify()

        assert met == (
            "Example Shop answers, quality GREEN, people in 24 hours TIER_2K, throughput STANDARD, "
            "code verification VERIFIED, name APPROVED"
        )
        assert (server.taken, server.requests) == ([], 1)


async def test_an_older_api_that_does_not_tell_the_limit_is_verified_all_the_same():
    async with CloudApi(knows_messaging_limit=False).running() as server:
        met = await account(server).verify()

    assert met.startswith("Example Shop answers, quality GREEN, throughput STANDARD")


async def test_a_refused_token_is_told_without_the_token():
    async with CloudApi().running() as server:
        with pytest.raises(AccountError, match="system user") as refused:
            await account(server, token=SecretStr(SECRETS["token"])).verify()

    assert SECRETS["token"] not in str(refused.value)


async def test_a_wrong_phone_number_id_is_told():
    async with CloudApi().running() as server:
        with pytest.raises(AccountError, match="compare phone_number_id"):
            await account(server, phone_number_id="1").verify()

        assert server.requests == 1  # other fields would not help


async def test_a_server_that_is_away_is_told():
    with pytest.raises(NotSent, match=r"127\.0\.0\.1:1: "):
        await account(endpoint="http://127.0.0.1:1").verify()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"phone_number_id": "+15550783881"}, "digits only"),
        ({"token": SecretStr("two words")}, "without spaces"),
        ({"token": SecretStr("")}, "access token"),
        ({"api_version": "23"}, r"v23\.0"),
        ({"endpoint": "http://graph.facebook.com"}, "without TLS"),
        ({"endpoint": "graph.facebook.com"}, "endpoint is a URL"),
        ({"endpoint": "https://graph.facebook.com:port"}, "endpoint is a URL"),
        ({"endpoint": "https://ada:secret@graph.facebook.com"}, "endpoint is a URL"),
    ],
)
async def test_settings_that_cannot_work_are_refused_in_words(wrong, text):
    with pytest.raises(InputError, match=text):
        await account(**wrong).verify()


@pytest.mark.parametrize(
    "wrong",
    [{"connections": 0}, {"portfolio_limit": -1}, {"messages_per_second": 0}, {"phone_number_id": None}],
)
def test_a_form_with_impossible_numbers_is_refused(wrong):
    with pytest.raises(ValidationError):
        account(**wrong)


async def test_an_open_account_sends_at_its_own_rate():
    async def marked() -> None:
        return None

    content = b'{"type":"text","text":{"body":"Hello"}}'
    async with CloudApi().running() as server:
        async with account(server, connections=3, messages_per_second=20).open() as pool:
            async with pool.sender() as sender:
                receipt = await sender.send(Message(1, "", "+447400123456", content), marked)
            quota = await pool.quota()
        [taken] = server.taken

    assert (receipt.outcome, receipt.provider_message_id) == (Outcome.ACCEPTED, taken.wamid)
    assert (pool.connections, quota) == (3, Quota(rate=20, per_day=None))
