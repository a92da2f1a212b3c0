"""SMTP: one transaction per message, over a few connections that stay open."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Self

import email_validator

from messaging.channels.base import Dispatch, Message, Receipt
from messaging.channels.smtp_connection import Connection, Lost, SmtpSettings, connect
from messaging.channels.smtp_replies import Phase, Reply, Verdict, failure, judge, receipt, silence
from messaging.errors import AccountError, NotSent
from schemas.states import Outcome

__all__ = ["ServerFacts", "SmtpPool", "SmtpSender", "SmtpSettings", "verify"]

_UNWRITABLE = re.compile(r"[\x00-\x20\x7f<>]")  # would end the command, or the path within it
_LONGEST_ADDRESS = 254  # RFC 5321 4.5.3.1.3: 256 with its angle brackets
_BARE_LINE_END = re.compile(rb"\r\n|\r|\n")
_COMPLETED = 250


class _State(Enum):
    """What the server of an open connection has in hand."""

    CLEAN = auto()
    """Nothing."""
    OPEN = auto()
    """An envelope that must be reset before the next."""
    TORN = auto()
    """We cannot say: a transaction was left in the middle."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server said of itself."""

    server: str
    """The name in its greeting."""
    tls_version: str | None
    extensions: tuple[str, ...]
    """As in SIZE 10240000, in alphabetical order."""
    authenticated: bool


@dataclass(frozen=True, slots=True)
class _Envelope:
    mail: bytes
    rcpt: bytes


