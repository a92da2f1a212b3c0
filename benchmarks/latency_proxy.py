"""A TCP proxy that adds the latency of a distant server, and nothing else.

    python benchmarks/latency_proxy.py --to 127.0.0.1:2525 --round-trip 20

Every byte is passed on half a round trip after it came, in either direction; bandwidth is not limited. The
server is connected to one and a half round trips after the client came, when the last packet of a handshake
would have reached it. Prints the port it listens on, and ends when standard input does.
"""

import argparse
import asyncio
import contextlib
import selectors
import subprocess
import sys
from collections.abc import Iterator


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--round-trip", type=float, required=True, metavar="MILLISECONDS")
    arguments = parser.parse_args()
    host, _, port = arguments.to.rpartition(":")
    # select() waits to the microsecond; asyncio rounds the patience of epoll up to a millisecond.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(serve(host, int(port), arguments.round_trip / 1000))


async def serve(host: str, port: int, round_trip: float) -> None:
    """Listen on a free port of loopback and say which."""
    loop = asyncio.get_running_loop()
    opening: set[asyncio.Task[None]] = set()

    def accept() -> Half:
        near, far = Half(round_trip / 2), Half(round_trip / 2)
        near.other, far.other = far, near

        async def reach_the_server() -> None:
            await asyncio.sleep(1.5 * round_trip)
            try:
                await loop.create_connection(lambda: far, host, port)
            except OSError:
                near.end()

        task = loop.create_task(reach_the_server())
        opening.add(task)
        task.add_done_callback(opening.discard)
        return near

    server = await loop.create_server(accept, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


class Half(asyncio.Protocol):
    """One end of a proxied connection: what it reads, the other end writes later."""

    other: "Half"

    def __init__(self, delay: float) -> None:
        """Know how much later, in seconds."""
        self._delay = delay
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Write what came before there was a connection."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - tells the type
        self._transport = transport
        transport.writelines(self._early)
        if self._ended:
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Pass it on, later; timers of one delay go off in the order they were set."""
        asyncio.get_running_loop().call_later(self._delay, self.other.write, data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature is asyncio's
        """Pass the end on as well."""
        asyncio.get_running_loop().call_later(self._delay, self.other.end)

    def write(self, data: bytes) -> None:
        """Write now, or as soon as there is a connection."""
        if self._transport is None:
            self._early.append(data)
        elif not self._transport.is_closing():
            self._transport.write(data)

    def end(self) -> None:
        """Close, once all is written."""
        self._ended = True
        if self._transport is not None:
            self._transport.close()


@contextlib.contextmanager
def running(port: int, round_trip_ms: float) -> Iterator[int]:
    """Run the proxy before a port of loopback, in a process of its own, and yield the port to connect to."""
    command = [sys.executable, __file__, "--to", f"127.0.0.1:{port}", "--round-trip", str(round_trip_ms)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdin is not None  # noqa: S101 - PIPE was asked for
        assert proxy.stdout is not None  # noqa: S101 - PIPE was asked for
        try:
            yield int(proxy.stdout.readline())
        finally:
            proxy.stdin.close()


if __name__ == "__main__":
    main()
