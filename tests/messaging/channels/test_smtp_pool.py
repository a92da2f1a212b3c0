"""Connections are shared, limited, probed after a silence, and closed with a word."""

import asyncio

import pytest

from messaging.channels.smtp import SmtpPool, SmtpSettings, verify
from messaging.errors import InputError, NotSent
from schemas.states import Outcome
from tests.fakes.scripted_smtp import HOST, ScriptedSmtp, hangs_up, resets, says, says_raw, stalls
from tests.messaging.channels.one_sender import WAYS, a_message, a_sender, dispatched


async def test_a_connection_carries_only_so_many_messages():
    async with a_sender(messages_per_connection=2) as (server, sender):
        for _ in range(5):
            await sender.send(a_message(), dispatched)

    assert server.opened == 3
    assert server.verbs().count("QUIT") == 3
    assert server.most_open == 1


async def test_the_pool_never_opens_more_than_it_may_and_says_goodbye_on_all():
    async with ScriptedSmtp().running() as server:
        settings = SmtpSettings(HOST, server.port, "none", connections=3, messages_per_connection=4)
        async with SmtpPool(settings) as pool:

            async def send_one(number):
                async with pool.sender() as sender:
                    await sender.send(a_message(f"user{number}@example.org"), dispatched)

            await asyncio.gather(*(send_one(number) for number in range(50)))
        assert server.most_open == 3
        assert len({stored.rcpt_to for stored in server.stored}) == len(server.stored) == 50
        assert server.verbs().count("QUIT") == server.opened


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "step",
    [None, hangs_up(), resets(), stalls(), says("421 4.4.2 timeout", hangs_up=True), says_raw(b"\xff\r\n")],
)
async def test_an_idle_connection_is_asked_before_a_message_is_risked_on_it(way, step, monkeypatch):
    async with a_sender({"NOOP": [step]}, extensions=WAYS[way]) as (server, sender):
        await sender.send(a_message(), dispatched)
        monkeypatch.setattr("messaging.channels.smtp_session.IDLE_SECONDS", -1.0)
        receipt = await sender.send(a_message(), dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert server.verbs().count("NOOP") == 1
    assert server.opened == (1 if step is None else 2)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("step", [hangs_up(), resets(), says("421 4.4.2 timeout", hangs_up=True)])
async def test_a_server_that_closes_a_used_connection_at_mail_costs_nobody_a_try(way, step):
    async with a_sender({"MAIL": [None, step]}, extensions=WAYS[way]) as (server, sender):
        await sender.send(a_message(), dispatched)
        receipt = await sender.send(a_message(), dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert server.opened == 2


async def test_a_server_that_said_goodbye_while_idle_is_called_again():
    goodbye = says_raw(b"250 2.0.0 ok\r\n", stores=True, hangs_up=True)
    async with a_sender({"DOT": [goodbye]}) as (server, sender):
        await sender.send(a_message(), dispatched)
        await asyncio.sleep(0.05)
        receipt = await sender.send(a_message(), dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert server.opened == 2


@pytest.mark.parametrize("step", [hangs_up(), stalls(), says("421 4.0.0 no"), says_raw(b"\xff\r\n")])
async def test_a_bad_goodbye_changes_nothing(step, monkeypatch):
    monkeypatch.setattr("messaging.channels.smtp_connection.QUIT_SECONDS", 0.2)
    async with a_sender({"QUIT": step}) as (server, sender):
        receipt = await sender.send(a_message(), dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert server.verbs()[-1] == "QUIT"


async def test_a_cancelled_borrower_takes_no_place_with_it():
    async with ScriptedSmtp().running() as server:
        async with SmtpPool(SmtpSettings(HOST, server.port, "none", connections=1)) as pool:
            async with pool.sender():
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05), pool.sender():
                        pytest.fail("the only place is taken")
            async with pool.sender() as sender:
                await sender.send(a_message(), dispatched)
        assert len(server.stored) == 1


async def test_a_pool_left_while_a_sender_is_out_closes_it_when_it_comes_back():
    async with ScriptedSmtp().running() as server:
        async with SmtpPool(SmtpSettings(HOST, server.port, "none")) as pool:
            borrowed = pool.sender()
            sender = await borrowed.__aenter__()
            await sender.send(a_message(), dispatched)
        await borrowed.__aexit__(None, None, None)
        await asyncio.sleep(0.05)
        assert server.open_now == 0


async def test_verify_tells_what_the_server_offers_and_sends_nothing():
    async with ScriptedSmtp().running() as server:
        facts = await verify(SmtpSettings(HOST, server.port, "none"))

    assert facts.server == "fake.example"
    assert facts.extensions == ("8BITMIME", "PIPELINING", "SIZE 10000000", "SMTPUTF8")
    assert facts.tls_version is None
    assert not facts.authenticated
    assert server.verbs() == ["EHLO", "QUIT"]


async def test_a_closed_port_is_not_sent():
    async with ScriptedSmtp().running() as server:
        port = server.port
    with pytest.raises(NotSent, match=f"127.0.0.1:{port}, connecting"):
        await verify(SmtpSettings(HOST, port, "none"))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"connections": 0}, "connections"),
        ({"messages_per_connection": 0}, "messages_per_connection"),
        ({"port": 0}, "port"),
        ({"security": "ssl"}, "security"),
        ({"host": "mail.example.org\r\n"}, "host"),
        ({"username": "ada"}, "password"),
        ({"access_token": dispatched}, "user name"),
        ({"username": "ada", "password": "x", "access_token": dispatched}, "not both"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong, text):
    with pytest.raises(InputError, match=text):
        SmtpSettings(**({"host": HOST, "port": 25, "security": "none"} | wrong))
