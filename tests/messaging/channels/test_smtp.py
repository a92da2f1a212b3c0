"""Every fault an SMTP server can show ends as the right answer, error or silence, however we write to it."""

import asyncio
import pickle

import pytest

from messaging.errors import AccountError, BrokenOff, NotSent, Unknown, Withdrawn
from schemas.states import Outcome
from tests.fakes.scripted_smtp import hangs_up, resets, says, says_raw, stalls
from tests.messaging.channels.one_sender import RECIPIENT, WAYS, a_message, a_sender, dispatched


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


def in_every_way(*cases):
    """Play each case however a transaction is written, where it has the command in question."""
    return [
        pytest.param(offered, *case.values, id=f"{case.id}, {name}")
        for case in cases
        for name, offered in WAYS.items()
        if not (name == "chunks" and "DATA" in case.values[0])
    ]


async def test_a_message_arrives_byte_by_byte_as_it_was(way):
    content = b".first\r\n..\r\n.\r\nno dot\r\nlong " + b"x" * 2000 + b"\r\n.last\r\n"
    async with a_sender(extensions=way) as (server, sender):
        receipt = await sender.send(a_message(content=content), dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert (receipt.code, receipt.status, receipt.provider_message_id) == (250, "2.0.0", "4F3A")
    assert [(m.mail_from, m.rcpt_to, m.content) for m in server.stored] == [
        ("bounce+7@example.com", RECIPIENT, content)
    ]


async def test_a_long_message_arrives_too(way):
    content = b"".join(b".%d is a line\r\n" % number for number in range(200_000))
    async with a_sender(extensions=way) as (server, sender):
        receipt = await sender.send(a_message(content=content), dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert server.stored[0].content == content


async def test_bare_line_ends_cannot_smuggle_a_second_message(way):
    async with a_sender(extensions=way) as (server, sender):
        await sender.send(a_message(content=b"one\n.\nMAIL FROM:<x@x>\r.\r\r\nend"), dispatched)

    assert [stored.content for stored in server.stored] == [
        b"one\r\n.\r\nMAIL FROM:<x@x>\r\n.\r\n\r\nend\r\n"
    ]


GREYLISTED = says("450 4.7.1 greylisted for 300 seconds")
GOODBYE = says("421 4.3.0 closing", hangs_up=True)
TWO_REPLIES = says_raw(b"250 2.1.0 ok\r\n250 2.1.5 too early\r\n")


@pytest.mark.parametrize(
    ("way", "script", "outcome", "code", "retry_after"),
    in_every_way(
        pytest.param({"RCPT": GREYLISTED}, Outcome.DEFERRED, 450, 300, id="greylisted"),
        pytest.param({"RCPT": says("452 4.5.3 too many")}, Outcome.DEFERRED, 452, None, id="452 at RCPT"),
        pytest.param({"RCPT": says("550 5.1.1 no <x>")}, Outcome.REJECTED, 550, None, id="550 at RCPT"),
        pytest.param({"MAIL": says("552 5.3.4 too big")}, Outcome.REJECTED, 552, None, id="552 at MAIL"),
        pytest.param({"DATA": says("451 4.3.0 later")}, Outcome.DEFERRED, 451, None, id="451 at DATA"),
        pytest.param({"DATA": says("554 5.5.1 no one")}, Outcome.REJECTED, 554, None, id="554 at DATA"),
        pytest.param({"DOT": says("552 5.3.4 too big")}, Outcome.REJECTED, 552, None, id="552 at the end"),
        pytest.param({"DOT": says("451 4.3.0 in 5 min")}, Outcome.DEFERRED, 451, 300, id="451 at the end"),
        pytest.param({"DOT": GOODBYE}, Outcome.DEFERRED, 421, None, id="421 at the end"),
    ),
)
async def test_an_answer_is_a_value_and_the_next_message_goes(way, script, outcome, code, retry_after):
    script = {place: [step] for place, step in script.items()}
    async with a_sender(script, extensions=way) as (server, sender):
        receipt = await sender.send(a_message(), dispatched)
        following = await sender.send(a_message("bob@example.org"), dispatched)

    assert (receipt.outcome, receipt.code, receipt.retry_after) == (outcome, code, retry_after)
    assert following.outcome is Outcome.ACCEPTED
    assert [stored.rcpt_to for stored in server.stored] == ["bob@example.org"]
    assert server.opened == (2 if code == 421 else 1)


@pytest.mark.parametrize(
    ("way", "script", "error", "text"),
    in_every_way(
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
        pytest.param({"MAIL": GOODBYE}, NotSent, "MAIL FROM: answered 421", id="421 at MAIL"),
        pytest.param({"MAIL": hangs_up()}, NotSent, "MAIL FROM: the server closed", id="drop at MAIL"),
        pytest.param({"RCPT": says("421 4.7.0 a@b")}, BrokenOff, "TO: answered 421 4.7.0$", id="421 at RCPT"),
        pytest.param({"RCPT": GOODBYE}, BrokenOff, "TO: answered 421 4.3.0$", id="421 and drop at RCPT"),
        pytest.param({"RCPT": says("503 5.5.1 a@b")}, BrokenOff, "RCPT TO: answered 503", id="503 at RCPT"),
        pytest.param({"RCPT": says("550 5.4.5 quota")}, AccountError, "550 5.4.5", id="daily quota"),
        pytest.param({"RCPT": hangs_up()}, BrokenOff, "RCPT TO: the server closed", id="drop at RCPT"),
        pytest.param({"RCPT": stalls()}, BrokenOff, "no answer within 0.3 s", id="stall at RCPT"),
        pytest.param({"RCPT": says_raw(b"\xff\x00hello\r\n")}, BrokenOff, "not SMTP", id="garbage"),
        pytest.param({"RCPT": says_raw(b"250-one\r\n450 two\r\n")}, BrokenOff, "not SMTP", id="mixed codes"),
        pytest.param({"RCPT": says_raw(b"2" * 40_000)}, BrokenOff, "not SMTP", id="endless line"),
        pytest.param({"RCPT": says_raw(b"250-x\r\n" * 9000)}, BrokenOff, "not SMTP", id="endless reply"),
        pytest.param({"MAIL": TWO_REPLIES}, BrokenOff, "its time|DATA: answered 250", id="two replies"),
        pytest.param({"DATA": hangs_up()}, BrokenOff, "DATA: the server closed", id="drop at DATA"),
        pytest.param({"DATA": says("250 what?")}, BrokenOff, "DATA: answered 250", id="250 at DATA"),
        pytest.param({"DATA": GOODBYE}, BrokenOff, "DATA: answered 421", id="421 at DATA"),
        pytest.param({"DATA": says_raw(b"354 go\r\n250 ok\r\n")}, BrokenOff, "its time", id="250 with 354"),
        pytest.param({"DOT": hangs_up(stores=True)}, Unknown, "message.*: the server", id="drop at the end"),
        pytest.param({"DOT": resets(stores=True)}, Unknown, "the connection was lost", id="reset at the end"),
        pytest.param({"DOT": stalls(stores=True)}, Unknown, "no answer within 0.3 s", id="stall at the end"),
        pytest.param({"DOT": says_raw(b"hm\r\n", stores=True)}, Unknown, "not SMTP", id="garbage at the end"),
        pytest.param({"DOT": says("354 go", stores=True)}, Unknown, "answered 354", id="354 at the end"),
        pytest.param({"DOT": says_raw(b"25", hangs_up=True, stores=True)}, Unknown, "closed", id="half"),
        pytest.param({"DOT": says("535 5.7.8 out")}, AccountError, "535 5.7.8", id="535 at the end"),
    ),
)  # fmt: skip
async def test_silence_is_an_error_that_says_what_is_known(way, script, error, text):
    script = {place: [step] for place, step in script.items()}
    async with a_sender(script, extensions=way) as (server, sender):
        with pytest.raises(error, match=text) as caught:
            # Some time in the ledger, in which what the server does becomes known.
            await sender.send(a_message(), lambda: asyncio.sleep(0.02))
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
async def test_a_loss_before_the_end_of_a_long_message_has_handed_over_nothing(way, step):
    async with a_sender({"CONTENT": [step]}, extensions=way) as (server, sender):
        with pytest.raises(BrokenOff, match="the message before its end"):
            await sender.send(a_message(content=b"x" * 78 * 200_000), dispatched)

    assert server.stored == []


@pytest.mark.parametrize("then", [{}, {"hangs_up": True}])
async def test_an_answer_before_the_end_of_a_long_message_is_an_answer(way, then):
    script = {
        "CONTENT": [says("552 5.3.4 too big", after_bytes=1000, **then), says("250 ?", after_bytes=1000)]
    }
    async with a_sender(script, extensions=way) as (server, sender):
        receipt = await sender.send(a_message(content=b"x" * 10_000_000), dispatched)
        with pytest.raises(NotSent, match="answered 250"):
            await sender.send(a_message(content=b"x" * 10_000_000), dispatched)

    assert (receipt.outcome, receipt.code) == (Outcome.REJECTED, 552)
    assert server.opened == 2


async def test_two_answers_to_the_end_fail_nobody(way):
    twice = says_raw(b"250 2.0.0 ok\r\n250 2.0.0 ok\r\n", stores=True)
    async with a_sender({"DOT": [twice]}, extensions=way) as (server, sender):
        first = await sender.send(a_message(), dispatched)
        second = await sender.send(a_message(), dispatched)

    assert first.outcome is second.outcome is Outcome.ACCEPTED
    assert len(server.stored) == 2
    assert server.opened == 2


async def test_a_reply_may_come_byte_by_byte_and_on_many_lines(way):
    slow = says_raw(b"550-5.1.1 no such\r\n550-5.1.1 user\n550 5.1.1 here\r\n", byte_by_byte=True)
    async with a_sender({"RCPT": [slow]}, extensions=way) as (_, sender):
        receipt = await sender.send(a_message(), dispatched)

    assert (receipt.code, receipt.status) == (550, "5.1.1")
    assert receipt.reply == "5.1.1 no such 5.1.1 user 5.1.1 here"


async def test_a_server_that_drips_is_not_waited_for_for_ever(way):
    drip = says_raw(b"250-" + b"x" * 10_000, byte_by_byte=True, stalls=True)
    async with a_sender({"RCPT": [drip]}, extensions=way) as (_, sender):
        with pytest.raises(BrokenOff, match="no answer within"):
            await sender.send(a_message(), dispatched)


async def test_a_server_that_only_knows_helo_is_spoken_to():
    async with a_sender({"EHLO": says("502 5.5.1 what?")}) as (server, sender):
        receipt = await sender.send(a_message(), dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert server.verbs()[:3] == ["EHLO", "HELO", "MAIL"]


async def test_dispatch_is_awaited_once_after_the_recipient_is_taken_and_before_the_end(way):
    seen = []
    async with a_sender(extensions=way) as (server, sender):
        server.on_dot = lambda: seen.append("end")

        async def dispatch():
            await asyncio.sleep(0.01)
            seen.append(server.verbs()[-1])

        await sender.send(a_message(), dispatch)

    assert seen == ["DATA" if way is WAYS["groups"] else "RCPT", "end"]


@pytest.mark.parametrize("place", ["CONNECT", "MAIL", "RCPT"])
async def test_dispatch_is_not_awaited_for_who_is_not_taken(way, place):
    async def dispatch():
        pytest.fail("nothing can be accepted here")

    async with a_sender({place: hangs_up()}, extensions=way) as (_, sender):
        with pytest.raises(NotSent):
            await sender.send(a_message(), dispatch)


async def test_what_dispatch_raises_passes_and_nothing_is_handed_over(way):
    async def withdraw():
        raise Withdrawn("attempt 7 is suppressed")

    async with a_sender(extensions=way) as (server, sender):
        with pytest.raises(Withdrawn, match="attempt 7"):
            await sender.send(a_message(), withdraw)
        await sender.send(a_message("bob@example.org"), dispatched)

    assert [stored.rcpt_to for stored in server.stored] == ["bob@example.org"]
    # Only DATA, once written, takes the connection with it.
    assert server.opened == (2 if way is WAYS["groups"] else 1)


@pytest.mark.parametrize("step", [hangs_up(), stalls(), says("500 what?")])
async def test_a_failed_reset_costs_a_connection_and_nobody(way, step):
    script = {"RCPT": [says("550 5.1.1 no")], "RSET": step}
    async with a_sender(script, extensions=way) as (server, sender):
        await sender.send(a_message(), dispatched)
        receipt = await sender.send(a_message("bob@example.org"), dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert server.opened == 2


async def test_a_connection_lost_during_dispatch_is_not_sent(way):
    place, usual = ("DATA", "354 go on") if way is WAYS["groups"] else ("RCPT", "250 2.1.5 ok")
    async with a_sender({place: [says(usual, hangs_up=True)]}, extensions=way) as (server, sender):
        with pytest.raises(BrokenOff, match="the server closed"):
            await sender.send(a_message(), lambda: asyncio.sleep(0.05))
        receipt = await sender.send(a_message(), dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert len(server.stored) == 1


@pytest.mark.parametrize("place", ["CONNECT", "MAIL", "RCPT", "DOT", "RSET"])
async def test_a_cancelled_send_leaves_a_sender_that_works(way, place):
    script = {place: [stalls()]} | ({"RCPT": [says("550 5.1.1 no")]} if place == "RSET" else {})
    patient = dict.fromkeys(("connect_timeout", "command_timeout", "final_timeout"), 10)
    async with a_sender(script, extensions=way, **patient) as (server, sender):
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
