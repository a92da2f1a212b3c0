"""Hits on the pixel and on links: how many a second does one process take, and when are they in the ledger?

    python benchmarks/web.py                    # 10 seconds
    python benchmarks/web.py --seconds 30 --messages 20000 --connections 32

`outflow web` runs pinned to one core (Linux); the embedded PostgreSQL has all. Another process asks for the
links of different messages over connections that are kept, as a proxy in front does. Counted are answers with
the right bytes, and then the events in the ledger: it ends with an error when one is missing, when it takes
longer than 10 seconds until the last is there, or at under 1,000 hits a second.
"""

import argparse
import asyncio
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LEAST_PER_SECOND = 1000
MOST_SECONDS_LATE = 10.0
PUBLIC_URL = "https://mail.example.org"
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
TARGET = "https://shop.example.org/offer"


def main() -> None:
    """Make messages, ask for their links, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=16)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="outflow-benchmark-") as folder:
        Path(folder).chmod(0o755)  # the embedded PostgreSQL runs as another user when we are root
        os.environ["OUTFLOW_HOME"] = folder
        os.environ["OUTFLOW_PUBLIC_URL"] = PUBLIC_URL
        os.environ.pop("OUTFLOW_DATABASE_URL", None)
        paths = messages(arguments.messages)
        print("| links | hits/s | CPU µs a hit | 99 % within, ms | in the ledger after, s |")
        print("|---|---:|---:|---:|---:|")
        failed = [
            name
            for name, asked in paths.items()
            if not measure(name, asked, arguments.seconds, arguments.connections)
        ]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def messages(count: int) -> dict[str, list[str]]:
    """Put as many sent messages into the ledger and return the paths of their links."""
    from sqlalchemy import text

    from messaging.storage.engine import engine
    from messaging.storage.link_keys import newest_key
    from messaging.tokens import Purpose, sign

    with engine().begin() as connection:
        connection.execute(
            text("""
                WITH audience AS (INSERT INTO audiences (name) VALUES ('benchmark') RETURNING id),
                people AS (
                    INSERT INTO contacts (email_key, email, consent_source)
                    SELECT a, a, 'a form' FROM generate_series(1, :count) n,
                        format('reader%s@example.org', n) a RETURNING id, email),
                campaign AS (
                    INSERT INTO campaigns (name, spec, audience_id, state)
                    SELECT 'benchmark', '{"account": "smtp-account/main"}', id, 'finished' FROM audience
                    RETURNING id),
                batch AS (
                    INSERT INTO batches (campaign_id, number) SELECT id, 1 FROM campaign
                    RETURNING id, campaign_id)
                INSERT INTO attempts (campaign_id, batch_id, contact_id, address_key, address, state,
                    dispatched_at, answered_at)
                SELECT batch.campaign_id, batch.id, people.id, email, email, 'accepted',
                    now() - interval '1 hour', now() - interval '1 hour' FROM people, batch
            """),
            {"count": count},
        )
        tokens = connection.execute(text("SELECT token FROM attempts")).scalars().all()
        key = newest_key(connection)
        connection.execute(text("ANALYZE"))
    return {
        "pixel": [f"/o/{sign(key, Purpose.OPEN, token.bytes)}.gif" for token in tokens],
        "click": [f"/c/{sign(key, Purpose.CLICK, token.bytes, TARGET)}?to={TARGET}" for token in tokens],
    }


def measure(name: str, paths: list[str], seconds: float, connections: int) -> bool:
    """Ask one process of the web app for as much as it can answer; say whether it held."""
    import psutil

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    web = subprocess.Popen(
        [Path(sys.executable).with_name("outflow"), "web", "--port", str(port)], stdout=subprocess.DEVNULL
    )
    try:
        wait_for(port)
        process = psutil.Process(web.pid)
        if hasattr(process, "cpu_affinity"):
            for thread in process.threads():  # also those that there are already
                os.sched_setaffinity(thread.id, {0})
        before, cpu = kept(name), sum(process.cpu_times()[:2])
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            answered, slowest = pool.apply(load, (port, paths, seconds, connections))
        ended = time.monotonic()
        while (n := kept(name) - before) < answered and time.monotonic() - ended < 6 * MOST_SECONDS_LATE:
            time.sleep(0.1)
        late = time.monotonic() - ended
        cpu = sum(process.cpu_times()[:2]) - cpu
    finally:
        web.terminate()
        web.wait(30)
    rate = answered / seconds
    print(f"| {name} | {rate:,.0f} | {cpu / answered * 1e6:,.0f} | {slowest * 1e3:.1f} | {late:.1f} |")
    return n == answered and late <= MOST_SECONDS_LATE and rate >= LEAST_PER_SECOND


def wait_for(port: int) -> None:
    """Wait until the web app listens."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    sys.exit("the web app did not start")


def kept(name: str) -> int:
    """Count the hits that are in the ledger."""
    from sqlalchemy import text

    from messaging.storage.engine import engine

    kind = {"pixel": "opened", "click": "clicked"}[name]
    with engine().connect() as connection:
        return connection.execute(
            text("SELECT count(*) FROM events WHERE kind = :kind AND attempt_id IS NOT NULL"), {"kind": kind}
        ).scalar_one()


def load(port: int, paths: list[str], seconds: float, connections: int) -> tuple[int, float]:
    """Ask, in a process of its own; return the number of answers and the time within which 99 % came."""
    times = asyncio.run(_load(port, paths, seconds, connections))
    return len(times), sorted(times)[int(len(times) * 0.99)]


async def _load(port: int, paths: list[str], seconds: float, connections: int) -> list[float]:
    times: list[float] = []
    waiting = iter(paths * 20)
    ends = time.monotonic() + seconds

    async def visitor() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for path in waiting:
            asked = time.monotonic()
            if asked >= ends:
                break
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: {AGENT}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if path.startswith("/o/"):
                right = head.startswith(b"HTTP/1.1 200 ") and (await reader.readexactly(43))[:6] == b"GIF89a"
            else:
                right = head.startswith(b"HTTP/1.1 302 ") and f"location: {TARGET}".encode() in head
            if not right:
                raise RuntimeError(head.decode())
            times.append(time.monotonic() - asked)
        writer.close()

    await asyncio.gather(*(visitor() for _ in range(connections)))
    return times


if __name__ == "__main__":
    main()
