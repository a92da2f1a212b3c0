"""One connection to an SMTP server: opened and logged in by aiosmtplib, then read and written by us.

aiosmtplib drops what arrives while no reply is awaited, so it could never carry several commands at once,
and it parses every address of every message anew: its transaction costs half as much CPU again as this one.
"""

import asyncio
import contextlib
import functools
import ipaddress
import os
import re
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

import aiosmtplib

from messaging.channels.smtp_replies import Phase, Reply, failure, judge, one_line
from messaging.errors import AccountError, InputError, MessagingError, NotSent

_QUIT_SECONDS = 5.0
_LONGEST_LINE = 32 * 1024  # bytes; far above any real reply's, RFC 5321 4.5.3.1.5 asks for 512
_MOST_LINES = 500
_ONE_WRITE = 64 * 1024  # asyncio's own mark for "the socket does not keep up"
NOT_SMTP = "the server sent bytes that are not SMTP"

_REPLY_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*?))?\r?", re.DOTALL)

# One try of the password, with the first that the server offers: each further try counts towards a lock-out.
_AUTH_METHODS = ("plain", "login", "cram-md5")
_METHOD_UNKNOWN = 504
_EHLO_UNKNOWN = {500, 502}


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """One account on one SMTP server."""

    host: str
    port: int
    security: Literal["none", "starttls", "tls"]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    connections: int = 8
    messages_per_connection: int = 100
    connect_timeout: float = 30.0
    command_timeout: float = 60.0
    final_timeout: float = 300.0
    """Patience after the final dot, when the server stores the message.

    RFC 5321 4.5.3.2.6 asks for 600 s; 300 s is the least that our fault matrix allows. A timeout here makes
    an `unknown`, and a connection that hangs for ten minutes holds its batch's lease for nothing.
    """

    def __post_init__(self) -> None:
        """Refuse what can never work."""
        for name in ("connections", "messages_per_connection", "port"):
            if getattr(self, name) < 1:
                raise InputError(f"SMTP account: {name} must be at least 1.")
        if not re.fullmatch(r"[!-~]+", self.host):
            raise InputError("SMTP account: host must be a host name or an IP address.")
        if self.security not in {"none", "starttls", "tls"}:
            raise InputError("SMTP account: security must be none, starttls or tls.")
        if (self.username is None) != (self.password is None):
            raise InputError("SMTP account: give both a user name and a password, or neither.")

    @property
    def where(self) -> str:
        """The server, as error texts name it."""
        return f"{self.host}:{self.port}"


class Lost(Exception):
    """The connection cannot be used any more; the text says why, and names nobody."""


class Connection(asyncio.Protocol):
    """An SMTP session, logged in and between two messages when it is made."""

    def __init__(self, transport: asyncio.Transport, extensions: Mapping[str, str], server: str) -> None:
        """Take over a transport from aiosmtplib."""
        self.extensions = extensions
        self.server = server
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._lines: list[bytes] = []
        self._replies: deque[Reply] = deque()
        self._owed = 0  # replies that the server owes us; more than one when commands are grouped
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._lost: str | None = None
        self._closed = self._loop.create_future()
        transport.set_protocol(self)
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

    def write(self, data: bytes, replies: int = 1) -> None:
        """Write one command, or several that are answered by as many replies.

        Raises:
            Lost: Nothing was written.
        """
        if self._lost is not None:
            raise Lost(self._lost)
        self._owed += replies
        self._transport.write(data)

    async def reply(self, patience: float) -> Reply:
        """Return the next reply, in the order of the commands.

        Raises:
            Lost: The reply will never come.
        """
        while not self._replies:
            await self._wait(patience)
        return self._replies.popleft()

    async def ask(self, command: bytes, patience: float) -> Reply:
        """Write one command and return its reply."""
        self.write(command)
        return await self.reply(patience)

    async def write_content(self, content: bytes, patience: float) -> bool:
        """Write a dot-stuffed message and return whether its final dot was written too.

        A long message is written first and its dot only when the socket has taken most of it, so that a
        loss half-way is known to have handed over nothing. False: the server answered before the end.

        Raises:
            Lost: The dot was not written.
        """
        if len(content) <= _ONE_WRITE:
            self.write(content + b".\r\n")
            return True
        self.write(content)
        while self._paused and not self._replies:
            await self._wait(patience)
        if self._replies:
            self._end("the server answered before the message ended")
            return False
        self.write(b".\r\n", replies=0)
        return True

    async def quit(self) -> None:
        """Say goodbye, for at most some seconds; a server that does not answer changes nothing."""
        try:
            async with asyncio.timeout(_QUIT_SECONDS):
                with contextlib.suppress(Lost):
                    await self.ask(b"QUIT\r\n", _QUIT_SECONDS)
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

    def data_received(self, data: bytes) -> None:
        """Cut the stream into replies; anything that nobody asked for ends the connection."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            if self._lost is not None:
                return
            self._read_line(line)
        if len(self._buffer) > _LONGEST_LINE:
            self._end(NOT_SMTP)
        elif self._buffer and not self._owed:
            self._end("the server spoke before its time")

    def pause_writing(self) -> None:
        """Remember that the socket does not keep up."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on writing."""
        self._paused = False
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        if not self._closed.done():
            self._closed.set_result(None)
        self._end("the connection was lost" if exc else "the server closed the connection")

    def _read_line(self, line: bytes) -> None:
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
            self._replies.append(Reply(int(match[1]), one_line([said[4:] for said in self._lines])))
            self._lines.clear()
            self._wake()

    async def _wait(self, patience: float) -> None:
        """Wait for anything to happen."""
        if self._lost is not None:
            raise Lost(self._lost)
        self._waiter = self._loop.create_future()
        timer = self._loop.call_later(patience, self._end, f"no answer within {patience:g} s")
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end(self, why: str) -> None:
        if self._lost is None:
            self._lost = why
            self._transport.abort()
        self._wake()


