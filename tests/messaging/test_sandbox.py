"""The sandbox takes what it is sent, plays its moods, and never outlives its caller."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from messaging import sandbox
from messaging.channels.base import Message
from messaging.channels.smtp import SmtpPool, SmtpSettings, verify
from messaging.errors import MessagingError, NotSent, Unknown
from schemas.states import Outcome

CONTENT = "Subject: hello\r\n\r\n.Grüße\r\n".encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with sandbox.running(tmp_path_factory.mktemp("outbox")) as running:
        yield running


@pytest.fixture
async def send(server):
    settings = SmtpSettings(server.host, server.port, "none", command_timeout=10, final_timeout=10)
    async with SmtpPool(settings) as pool, pool.sender() as sender:

        async def send(recipient, content=CONTENT):
            async def dispatched():
                """Agree, as the ledger does."""

            return await sender.send(Message(7, "bounce@example.com", recipient, content), dispatched)

        yield send


def newest(server):
    return max((server.outbox / "new").iterdir(), key=lambda path: int(path.stem)).read_bytes()


async def test_it_offers_what_a_campaign_can_use(server):
    facts = await verify(SmtpSettings(server.host, server.port, "none"))

    assert {"8BITMIME", "SMTPUTF8"} <= set(facts.extensions)


@pytest.mark.parametrize("recipient", ["ada@example.org", "bücher@example.org", "dropbox@example.org"])
@pytest.mark.parametrize("content", [CONTENT, b".\r\n", b"\r\n.\r\n..\r\n", b"x." * 500_000 + b"\r\n"])
async def test_it_stores_a_message_as_it_came_below_its_envelope(server, send, recipient, content):
    before = server.received()

    receipt = await send(recipient, content)

    assert receipt.outcome is Outcome.ACCEPTED
    assert server.received() == before + 1
    envelope = f"X-Sandbox-Mail-From: bounce@example.com\r\nX-Sandbox-Rcpt-To: {recipient}\r\n".encode()
    assert newest(server) == envelope + content
    assert list((server.outbox / "tmp").iterdir()) == []


async def test_a_greylisted_address_is_taken_the_second_time(send):
    first = await send("greylisted1@example.org")
    second = await send("greylisted1@example.org")

    assert (first.outcome, first.code, first.status) == (Outcome.DEFERRED, 450, "4.7.1")
    assert first.retry_after == 1
    assert second.outcome is Outcome.ACCEPTED


async def test_nobody_is_refused_for_good(server, send):
    before = server.received()

    receipts = [await send(f"{name}@example.org") for name in ("nobody", "nobody17", "nobody+tag")]

    assert [(receipt.outcome, receipt.status) for receipt in receipts] == [(Outcome.REJECTED, "5.1.1")] * 3
    assert server.received() == before


async def test_drop_takes_the_message_and_says_nothing(server, send):
    before = server.received()

    with pytest.raises(Unknown):
        await send("drop@example.org")

    assert server.received() == before + 1
    assert b"X-Sandbox-Rcpt-To: drop@example.org" in newest(server)


async def test_hangup_hangs_up_once_before_anything_is_taken(server, send):
    before = server.received()

    with pytest.raises(NotSent):
        await send("hangup@example.org")
    receipt = await send("hangup@example.org")

    assert receipt.outcome is Outcome.ACCEPTED
    assert server.received() == before + 1


def started(outbox: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "messaging.sandbox", "--outbox", str(outbox)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert int(process.stdout.readline())
    return process


@pytest.mark.parametrize(
    "stop",
    [
        lambda process: process.send_signal(signal.SIGTERM),
        lambda process: process.send_signal(signal.SIGINT),
        lambda process: process.stdin.close(),
    ],
    ids=["SIGTERM", "SIGINT", "the caller is gone"],
)
def test_it_stops_cleanly(tmp_path, stop):
    with started(tmp_path) as process:
        stop(process)

        assert process.wait(10) == 0
        assert process.stderr.read() == b""


async def test_it_stops_with_a_client_connected_and_numbers_on_when_started_again(tmp_path):
    async def dispatched():
        """Agree, as the ledger does."""

    for expected in (1, 2):
        with sandbox.running(tmp_path) as server:
            settings = SmtpSettings(server.host, server.port, "none")
            async with SmtpPool(settings) as pool, pool.sender() as sender:
                await sender.send(Message(1, "a@example.com", "b@example.com", CONTENT), dispatched)
                assert server.received() == expected
            client = SmtpPool(settings)
            await client.sender().__aenter__()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["1.eml", "2.eml"]


def test_a_sandbox_that_cannot_start_says_so(tmp_path, capfd):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(MessagingError, match="did not start"), sandbox.running(tmp_path / "file"):
        pytest.fail("it cannot have an outbox there")

    assert "NotADirectoryError" in capfd.readouterr().err