class SmtpSender:
    """One connection to one SMTP server, opened with the first message; carries one message at a time."""

    def __init__(self, settings: SmtpSettings, connect_once: Callable[[], Awaitable[Connection]]) -> None:
        """Remember how to connect."""
        self._settings = settings
        self._connect = connect_once
        self._connection: Connection | None = None
        self._state = _State.CLEAN
        self._carried = 0

    async def send(
        self,
        message: Message,
        dispatch: Dispatch,
        following: Message | None = None,  # noqa: ARG002 - one command at a time
    ) -> Receipt:
        """Hand over one message and return the server's answer.

        A cancelled call leaves the message handed over or not, like a crash: the ledger's `dispatched` tells.

        Raises:
            NotSent: Nothing was handed over, even when `dispatch` was awaited; calling again is safe.
            Unknown: The final dot was written and no answer came.
            AccountError: The account, or the envelope sender, was refused; nothing was handed over.
        """
        recipient = _writable(message.recipient)
        if recipient is None:
            return Receipt(Outcome.REJECTED, reply="the address cannot be written in an SMTP command")
        envelope_sender = _writable(message.envelope_sender) if message.envelope_sender else ""
        if envelope_sender is None:
            raise AccountError("the envelope sender cannot be written in an SMTP command")
        connection = await self._connected()
        offered = connection.extensions
        if not recipient.isascii() and "smtputf8" not in offered:
            return Receipt(
                Outcome.REJECTED, reply="the server does not take addresses outside ASCII (SMTPUTF8)"
            )
        if not envelope_sender.isascii() and "smtputf8" not in offered:
            raise AccountError(f"{self._settings.where} does not take an envelope sender outside ASCII")
        content = _crlf(message.content)
        options = "".join(
            option
            for extension, wanted, option in (
                ("size", True, f" SIZE={len(content)}"),
                ("8bitmime", not content.isascii(), " BODY=8BITMIME"),
                ("smtputf8", not (recipient + envelope_sender).isascii(), " SMTPUTF8"),
            )
            if wanted and extension in offered
        )
        envelope = _Envelope(
            f"MAIL FROM:<{envelope_sender}>{options}\r\n".encode(), f"RCPT TO:<{recipient}>\r\n".encode()
        )
        self._state = _State.TORN
        self._carried += 1
        try:
            return await self._transact(connection, envelope, content, dispatch)
        finally:
            if self._state is _State.TORN:
                connection.drop()

    async def close(self) -> None:
        """Say goodbye and close; the server's answer to that changes nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.quit()

    def drop(self) -> None:
        """Close without a word."""
        if self._connection is not None:
            self._connection.drop()

    async def _connected(self) -> Connection:
        """Return a connection that is ready for MAIL FROM."""
        if self._connection is not None and self._carried >= self._settings.messages_per_connection:
            await self.close()
        connection = self._connection
        if connection is not None and self._state is not _State.CLEAN:
            # Reset now, not when it became necessary: a receipt does not wait for it, nor gets lost with it.
            was_open, self._state = self._state is _State.OPEN, _State.TORN
            with contextlib.suppress(Lost):
                if was_open and await self._reset(connection):
                    self._state = _State.CLEAN
            if self._state is _State.TORN:
                connection.drop()
        if connection is None or not connection.alive:
            self._connection = None
            self._connection = connection = await self._connect()
            self._state = _State.CLEAN
            self._carried = 0
        return connection

    async def _reset(self, connection: Connection) -> bool:
        reply = await connection.ask(b"RSET\r\n", self._settings.command_timeout)
        return reply.code == _COMPLETED

    async def _transact(
        self, connection: Connection, envelope: _Envelope, content: bytes, dispatch: Dispatch
    ) -> Receipt:
        patience = self._settings.command_timeout
        # Before the envelope, not only before the dot: who may not be written to is not even mentioned.
        try:
            await dispatch()
        except Exception:
            self._state = _State.CLEAN
            raise
        phase = Phase.MAIL
        try:
            reply = await connection.ask(envelope.mail, patience)
            if (verdict := judge(phase, reply)) is not Verdict.GO_ON:
                return self._answered(phase, verdict, reply, after=_State.CLEAN)
            phase = Phase.RCPT
            reply = await connection.ask(envelope.rcpt, patience)
            if (verdict := judge(phase, reply)) is not Verdict.GO_ON:
                return self._answered(phase, verdict, reply, after=_State.OPEN)
            phase = Phase.DATA
            reply = await connection.ask(b"DATA\r\n", patience)
            if (verdict := judge(phase, reply)) is not Verdict.GO_ON:
                return self._answered(phase, verdict, reply, after=_State.OPEN)
            phase = Phase.CONTENT
            if await connection.write_content(_dot_stuffed(content), patience):
                phase = Phase.DOT
            reply = await connection.reply(self._settings.final_timeout)
            return self._answered(phase, judge(phase, reply), reply, after=_State.CLEAN)
        except Lost as lost:
            raise silence(phase, f"{self._settings.where}, {phase}: {lost}") from None

    def _answered(self, phase: Phase, verdict: Verdict, reply: Reply, after: _State) -> Receipt:
        """Return the receipt of a definite answer, or raise what the reply means instead."""
        if not reply.closes and verdict is not Verdict.NONSENSE:
            self._state = after
        if verdict in {Verdict.NOT_SENT, Verdict.ACCOUNT, Verdict.NONSENSE}:
            raise failure(verdict, self._settings.where, phase, reply)
        return receipt(verdict, reply)


class SmtpPool:
    """The connections of one SMTP account, at most `connections` at once; use it with `async with`."""

    def __init__(self, settings: SmtpSettings) -> None:
        """Connect nothing yet."""
        self.connections = settings.connections
        self._settings = settings
        self._idle: list[SmtpSender] = []
        self._free = asyncio.Semaphore(settings.connections)
        self._closed = False
        self._tls: ssl.SSLContext | None = None
        self._first = asyncio.Lock()
        self._proven = False
        self._tries = 0
        self._last_failure: NotSent | None = None
        self._refused: AccountError | None = None

    async def __aenter__(self) -> Self:
        """Return the pool itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Say goodbye on every connection, for at most some seconds."""
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(sender.close() for sender in idle))

    @contextlib.asynccontextmanager
    async def sender(self) -> AsyncIterator[SmtpSender]:
        """Borrow a sender, waiting for a free one; it is given back on exit, connected if it still is."""
        async with self._free:
            # The last one given back: connections beyond what the load needs then idle out at the server.
            sender = self._idle.pop() if self._idle else SmtpSender(self._settings, self._connect)
            try:
                yield sender
            finally:
                if self._closed:
                    sender.drop()
                else:
                    self._idle.append(sender)

    async def _connect(self) -> Connection:
        """Open a connection; until one has succeeded, one at a time.

        Else a wrong password would be tried once per connection, which locks accounts out. Whoever waited
        for somebody's failed try shares its failure.
        """
        if self._proven:
            return await self._connect_now()
        seen = self._tries
        async with self._first:
            if self._last_failure is not None and self._tries > seen:
                raise NotSent(str(self._last_failure))
            if not self._proven:
                return await self._connect_now()
        return await self._connect_now()

    async def _connect_now(self) -> Connection:
        if self._refused is not None:
            raise AccountError(str(self._refused))
        if self._tls is None and self._settings.security != "none":
            self._tls = await asyncio.to_thread(_tls_context)  # reads a hundred certificates: once per pool
        try:
            connection = await connect(self._settings, self._tls)
        except NotSent as failure:
            self._last_failure = failure
            raise
        except AccountError as refusal:
            self._refused = refusal
            raise
        else:
            self._proven = True
            self._last_failure = None
            return connection
        finally:
            self._tries += 1


async def verify(settings: SmtpSettings) -> ServerFacts:
    """Connect and log in as a campaign would, send nothing, and return what the server says of itself.

    Raises:
        NotSent: The server is away or busy.
        AccountError: The server cannot be trusted, or does not let this account in.
    """
    tls = None if settings.security == "none" else await asyncio.to_thread(_tls_context)
    connection = await connect(settings, tls)
    try:
        return ServerFacts(
            server=connection.server,
            tls_version=connection.tls_version,
            extensions=tuple(
                sorted(f"{name.upper()} {value}".strip() for name, value in connection.extensions.items())
            ),
            authenticated=settings.username is not None,
        )
    finally:
        await connection.quit()


def _tls_context() -> ssl.SSLContext:
    """Return the default context: verified certificates and host names (SSL_CERT_FILE adds a private CA)."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _writable(address: str) -> str | None:
    """Return an address as it can stand in an SMTP command, or None.

    Only a local part outside ASCII needs SMTPUTF8: a domain outside ASCII has an ASCII form.
    """
    if not address or _UNWRITABLE.search(address):
        return None
    if not address.isascii():
        try:
            known = email_validator.validate_email(
                address, check_deliverability=False, globally_deliverable=False
            )
        except email_validator.EmailNotValidError:
            return None
        address = f"{known.local_part}@{known.ascii_domain}"
    return address if len(address.encode()) <= _LONGEST_ADDRESS else None


def _crlf(content: bytes) -> bytes:
    """Return content whose lines all end in CRLF, the last one too.

    A lone CR or LF before a dot is read as the end of the message by some servers, and what follows as
    commands (SMTP smuggling); counting is a twentieth of the price of always replacing.
    """
    pairs = content.count(b"\r\n")
    if content.count(b"\n") != pairs or content.count(b"\r") != pairs:
        content = _BARE_LINE_END.sub(b"\r\n", content)
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def _dot_stuffed(content: bytes) -> bytes:
    """Double the dot that begins a line (RFC 5321 4.5.2)."""
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed
