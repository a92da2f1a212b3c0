"""Handing prepared messages to an SMTP server: our pool beside Postfix's smtp-source, and beside aiosmtplib.

    python benchmarks/transport.py                     # into smtp-sink, beside smtp-source -s 10 -d
    python benchmarks/transport.py --round-trip 20     # 20 ms away, beside eight connections of aiosmtplib
    python benchmarks/transport.py --into postfix      # into a real smtpd, beside smtp-source -s 10 -d

Needs Postfix's programs: an installed `postfix`, or a package unpacked anywhere and named by `--postfix`:

    apt-get download postfix && dpkg -x postfix_*.deb FOLDER

Every way sends the same messages of about 4 KB over loopback to the same server, one way after the other in
rotating order; figures are medians of ratios within one round, because the machine has other work to do.
CPU is the client's alone: ours while it sends, without Python's start and the making of the messages;
smtp-source's whole life, which starts in milliseconds.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pwd
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
CONNECTIONS = 8
BARS: dict[str, dict[str, tuple[float, float | None]]] = {
    "sink": {"smtp-source": (1.3, 0.85)},
    "postfix": {"smtp-source": (0.9, None)},
    "far": {"aiosmtplib": (3.7, None)},
}
"""Where → beside whom: at least so many times the messages per second, at most so many times the CPU."""


@dataclass(frozen=True)
class Figures:
    """What one run shows."""

    per_second: float
    cpu_us: float


def main() -> None:
    """Run the rounds and print a table and the bars."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, help="per run; 10000, into Postfix 3000, far away 2000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--into", choices=["sink", "postfix"], default="sink")
    parser.add_argument("--round-trip", type=float, default=0.0, metavar="MS")
    parser.add_argument("--ways", help="comma-separated: ours, chunks, no-lookahead, aiosmtplib, smtp-source")
    parser.add_argument("--postfix", type=Path, default=Path("/"), help="where the package is unpacked")
    parser.add_argument("--client", nargs=3, metavar=("WAY", "PORT", "MESSAGES"), help=argparse.SUPPRESS)
    parser.add_argument("--proxy", nargs=2, metavar=("PORT", "MS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        way, port, count = arguments.client
        print(json.dumps(asyncio.run(CLIENTS[way](int(port), int(count)))))
        return
    if arguments.proxy:
        port, milliseconds = arguments.proxy
        asyncio.run(delay(int(port), float(milliseconds) / 2000))
        return
    where = "far" if arguments.round_trip else arguments.into
    default = {"sink": "ours,smtp-source", "postfix": "ours,chunks,smtp-source", "far": "ours,aiosmtplib"}
    ways = (arguments.ways or default[where]).split(",")
    count = arguments.messages or {"sink": 10_000, "postfix": 3_000, "far": 2_000}[where]
    found: dict[str, list[Figures]] = {way: [] for way in ways}
    for turn in range(arguments.rounds):
        for way in ways[turn % len(ways) :] + ways[: turn % len(ways)]:
            figures = measure(way, count, arguments)
            found[way].append(figures)
            print(f"{way}: {figures.per_second:,.0f}/s, {figures.cpu_us:.1f} µs", file=sys.stderr)
    report(found, where, count)


def report(found: dict[str, list[Figures]], where: str, count: int) -> None:
    """Print the medians, and how we stand beside each peer."""
    rounds = len(next(iter(found.values())))
    print(f"{count:,} messages, medians of {rounds} rounds\n")
    print("| way | messages/s | CPU µs per message |\n|---|---:|---:|")
    for way, runs in found.items():
        per_second, cpu_us = (statistics.median(getattr(run, key) for run in runs) for key in KEYS)
        print(f"| {way} | {per_second:,.0f} | {cpu_us:.1f} |")
    print()
    for peer, theirs in found.items():
        for way, ours in found.items():
            if peer not in BARS[where] or way == peer:
                continue
            faster, dearer = (
                [getattr(us, key) / getattr(them, key) for us, them in zip(ours, theirs, strict=True)]
                for key in KEYS
            )
            at_least, at_most = BARS[where][peer]
            print(f"{way} / {peer}, messages/s: {spread(faster)}, bar at least {at_least}")
            print(f"{way} / {peer}, CPU: {spread(dearer)}, bar {f'at most {at_most}' if at_most else 'none'}")


KEYS = ("per_second", "cpu_us")


def spread(ratios: list[float]) -> str:
    """Return the median and what it lies between."""
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}..{max(ratios):.2f}]"


