"""WhatsApp Web sends plain texts to registered numbers and groups, and stops when WhatsApp says so."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Engine, text

from messaging.channels.base import Message, Receipt
from messaging.channels.whatsapp_web import WhatsAppWebPool, groups
from messaging.channels.whatsapp_web_session import Group
from messaging.errors import AccountError, NotSent, Unknown
from messaging.storage import whatsapp_receipts
from schemas.states import AccountState, EventKind, Outcome
from tests.fakes.whatsapp_web import PLAIN, US, Manners, Sent, WhatsAppWeb
from tests.messaging.channels.whatsapp_web_provider import link, serving, settings_of, until

ADA, BO = "+447400123456", "+447400654321"
GROUP = "120363000000000001@g.us"


@pytest.fixture
async def server(ledger: Engine) -> AsyncIterator[WhatsAppWeb]:
    """Run a stand-in with a paired account."""
    async with serving() as running:
        with ledger.begin() as connection:
            connection.execute(text("DROP SCHEMA IF EXISTS whatsapp_web CASCADE"))
        await link(running, "shop")
        yield running


@pytest.fixture
def pool(server: WhatsAppWeb, ledger: Engine):
    def make(**others: object) -> WhatsAppWebPool:
        return WhatsAppWebPool(settings_of(server, "shop", **({"check_days": 30} | others)), lambda: ledger)

    return make


def message(recipient: str = ADA, body: str = "Hello", **content: object) -> Message:
    made = {"type": "text", "text": {"body": body, "preview_url": True}} | content
    return Message(7, "", recipient, json.dumps(made).encode(), "c0ffee")


class Dispatches:
    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> None:
        self.count += 1


async def send(pool: WhatsAppWebPool, *messages: Message) -> list[Receipt]:
    async with pool, pool.sender() as sender:
        return [await sender.send(one, Dispatches()) for one in messages]


async def test_a_text_arrives_as_it_was_written(server: WhatsAppWeb, pool):
    body = "Dear Ada 🎉,\nwrite to @447400999999 or https://shop.example.org/"

    first, second = await send(pool(), message(body=body), message(BO))

    assert server.sent == {
        first.provider_message_id: Sent("447400123456@s.whatsapp.net", body, PLAIN),  # no mention, no preview
        second.provider_message_id: Sent("447400654321@s.whatsapp.net", "Hello", PLAIN),
    }
    assert first.outcome is second.outcome is Outcome.ACCEPTED


async def test_a_number_without_an_account_is_not_written_to(server: WhatsAppWeb, pool):
    server.unregistered = {ADA.lstrip("+")}
    dispatch = Dispatches()
    async with pool() as opened, opened.sender() as sender:
        receipt = await sender.send(message(), dispatch)

    assert (receipt.outcome, receipt.unreachable, receipt.code) == (Outcome.REJECTED, True, 404)
    assert receipt.reply == "not registered on WhatsApp"
    assert (dispatch.count, server.sent) == (0, {})


async def test_numbers_are_asked_for_once_and_two_at_a_time(server: WhatsAppWeb, pool, ledger: Engine):
    server.unregistered = {BO.lstrip("+")}
    async with pool() as opened, opened.sender() as sender:
        following = message(BO)
        await sender.send(message(), Dispatches(), following)
        await sender.send(following, Dispatches())
    await send(pool(), message(), message(BO))
    assert server.checks == [[ADA, BO]]

    with ledger.begin() as connection:
        connection.execute(text("UPDATE numbers_on_whatsapp SET checked_at = now() - interval '31 days'"))
    server.unregistered = set()
    again = await send(pool(), message(BO))
    assert server.checks == [[ADA, BO], [BO]]
    assert again[0].outcome is Outcome.ACCEPTED


async def test_an_account_under_another_number_is_written_to_there(server: WhatsAppWeb, pool):
    server.other_numbers = {"5511987654321": "551187654321"}  # Brazil, an account from before the ninth digit
    for _ in range(2):
        await send(pool(), message("+5511987654321"), message("+5511987654321"))

    assert {sent.to for sent in server.sent.values()} == {"551187654321@s.whatsapp.net"}
    # What the database keeps would lead to the number itself: this one is asked for in each session.
    assert server.checks == [["+5511987654321"]] * 2


async def test_a_group_is_written_to_without_a_check(server: WhatsAppWeb, pool):
    server.groups = {GROUP: ["447400123456", "447400654321"]}

    [receipt] = await send(pool(), message(GROUP, "Hello all"))

    assert server.sent == {receipt.provider_message_id: Sent(GROUP, "Hello all", PLAIN)}
    assert server.checks == []


async def test_the_groups_of_an_account_are_listed_by_name(server: WhatsAppWeb, ledger: Engine):
    assert await groups(settings_of(server, "shop"), lambda: ledger) == []
    older = "447400123456-1400000000@g.us"
    server.groups = {GROUP: ["447400123456", "447400654321"], older: []}

    found = await groups(settings_of(server, "shop"), lambda: ledger)

    assert found == [Group(GROUP, "Neighbours", 3), Group(older, "Neighbours", 1)]


async def test_groups_that_whatsapp_does_not_tell_are_not_none(server: WhatsAppWeb, ledger: Engine):
    server.groups_error = 500
    with pytest.raises(NotSent, match="which groups"):
        await groups(settings_of(server, "shop"), lambda: ledger)


async def test_a_group_that_does_not_exist_leads_to_nobody(pool):
    [receipt] = await send(pool(), message(GROUP))

    assert (receipt.outcome, receipt.unreachable) == (Outcome.REJECTED, True)


@pytest.mark.parametrize(("error", "sentence"), [(429, "leave it alone for a day"), (463, "who wrote to it")])
async def test_a_warning_of_whatsapp_stops_the_account(server: WhatsAppWeb, pool, error: int, sentence: str):
    server.manners = Manners(error=error)
    async with pool() as opened, opened.sender() as sender:
        with pytest.raises(AccountError, match=sentence):
            await sender.send(message(), Dispatches())
        server.manners = Manners()
        dispatch = Dispatches()
        with pytest.raises(AccountError, match=sentence):
            await sender.send(message(), dispatch)

    assert (dispatch.count, server.sent) == (0, {})


async def test_asking_too_much_stops_the_account_too(server: WhatsAppWeb, pool):
    server.check_error = 429
    with pytest.raises(AccountError, match="429"):
        await send(pool(), message())


async def test_what_is_no_text_stops_the_campaign_and_loses_nobody(server: WhatsAppWeb, pool):
    with pytest.raises(AccountError, match="whatsapp-cloud-account"):
        await send(pool(), message(type="template"))

    assert server.connects == 1  # at pairing


async def test_a_message_without_an_answer_does_not_hold_up_the_next(server: WhatsAppWeb, pool):
    server.manners = Manners(answers=False)
    async with pool(patience=1) as opened, opened.sender() as sender:
        with pytest.raises(Unknown):
            await sender.send(message(), Dispatches())
        server.manners = Manners()
        receipt = await sender.send(message(BO), Dispatches())

    assert receipt.outcome is Outcome.ACCEPTED
    assert [sent.to.partition("@")[0] for sent in server.sent.values()] == [ADA[1:], BO[1:]]
    assert server.connects == 3  # at pairing, for the one, for the other


async def test_a_session_that_ends_amid_a_message_is_a_doubt(server: WhatsAppWeb, pool):
    server.manners = Manners(answers=False)
    async with pool() as opened, opened.sender() as sender:
        sending = asyncio.create_task(sender.send(message(), Dispatches()))
        await until(lambda: server.sent)
        await server.replaces()
        with pytest.raises(Unknown):
            await sending
        await until(lambda: opened.state is not AccountState.READY)
        with pytest.raises(AccountError, match="another program has taken over"):
            await sender.send(message(BO), Dispatches())


async def test_a_lost_connection_is_restored_by_itself(server: WhatsAppWeb, pool):
    async with pool() as opened, opened.sender() as sender:
        await sender.send(message(), Dispatches())
        session = await opened.session()
        while not session.steps.empty():
            session.steps.get_nowait()
        await server.hang_up()
        async with asyncio.timeout(20):
            states = [(await session.steps.get()).state for _ in range(2)]
        receipt = await sender.send(message(), Dispatches())

    assert states == [AccountState.DISCONNECTED, AccountState.READY]
    assert receipt.outcome is Outcome.ACCEPTED
    assert opened.state is AccountState.DISCONNECTED


async def test_whatsapp_that_comes_back_is_written_to(server: WhatsAppWeb, pool):
    proxy, server.proxy_open = server.proxy, False
    async with pool() as opened, opened.sender() as sender:
        with pytest.raises(NotSent, match="cannot be reached"):
            await sender.send(message(), Dispatches())
        server.proxy_open = True
        receipt = await sender.send(message(), Dispatches())

    assert (proxy, receipt.outcome) == (server.proxy, Outcome.ACCEPTED)


async def test_who_we_are_is_our_own_number(pool):
    async with pool() as opened, opened.sender() as sender:
        assert opened.identity == "shop at WhatsApp Web"
        await sender.send(message(), Dispatches())

        assert (opened.identity, opened.state) == (f"+{US} at WhatsApp Web", AccountState.READY)


@pytest.fixture
def attempted(ledger: Engine):
    """Write an attempt over the account into the ledger, as answered with this message id."""

    def write(message_id: str, account: str = "whatsapp-web-account/shop") -> None:
        spec = json.dumps({"account": "smtp-account/main", "fallback": [account]})
        with ledger.begin() as connection:
            for statement in (
                "INSERT INTO audiences (name) VALUES ('a')",
                """INSERT INTO campaigns (name, spec, audience_id, state) VALUES
                    ('c', CAST(:spec AS jsonb), 1, 'running')""",
                "INSERT INTO batches (campaign_id, number) VALUES (1, 1)",
                """INSERT INTO attempts
                    (campaign_id, batch_id, address_key, address, state, provider_message_id)
                    VALUES (1, 1, :address, :address, 'accepted', :id)""",
            ):
                connection.execute(text(statement), {"spec": spec, "address": ADA, "id": message_id})

    return write


def events(ledger: Engine) -> list[tuple[int, str, str]]:
    with ledger.connect() as connection:
        rows = connection.execute(text("SELECT attempt_id, kind, source FROM events ORDER BY id"))
        return [tuple(row) for row in rows]


async def test_what_is_reported_later_becomes_events(server: WhatsAppWeb, pool, ledger: Engine, attempted):
    async with pool() as opened:
        async with opened.sender() as sender:
            receipt = await sender.send(message(), Dispatches())
        message_id = receipt.provider_message_id
        for kind in ("", "read", "read", "retry"):
            await server.reports(message_id, kind)
        await server.reports("3EB0NOTOURS", "read")
        await asyncio.sleep(3)  # tried meanwhile, and kept: the answer is not committed yet
        assert events(ledger) == []
        attempted(message_id)

    source = "whatsapp-web:shop"
    assert sorted(events(ledger)) == [(1, "delivered", source), (1, "opened", source)]


def test_a_report_is_recorded_once_and_for_its_own_account(ledger: Engine, attempted):
    attempted("3EB0A")
    with ledger.begin() as connection:
        at = connection.execute(text("SELECT now()")).scalar_one()
        reports = [("3EB0A", EventKind.OPENED, at)] * 2 + [("3EB0B", EventKind.OPENED, at)]
        for _ in range(2):
            assert whatsapp_receipts.record(connection, "whatsapp-web-account/shop", reports) == {"3EB0A"}
        assert whatsapp_receipts.record(connection, "whatsapp-web-account/other", reports) == set()

    assert events(ledger) == [(1, "opened", "whatsapp-web:shop")]
