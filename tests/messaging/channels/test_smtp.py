"""Every fault an SMTP server can show ends as the right answer, error or silence."""

import asyncio
import contextlib
import pickle

import pytest

from messaging.channels.base import Message
from messaging.channels.smtp import SmtpPool, SmtpSettings, verify
from messaging.errors import AccountError, BrokenOff, InputError, NotSent, Unknown, Withdrawn
from schemas.states import Outcome
from tests.fakes.scripted_smtp import EXTENSIONS, HOST, ScriptedSmtp, Step, hangs_up, says, says_raw, stalls

CONTENT = b"Subject: hello\r\n\r\nHello Ada\r\n"
RECIPIENT = "ada@example.org"


def a_message(recipient=RECIPIENT, content=CONTENT, envelope_sender="bounce+7@example.com"):
    return Message(7, envelope_sender, recipient, content)


async def dispatched():
    """Agree, as the ledger does."""


@contextlib.asynccontextmanager
async def a_sender(script=None, *, extensions=EXTENSIONS, **settings):
    async with ScriptedSmtp(script or {}, extensions=extensions).running() as server:
        # Short only where it is waited for: the machine may be busy.
        patience = 0.3 if "stalls=True" in repr(script) else 10
        timeouts = dict.fromkeys(("command_timeout", "final_timeout"), patience)
        timeouts["connect_timeout"] = patience if "CONNECT" in server.script else 10
        account = SmtpSettings(HOST, server.port, "none", **(timeouts | settings))
        async with SmtpPool(account) as pool, pool.sender() as sender:
            yield server, sender


