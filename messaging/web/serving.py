"""The HTTP server: uvicorn, with bounds on what a stranger may cost us."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from messaging.errors import InputError

_HEAD_SIZE: Final = 32 * 1024
"""Bytes of a request's first line and headers."""
_HEAD_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 75  # longer than nginx keeps an idle connection (60), so that it is nginx who ends it
_CONNECTIONS: Final = 800  # most systems let a process open 1,024 files
_STOP_SECONDS: Final = 2
_BACKLOG: Final = 2048


class _HeadTooLarge(Exception):
    pass


class BoundedProtocol(HttpToolsProtocol):
    """Ends a connection whose request comes too slowly or with too large a head."""

    _head_size = 0
    _received = 0
    _in_head = True
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Wait for a request, but not for ever."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless there is no end to it."""
        super().data_received(data)
        self._received += len(data)
        if self._in_head and self._received > _HEAD_SIZE and not self.transport.is_closing():
            self.send_400_response("Request header fields too large.")
        # What came was no request, as an empty line, or the rest of one that is answered: uvicorn has ended
        # its wait for the next.
        is_idle = self.cycle is None or self.cycle.response_complete
        is_timed = self._timer is not None or self.timeout_keep_alive_task is not None
        if is_idle and not is_timed and not self.transport.is_closing():
            self._wait_for_head()

    def on_message_begin(self) -> None:
        """Begin to count anew."""
        super().on_message_begin()
        self._head_size = 0
        self._received = 0
        self._in_head = True
        self._wait_for_head()

    def on_url(self, url: bytes) -> None:
        """Count the first line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Let the application answer."""
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > _HEAD_SIZE:
            raise _HeadTooLarge  # the parser makes an error of its own of it, which uvicorn answers

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(_HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def listen(host: str, port: int) -> socket.socket:
    """Take an address and port for `serve`; port 0 takes any that is free.

    Raises:
        InputError: They cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # TCP by name: else asyncio leaves small writes to wait for each other (Nagle), and a pixel, whose head
    # and body are two of them, takes 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise InputError(
            f"the web app cannot listen on {host} port {port} ({error.strerror or error}): "
            "choose another --host or --port"
        ) from None
    return listening


async def serve(app: ASGIApp, listening: socket.socket, trusted_proxies: str = "") -> None:
    """Serve until cancelled; then requests on their way are answered and hits are written.

    Args:
        app: The application.
        listening: From `listen`; closed at the end.
        trusted_proxies: Addresses, separated by commas, whose X-Forwarded-For and -Proto are believed.
    """
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # the address of a page is a person's
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=trusted_proxies or None,
        backlog=_BACKLOG,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs it."""
        yield
