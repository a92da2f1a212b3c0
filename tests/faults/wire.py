"""A wire between two parties, which a test can listen to, hold and cut."""

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from sqlalchemy import URL, make_url

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_CHUNK = 2**16
_SOCKET = ".s.PGSQL.5432"


class CutError(Exception):
    """Raised by `answering`: the connection ends here, and the answer is lost."""


class Wire:
    """Carries connections to its ends in turn."""

    def __init__(self, *ends: Callable[[], Awaitable[_Streams]]) -> None:
        """Nothing is carried before `carry` is given a connection."""
        self._ends = itertools.cycle(ends)
        self._open = asyncio.Event()
        self._open.set()
        self.answering: Callable[[], Awaitable[None]] = self._let_pass
        """Awaited before anything comes back from an end."""

    def hold(self) -> None:
        """Let nothing through to the ends from now on."""
        self._open.clear()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either side closes it, or `answering` raises."""
        pumps = []
        writers = [writer]
        try:
            far_reader, far_writer = await next(self._ends)()
            writers.append(far_writer)
            pumps.append(asyncio.create_task(self._pump(reader, far_writer, self._open.wait)))
            pumps.append(asyncio.create_task(self._pump(far_reader, writer, self._before_an_answer)))
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass  # the far end is away, or the test is over
        finally:
            for pump in pumps:
                pump.cancel()
            for either in writers:
                either.close()
            await asyncio.gather(*pumps, return_exceptions=True)

    @staticmethod
    async def _pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, before: Callable[[], Awaitable[object]]
    ) -> None:
        while data := await reader.read(_CHUNK):
            await before()
            writer.write(data)
            await writer.drain()

    async def _before_an_answer(self) -> None:
        await self.answering()  # whatever the test has put there by now

    async def _let_pass(self) -> None:
        """Do nothing."""


@contextlib.asynccontextmanager
async def wire_to_database(database_url: str) -> AsyncIterator[tuple[Wire, str]]:
    """Run a wire to the PostgreSQL of a URL; yield it and the URL at its near end."""
    url = make_url(database_url)
    wire = Wire(lambda: asyncio.open_unix_connection(f"{url.query['host']}/{_SOCKET}"))
    with tempfile.TemporaryDirectory(prefix="outflow-wire-") as folder:
        server = await asyncio.start_unix_server(wire.carry, Path(folder) / _SOCKET)
        near: URL = url.update_query_dict({"host": folder})
        try:
            yield wire, near.render_as_string(hide_password=False)
        finally:
            server.close()


@contextlib.asynccontextmanager
async def wire_to_servers(*ports: int) -> AsyncIterator[int]:
    """Run a wire that deals connections out to these servers in turn, as a balancer does; yield its port."""
    ends = [lambda port=port: asyncio.open_connection("127.0.0.1", port) for port in ports]
    server = await asyncio.start_server(Wire(*ends).carry, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
