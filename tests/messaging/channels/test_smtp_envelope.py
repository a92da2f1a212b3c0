"""What the envelope says, and what never reaches the wire."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.channels.smtp_envelope import crlf, dot_stuffed, xtext
from messaging.errors import AccountError
from schemas.states import Outcome
from tests.fakes.scripted_smtp import EXTENSIONS, STEPS
from tests.messaging.channels.one_sender import CONTENT, RECIPIENT, WAYS, a_message, a_sender, dispatched


@pytest.mark.parametrize("way", WAYS)
async def test_the_envelope_says_what_the_server_offers_to_know(way):
    async with a_sender(extensions=WAYS[way]) as (server, sender):
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


async def test_who_offers_reports_is_told_whom_to_report_on_and_under_which_name():
    async with a_sender(extensions=("DSN", *EXTENSIONS)) as (server, sender):
        await sender.send(a_message("ada+news=1@example.org", token="42.f00+="), dispatched)
        await sender.send(a_message("bücher@example.org", token="42"), dispatched)
        await sender.send(a_message(), dispatched)

    size = len(CONTENT)
    assert [command for command in server.commands if command.startswith(("MAIL", "RCPT"))] == [
        f"MAIL FROM:<bounce+7@example.com> SIZE={size} RET=HDRS ENVID=42.f00+2B+3D",
        "RCPT TO:<ada+news=1@example.org> NOTIFY=FAILURE,DELAY ORCPT=rfc822;ada+2Bnews+3D1@example.org",
        f"MAIL FROM:<bounce+7@example.com> SIZE={size} SMTPUTF8 RET=HDRS ENVID=42",
        "RCPT TO:<bücher@example.org> NOTIFY=FAILURE,DELAY",
        f"MAIL FROM:<bounce+7@example.com> SIZE={size}",
        f"RCPT TO:<{RECIPIENT}>",
    ]


async def test_who_offers_no_reports_is_not_asked_for_them():
    async with a_sender(extensions=STEPS) as (server, sender):
        await sender.send(a_message(token="42"), dispatched)

    assert server.commands[2] == f"RCPT TO:<{RECIPIENT}>"


@pytest.mark.parametrize(
    ("text", "written"),
    [("plain-1.@/", "plain-1.@/"), ("a+b=c", "a+2Bb+3Dc"), ("a b\r\n", "a+20b+0D+0A"), ("é", "+C3+A9")],
)
def test_nothing_in_a_value_ends_its_option(text, written):
    assert xtext(text) == written


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"x"])).map(b"".join))
def test_no_server_reads_an_end_of_the_message_in_its_middle(content):
    written = dot_stuffed(crlf(content))

    for ends in (rb"\r\n", rb"\r\n|\n", rb"\r\n|\r", rb"\r\n|\r|\n"):
        assert b"." not in re.split(ends, written)


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"x"])).map(b"".join))
def test_no_line_end_but_crlf_is_written(content):
    lines = re.split(rb"\r\n|\r|\n", content)

    assert crlf(content) == b"\r\n".join(lines if lines[-1] == b"" and content else [*lines, b""])


@given(st.lists(st.text(alphabet=".ax").map(str.encode), min_size=1))
def test_lines_that_are_right_stay_as_they_are(lines):
    content = b"\r\n".join([*lines, b""])

    assert crlf(content) == content
    stuffed = dot_stuffed(content).split(b"\r\n")
    assert [line[1:] if line.startswith(b".") else line for line in stuffed] == [*lines, b""]
