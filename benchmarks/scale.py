"""What more recipients and more workers cost: the measured columns of docs/scale.md.

    python benchmarks/scale.py --sizes 10000,100000 --rounds 3    # rows, bytes, transactions, CPU
    python benchmarks/scale.py --sizes 1000000 --rounds 1
    python benchmarks/scale.py --prefect 100000                   # task runs and bytes of Prefect's database
    python benchmarks/scale.py --workers 2 --rounds 3             # several processes against one

Sizes: a campaign is planned and sent by the library into Postfix's smtp-sink on loopback, in a process of its
own with an empty PostgreSQL; sizes take turns. Bytes are those of tables with their indexes when all is
sent; WAL and transactions are counted from the first batch to the last.

Prefect: the same by the flows on a Prefect server of its own, with a database beside the ledger's.

Workers: so many processes send one campaign by the flow of a worker, each over 8 connections, to a server
that is 20 ms away, so that waiting decides and not this machine's cores; and one process the same. With few
messages it is the size of the last batches that is measured. The clock runs from when all have imported what
they need until the last has ended. Takes the tools of sending.py.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import latency_proxy
import platformdirs
import psycopg
from peers import tools
from peers.people import PUBLIC_URL
from sending import PEERS, Sink, empty_database, server
from sqlalchemy import make_url

ROUND_TRIP = 20.0  # milliseconds
CONNECTIONS = 8
MOST_SECONDS_PLANNING = 60.0  # for 1,000,000
MOST_TASK_RUNS, MOST_PREFECT_MB = 500, 20.0  # for 100,000 recipients
MOST_COST = 1.15  # CPU per message at the largest size over that at the smallest
LEAST_GAIN = 1.6  # of two workers over one

Figures = dict[str, Any]


class PrefectServer:
    """A Prefect server with a database of its own."""

    def __init__(self, api_url: str, database: str) -> None:
        """It runs already."""
        self.api_url = api_url
        self._database = database

    def size(self) -> int:
        """Return the bytes of its database."""
        with psycopg.connect(self._database, autocommit=True) as connection:
            connection.execute("VACUUM")  # as autovacuum does, sooner or later
            return int(connection.execute("SELECT pg_database_size(current_database())").fetchone()[0])

    def settled_task_runs(self) -> int:
        """Return how many task runs it knows, when no more come: it hears of them as events, later."""
        known, seen = -1, self._task_runs()
        while seen != known:
            time.sleep(20)
            known, seen = seen, self._task_runs()
        return seen

    def _task_runs(self) -> int:
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.api_url}/task_runs/count", b"{}", {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - as above
            return int(response.read())


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", metavar="N,N…", help="recipients")
    parser.add_argument("--prefect", type=int, metavar="N", help="recipients")
    parser.add_argument("--workers", type=int, metavar="N", help="processes")
    parser.add_argument("--messages", type=int, default=20_000, help="for --workers")
    parser.add_argument("--rounds", type=int, default=3)
    default = Path(platformdirs.user_cache_dir("outflow-benchmarks", appauthor=False))
    parser.add_argument("--tools", type=Path, default=default, help="folder for what is fetched: %(default)s")
    given = parser.parse_args()
    if not (given.sizes or given.prefect or given.workers):
        parser.error("what is to be measured? --sizes, --prefect or --workers")
    postfix = tools.postfix(given.tools.absolute())
    if given.sizes:
        print_sizes(postfix, [int(size) for size in given.sizes.split(",")], given.rounds)
    if given.prefect:
        print_prefect(postfix, given.prefect)
    if given.workers:
        print_workers(postfix, given.workers, given.messages, given.rounds)


def print_sizes(postfix: tools.Postfix, sizes: list[int], rounds: int) -> None:
    """Measure sizes in turn and print a table."""
    found: dict[int, list[Figures]] = {size: [] for size in sizes}
    for turn in range(rounds):
        for size in sizes[turn % len(sizes) :] + sizes[: turn % len(sizes)]:
            found[size].append(one_size(postfix, size))
            print(size, {key: round(value, 3) for key, value in found[size][-1].items()}, file=sys.stderr)
    names = list(found[sizes[0]][0])
    print(f"| medians of {rounds} | {' | '.join(f'{size:,}' for size in sizes)} |")
    print(f"|---|{'---:|' * len(sizes)}")
    for name in names:
        cells = [f"{shown(statistics.median(run[name] for run in found[size]))}" for size in sizes]
        print(f"| {name} | {' | '.join(cells)} |")
    both = ("our CPU, µs a message", "PostgreSQL's CPU, µs a message")
    cost = [
        statistics.median(sum(run[name] for name in both) for run in found[size])
        for size in (min(sizes), max(sizes))
    ]
    if len(sizes) > 1:
        print(
            f"\nCPU per message, {max(sizes):,} over {min(sizes):,}: {cost[1] / cost[0]:.2f} "
            f"(bar {MOST_COST})"
        )


def shown(figure: float) -> str:
    """Write a figure as docs/scale.md has it."""
    is_whole = figure >= 100 or figure == int(figure)
    return f"{figure:,.0f}" if is_whole else f"{figure:,.1f}"


def one_size(postfix: tools.Postfix, size: int) -> Figures:
    """Plan and send a campaign of a size by the library."""
    with measured(postfix) as (folder, database, sink):
        job = {
            "way": "ours",
            "port": sink.port,
            "connections": CONNECTIONS,
            "count": size,
            "profile": False,
            "postmaster": postmaster(),
            "ledger": True,
        }
        took = run_ours(folder, database, job)
        tables = ("attempts", "batches", "events", "sent_minutes", "contacts", "audience_members")
        with psycopg.connect(database) as connection:
            bytes_of = {
                table: connection.execute("SELECT pg_total_relation_size(%s::regclass)", [table]).fetchone()[
                    0
                ]
                for table in tables
            }
            rows = {
                table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - ours
                for table in tables
            }
        if sink.received() != size:
            raise SystemExit(f"the sink has {sink.received():,} messages of {size:,}")
    of_campaign, of_audience = tables[:4], tables[4:]
    return {
        "planning, s": took["before_s"],
        "memory that planning adds, MB": took["planning_mb"],
        "messages/s": size / took["seconds"],
        "our CPU, µs a message": took["cpu_s"] / size * 1e6,
        "PostgreSQL's CPU, µs a message": took["postgres_s"] / size * 1e6,
        "rows of the campaign": sum(rows[table] for table in of_campaign),
        "bytes of the campaign, MB": sum(bytes_of[table] for table in of_campaign) / 1e6,
        "bytes of the audience, MB": sum(bytes_of[table] for table in of_audience) / 1e6,
        "WAL of sending, MB": took["wal"] / 1e6,
        "transactions": took["transactions"],
        "most connections of the run": took["connections"],
        "memory of the sender, MB": took["peak_mb"],
        "batches": rows["batches"],
    }


def print_prefect(postfix: tools.Postfix, size: int) -> None:
    """Send a campaign by the flows, and print what Prefect keeps of it."""
    with measured(postfix) as (folder, database, sink), prefect_server(folder) as prefect:
        before = prefect.size()
        job = {"way": "flows", "port": sink.port, "connections": CONNECTIONS, "count": size}
        took = run_ours(folder, database, job, {"PREFECT_API_URL": prefect.api_url})
        task_runs = prefect.settled_task_runs()
        mb = (prefect.size() - before) / 1e6
        if sink.received() != size:
            raise SystemExit(f"the sink has {sink.received():,} messages of {size:,}")
    print(f"{size:,} recipients, {size / took['seconds']:,.0f} messages/s by the flows")
    print(f"task runs: {task_runs} (bar {MOST_TASK_RUNS})")
    print(f"Prefect's database: {mb:.1f} MB more (bar {MOST_PREFECT_MB:.0f})")


def print_workers(postfix: tools.Postfix, workers: int, messages: int, rounds: int) -> None:
    """Have one process and several send a campaign in turn; print what several gain."""
    gains = []
    with (
        tempfile.TemporaryDirectory(prefix="outflow-benchmark-") as folder,
        prefect_server(Path(folder)) as prefect,
    ):
        for turn in range(rounds):
            speed = {}
            for number in (1, workers) if turn % 2 == 0 else (workers, 1):
                speed[number] = shared_by(postfix, prefect, number, messages)
                print(f"{number} of {workers}: {speed[number]:,.0f} messages/s", file=sys.stderr)
            gains.append(speed[workers] / speed[1])
    spread = f"{statistics.median(gains):.2f} [{min(gains):.2f}..{max(gains):.2f}]"
    print(
        f"{workers} workers over one, {ROUND_TRIP:g} ms a message: {spread}, {rounds} turns "
        f"(bar {LEAST_GAIN})"
    )


def shared_by(postfix: tools.Postfix, prefect: PrefectServer, workers: int, messages: int) -> float:
    """Return the messages per second of so many processes together."""
    with measured(postfix) as (folder, database, sink), latency_proxy.running(sink.port, ROUND_TRIP) as port:
        environment = surroundings(folder, database) | {"PREFECT_API_URL": prefect.api_url}
        campaign_id = int(
            subprocess.run(
                [sys.executable, "-c", _PLAN, str(messages), str(port), str(workers)],
                env=environment | {"PYTHONPATH": str(PEERS)},
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()[-1]
        )
        go = folder / "go"
        processes = []
        for shard in range(1, workers + 1):
            ready, file = folder / f"ready{shard}", folder / f"job{shard}.json"
            job = {"campaign_id": campaign_id, "shard": shard, "ready": str(ready), "go": str(go)}
            file.write_text(json.dumps(job))
            command = [sys.executable, str(PEERS / "shares.py"), str(file)]
            processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        while not all((folder / f"ready{shard}").exists() for shard in range(1, workers + 1)):
            if any(process.poll() is not None for process in processes):
                raise SystemExit("a worker ended before it began")
            time.sleep(0.05)
        go.touch()
        took = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
        if sink.received() != messages:
            raise SystemExit(f"the sink has {sink.received():,} messages of {messages:,}")
    return messages / max(one["seconds"] for one in took)


_PLAN = """
import asyncio, sys
from deployments import environment
environment.apply()
from ours import SENDER, SPEC, insert_contacts
from messaging.campaign.planning import plan_campaign
from messaging.storage.engine import engine
from tasks.accounts import add_account
count, port, workers = sys.argv[1:]
insert_contacts(engine(), int(count))
values = {"host": "127.0.0.1", "port": port, "security": "none", "connections": "8", "sender": SENDER}
asyncio.run(add_account("smtp", "benchmark", values))
print(plan_campaign(engine(), SPEC.model_copy(update={"workers": int(workers)})).campaign_id)
"""


@contextlib.contextmanager
def measured(postfix: tools.Postfix) -> Iterator[tuple[Path, str, Sink]]:
    """Make a folder, an empty database and a fresh sink."""
    with tempfile.TemporaryDirectory(prefix="outflow-benchmark-") as name:
        folder = Path(name)
        with Sink.running(postfix, folder, None) as sink, empty_database() as database:
            yield folder, database, sink


@contextlib.contextmanager
def prefect_server(folder: Path) -> Iterator[PrefectServer]:
    """Run one with the settings that `outflow up` gives it, its schema made and the block type known."""
    port = free_port()
    api_url = f"http://127.0.0.1:{port}/api"
    command = ["-m", "deployments.within", "prefect", "server", "start", "--port", str(port)]
    environment = surroundings(folder, "") | {"PREFECT_HOME": str(folder / "prefect-server")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    with (
        empty_database("prefect") as database,
        subprocess.Popen(
            [sys.executable, *command],
            env=environment | {"PATH": path, "PREFECT_API_DATABASE_CONNECTION_URL": for_prefect(database)},
            stdout=subprocess.DEVNULL,
        ) as process,
    ):
        try:
            while not answers(api_url):
                if process.poll() is not None:
                    raise SystemExit("Prefect's server did not start")
                time.sleep(0.3)
            yield PrefectServer(api_url, database)
        finally:
            process.terminate()


def for_prefect(database: str) -> str:
    """Return a database's URL as Prefect writes it."""
    return make_url(database).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)


def answers(api_url: str) -> bool:
    """Say whether a Prefect server answers at this address."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{api_url}/health", timeout=5):  # noqa: S310 - ours
        return True
    return False


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def surroundings(folder: Path, database: str) -> dict[str, str]:
    """Return the environment of a process that is measured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    ours = {"OUTFLOW_DATABASE_URL": database, "OUTFLOW_HOME": str(folder), "OUTFLOW_PUBLIC_URL": PUBLIC_URL}
    return kept | ours | {"PREFECT_HOME": str(folder / "prefect")}


def run_ours(folder: Path, database: str, job: dict, more: dict[str, str] | None = None) -> Figures:
    """Run peers/ours.py and return what it took."""
    file = folder / "job.json"
    file.write_text(json.dumps(job), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(PEERS / "ours.py"), str(file)],
        env=surroundings(folder, database) | (more or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"ours.py ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def postmaster() -> int:
    """Return the process of the embedded PostgreSQL."""
    return int((server()[0] / "postgres" / "postmaster.pid").read_text().split()[0])


if __name__ == "__main__":
    main()
