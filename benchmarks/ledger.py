"""The ledger under speed: marks and answers per second, what a message costs us, what a page costs.

    python benchmarks/ledger.py

An embedded PostgreSQL of its own; as many tasks as connections mark an attempt, take its answer for given
and go on to the next one, as the send loop does, without rendering or SMTP. Ends by itself.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import text

from messaging.campaign.ledger import BatchLedger
from messaging.campaign.paging import DueAttempts
from messaging.storage import batches, embedded, migrating
from messaging.storage.attempts import Answer, Mark
from messaging.storage.engine import open_engine
from schemas.states import AttemptState

BATCH = 5_000
STATEMENTS = [
    "INSERT INTO audiences (name) VALUES ('a')",
    """INSERT INTO campaigns (name, spec, audience_id, state)
        VALUES ('c', '{"account": "smtp-account/main"}', 1, 'running')""",
    """INSERT INTO contacts (email_key, email, name, attributes)
        SELECT k, k, 'Ada Lovelace', '{"City": "London", "Plan": "Gold", "Orders": "17"}'
        FROM (SELECT 'person.' || n || '@example.org' AS k FROM generate_series(1, :n) n)""",
    "INSERT INTO batches (campaign_id, number) SELECT 1, n FROM generate_series(1, :batches) n",
    """INSERT INTO attempts (campaign_id, batch_id, contact_id, address_key, address)
        SELECT 1, 1 + (id - 1) / :size, id, email_key, email FROM contacts ORDER BY id""",
]


def main() -> None:
    """Run the rounds and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--attempts", type=int, default=100_000, help="in the ledger")
    parser.add_argument("--connections", default="1,8,16")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.url:
        print(json.dumps(asyncio.run(measure(arguments.url, arguments.only, arguments.seconds))))
        return
    home = Path(tempfile.mkdtemp(prefix="outflow-benchmark-"))
    try:
        home.chmod(0o755)  # the embedded PostgreSQL runs as another user when we are root
        report(embedded.start(home), arguments)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def report(url: str, arguments: argparse.Namespace) -> None:
    """Measure each number of connections in turn, each time in a process of its own."""
    engine = open_engine(url)
    migrating.upgrade(engine)
    fill(engine, arguments.attempts)
    sizes = [int(size) for size in arguments.connections.split(",")]
    found: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    for turn in range(arguments.rounds):
        for size in sizes if turn % 2 == 0 else reversed(sizes):
            with engine.begin() as connection:
                connection.execute(text("UPDATE attempts SET state = 'queued' WHERE state <> 'queued'"))
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("VACUUM ANALYZE attempts"))
            found[size].append(in_own_process(url, size, arguments.seconds))
            print(size, found[size][-1], file=sys.stderr)
    engine.dispose()
    print(f"{arguments.attempts:,} attempts, medians of {arguments.rounds} rounds\n")
    print("| connections | messages/s | CPU µs per message | rounds/s | CPU µs per attempt read |")
    print("|---:|---:|---:|---:|---:|")
    for size, runs in found.items():
        medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        print(
            f"| {size} | {medians['per_second']:,.0f} | {medians['cpu_us']:.1f} | "
            f"{medians['rounds']:,.0f} | {medians['page_us']:.1f} |"
        )


def fill(engine, attempts: int) -> None:
    """Write a campaign of so many attempts, as planning would."""
    with engine.begin() as connection:
        for statement in STATEMENTS:
            connection.execute(
                text(statement), {"n": attempts, "batches": -(-attempts // BATCH), "size": BATCH}
            )


def in_own_process(url: str, connections: int, seconds: float) -> dict[str, float]:
    """Measure in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--url", url, "--only", str(connections), "--seconds", str(seconds)],
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


async def measure(url: str, connections: int, seconds: float) -> dict[str, float]:
    """Mark and answer for so long, batch after batch."""
    engine = open_engine(url)
    with engine.connect() as connection:
        numbers = batches.numbers(connection, 1)
        rounds = commits(connection)
    pages = await read_pages(engine, numbers)
    started, cpu, done = time.perf_counter(), time.process_time(), 0
    for number in numbers:
        with engine.begin() as connection:
            lease = batches.claim(connection, 1, number, f"benchmark:{os.getpid()}")
        ids = iter(range((number - 1) * BATCH + 1, number * BATCH + 1))
        async with BatchLedger(engine, lease) as ledger:
            done += sum(
                await asyncio.gather(*(work(ledger, ids, started + seconds) for _ in range(connections)))
            )
        if time.perf_counter() - started > seconds:
            break
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    with engine.connect() as connection:
        rounds = commits(connection) - rounds
    engine.dispose()
    return {"per_second": done / took, "cpu_us": cpu / done * 1e6, "rounds": rounds / took, "page_us": pages}


async def work(ledger: BatchLedger, ids, until: float) -> int:
    """Be one connection; return the messages."""
    done = 0
    for attempt_id in ids:
        await ledger.dispatch(Mark(attempt_id, f"<{attempt_id:032x}.1@shop.example.org>"))
        ledger.record(
            Answer(
                attempt_id,
                AttemptState.ACCEPTED,
                250,
                "2.0.0",
                "2.0.0 Ok: queued as 4Zx8kV0W1Rz5vN",
                None,
                "4Zx8kV",
            )
        )
        done += 1
        if time.perf_counter() > until:
            break
    return done


async def read_pages(engine, numbers: list[int]) -> float:
    """Read some batches and return the CPU microseconds per attempt."""
    cpu, read = time.process_time(), 0
    for number in numbers[:4]:
        async with DueAttempts(engine, number) as due:
            while due.ready() or await due.next():
                read += 1
    return (time.process_time() - cpu) / read * 1e6


def commits(connection) -> int:
    """Return the commits that the database has counted so far."""
    connection.execute(text("SELECT pg_stat_force_next_flush()"))
    statement = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
    return connection.execute(text(statement)).scalar_one()


if __name__ == "__main__":
    main()