def measure(way: str, count: int, arguments: argparse.Namespace) -> Figures:
    """Start a fresh server and let one client send to it."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outflow-transport-")))
        folder.chmod(0o755)
        server = postfix if arguments.into == "postfix" else sink
        port = stack.enter_context(server(arguments.postfix, folder))
        if arguments.round_trip:
            port = stack.enter_context(proxy(port, arguments.round_trip))
        if way == "smtp-source":
            return smtp_source(arguments.postfix, folder, port, count)
        done = subprocess.run(
            [sys.executable, __file__, "--client", way, str(port), str(count)],
            stdout=subprocess.PIPE,
            check=True,
            timeout=600,
        )
        return Figures(**json.loads(done.stdout))


def a_message(number: int) -> bytes:
    """Make one message of about 4 KB, as a renderer does: text and HTML in quoted-printable."""
    line = b"Spring is here, and with it =E2=80=9Cthe offer=E2=80=9D that you asked for last year.\r\n"
    return (
        b"From: Shop <news@shop.example.org>\r\nTo: user%d@example.org\r\nSubject: Our spring offer\r\n"
        b"Date: Mon, 01 Mar 2027 09:00:00 +0000\r\nMessage-ID: <%d.1@shop.example.org>\r\n"
        b"List-Unsubscribe: <https://shop.example.org/u/%032d>\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/alternative; boundary="=_1"\r\n\r\n--=_1\r\nContent-Type: text/plain;'
        b' charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n%b--=_1\r\nContent-Type:'
        b' text/html; charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n%b--=_1--\r\n'
    ) % (number, number, number, line * 12, b"<p>" + line * 28)


def cpu_seconds() -> float:
    """Return this process's CPU so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def timed(count: int, work: Callable[[], Awaitable[None]]) -> dict[str, float]:
    """Return the figures of sending so many messages."""
    cpu, started = cpu_seconds(), time.perf_counter()
    await work()
    return {
        "per_second": count / (time.perf_counter() - started),
        "cpu_us": (cpu_seconds() - cpu) / count * 1e6,
    }


async def ours(port: int, count: int, *, lookahead: bool = True, chunking: bool = False) -> dict[str, float]:
    """Send with our pool."""
    from messaging.channels.base import Message
    from messaging.channels.smtp import SmtpPool, SmtpSettings
    from schemas.states import Outcome

    messages = [
        Message(number, "news@shop.example.org", f"user{number}@example.org", a_message(number))
        for number in range(count)
    ]
    # Everybody keeps connections open all the time here.
    settings = SmtpSettings(
        HOST, port, "none", connections=CONNECTIONS, messages_per_connection=count, chunking=chunking
    )

    async def dispatch() -> None:
        pass

    async def worker(pool: SmtpPool, mine: list[Message]) -> None:
        async with pool.sender() as sender:
            for index, message in enumerate(mine):
                following = mine[index + 1] if lookahead and index + 1 < len(mine) else None
                receipt = await sender.send(message, dispatch, following)
                if receipt.outcome is not Outcome.ACCEPTED:
                    raise SystemExit(f"not accepted: {receipt}")

    async def work() -> None:
        async with SmtpPool(settings) as pool:
            await asyncio.gather(
                *(worker(pool, messages[start::CONNECTIONS]) for start in range(CONNECTIONS))
            )

    return await timed(count, work)


async def ours_without_lookahead(port: int, count: int) -> dict[str, float]:
    """Send with our pool, each message known only when the one before is answered."""
    return await ours(port, count, lookahead=False)


async def ours_by_chunks(port: int, count: int) -> dict[str, float]:
    """Send with our pool, by BDAT where the server knows it."""
    return await ours(port, count, chunking=True)


async def plain_aiosmtplib(port: int, count: int) -> dict[str, float]:
    """Send over as many connections of aiosmtplib, kept open."""
    import aiosmtplib

    contents = [a_message(number) for number in range(count)]

    async def worker(start: int) -> None:
        async with aiosmtplib.SMTP(hostname=HOST, port=port, start_tls=False) as client:
            for number in range(start, count, CONNECTIONS):
                await client.sendmail(
                    "news@shop.example.org", [f"user{number}@example.org"], contents[number]
                )

    async def work() -> None:
        await asyncio.gather(*map(worker, range(CONNECTIONS)))

    return await timed(count, work)


CLIENTS: dict[str, Callable[[int, int], Coroutine[Any, Any, dict[str, float]]]] = {
    "ours": ours,
    "no-lookahead": ours_without_lookahead,
    "chunks": ours_by_chunks,
    "aiosmtplib": plain_aiosmtplib,
}


def smtp_source(root: Path, folder: Path, port: int, count: int) -> Figures:
    """Send with Postfix's own load generator, ten connections kept open."""
    (folder / "one.eml").write_bytes(a_message(1).replace(b"\r\n", b"\n"))
    command = [
        *(str(root / "usr/sbin/smtp-source"), "-4", "-d", "-s", "10", "-m", str(count)),
        *("-F", str(folder / "one.eml"), "-f", "news@shop.example.org", "-t", "user1@example.org"),
        f"{HOST}:{port}",
    ]
    started = time.perf_counter()
    process = subprocess.Popen(command, env=with_libraries(root))
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("smtp-source failed")
    seconds = time.perf_counter() - started
    return Figures(count / seconds, (used.ru_utime + used.ru_stime) / count * 1e6)


