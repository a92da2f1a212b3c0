"""A real SMTP server on loopback whose script decides what it says, when it hangs and when it hangs up."""

import asyncio
import base64
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

HOST = "127.0.0.1"
STALLED = 3600.0
EXTENSIONS = ("PIPELINING", "SIZE 10000000", "8BITMIME", "SMTPUTF8")


@dataclass(frozen=True, slots=True)
class Step:
    """What the server does at one place of the dialogue instead of what a server does."""

    says: bytes = b""
    hangs_up: bool = False
    stalls: bool = False
    byte_by_byte: bool = False
    stores: bool = False
    after_seconds: float = 0.0
    after_bytes: int | None = None
    """In the content: do it once so many bytes have come, and never read the rest."""


def says(line: str, **how: bool | float) -> Step:
    return Step((line + "\r\n").encode(), **how)


def says_raw(data: bytes, **how: bool | float) -> Step:
    return Step(data, **how)


def hangs_up(**how: bool | int) -> Step:
    return Step(hangs_up=True, **how)


def stalls(**how: bool | int) -> Step:
    return Step(stalls=True, **how)


@dataclass(frozen=True, slots=True)
class Stored:
    mail_from: str
    rcpt_to: str
    content: bytes


Script = Mapping[str, Step | Sequence[Step | None]]
"""Place → what happens: each time, or one by one and then (or where None) as usual.

Places: CONNECT, EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, CONTENT, DOT, RSET, QUIT.
"""


class HangUpError(Exception):
    """The script ends the connection."""


@dataclass
class ScriptedSmtp:
    """The server's script and what it has seen."""

    script: Script = field(default_factory=dict)
    extensions: Sequence[str] = EXTENSIONS
    tls: ssl.SSLContext | None = None
    starttls: ssl.SSLContext | None = None
    logins: Mapping[str, str] | None = None
    auth_methods: str = "PLAIN LOGIN"
    port: int = 0
    commands: list[str] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    opened: int = 0
    open_now: int = 0
    most_open: int = 0
    on_dot: Callable[[], None] = lambda: None
    passed: Counter[str] = field(default_factory=Counter)
    """Places → how often a client came there."""
    _tasks: set[asyncio.Task] = field(default_factory=set)

    def verbs(self) -> list[str]:
        return [command.split(" ", 1)[0].upper() for command in self.commands]

    def step(self, place: str) -> Step | None:
        self.passed[place] += 1
        steps = self.script.get(place, ())
        if isinstance(steps, Step):
            return steps
        return steps[self.passed[place] - 1] if self.passed[place] <= len(steps) else None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["ScriptedSmtp"]:
        server = await asyncio.start_server(self._serve, HOST, 0, ssl=self.tls, limit=2**20)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        self.opened += 1
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            await _Session(self, reader, writer).run()
        except (HangUpError, asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            self.open_now -= 1
            writer.transport.abort()
            await asyncio.sleep(0)  # wait_closed never returns after a refused handshake


class _Session:
    def __init__(self, server: ScriptedSmtp, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.server = server
        self.reader = reader
        self.writer = writer
        self.encrypted = server.tls is not None
        self.mail_from: str | None = None
        self.rcpt_to: str | None = None

    async def run(self) -> None:
        await self.answer("CONNECT", "220 fake.example ESMTP")
        while True:
            line = (await self.reader.readuntil(b"\r\n")).decode("utf-8").removesuffix("\r\n")
            self.server.commands.append(line)
            verb, _, argument = line.partition(" ")
            await getattr(self, f"on_{verb.lower()}")(argument)

    async def answer(self, place: str, usual: str) -> bool:
        """Answer as scripted or as usual, and say whether it was as usual."""
        step = self.server.step(place)
        if step is None:
            self.writer.write(usual.encode() + b"\r\n")
            await self.writer.drain()
            return True
        await self.play(step)
        return False

    async def play(self, step: Step) -> None:
        await asyncio.sleep(step.after_seconds)
        if step.byte_by_byte:
            for number in step.says:
                self.writer.write(bytes([number]))
                await asyncio.sleep(0)
        else:
            self.writer.write(step.says)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()
        if step.stalls:
            await asyncio.sleep(STALLED)
        if step.hangs_up:
            self.writer.close()
            raise HangUpError

    async def on_ehlo(self, _name: str) -> None:
        extensions = list(self.server.extensions)
        if self.server.starttls and not self.encrypted:
            extensions.append("STARTTLS")
        if self.server.logins is not None:
            extensions.append(f"AUTH {self.server.auth_methods}")
        lines = ["fake.example", *extensions]
        hello = "\r\n".join(f"250{'-' if line is not lines[-1] else ' '}{line}" for line in lines)
        await self.answer("EHLO", hello)

    async def on_helo(self, _name: str) -> None:
        await self.answer("HELO", "250 fake.example")

    async def on_starttls(self, _argument: str) -> None:
        if await self.answer("STARTTLS", "220 go on"):
            await self.writer.start_tls(self.server.starttls)
            self.encrypted = True

    async def on_auth(self, argument: str) -> None:
        method, _, initial = argument.partition(" ")
        if method == "LOGIN":
            self.writer.write(b"334 UGFzc3dvcmQ6\r\n")
            name = base64.b64decode(initial).decode()
            password = base64.b64decode(await self.reader.readuntil(b"\r\n")).decode()
        else:
            _, name, password = base64.b64decode(initial).decode().split("\0")
        right = self.server.logins.get(name) == password
        await self.answer("AUTH", "235 2.7.0 in" if right else f"535 5.7.8 {name}: wrong password {password}")

    async def on_mail(self, argument: str) -> None:
        if self.mail_from is not None:
            await self.answer("NESTED", "503 5.5.1 nested MAIL")
            return
        if await self.answer("MAIL", "250 2.1.0 ok"):
            self.mail_from = argument.removeprefix("FROM:<").partition(">")[0]

    async def on_rcpt(self, argument: str) -> None:
        if await self.answer("RCPT", "250 2.1.5 ok"):
            self.rcpt_to = argument.removeprefix("TO:<").partition(">")[0]

    async def on_data(self, _argument: str) -> None:
        step = self.server.step("DATA")
        if step is not None:
            await self.play(step)
            if not step.says.startswith(b"354"):
                return
        else:
            self.writer.write(b"354 go on\r\n")
        step = self.server.step("CONTENT")
        if step is not None:
            await self.reader.readexactly(step.after_bytes or 0)
            await self.play(step)
            await asyncio.sleep(STALLED)
        content = bytearray(b"\r\n")
        while not content.endswith(b"\r\n.\r\n"):
            try:
                content += await self.reader.readuntil(b".\r\n")
            except asyncio.LimitOverrunError as overrun:
                content += await self.reader.readexactly(overrun.consumed)
        self.server.on_dot()
        step = self.server.step("DOT")
        if step is None or step.stores:
            plain = bytes(content[:-3]).replace(b"\r\n..", b"\r\n.")[2:]
            self.server.stored.append(Stored(self.mail_from or "", self.rcpt_to or "", plain))
        self.mail_from = self.rcpt_to = None
        if step is None:
            self.writer.write(b"250 2.0.0 Ok: queued as 4F3A\r\n")
        else:
            await self.play(step)

    async def on_rset(self, _argument: str) -> None:
        if await self.answer("RSET", "250 2.0.0 ok"):
            self.mail_from = self.rcpt_to = None

    async def on_quit(self, _argument: str) -> None:
        await self.answer("QUIT", "221 2.0.0 bye")
        raise HangUpError