async def test_a_message_arrives_byte_by_byte_as_it_was():
    content = b".first\r\n..\r\n.\r\nno dot\r\nlong " + b"x" * 2000 + b"\r\n.last\r\n"
    async with a_sender() as (server, sender):
        receipt = await sender.send(a_message(content=content), dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert (receipt.code, receipt.status, receipt.provider_message_id) == (250, "2.0.0", "4F3A")
    assert [(m.mail_from, m.rcpt_to, m.content) for m in server.stored] == [
        ("bounce+7@example.com", RECIPIENT, content)
    ]


async def test_a_long_message_arrives_too():
    content = b"".join(b".%d is a line\r\n" % number for number in range(200_000))
    async with a_sender() as (server, sender):
        receipt = await sender.send(a_message(content=content), dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert server.stored[0].content == content


async def test_bare_line_ends_cannot_smuggle_a_second_message():
    async with a_sender() as (server, sender):
        await sender.send(a_message(content=b"one\n.\nMAIL FROM:<x@x>\r.\r\r\nend"), dispatched)

    assert [stored.content for stored in server.stored] == [
        b"one\r\n.\r\nMAIL FROM:<x@x>\r\n.\r\n\r\nend\r\n"
    ]


async def test_the_envelope_says_what_the_server_offers_to_know():
    async with a_sender() as (server, sender):
        await sender.send(a_message(content="Grüße\r\n".encode()), dispatched)
        await sender.send(a_message("bücher@example.org", envelope_sender=""), dispatched)
        await sender.send(a_message("ada@bücher.example"), dispatched)

    assert [command for command in server.commands if command.startswith(("MAIL", "RCPT"))] == [
        "MAIL FROM:<bounce+7@example.com> SIZE=9 BODY=8BITMIME",
        f"RCPT TO:<{RECIPIENT}>",
        f"MAIL FROM:<> SIZE={len(CONTENT)} SMTPUTF8",
        "RCPT TO:<bücher@example.org>",
        f"MAIL FROM:<bounce+7@example.com> SIZE={len(CONTENT)}",
        "RCPT TO:<ada@xn--bcher-kva.example>",
    ]


async def test_an_address_outside_ascii_is_refused_when_the_server_cannot_take_it():
    async with a_sender(extensions=()) as (server, sender):
        receipt = await sender.send(a_message("bücher@example.org"), dispatched)
        await sender.send(a_message(content="Grüße\r\n".encode()), dispatched)
        with pytest.raises(AccountError, match="outside ASCII"):
            await sender.send(a_message(envelope_sender="bücher@example.org"), dispatched)

    assert receipt.outcome is Outcome.REJECTED
    assert receipt.reply == "the server does not take addresses outside ASCII (SMTPUTF8)"
    assert server.commands[1] == "MAIL FROM:<bounce+7@example.com>"


@pytest.mark.parametrize(
    "address",
    [
        "a@b.c\r\nRCPT TO:<x@y.z>",
        "a@b.c\n",
        "a\0@b.c",
        "a b@c.d",
        "a@b.c> SIZE=1",
        "<a@b.c",
        "",
        "\ud800@b.c",
        "ü\x85@b.c",
        "a@" + "b" * 300,
    ],
)
async def test_an_address_that_would_break_the_command_never_reaches_the_wire(address):
    async with a_sender() as (server, sender):
        receipt = await sender.send(a_message(address), dispatched)
        if address:
            with pytest.raises(AccountError, match="envelope sender"):
                await sender.send(a_message(envelope_sender=address), dispatched)

    assert receipt.outcome is Outcome.REJECTED
    assert receipt.reply == "the address cannot be written in an SMTP command"
    assert server.commands == []


GREYLISTED = says("450 4.7.1 greylisted for 300 seconds")
TWO_REPLIES = says_raw(b"250 2.1.0 ok\r\n250 2.1.5 too early\r\n")


@pytest.mark.parametrize(
    ("script", "outcome", "code", "retry_after"),
    [
        pytest.param({"RCPT": GREYLISTED}, Outcome.DEFERRED, 450, 300, id="greylisted"),
        pytest.param({"RCPT": says("452 4.5.3 too many")}, Outcome.DEFERRED, 452, None, id="452 at RCPT"),
        pytest.param({"RCPT": says("550 5.1.1 no <x>")}, Outcome.REJECTED, 550, None, id="550 at RCPT"),
        pytest.param({"DATA": says("451 4.3.0 later")}, Outcome.DEFERRED, 451, None, id="451 at DATA"),
        pytest.param(
            {"DATA": says("554 5.5.1 no valid rcpt")}, Outcome.REJECTED, 554, None, id="554 at DATA"
        ),
        pytest.param({"DOT": says("552 5.3.4 too big")}, Outcome.REJECTED, 552, None, id="552 at the dot"),
        pytest.param({"DOT": says("451 4.3.0 in 5 min")}, Outcome.DEFERRED, 451, 300, id="451 at the dot"),
        pytest.param(
            {"DOT": says("421 4.3.0 closing", hangs_up=True)},
            Outcome.DEFERRED,
            421,
            None,
            id="421 at the dot",
        ),
    ],
)
async def test_an_answer_is_a_value_and_the_next_message_goes(script, outcome, code, retry_after):
    script = {place: [step] for place, step in script.items()}
    async with a_sender(script) as (server, sender):
        receipt = await sender.send(a_message(), dispatched)
        following = await sender.send(a_message("bob@example.org"), dispatched)

    assert (receipt.outcome, receipt.code, receipt.retry_after) == (outcome, code, retry_after)
    assert following.outcome is Outcome.ACCEPTED
    assert [stored.rcpt_to for stored in server.stored] == ["bob@example.org"]
    assert server.opened == (2 if code == 421 else 1)


@pytest.mark.parametrize(
    ("script", "error", "text"),
    [
        pytest.param({"CONNECT": says("421 4.3.2 busy")}, NotSent, "connecting: answered 421", id="421"),
        pytest.param({"CONNECT": hangs_up()}, NotSent, "connecting", id="drop at connect"),
        pytest.param({"CONNECT": says("554 5.7.1 blocked")}, AccountError, "answered 554 5.7.1", id="554"),
        pytest.param({"CONNECT": says_raw(b"HTTP/1.1 400\r\n")}, NotSent, "not SMTP", id="not SMTP"),
        pytest.param({"CONNECT": stalls()}, NotSent, "no answer in time", id="stall at connect"),
        pytest.param({"EHLO": hangs_up()}, NotSent, "EHLO", id="drop at EHLO"),
        pytest.param({"EHLO": says("550 5.7.1 who?")}, AccountError, "EHLO: answered 550", id="550 at EHLO"),
        pytest.param({"MAIL": says("550 5.1.0 no")}, AccountError, "FROM: answered 550 5.1.0", id="550 MAIL"),
        pytest.param({"MAIL": says("451 4.3.0 no")}, NotSent, "MAIL FROM: answered 451", id="451 at MAIL"),
        pytest.param({"MAIL": says("530 5.7.0 no")}, AccountError, "530", id="530 at MAIL"),
        pytest.param({"RCPT": says("421 4.7.0 a@b")}, BrokenOff, "TO: answered 421 4.7.0$", id="421 at RCPT"),
        pytest.param({"RCPT": says("503 5.5.1 a@b")}, BrokenOff, "RCPT TO: answered 503", id="503 at RCPT"),
        pytest.param({"RCPT": says("550 5.4.5 quota")}, AccountError, "550 5.4.5", id="daily quota"),
        pytest.param({"RCPT": hangs_up()}, BrokenOff, "RCPT TO: the server closed", id="drop at RCPT"),
        pytest.param({"RCPT": stalls()}, BrokenOff, "no answer within 0.3 s", id="stall at RCPT"),
        pytest.param({"RCPT": says_raw(b"\xff\x00hello\r\n")}, BrokenOff, "not SMTP", id="garbage"),
        pytest.param({"RCPT": says_raw(b"250-one\r\n450 two\r\n")}, BrokenOff, "not SMTP", id="mixed codes"),
        pytest.param({"RCPT": says_raw(b"2" * 40_000)}, BrokenOff, "not SMTP", id="endless line"),
        pytest.param({"RCPT": says_raw(b"250-x\r\n" * 9000)}, BrokenOff, "not SMTP", id="endless reply"),
        pytest.param({"MAIL": TWO_REPLIES}, BrokenOff, "before its time", id="two replies"),
        pytest.param({"DATA": hangs_up()}, BrokenOff, "DATA: the server closed", id="drop at DATA"),
        pytest.param({"DATA": says("250 what?")}, BrokenOff, "DATA: answered 250", id="250 at DATA"),
        pytest.param({"DATA": says_raw(b"354 go\r\n250 ok\r\n")}, BrokenOff, "its time", id="250 with 354"),
        pytest.param({"DOT": hangs_up(stores=True)}, Unknown, "message: the server", id="drop at dot"),
        pytest.param({"DOT": stalls(stores=True)}, Unknown, "no answer within 0.3 s", id="stall after dot"),
        pytest.param({"DOT": says_raw(b"hm\r\n", stores=True)}, Unknown, "not SMTP", id="garbage after dot"),
        pytest.param({"DOT": says("354 go", stores=True)}, Unknown, "answered 354", id="354 after dot"),
        pytest.param({"DOT": says("535 5.7.8 out")}, AccountError, "535 5.7.8", id="535 after dot"),
    ],
)  # fmt: skip
async def test_silence_is_an_error_that_says_what_is_known(script, error, text):
    script = {place: [step] for place, step in script.items()}
    async with a_sender(script) as (server, sender):
        with pytest.raises(error, match=text) as caught:
            await sender.send(a_message(), dispatched)
        assert len(server.stored) == (1 if error is Unknown else 0)
        if "CONNECT" not in script and "EHLO" not in script:  # those of an account are remembered by the pool
            following = await sender.send(a_message("bob@example.org"), dispatched)
            assert following.outcome is Outcome.ACCEPTED

    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert (type(copy), str(copy)) == (error, str(caught.value))
    assert "@" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("step", [hangs_up(after_bytes=1000), stalls(after_bytes=1000)])
async def test_a_loss_before_the_end_of_a_long_message_has_handed_over_nothing(step):
    async with a_sender({"CONTENT": [step]}) as (server, sender):
        with pytest.raises(NotSent, match="the message before its end"):
            await sender.send(a_message(content=b"x" * 78 * 200_000), dispatched)

    assert server.stored == []


async def test_an_answer_before_the_end_of_a_long_message_is_an_answer():
    script = {"CONTENT": [says("552 5.3.4 too big", after_bytes=1000), says("250 ?", after_bytes=1000)]}
    async with a_sender(script) as (server, sender):
        receipt = await sender.send(a_message(content=b"x" * 10_000_000), dispatched)
        with pytest.raises(NotSent, match="answered 250"):
            await sender.send(a_message(content=b"x" * 10_000_000), dispatched)

    assert (receipt.outcome, receipt.code) == (Outcome.REJECTED, 552)
    assert server.opened == 2


async def test_two_answers_to_the_dot_fail_nobody():
    twice = says_raw(b"250 2.0.0 ok\r\n250 2.0.0 ok\r\n", stores=True)
    async with a_sender({"DOT": [twice]}) as (server, sender):
        first = await sender.send(a_message(), dispatched)
        second = await sender.send(a_message(), dispatched)

    assert first.outcome is second.outcome is Outcome.ACCEPTED
    assert len(server.stored) == 2
    assert server.opened == 2


async def test_a_reply_may_come_byte_by_byte_and_on_many_lines():
    slow = says_raw(b"550-5.1.1 no such\r\n550-5.1.1 user\n550 5.1.1 here\r\n", byte_by_byte=True)
    async with a_sender({"RCPT": [slow]}) as (_, sender):
        receipt = await sender.send(a_message(), dispatched)

    assert (receipt.code, receipt.status) == (550, "5.1.1")
    assert receipt.reply == "5.1.1 no such 5.1.1 user 5.1.1 here"


async def test_a_server_that_only_knows_helo_is_spoken_to():
    async with a_sender({"EHLO": says("502 5.5.1 what?")}) as (server, sender):
        receipt = await sender.send(a_message(), dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert server.verbs()[:3] == ["EHLO", "HELO", "MAIL"]


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
    monkeypatch.setattr("messaging.channels.smtp_connection._QUIT_SECONDS", 0.2)
    async with a_sender({"QUIT": step}) as (server, sender):
        receipt = await sender.send(a_message(), dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert server.verbs()[-1] == "QUIT"


async def test_dispatch_is_awaited_once_on_an_open_connection_before_the_recipient_is_mentioned():
    seen = []
    async with a_sender() as (server, sender):
        server.on_dot = lambda: seen.append("dot")

        async def dispatch():
            seen.append(server.verbs()[-1])

        await sender.send(a_message(), dispatch)

    assert seen == ["EHLO", "dot"]


async def test_dispatch_is_not_awaited_while_the_server_is_away():
    async def dispatch():
        pytest.fail("nothing can be accepted here")

    async with a_sender({"CONNECT": hangs_up()}) as (_, sender):
        with pytest.raises(NotSent):
            await sender.send(a_message(), dispatch)


async def test_what_dispatch_raises_passes_and_the_connection_stays():
    async def withdraw():
        raise Withdrawn("attempt 7 is suppressed")

    async with a_sender() as (server, sender):
        with pytest.raises(Withdrawn, match="attempt 7"):
            await sender.send(a_message(), withdraw)
        await sender.send(a_message("bob@example.org"), dispatched)

    assert [stored.rcpt_to for stored in server.stored] == ["bob@example.org"]
    assert server.verbs() == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


@pytest.mark.parametrize("step", [hangs_up(), stalls(), says("500 what?")])
async def test_a_failed_reset_costs_a_connection_and_nobody(step):
    async with a_sender({"RCPT": [says("550 5.1.1 no")], "RSET": step}) as (server, sender):
        await sender.send(a_message(), dispatched)
        receipt = await sender.send(a_message("bob@example.org"), dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert server.opened == 2


async def test_a_connection_lost_during_dispatch_is_not_sent():
    early = Step(b"250 2.1.5 ok\r\n", hangs_up=True)
    async with a_sender({"RCPT": [early]}) as (server, sender):
        with pytest.raises(NotSent, match="DATA: the server closed"):
            await sender.send(a_message(), lambda: asyncio.sleep(0.05))
        receipt = await sender.send(a_message(), dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert len(server.stored) == 1


@pytest.mark.parametrize("place", ["CONNECT", "MAIL", "DATA", "DOT", "RSET"])
async def test_a_cancelled_send_leaves_a_sender_that_works(place):
    script = {place: [stalls()], "RCPT": [says("550 5.1.1 no")] if place == "RSET" else []}
    patient = dict.fromkeys(("connect_timeout", "command_timeout", "final_timeout"), 10)
    async with a_sender(script, **patient) as (server, sender):
        if place == "RSET":
            await sender.send(a_message(), dispatched)
        sending = asyncio.create_task(sender.send(a_message(), dispatched))
        while place not in server.passed:  # noqa: ASYNC110 - the server is a fake that signals nothing
            await asyncio.sleep(0.001)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        receipt = await sender.send(a_message("bob@example.org"), dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert [stored.rcpt_to for stored in server.stored] == ["bob@example.org"]
    assert server.opened == 2


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
    ],
)
def test_settings_that_cannot_work_are_refused(wrong, text):
    with pytest.raises(InputError, match=text):
        SmtpSettings(**({"host": HOST, "port": 25, "security": "none"} | wrong))
