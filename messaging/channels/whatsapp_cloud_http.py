"""HTTP to Meta's Graph API: aiohttp, with `dispatch` between the connection and the request."""

import asyncio
import os
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from messaging.channels.base import Dispatch
from messaging.channels.whatsapp_cloud_settings import WhatsAppCloudSettings
from messaging.errors import AccountError, MessagingError, NotSent, Unknown

_IDLE_SECONDS = 15.0  # a connection unused for longer may be closed by the server while we write
_UNUSED_HEADERS = ("Accept", "Accept-Encoding", "User-Agent")


@dataclass(slots=True)
class Answer:
    """What the server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class _Handover:
    """A request that may not leave before `dispatch`."""

    dispatch: Dispatch
    seconds: float
    """Patience with the answer."""
    limit: asyncio.Timeout | None = None
    refusal: BaseException | None = None
    under_way: bool = False
    """The request may have been written: no answer from here on is an unknown."""


_HANDOVER: Final[ContextVar[_Handover | None]] = ContextVar("handover", default=None)


class _Connector(aiohttp.TCPConnector):
    """Awaits `dispatch` on a connection that stands, before anything is written to it."""

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own signature
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        handover = _HANDOVER.get()
        if handover is None:
            return connection
        try:
            await handover.dispatch()
        except BaseException as refusal:
            handover.refusal = refusal
            connection.release()
            raise
        while connection.transport is None or connection.transport.is_closing():  # meanwhile
            connection.close()
            connection = await super().connect(req, traces, timeout)
        handover.under_way = True
        if handover.limit is not None:
            handover.limit.reschedule(asyncio.get_running_loop().time() + handover.seconds)
        return connection


class Graph:
    """The requests about one phone number, over connections that stay open until `close`."""

    def __init__(self, settings: WhatsAppCloudSettings) -> None:
        """Connect nothing yet."""
        self._settings = settings
        self._messages = URL(f"{settings.url}/messages", encoded=True)
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=settings.connections, keepalive_timeout=_IDLE_SECONDS),
            timeout=aiohttp.ClientTimeout(
                total=None, connect=settings.connect_timeout, sock_connect=None, sock_read=None
            ),
            headers={"Authorization": f"Bearer {settings.token}", "Content-Type": "application/json"},
            skip_auto_headers=_UNUSED_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close all connections; requests on their way break off."""
        await self._session.close()

    async def post_message(self, body: bytes, dispatch: Dispatch) -> Answer:
        """Send a message, once: connect, await `dispatch`, write, and wait for the answer.

        Whatever `dispatch` raises passes through.

        Raises:
            NotSent: There is no connection; nothing was written.
            Unknown: The request was written, or part of it, and no answer came.
            AccountError: The server cannot be trusted.
        """
        handover = _Handover(dispatch, self._settings.total_timeout)
        reset = _HANDOVER.set(handover)
        try:
            async with (
                asyncio.timeout(None) as handover.limit,
                # A redirect would repeat the request.
                self._session.post(self._messages, data=body, allow_redirects=False) as response,
            ):
                return Answer(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, OSError) as error:
            if handover.refusal is not None:
                raise handover.refusal from None
            raise self._silence(error, under_way=handover.under_way) from None
        finally:
            _HANDOVER.reset(reset)

    async def get_number(self, fields: str) -> Answer:
        """Ask for fields of the phone number.

        Raises:
            NotSent: The server is away.
            AccountError: The server cannot be trusted.
        """
        try:
            async with (
                asyncio.timeout(self._settings.total_timeout),
                self._session.get(
                    self._settings.url, params={"fields": fields}, allow_redirects=False
                ) as response,
            ):
                return Answer(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, OSError) as error:
            raise self._silence(error, under_way=False) from None

    def _silence(self, error: Exception, *, under_way: bool) -> MessagingError:
        where = self._settings.where
        if under_way:
            late = isinstance(error, TimeoutError)
            return Unknown(f"{where}: {'no answer in time' if late else 'the connection was lost'}")
        match error:
            case aiohttp.ClientConnectorCertificateError():
                return AccountError(f"{where}: the server's certificate was refused")
            case aiohttp.ClientConnectorSSLError():
                return AccountError(f"{where}: no TLS as we ask for it")
            case TimeoutError():
                why = "no answer in time"
            case OSError(errno=int(number)) if number > 0:
                why = os.strerror(number)
            case _:
                why = "no connection"
        return NotSent(f"{where}: {why}")
