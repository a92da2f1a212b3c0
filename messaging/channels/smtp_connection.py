"""The bytes of one SMTP connection: commands out, whole replies in, in order.

aiosmtplib, which opens the connection, drops what arrives while no reply is awaited, so it could never carry
several commands at once, and it parses every address of every message anew.
"""

import asyncio
import contextlib
import os
import re
from collections import deque
from collections.abc import Mapping
from typing import Final

from messaging.channels.smtp_replies import Reply

QUIT_SECONDS: Final = 5.0
_LONGEST_LINE = 32 * 1024  # bytes; far above any real reply's, RFC 5321 4.5.3.1.5 asks for 512
_MOST_LINES = 500
PIECE: Final = 64 * 1024  # bytes of a long message that are written at once
_ROOM = 16 * 1024  # bytes that are read at once
_LONGEST_NAP = 30.0  # a timer never set further ahead need not be moved for each command
NOT_SMTP: Final = "the server sent bytes that are not SMTP"

_REPLY_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*?))?\r?", re.DOTALL)
_LAST_LINES = {b"%d " % code: code for code in range(200, 600)}  # how nearly every reply begins


class Lost(Exception):
    """The connection cannot be used any more; the text says why, and names nobody."""


class Connection(asyncio.BufferedProtocol):
    """An SMTP session, logged in and between two messages when it is made."""

    def __init__(self, transport: asyncio.Transport, extensions: Mapping[str, str], server: str) -> None:
        """Take over a transport from aiosmtplib."""
        self.extensions = extensions
        self.server = server
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        # Our own: what asyncio makes for each read is so large that memory is mapped and unmapped for it.
        self._room = memoryview(bytearray(_ROOM))
        self._rest = b""  # of a line that has not ended
        self._lines: list[bytes] = []  # of a reply that has not ended
        self._replies: deque[tuple[int, tuple[bytes, ...]]] = deque()  # codes, and lines as they came
        self._owed = 0  # replies that the server owes us; more than one when commands are grouped
        self._waiter: asyncio.Future[None] | None = None
        self._patience = 0.0
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._lost: str | None = None
        self._closed = self._loop.create_future()
        transport.set_protocol(self)
        transport.set_write_buffer_limits(high=1, low=0)  # paused: the socket has not taken everything
        if transport.is_closing():  # then connection_lost went to aiosmtplib
            self._closed.set_result(None)
            self._end("the server closed the connection")

    @property
    def alive(self) -> bool:
        """Whether commands can still be written."""
        return self._lost is None

    @property
    def tls_version(self) -> str | None:
        """The TLS version, as in TLSv1.3, or None without TLS."""
        tls = self._transport.get_extra_info("ssl_object")
        return tls.version() if tls is not None else None

    def write(self, data: bytes | memoryview, replies: int = 1) -> None:
        """Write one command, or several that are answered by as many replies.

        Raises:
            Lost: Nothing was written.
        """
        if self._lost is not None:
            raise Lost(self._lost)
        self._owed += replies
        self._transport.write(data)
        # All before it was taken, so when the socket refuses now, not one byte of it has left.
        if self._transport.is_closing():
            raise Lost("the connection was lost")

    def as_usual(self, codes: tuple[int, ...]) -> bool:
        """Take the next replies if all of them are there and have these codes; else leave them."""
        replies = self._replies
        if len(replies) < len(codes):
            return False
        for reply, code in zip(replies, codes, strict=False):
            if reply[0] != code:
                return False
        for _ in codes:
            replies.popleft()
        return True

    async def reply(self, patience: float) -> Reply:
        """Return the next reply, in the order of the commands.

        Raises:
            Lost: The reply will never come.
        """
        while not self._replies:
            await self._anything(patience)
        code, lines = self._replies.popleft()
        return Reply(code, [line[4:] for line in lines])

    async def ask(self, command: bytes, patience: float) -> Reply:
        """Write one command and return its reply."""
        self.write(command)
        return await self.reply(patience)

    async def write_long(self, content: bytes, behind: bytes, replies: int, patience: float) -> bool:
        """Write a message longer than a `PIECE` with what follows it; return whether its end was written too.

        The last piece, which has the end, is written only when the socket has taken the rest, so that a loss
        half-way is known to have handed over nothing. `behind` is answered by so many replies, the message by
        one. False: the server answered before the end.

        Raises:
            Lost: The end was not written.
        """
        self._owed += 1  # from the start: a server may refuse a message half-way
        view = memoryview(content)
        start = 0
        while start + PIECE < len(content):
            try:
                self.write(view[start : start + PIECE], 0)
                while self._paused and not self._replies:
                    await self._anything(patience)
            except Lost:
                await asyncio.sleep(0)  # connection_lost looks for a last reply
                if not self._replies:
                    raise
            if self._replies:
                self._end("the server answered before the message ended")
                return False
            start += PIECE
        self.write(content[start:] + behind, replies)
        return True

    async def quit(self) -> None:
        """Say goodbye, for at most some seconds; a server that does not answer changes nothing."""
        try:
            async with asyncio.timeout(QUIT_SECONDS):
                with contextlib.suppress(Lost):
                    await self.ask(b"QUIT\r\n", QUIT_SECONDS)
                self._lost = self._lost or "we closed the connection"
                self._transport.close()
                await asyncio.shield(self._closed)
        except TimeoutError:
            pass
        finally:
            self.drop()

    def drop(self) -> None:
        """Close without a word."""
        self._end("we closed the connection")
        self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the signature is asyncio's
        """Say where to put what has arrived."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """Read what has arrived."""
        self._read(bytes(self._room[:nbytes]))

    def pause_writing(self) -> None:
        """Remember that the socket does not keep up."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on writing."""
        self._paused = False
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        if exc is not None and self._lost is None and self._owed and self.tls_version is None:
            # A server that refuses a message half-way and closes resets the connection while we write, and
            # asyncio then forgets to read: the refusal is still there.
            with contextlib.suppress(OSError):
                self._read(os.read(self._transport.get_extra_info("socket").fileno(), _LONGEST_LINE))
        if not self._closed.done():
            self._closed.set_result(None)
        self._end("the connection was lost" if exc else "the server closed the connection")

    def _read(self, data: bytes) -> None:
        """Cut the stream into replies; anything that nobody asked for ends the connection."""
        lines = (self._rest + data if self._rest else data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            code = _LAST_LINES.get(line[:4])
            if code is not None and self._owed and not self._lines:
                self._owed -= 1
                self._replies.append((code, (line,)))
            else:
                self._read_line(line)
                if self._lost is not None:
                    return
        if self._rest:
            if len(self._rest) > _LONGEST_LINE:
                self._end(NOT_SMTP)
            elif not self._owed:
                self._end("the server spoke before its time")
        if self._replies:
            self._wake()

    def _read_line(self, line: bytes) -> None:
        """Read a line that is not a whole reply, or that nobody waits for."""
        match = _REPLY_LINE.fullmatch(line)
        if match is None:
            self._end(NOT_SMTP)
            return
        if not self._owed:
            self._end(f"the server spoke before its time ({match[1].decode()})")
            return
        self._lines.append(line)
        if len(self._lines) > _MOST_LINES or line[:3] != self._lines[0][:3]:
            self._end(NOT_SMTP)
        elif match[2] != b"-":
            self._owed -= 1
            self._replies.append((int(match[1]), tuple(self._lines)))
            self._lines = []

    def _anything(self, patience: float) -> asyncio.Future[None]:
        """Return what is done when anything has happened: a reply, room to write, the end."""
        if self._lost is not None:
            raise Lost(self._lost)
        now = self._loop.time()
        self._patience = patience
        self._deadline = now + patience
        if self._timer is None or self._timer.when() > self._deadline:
            self._set_timer(now)
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def _set_timer(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(min(self._deadline, now + _LONGEST_NAP), self._look_at_the_clock)

    def _look_at_the_clock(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        now = self._loop.time()
        if now < self._deadline:
            self._set_timer(now)
        else:
            self._end(f"no answer within {self._patience:g} s")

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _end(self, why: str) -> None:
        if self._lost is None:
            self._lost = why
            self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
        self._wake()
