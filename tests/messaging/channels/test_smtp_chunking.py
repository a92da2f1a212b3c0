"""BDAT is used where it is wanted, offered and known, and DATA everywhere else."""

import pytest

from messaging.errors import NotSent
from schemas.states import Outcome
from tests.fakes.scripted_smtp import CHUNKS, hangs_up, says
from tests.messaging.channels.one_sender import CONTENT, a_message, a_pool, a_sender, dispatched

BOB = a_message("bob@example.org")


async def test_a_chunk_is_the_whole_message_as_it_is():
    async with a_sender(extensions=CHUNKS) as (server, sender):
        await sender.send(a_message(content=b".\r\n..dots\r\n"), dispatched)

    assert server.commands[3] == "BDAT 11 LAST"
    assert server.stored[0].content == b".\r\n..dots\r\n"


@pytest.mark.parametrize("extensions", [CHUNKS, ("CHUNKING",)])
async def test_data_is_used_unless_chunks_are_wanted_and_can_be_grouped(extensions):
    async with a_sender(extensions=extensions, chunking="PIPELINING" not in extensions) as (server, sender):
        await sender.send(a_message(), dispatched)

    assert server.verbs() == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


@pytest.mark.parametrize("code", [500, 502, 503, 504])
async def test_a_server_that_does_not_know_bdat_gets_the_same_message_by_data(code):
    seen = []

    async def dispatch():
        seen.append("dispatched")

    script = {"BDAT": says(f"{code} 5.5.1 what?")}
    async with (
        a_pool(script, extensions=CHUNKS) as (server, pool),
        pool.sender() as first,
        pool.sender() as second,
    ):
        receipt = await first.send(a_message(), dispatch, BOB)
        await first.send(BOB, dispatched)
        await second.send(a_message("cyd@example.org"), dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert seen == ["dispatched"]
    assert [stored.rcpt_to.split("@")[0] for stored in server.stored] == ["ada", "bob", "cyd"]
    assert server.verbs().count("BDAT") == 1
    assert server.opened == 3


async def test_a_message_is_not_sent_when_the_way_back_to_data_is_closed():
    script = {"BDAT": [says("502 5.5.1 what?")], "CONNECT": [None, hangs_up()]}
    async with a_sender(script, extensions=CHUNKS) as (server, sender):
        with pytest.raises(NotSent, match="connecting"):
            await sender.send(a_message(), dispatched)
        receipt = await sender.send(a_message(), dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert [stored.content for stored in server.stored] == [CONTENT]


async def test_a_chunk_that_is_refused_for_what_it_says_is_not_sent_again():
    async with a_sender({"DOT": says("554 5.7.1 spam")}, extensions=CHUNKS) as (server, sender):
        receipt = await sender.send(a_message(), dispatched)

    assert (receipt.outcome, receipt.code) == (Outcome.REJECTED, 554)
    assert server.verbs().count("BDAT") == 1
