"""Numbers are looked up on WhatsApp without anything being sent."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Engine, text

from messaging.audience.verifying_numbers import ask_whatsapp
from messaging.channels.smtp import SmtpPool, SmtpSettings
from messaging.channels.whatsapp_web import WhatsAppWebPool
from messaging.errors import InputError
from messaging.storage import whatsapp_numbers
from tests.fakes.whatsapp_web import WhatsAppWeb
from tests.messaging.channels.whatsapp_web_provider import link, serving, settings_of

ONE = "+447400123456"
MANY = [f"+4474001234{n:02}" for n in range(45)]


@pytest.fixture
async def server(ledger: Engine) -> AsyncIterator[WhatsAppWeb]:
    async with serving() as running:
        with ledger.begin() as connection:
            connection.execute(text("DROP SCHEMA IF EXISTS whatsapp_web CASCADE"))
        await link(running, "shop")
        yield running


async def test_answers_are_kept_and_nothing_is_sent(server: WhatsAppWeb, ledger: Engine):
    server.unregistered = {ONE.lstrip("+")}
    async with WhatsAppWebPool(settings_of(server, "shop", check_days=30), lambda: ledger) as pool:
        await ask_whatsapp(pool, [*MANY, ONE], between=(0, 0))

    with ledger.begin() as connection:
        known = whatsapp_numbers.known(connection, [*MANY, ONE], 30)
    assert known == dict.fromkeys(MANY, True) | {ONE: False}
    assert not server.sent


async def test_an_account_of_another_kind_gets_a_sentence():
    with pytest.raises(InputError, match="only a whatsapp-web-account"):
        await ask_whatsapp(SmtpPool(SmtpSettings("127.0.0.1", 1, "none")), [ONE])