def with_libraries(root: Path) -> dict[str, str]:
    """Return an environment in which an unpacked package finds its libraries."""
    if not (root / "usr/sbin/smtp-sink").exists():
        raise SystemExit("No smtp-sink there: install postfix, or unpack it and give --postfix FOLDER.")
    return {**os.environ, "LD_LIBRARY_PATH": str(root / "usr/lib/postfix")}


def a_free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str], port: int) -> Iterator[None]:
    """Run a server until the block is left."""
    process = subprocess.Popen(command, env=environment)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
                break
            if process.poll() is not None:
                raise SystemExit(f"{command[0]} ended")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def sink(root: Path, _folder: Path) -> Iterator[int]:
    """Run smtp-sink, which throws everything away."""
    port = a_free_port()
    command = [str(root / "usr/sbin/smtp-sink"), "-u", "nobody", "-m", "100", f"{HOST}:{port}", "100"]
    with running(command, with_libraries(root), port):
        yield port


@contextlib.contextmanager
def postfix(root: Path, folder: Path) -> Iterator[int]:
    """Run a Postfix of our own, which stores every message properly and then discards it."""
    port = a_free_port()
    users = {user.pw_name for user in pwd.getpwall()}
    owner, group = ("postfix", "postdrop") if "postfix" in users else ("mail", "news")
    queue, data, config = folder / "queue", folder / "data", folder / "config"
    for path in (queue, data, config):
        path.mkdir()
    for name in (
        *("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "maildrop"),
        *("pid", "private", "public", "saved", "trace"),
    ):
        (queue / name).mkdir()
        if name != "pid":
            shutil.chown(queue / name, owner, group if name in {"public", "maildrop"} else None)
    shutil.chown(data, owner)
    settings = {
        "compatibility_level": "3.6",
        "queue_directory": queue,
        "data_directory": data,
        "daemon_directory": root / "usr/lib/postfix/sbin",
        "command_directory": root / "usr/sbin",
        "shlib_directory": root / "usr/lib/postfix",
        "mail_owner": owner,
        "setgid_group": group,
        "myhostname": "benchmark.example.org",
        "mydestination": "",
        "mynetworks": "127.0.0.0/8",
        "inet_interfaces": "loopback-only",
        "inet_protocols": "ipv4",
        "default_transport": "discard:",
        "alias_maps": "",
        "smtpd_recipient_restrictions": "permit_mynetworks, reject",
        "import_environment": "MAIL_CONFIG LD_LIBRARY_PATH",
        "export_environment": "LD_LIBRARY_PATH",
    }
    (config / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    services = [f"{HOST}:{port} inet n - n - - smtpd"] + [
        f"{name} unix {private} - n {wake} {most} {program}"
        for name, private, wake, most, program in (
            ("cleanup", "n", "-", "0", "cleanup"),
            ("qmgr", "n", "300", "1", "qmgr"),
            ("rewrite", "-", "-", "-", "trivial-rewrite"),
            ("bounce", "-", "-", "0", "bounce"),
            ("defer", "-", "-", "0", "bounce"),
            ("trace", "-", "-", "0", "bounce"),
            ("error", "-", "-", "-", "error"),
            ("discard", "-", "-", "-", "discard"),
            ("anvil", "-", "-", "1", "anvil"),
            ("proxymap", "-", "-", "-", "proxymap"),
        )
    ]
    (config / "master.cf").write_text("".join(f"{service}\n" for service in services))
    environment = with_libraries(root) | {"MAIL_CONFIG": str(config)}
    # -e: master ends by itself if nobody is left to end it.
    command = [str(root / "usr/lib/postfix/sbin/master"), "-c", str(config), "-d", "-e", "600"]
    with running(command, environment, port):
        yield port


@contextlib.contextmanager
def proxy(port: int, milliseconds: float) -> Iterator[int]:
    """Put a distance between client and server, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--proxy", str(port), str(milliseconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        if process.stdout is None:
            raise SystemExit("the proxy did not start")
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


async def delay(port: int, seconds: float) -> None:
    """Carry bytes to a port on this machine, each so much later than it came, until our starter is gone."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(2**16):
            loop.call_later(seconds, writer.write, data)
        loop.call_later(seconds, writer.close)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, port)
        for side in (writer, far_writer):
            side.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

    server = await asyncio.start_server(accept, HOST, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    server.close()


if __name__ == "__main__":
    main()
