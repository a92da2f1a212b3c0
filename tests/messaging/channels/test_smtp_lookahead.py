"""The next message is announced with this one, and that never hands it over, nor costs anybody an answer."""

import asyncio
import random

import pytest

from messaging.errors import AccountError, NotSent, Unknown, Withdrawn
from schemas.states import Outcome
from tests.fakes.scripted_smtp import Step, hangs_up, resets, says, says_raw, stalls
from tests.messaging.channels.one_sender import WAYS, a_message, a_pool, a_sender, dispatched

ADA = a_message("ada@example.org")
BOB = a_message("bob@example.org")
CYD = a_message("cyd@example.org")


@pytest.fixture(params=["groups", "chunks"])
def way(request):
    return WAYS[request.param]


def takers(server):
    return [stored.rcpt_to.split("@")[0] for stored in server.stored]


class Dispatches:
    """Count what is dispatched, and to whom."""

    def __init__(self):
        self.names = []

    def __call__(self, name):
        async def dispatch():
            self.names.append(name)

        return dispatch


async def test_the_next_envelope_comes_with_this_content(way):
    answers = says("250 2.0.0 ok", stores=True, after_command="MAIL")
    async with a_sender({"DOT": [answers, answers]}, extensions=way) as (server, sender):
        receipts = [
            await sender.send(ADA, dispatched, BOB),
            await sender.send(BOB, dispatched, CYD),
            await sender.send(CYD, dispatched),
        ]

    assert [receipt.outcome for receipt in receipts] == [Outcome.ACCEPTED] * 3
    assert takers(server) == ["ada", "bob", "cyd"]
    assert server.opened == 1
    assert "RSET" not in server.verbs()


async def test_a_server_without_pipelining_hears_of_one_message_at_a_time():
    async with a_sender(extensions=WAYS["steps"]) as (server, sender):
        await sender.send(ADA, dispatched, BOB)
        assert server.verbs() == ["EHLO", "MAIL", "RCPT", "DATA"]
        await sender.send(BOB, dispatched)

    assert takers(server) == ["ada", "bob"]


async def test_an_announced_message_waits_for_its_own_dispatch(way):
    async def withdraw():
        await asyncio.sleep(0.02)
        assert takers(server) == ["ada"]
        raise Withdrawn("attempt 7 is suppressed")

    async with a_sender(extensions=way) as (server, sender):
        await sender.send(ADA, dispatched, BOB)
        with pytest.raises(Withdrawn):
            await sender.send(BOB, withdraw, CYD)
        await sender.send(CYD, dispatched)

    assert takers(server) == ["ada", "cyd"]