async def connect(settings: SmtpSettings, tls: ssl.SSLContext | None) -> Connection:
    """Open a connection, with TLS by this context and logged in as the settings ask.

    Raises:
        NotSent: The server is away or busy; calling again is safe.
        AccountError: The server cannot be trusted, or does not let this account in.
    """
    if settings.password is not None and settings.security == "none" and not _is_loopback(settings.host):
        raise AccountError(f"{settings.where}: a password is never sent without TLS; set security.")
    client = aiosmtplib.SMTP(
        hostname=settings.host,
        port=settings.port,
        timeout=None,  # ours, below: aiosmtplib's wait_for loses a cancellation now and then on Python 3.11
        use_tls=settings.security == "tls",
        start_tls=False,  # ours to do: aiosmtplib's own errors do not tell why
        tls_context=tls,
        local_hostname=await asyncio.to_thread(_ehlo_name),
    )
    phase = Phase.GREETING
    taken = False
    try:
        async with asyncio.timeout(settings.connect_timeout):
            greeting = await client.connect()
        async with asyncio.timeout(settings.command_timeout):
            phase = Phase.EHLO
            await _hello(client)
            if settings.security == "starttls":
                phase = Phase.STARTTLS
                if not client.supports_extension("starttls"):
                    raise AccountError(
                        f"{settings.where} does not offer STARTTLS; nothing was sent without it"
                    )
                await client.starttls()
                await _hello(client)
            if settings.username is not None and settings.password is not None:
                phase = Phase.AUTH
                await _log_in(client, settings.where, settings.username, settings.password)
        if client.transport is None:
            raise aiosmtplib.SMTPServerDisconnected("")
        connection = Connection(
            cast("asyncio.Transport", client.transport),
            dict(client.esmtp_extensions),
            (greeting.message.split() or [""])[0],
        )
        taken = True
    except (aiosmtplib.SMTPException, OSError) as error:
        # Without its cause: the server's words in it may name the user, and tracebacks are kept.
        raise _explained(settings.where, phase, error) from None
    else:
        return connection
    finally:
        if not taken:
            client.close()


async def _hello(client: aiosmtplib.SMTP) -> None:
    try:
        await client.ehlo()
    except aiosmtplib.SMTPHeloError as refusal:
        if refusal.code not in _EHLO_UNKNOWN:
            raise
        await client.helo()


async def _log_in(client: aiosmtplib.SMTP, where: str, username: str, password: str) -> None:
    offered = [method for method in _AUTH_METHODS if method in client.server_auth_methods]
    if not offered:
        raise AccountError(f"{where} does not offer to log in with a password")
    for method in offered:
        try:
            await getattr(client, f"auth_{method.replace('-', '')}")(username, password)
        except aiosmtplib.SMTPAuthenticationError as refusal:
            if refusal.code != _METHOD_UNKNOWN or method == offered[-1]:
                raise
        else:
            return


def _explained(where: str, phase: Phase, error: Exception) -> MessagingError:
    """Return our error for one of aiosmtplib's or the socket's."""
    cause = error.__cause__
    if isinstance(error, aiosmtplib.SMTPConnectError) and isinstance(cause, OSError):
        error = cause
    match error:
        case aiosmtplib.SMTPResponseException(code=code, message=said) if code > 0:
            reply = Reply(code, one_line([said.encode("utf-8", "replace")]))
            return failure(judge(phase, reply), where, phase, reply)
        case aiosmtplib.SMTPResponseException():
            why = NOT_SMTP
        case TimeoutError():
            why = "no answer in time"
        case ssl.SSLCertVerificationError():
            return AccountError(f"{where}: the server's certificate was refused: {error.verify_message}")
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError() | aiosmtplib.SMTPException():
            why = "the server closed the connection"
        case ssl.SSLError():
            return AccountError(f"{where}: no TLS as we ask for it ({error.reason})")
        case OSError(errno=int(number)):
            why = os.strerror(number)
        case _:
            why = str(error)
    return NotSent(f"{where}, {phase}: {why}")


@functools.cache
def _ehlo_name() -> str:
    """Return our full host name, or an address literal (RFC 5321 4.1.1.1), asking the resolver once."""
    name = socket.getfqdn()
    return name if "." in name and name.isascii() and not re.search(r"\s", name) else "[127.0.0.1]"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
