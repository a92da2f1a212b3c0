"""The demo's SMTP server, loopback only: fills a Maildir and lets some recipients misbehave."""

import argparse
import asyncio
import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from messaging.errors import MessagingError

_HOST = "127.0.0.1"
_STOP_SECONDS = 5.0
_MESSAGE_LIMIT = 32 * 1024 * 1024


class _Mood(Enum):
    ANSWERS = auto()
    """Gives its reply instead of taking the recipient."""
    HANGS_UP = auto()
    """Closes the connection at RCPT TO."""
    DROPS = auto()
    """Takes the message, then closes the connection without an answer."""


@dataclass(frozen=True, slots=True)
class _Behaviour:
    local_part: re.Pattern[str]
    mood: _Mood
    reply: str = ""
    first_time_only: bool = False


# A name may be followed by anything but a letter, so that nobody17 is nobody, and dropbox is somebody.
_BEHAVIOURS = (
    _Behaviour(
        re.compile(r"greylist"),
        _Mood.ANSWERS,
        "450 4.7.1 greylisted, try again in 1 second",
        first_time_only=True,
    ),
    _Behaviour(re.compile(r"nobody(?![a-z])"), _Mood.ANSWERS, "550 5.1.1 no such user here"),
    _Behaviour(re.compile(r"hangup(?![a-z])"), _Mood.HANGS_UP, first_time_only=True),
    _Behaviour(re.compile(r"drop(?![a-z])"), _Mood.DROPS),
)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running sandbox server."""

    host: str
    port: int
    outbox: Path

    def received(self) -> int:
        """Return how many messages it has taken."""
        with os.scandir(self.outbox / "new") as entries:
            return sum(1 for _ in entries)


@contextlib.contextmanager
def running(outbox: Path) -> Iterator[Sandbox]:
    """Run a sandbox server in a process of its own, ready when this enters and gone when it exits.

    Raises:
        MessagingError: It did not start; its own words are on stderr.
    """
    command = [sys.executable, "-m", "messaging.sandbox", "--outbox", str(outbox)]
    # Our end of its stdin closes with us, however we die, and that ends it; a Ctrl-C in the terminal is
    # ours alone, so that what we are sending can still be answered.
    with subprocess.Popen(  # noqa: S603 - ourselves
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as server:
        try:
            port = server.stdout.readline().strip() if server.stdout else b""
            if not port:
                raise MessagingError("The sandbox SMTP server did not start.")
            yield Sandbox(_HOST, int(port), outbox)
        finally:
            server.terminate()
            try:
                server.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()


@dataclass(slots=True)
class _Outbox:
    """A Maildir that numbers its messages."""

    folder: Path
    _last: int = field(init=False)

    def __post_init__(self) -> None:
        for name in ("tmp", "new", "cur"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        numbers = (path.stem for path in (self.folder / "new").iterdir())
        self._last = max((int(number) for number in numbers if number.isdecimal()), default=0)

    def store(self, mail_from: str, rcpt_tos: list[str], content: bytes) -> None:
        """Store one message; a reader never sees half of it."""
        self._last += 1
        name = f"{self._last}.eml"
        envelope = f"X-Sandbox-Mail-From: {mail_from}\r\nX-Sandbox-Rcpt-To: {', '.join(rcpt_tos)}\r\n"
        # Not pathlib and open(): together they cost as much as the rest of the message.
        written = f"{self.folder}/tmp/{name}"  # noqa: S108 - the Maildir's own tmp
        file = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.writev(file, [envelope.encode("utf-8", "surrogateescape"), content])
        finally:
            os.close(file)
        os.rename(written, f"{self.folder}/new/{name}")  # noqa: PTH104 - as above


class _Handler:
    """What aiosmtpd calls for each command."""

    def __init__(self, outbox: _Outbox) -> None:
        self._outbox = outbox
        self._seen: set[str] = set()

    async def handle_RCPT(  # noqa: N802 - aiosmtpd finds it by this name
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        behaviour = _behaviour(address)
        plays = behaviour is not None and not (behaviour.first_time_only and address in self._seen)
        if behaviour is not None and plays and behaviour.mood is not _Mood.DROPS:
            self._seen.add(address)
            if behaviour.mood is _Mood.HANGS_UP:
                await _hang_up(server)
            return behaviour.reply
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 ok"

    async def take(self, server: SMTP, envelope: Envelope, content: bytes) -> str:
        """Store a message and return the answer to its final dot."""
        self._outbox.store(envelope.mail_from or "", envelope.rcpt_tos, content)
        for address in envelope.rcpt_tos:
            behaviour = _behaviour(address)
            if behaviour is not None and behaviour.mood is _Mood.DROPS:
                await _hang_up(server)
        return "250 2.0.0 ok"


async def _hang_up(server: SMTP) -> None:
    """Close the connection; aiosmtpd then cancels the task that this never returns to."""
    cast("asyncio.Transport", server.transport).abort()
    await asyncio.get_running_loop().create_future()


def _behaviour(address: str) -> _Behaviour | None:
    return next((known for known in _BEHAVIOURS if known.local_part.match(address)), None)


class _Server(SMTP):
    """aiosmtpd without its two slow parts: addresses parsed as in a header, messages read line by line.

    Together they were two thirds of a message's time; what we lose is refusing malformed addresses.
    """

    line_length_limit = 256 * 1024  # what the reader holds before it stops reading from the socket

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        path, closed, parameters = arg.strip().partition(">")
        return (path[1:], parameters) if closed and path.startswith("<") else (None, None)

    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd finds it by this name
        envelope = cast("Envelope", self.envelope)
        if arg or not envelope.rcpt_tos:
            await self.push("501 5.5.4 no argument" if arg else "503 5.5.1 RCPT TO first")
            return
        await self.push("354 end with a dot on a line of its own")
        data = bytearray(b"\r\n")  # so that a dot on the very first line is found like any other
        while not data.endswith(b"\r\n.\r\n"):
            try:
                data += await self._reader.readuntil(b".\r\n")
            except asyncio.LimitOverrunError as overrun:
                data += await self._reader.readexactly(overrun.consumed)
        content = bytes(data[:-3]).replace(b"\r\n..", b"\r\n.")[2:]
        answer = await self.event_handler.take(self, envelope, content)
        self.envelope = self._create_envelope()
        await self.push(answer)


async def _serve(outbox: Path, port: int) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    handler = _Handler(_Outbox(outbox))

    def answer() -> SMTP:
        return _Server(
            handler,
            data_size_limit=_MESSAGE_LIMIT,
            enable_SMTPUTF8=True,
            hostname="sandbox.outflow.invalid",
            ident="Outflow sandbox",
            loop=loop,
        )

    server = await loop.create_server(answer, _HOST, port)
    if stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        await loop.connect_read_pipe(lambda: _Watcher(stop), sys.stdin)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()


class _Watcher(asyncio.Protocol):
    """Stops the server when the other end of its stdin is gone, and the parent with it."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._stop.set()


def main() -> None:
    """Run the server until SIGTERM, SIGINT or the end of a piped stdin; its port is the line on stdout."""
    parser = argparse.ArgumentParser(prog="python -m messaging.sandbox", description=__doc__)
    parser.add_argument("--outbox", type=Path, required=True, help="Maildir that takes the messages.")
    parser.add_argument("--port", type=int, default=0, help="Port on 127.0.0.1; 0 takes a free one.")
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.outbox, arguments.port))


if __name__ == "__main__":
    main()