async def test_another_message_takes_the_announcement_back(way):
    async with a_sender(extensions=way) as (server, sender):
        await sender.send(ADA, dispatched, BOB)
        receipt = await sender.send(CYD, dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert takers(server) == ["ada", "cyd"]
    # Only DATA, once written, takes the connection with it.
    assert server.opened == (2 if way is WAYS["groups"] else 1)


async def test_a_sender_given_back_has_nothing_announced(way):
    async with a_pool(extensions=way) as (server, pool):
        async with pool.sender() as sender:
            await sender.send(ADA, dispatched, BOB)
        async with pool.sender() as sender:
            await sender.send(BOB, dispatched)
            await sender.send(CYD, dispatched, ADA)

    assert takers(server) == ["ada", "bob", "cyd"]


@pytest.mark.parametrize("data", [None, says("354 go on")])
async def test_an_announced_recipient_that_is_refused_costs_nobody_else_anything(way, data):
    script = {"RCPT": [None, says("550 5.1.1 no")], "DATA": [None, data]}
    marks = Dispatches()
    async with a_sender(script, extensions=way) as (server, sender):
        receipts = [
            await sender.send(ADA, marks("ada"), BOB),
            await sender.send(BOB, marks("bob"), CYD),
            await sender.send(CYD, marks("cyd")),
        ]

    assert [receipt.outcome for receipt in receipts] == [
        Outcome.ACCEPTED,
        Outcome.REJECTED,
        Outcome.ACCEPTED,
    ]
    assert receipts[1].status == "5.1.1"
    assert marks.names == ["ada", "cyd"]
    assert takers(server) == ["ada", "cyd"]
    assert server.opened == 1


async def test_a_refused_recipient_does_not_wait_for_a_goodbye(way):
    script = {"RCPT": says("550 5.1.1 no"), "DATA": says("354 go on")}
    async with a_sender(script, extensions=way) as (server, sender):
        receipt = await sender.send(ADA, dispatched)

    assert receipt.outcome is Outcome.REJECTED
    assert server.verbs()[-1] == "QUIT"


@pytest.mark.parametrize(
    ("step", "error"), [(says("451 4.3.0 later"), NotSent), (says("550 5.7.1 not you"), AccountError)]
)
async def test_the_first_refusal_of_a_group_is_the_one_that_counts(way, step, error):
    async with a_sender({"MAIL": [None, step]}, extensions=way) as (server, sender):
        await sender.send(ADA, dispatched, BOB)
        with pytest.raises(error, match=f"MAIL FROM: answered {step.says[:3].decode()}"):
            await sender.send(BOB, dispatched)
        await sender.send(CYD, dispatched)

    assert takers(server) == ["ada", "cyd"]
    assert server.opened == 1


async def test_a_refused_content_does_not_harm_the_message_behind_it(way):
    async with a_sender({"DOT": [says("554 5.7.1 spam")]}, extensions=way) as (server, sender):
        receipt = await sender.send(ADA, dispatched, BOB)
        following = await sender.send(BOB, dispatched)

    assert receipt.outcome is Outcome.REJECTED
    assert following.outcome is Outcome.ACCEPTED
    assert takers(server) == ["bob"]
    assert server.opened == 1


async def test_a_server_that_wants_a_reset_after_a_refused_content_costs_a_connection(way):
    script = {"DOT": [says("554 5.7.1 spam")], "MAIL": [None, says("503 5.5.1 nested MAIL")]}
    async with a_sender(script, extensions=way) as (server, sender):
        await sender.send(ADA, dispatched, BOB)
        following = await sender.send(BOB, dispatched)

    assert following.outcome is Outcome.ACCEPTED
    assert server.opened == 2


@pytest.mark.parametrize("step", [says("421 4.7.0 bye", hangs_up=True), says("421 4.7.0 bye", stalls=True)])
async def test_a_goodbye_at_the_end_is_an_answer_to_this_message_only(way, step):
    marks = Dispatches()
    async with a_sender({"DOT": [step]}, extensions=way, command_timeout=10) as (server, sender):
        receipt = await sender.send(ADA, marks("ada"), BOB)
        following = await sender.send(BOB, marks("bob"))

    assert (receipt.outcome, receipt.code) == (Outcome.DEFERRED, 421)
    assert following.outcome is Outcome.ACCEPTED
    assert takers(server) == ["bob"]
    assert marks.names == ["ada", "bob"]


@pytest.mark.parametrize("place", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    "step",
    [
        says("421 4.4.2 timeout", hangs_up=True),
        hangs_up(),
        resets(),
        stalls(),
        says_raw(b"\xff\xfe\r\n"),
        says_raw(b"250-half a reply\r\n", hangs_up=True),
    ],
)
async def test_an_announcement_whose_connection_dies_is_made_again_on_another(way, place, step):
    place = "RCPT" if place == "DATA" and way is WAYS["chunks"] else place
    marks = Dispatches()
    async with a_sender({place: [None, step]}, extensions=way, final_timeout=10) as (server, sender):
        receipt = await sender.send(ADA, marks("ada"), BOB)
        following = await sender.send(BOB, marks("bob"))

    assert receipt.outcome is following.outcome is Outcome.ACCEPTED
    assert takers(server) == ["ada", "bob"]
    assert marks.names == ["ada", "bob"]
    assert server.opened == 2


@pytest.mark.parametrize(
    "step", [hangs_up(stores=True), stalls(stores=True), says_raw(b"?\r\n", stores=True)]
)
async def test_an_unknown_is_one_message_and_never_the_one_behind_it(way, step):
    async with a_sender({"DOT": [step]}, extensions=way) as (server, sender):
        with pytest.raises(Unknown):
            await sender.send(ADA, dispatched, BOB)
        following = await sender.send(BOB, dispatched)

    assert following.outcome is Outcome.ACCEPTED
    assert takers(server) == ["ada", "bob"]


async def test_a_connection_never_announces_more_than_it_may_carry(way):
    messages = [a_message(f"user{number}@example.org") for number in range(5)]
    async with a_sender(extensions=way, messages_per_connection=2) as (server, sender):
        for number, message in enumerate(messages):
            await sender.send(message, dispatched, (*messages, None)[number + 1])

    assert len(server.stored) == 5
    assert server.opened == 3
    assert server.verbs().count("MAIL") == 5
    assert server.verbs().count("QUIT") == 3


@pytest.mark.parametrize(
    "following",
    [
        a_message(content="Grüße\r\n".encode()),
        a_message("bücher@example.org"),
        a_message("not an address"),
        a_message(envelope_sender="not an address"),
    ],
)
async def test_what_a_server_could_not_take_is_not_announced(following):
    async with a_sender(extensions=("PIPELINING",)) as (server, sender):
        receipt = await sender.send(ADA, dispatched, following)
        assert server.verbs() == ["EHLO", "MAIL", "RCPT", "DATA"]
        await sender.send(BOB, dispatched)

    assert receipt.outcome is Outcome.ACCEPTED
    assert server.opened == 1


async def test_replies_to_a_whole_group_may_come_at_once_or_in_crumbs(way):
    at_once = says_raw(b"250-2.0.0 ok\r\n250 2.0.0 ok\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n", stores=True)
    crumbs = says_raw(b"250-2.0.0 ok\r\n250 2.0.0 ok\r\n", stores=True, byte_by_byte=True)
    script = {
        "DOT": [at_once, crumbs],
        "MAIL": [None, says_raw(b""), says_raw(b"250 2.1.0 ok\r\n", byte_by_byte=True)],
        "RCPT": [None, says_raw(b""), says_raw(b"250-2.1.5 ok\r\n250 2.1.5 ok\r\n", byte_by_byte=True)],
    }
    async with a_sender(script, extensions=way) as (server, sender):
        receipts = [
            await sender.send(ADA, dispatched, BOB),
            await sender.send(BOB, dispatched, CYD),
            await sender.send(CYD, dispatched),
        ]

    assert [receipt.outcome for receipt in receipts] == [Outcome.ACCEPTED] * 3
    assert takers(server) == ["ada", "bob", "cyd"]
    assert server.opened == 1


async def test_a_cancelled_send_takes_its_announcement_with_it(way):
    async with a_sender({"DOT": [stalls()]}, extensions=way, final_timeout=10) as (server, sender):
        sending = asyncio.create_task(sender.send(ADA, dispatched, BOB))
        while "DOT" not in server.passed:  # noqa: ASYNC110 - the server is a fake that signals nothing
            await asyncio.sleep(0.001)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await sender.send(BOB, dispatched)

    assert takers(server) == ["bob"]
    assert server.opened == 2


async def test_an_announcement_is_not_relied_on_after_a_long_silence(way, monkeypatch):
    async with a_sender(extensions=way) as (server, sender):
        await sender.send(ADA, dispatched, BOB)
        monkeypatch.setattr("messaging.channels.smtp_session.IDLE_SECONDS", -1.0)
        await sender.send(BOB, dispatched)

    assert takers(server) == ["ada", "bob"]
    assert server.verbs().count("MAIL") == 3


FAULTS = [
    says("421 4.3.2 closing", hangs_up=True),
    says("450 4.2.0 later"),
    says("550 5.1.1 no"),
    says_raw(b"?!\r\n"),
    hangs_up(),
    resets(),
]
AT_THE_END = [*FAULTS, hangs_up(stores=True), resets(stores=True), says_raw(b"?!\r\n", stores=True)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_every_answer_agrees_with_what_the_server_has(way, seed):
    chance = random.Random(seed)  # noqa: S311 - a repeatable storm

    def storm(faults):
        return [chance.choice(faults) if chance.random() < 0.1 else None for _ in range(1000)]

    script: dict[str, list[Step | None]] = {
        place: storm(FAULTS) for place in ("RCPT", "DATA", "RSET", "NOOP")
    } | {"DOT": storm(AT_THE_END), "BDAT": storm([says("502 5.5.1 what?")])}
    messages = [a_message(f"user{number}@example.org") for number in range(200)]
    answers = {}

    async def work(pool, mine):
        async with pool.sender() as sender:
            for message, following in zip(mine, [*mine[1:], None], strict=True):
                try:
                    receipt = await sender.send(message, dispatched, following)
                    answers[message.recipient] = receipt.outcome
                except (NotSent, Unknown, AccountError) as error:
                    answers[message.recipient] = type(error)

    async with a_pool(script, extensions=WAYS[way], messages_per_connection=17) as (server, pool):
        await asyncio.gather(*(work(pool, messages[start::8]) for start in range(8)))

    copies = [stored.rcpt_to for stored in server.stored]
    assert len(answers) == len(messages)
    assert len(copies) == len(set(copies))
    for recipient, answer in answers.items():
        if answer is not Unknown:
            assert (recipient in copies) == (answer is Outcome.ACCEPTED)
