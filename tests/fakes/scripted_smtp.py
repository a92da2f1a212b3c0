"""A real SMTP server on loopback whose script decides what it says, when it hangs and when it hangs up."""

import asyncio
import base64
import contextlib
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

HOST = "127.0.0.1"
STALLED = 3600.0
STEPS = ("SIZE 10000000", "8BITMIME", "SMTPUTF8")
EXTENSIONS = ("PIPELINING", *STEPS)
CHUNKS = ("CHUNKING", *EXTENSIONS)


@dataclass(frozen=True, slots=True)
class Step:
    """What the server does at one place of the dialogue instead of what a server does."""

    says: bytes = b""
    hangs_up: bool = False
    resets: bool = False
    """Ends the connection as a crash or a firewall does, not with a proper close."""
    stalls: bool = False
    byte_by_byte: bool = False
    stores: bool = False
    after_seconds: float = 0.0
    after_command: str = ""
    """Only once this verb has come, behind what is answered here."""
    after_bytes: int | None = None
    """In the content: do it once so many bytes have come, and never read the rest."""


def says(line: str, **how: bool | float | str) -> Step:
    return Step((line + "\r\n").encode(), **how)


def says_raw(data: bytes, **how: bool | float) -> Step:
    return Step(data, **how)


def hangs_up(**how: bool | int) -> Step:
    return Step(hangs_up=True, **how)


def resets(**how: bool | int) -> Step:
    return Step(resets=True, **how)


def stalls(**how: bool | int) -> Step:
    return Step(stalls=True, **how)


@dataclass(frozen=True, slots=True)
class Stored:
    mail_from: str
    rcpt_to: str
    content: bytes


Script = Mapping[str, Step | Sequence[Step | None]]
"""Place → what happens: each time, or one by one and then (or where None) as usual.

Places: CONNECT, EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, BDAT, CONTENT, DOT, RSET, NOOP, QUIT. DOT is the end
of a message however it was written; BDAT comes before its content, and what answers there does not read it.
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
        self.ahead = ""

    async def run(self) -> None:
        await self.answer("CONNECT", "220 fake.example ESMTP")
        while True:
            line, self.ahead = self.ahead or await self.next_line(), ""
            self.server.commands.append(line)
            verb, _, argument = line.partition(" ")
            await getattr(self, f"on_{verb.lower()}", self.on_unknown)(argument)

    async def answer(self, place: str, usual: str) -> bool:
        """Answer as scripted or as usual, and say whether it was to go on."""
        step = self.server.step(place) or says(usual)
        await self.play(step)
        return step.says.startswith(b"2") or step == Step()  # which has answered before

    async def next_line(self) -> str:
        return (await self.reader.readuntil(b"\r\n")).decode("utf-8").removesuffix("\r\n")

    async def play(self, step: Step) -> None:
        await asyncio.sleep(step.after_seconds)
        if step.after_command:
            self.ahead = await self.next_line()
            assert self.ahead.startswith(step.after_command)
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
        if step.resets:
            linger = struct.pack("ii", 1, 0)
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if step.hangs_up or step.resets:
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
        if method == "XOAUTH2":
            await self.on_xoauth2(base64.b64decode(initial).decode())
            return
        if method == "LOGIN":
            self.writer.write(b"334 UGFzc3dvcmQ6\r\n")
            name = base64.b64decode(initial).decode()
            password = base64.b64decode(await self.reader.readuntil(b"\r\n")).decode()
        else:
            _, name, password = base64.b64decode(initial).decode().split("\0")
        right = self.server.logins.get(name) == password
        await self.answer("AUTH", "235 2.7.0 in" if right else f"535 5.7.8 {name}: wrong password {password}")

    async def on_xoauth2(self, said: str) -> None:
        name, _, token = said.removesuffix("\1\1").removeprefix("user=").partition("\1auth=Bearer ")
        if self.server.logins.get(name) == token:
            await self.answer("AUTH", "235 2.7.0 in")
            return
        reason = base64.b64encode(f'{{"status":"400","token":"{token}"}}'.encode())
        self.writer.write(b"334 " + reason + b"\r\n")
        assert await self.reader.readuntil(b"\r\n") == b"\r\n"
        await self.answer("AUTH", f"535 5.7.8 {name}: wrong token {token}")

    async def on_mail(self, argument: str) -> None:
        if self.mail_from is not None:
            await self.answer("NESTED", "503 5.5.1 nested MAIL")
            return
        if await self.answer("MAIL", "250 2.1.0 ok"):
            self.mail_from = argument.removeprefix("FROM:<").partition(">")[0]

    async def on_rcpt(self, argument: str) -> None:
        if self.mail_from is None:
            await self.answer("NO_MAIL", "503 5.5.1 MAIL first")
        elif await self.answer("RCPT", "250 2.1.5 ok"):
            self.rcpt_to = argument.removeprefix("TO:<").partition(">")[0]

    async def on_data(self, _argument: str) -> None:
        usual = "354 go on" if self.rcpt_to else "554 5.5.1 no valid recipients"
        step = self.server.step("DATA") or says(usual)
        await self.play(step)
        if not step.says.startswith(b"354"):
            return
        await self.break_off()
        content = bytearray(b"\r\n")
        while not content.endswith(b"\r\n.\r\n"):
            try:
                content += await self.reader.readuntil(b".\r\n")
            except asyncio.LimitOverrunError as overrun:
                content += await self.reader.readexactly(overrun.consumed)
        await self.take(bytes(content[:-3]).replace(b"\r\n..", b"\r\n.")[2:])

    async def on_bdat(self, argument: str) -> None:
        if (step := self.server.step("BDAT")) is not None:
            await self.play(step)
            return
        size, last = argument.split()
        assert last == "LAST"
        await self.break_off()
        await self.take(await self.reader.readexactly(int(size)))

    async def break_off(self) -> None:
        """Do what the script says for the middle of a content, and never go on."""
        step = self.server.step("CONTENT")
        if step is not None:
            await self.reader.readexactly(step.after_bytes or 0)
            await self.play(step)
            await asyncio.sleep(STALLED)

    async def take(self, content: bytes) -> None:
        if self.rcpt_to is None:
            await self.answer("TO_NOBODY", "554 5.5.1 no valid recipients")
            self.mail_from = None
            return
        self.server.on_dot()
        step = self.server.step("DOT")
        if step is None or step.stores:
            self.server.stored.append(Stored(self.mail_from or "", self.rcpt_to, content))
        self.mail_from = self.rcpt_to = None
        if step is None:
            self.writer.write(b"250 2.0.0 Ok: queued as 4F3A\r\n")
        else:
            await self.play(step)

    async def on_rset(self, _argument: str) -> None:
        if await self.answer("RSET", "250 2.0.0 ok"):
            self.mail_from = self.rcpt_to = None

    async def on_noop(self, _argument: str) -> None:
        await self.answer("NOOP", "250 2.0.0 ok")

    async def on_unknown(self, _argument: str) -> None:
        await self.answer("UNKNOWN", "500 5.5.2 what?")

    async def on_quit(self, _argument: str) -> None:
        await self.answer("QUIT", "221 2.0.0 bye")
        raise HangUpError
