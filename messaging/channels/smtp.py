"""SMTP: one message at a time on each of a few connections that stay open."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from messaging.channels.base import Dispatch, Message, Quota, Receipt
from messaging.channels.smtp_envelope import EVERYTHING, write_envelope
from messaging.channels.smtp_login import connect, tls_context
from messaging.channels.smtp_session import ChunksRefused, Session, Stale
from messaging.channels.smtp_settings import SmtpSettings
from messaging.errors import AccountError, NotSent
from schemas.states import AccountState

if TYPE_CHECKING:
    import ssl

__all__ = ["ServerFacts", "SmtpPool", "SmtpSender", "SmtpSettings", "verify"]


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server said of itself."""

    server: str
    """The name in its greeting."""
    tls_version: str | None
    extensions: tuple[str, ...]
    """As in SIZE 10240000, in alphabetical order."""
    authenticated: bool


class SmtpSender:
    """One connection to one SMTP server, opened with the first message."""

    def __init__(self, account: "_Account") -> None:
        """Remember how to connect."""
        self._account = account
        self._session: Session | None = None

    async def send(self, message: Message, dispatch: Dispatch, following: Message | None = None) -> Receipt:
        """Hand over one message and return the server's answer.

        A server with PIPELINING hears of `following` together with this message's content. Whoever sends
        it next must give the same object: another message, however alike, takes the announcement back.

        A cancelled call leaves the message handed over or not, like a crash: the ledger's `dispatched` tells.

        Raises:
            NotSent: Nothing was handed over, even when `dispatch` was awaited; calling again is safe.
            Unknown: The end of the message was written and no answer came.
            AccountError: The account, or the envelope sender, was refused; nothing was handed over.
        """
        while True:  # a fresh connection is never stale, and chunks are refused once
            session = self._session
            if session is None or not (session.awaits(message) or await session.ready()):
                self._session = None
                if isinstance(refusal := write_envelope(message, EVERYTHING), Receipt):
                    return refusal
                self._session = session = await self._account.open()
            try:
                return await session.transact(message, dispatch, following)
            except Stale:
                continue
            except ChunksRefused:
                self._account.chunking = False
                dispatch = _dispatched_already

    async def close(self) -> None:
        """Say goodbye and close; the server's answer to that changes nothing."""
        session, self._session = self._session, None
        if session is not None:
            await session.quit()

    def rest(self) -> None:
        """Take back what was announced: nobody is known to send it next."""
        if self._session is not None:
            self._session.take_back()

    def drop(self) -> None:
        """Close without a word."""
        if self._session is not None:
            self._session.drop()


async def _dispatched_already() -> None:
    """Stand in for a `dispatch` that has been awaited."""


class SmtpPool:
    """The connections of one SMTP account, at most `connections` at once; use it with `async with`."""

    def __init__(self, settings: SmtpSettings) -> None:
        """Connect nothing yet."""
        self.connections = settings.connections
        self._account = _Account(settings)
        self._idle: list[SmtpSender] = []
        self._free = asyncio.Semaphore(settings.connections)
        self._closed = False

    async def __aenter__(self) -> Self:
        """Return the pool itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Say goodbye on every connection, for at most some seconds."""
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(sender.close() for sender in idle))

    @property
    def identity(self) -> str:
        """The login and the server."""
        return self._account.identity

    @property
    def state(self) -> AccountState:
        """Connected, once a connection has been opened."""
        return self._account.state

    async def quota(self) -> Quota:
        """Return nothing: SMTP does not say what it allows."""
        return Quota()

    @contextlib.asynccontextmanager
    async def sender(self) -> AsyncIterator[SmtpSender]:
        """Borrow a sender, waiting for a free one; it is given back on exit, connected if it still is."""
        async with self._free:
            # The last one given back: connections beyond what the load needs then idle out at the server.
            sender = self._idle.pop() if self._idle else SmtpSender(self._account)
            try:
                yield sender
            finally:
                if self._closed:
                    sender.drop()
                else:
                    sender.rest()
                    self._idle.append(sender)


class _Account:
    """What the connections of one account have in common: how they are opened, and what was learnt."""

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self.chunking = settings.chunking
        self._tls: ssl.SSLContext | None = None
        self._first = asyncio.Lock()
        self._proven = False
        self._tries = 0
        self._last_failure: NotSent | None = None
        self._refused: AccountError | None = None

    @property
    def identity(self) -> str:
        """The login and the server."""
        where = self._settings.where
        return f"{self._settings.username} at {where}" if self._settings.username else where

    @property
    def state(self) -> AccountState:
        """Whether the last connection could be opened."""
        if self._refused is not None:
            return AccountState.AUTHENTICATION_FAILED
        return (
            AccountState.CONNECTED
            if self._proven and self._last_failure is None
            else AccountState.DISCONNECTED
        )

    async def open(self) -> Session:
        """Open a connection; until one has succeeded, one at a time.

        Else a wrong password would be tried once per connection, which locks accounts out. Whoever waited
        for somebody's failed try shares its failure.
        """
        if self._proven:
            return await self._open_now()
        seen = self._tries
        async with self._first:
            if self._last_failure is not None and self._tries > seen:
                raise NotSent(str(self._last_failure))
            if not self._proven:
                return await self._open_now()
        return await self._open_now()

    async def _open_now(self) -> Session:
        if self._refused is not None:
            raise AccountError(str(self._refused))
        if self._tls is None and self._settings.security != "none":
            self._tls = await asyncio.to_thread(tls_context)  # reads a hundred certificates: once per pool
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
            return Session(connection, self._settings, chunking=self.chunking)
        finally:
            self._tries += 1


async def verify(settings: SmtpSettings) -> ServerFacts:
    """Connect and log in as a campaign would, send nothing, and return what the server says of itself.

    Raises:
        NotSent: The server is away or busy.
        AccountError: The server cannot be trusted, or does not let this account in.
    """
    tls = None if settings.security == "none" else await asyncio.to_thread(tls_context)
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
