"""Personalised mail into an SMTP server: ours, and what others would send it with.

    python benchmarks/sending.py                                   # end to end, against three peers
    python benchmarks/sending.py --round-trip 20                   # the same with a distant server
    python benchmarks/sending.py --prefect --messages 100000       # with Prefect and without
    python benchmarks/sending.py --memory 1000000                  # memory over one long run
    python benchmarks/sending.py --profile --messages 50000        # where the time goes

Every way sends the same messages, about 4 KB of text and HTML from three templates, over 8 connections to
Postfix's smtp-sink on loopback, which counts them. Ours plans a campaign in an empty PostgreSQL and records
every message in it; nodemailer's pool renders with nunjucks and records nothing; django-post-office sends
its queue from the same PostgreSQL; smtp-source sends one ready message again and again. Each measurement
is a process of its own, the ways take turns, ratios are taken within a turn; medians are printed. CPU is that
of the sending process alone. Postfix's programs and the peers are fetched on the first run into a folder
outside the project (--tools); it takes Debian's apt-get or an installed Postfix, Node.js and pip.
"""

import argparse
import atexit
import contextlib
import email.policy
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.parser import BytesParser
from functools import cache
from pathlib import Path
from typing import Any

import latency_proxy
import platformdirs
import psutil
import psycopg
from peers import tools
from peers.people import LIST_ID, PUBLIC_URL, SENDER_ADDRESS, SENDER_NAME, people, templates
from psycopg.sql import SQL, Identifier
from sqlalchemy import make_url

PEERS = Path(__file__).parent / "peers"
WARM_UP = {"nodemailer": 2_000}  # messages before the clock starts: its JIT takes that long
SHORT = 1_000  # messages, below which nobody is measured, only checked

# What a claim about us rests on: our messages per second over theirs, and our CPU per message over theirs.
BARS: dict[str, dict[str, tuple[float | None, float | None]]] = {
    "loopback": {
        "nodemailer": (4.0, 0.22),
        "post-office": (5.0, None),
        "smtp-source": (0.4, None),
    },
    "distant": {"nodemailer": (1.9, None), "aiosmtplib": (3.7, None)},
}

Figures = dict[str, Any]


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, help="per measurement; 10,000, or 3,000 to a distant server")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument(
        "--ways", help="comma-separated: ours, nodemailer, post-office, smtp-source, aiosmtplib"
    )
    parser.add_argument("--round-trip", type=float, default=0, metavar="MILLISECONDS")
    parser.add_argument("--prefect", action="store_true", help="ours by the library and by the flows")
    parser.add_argument("--memory", type=int, metavar="MESSAGES", help="ours once, its memory watched")
    parser.add_argument("--profile", action="store_true", help="ours once, by parts of the project")
    default = Path(platformdirs.user_cache_dir("outflow-benchmarks", appauthor=False))
    parser.add_argument("--tools", type=Path, default=default, help="folder for what is fetched: %(default)s")
    given = parser.parse_args()
    bench = Bench(given.tools.absolute(), given.connections, given.round_trip)
    if given.memory:
        print_memory(bench, given.memory)
    elif given.profile:
        print_profile(bench, given.messages or 50_000)
    elif given.prefect:
        found = rounds(bench, ["ours", "flows"], given.messages or 100_000, given.rounds)
        print_prefect(found)
    else:
        bars = BARS["distant" if given.round_trip else "loopback"]
        ways = given.ways.split(",") if given.ways else ["ours", *bars]
        check_same_messages(bench, ways)
        found = rounds(bench, ways, given.messages or (3_000 if given.round_trip else 10_000), given.rounds)
        print_comparison(found, bars)


@dataclass(frozen=True)
class Bench:
    """What all measurements have in common."""

    tools: Path
    connections: int
    round_trip: float
    """Milliseconds that the way to the server takes, there and back."""


def rounds(bench: Bench, ways: list[str], messages: int, turns: int) -> dict[str, list[Figures]]:
    """Measure every way once a turn; the first one of a turn is another each time."""
    found: dict[str, list[Figures]] = {way: [] for way in ways}
    for turn in range(turns):
        first = turn % len(ways)
        for way in ways[first:] + ways[:first]:
            found[way].append(measure(bench, way, messages))
            print(way, {key: round(value, 3) for key, value in found[way][-1].items()}, file=sys.stderr)
    print(f"{messages:,} messages, {bench.connections} connections, medians of {turns} turns", end="")
    print(f", {bench.round_trip:g} ms there and back\n" if bench.round_trip else "\n")
    return found


def measure(bench: Bench, way: str, messages: int, **more: object) -> Figures:
    """Send once with a fresh sink and an empty database."""
    warm_up = 0 if messages < SHORT else WARM_UP.get(way, 0)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outflow-benchmark-")))
        dump = more.pop("dump", None)
        sink = stack.enter_context(Sink.running(tools.postfix(bench.tools), folder, dump))
        port = sink.port
        if bench.round_trip:
            port = stack.enter_context(latency_proxy.running(sink.port, bench.round_trip))
        job = {
            "way": way,
            "port": port,
            "connections": bench.connections,
            "count": messages,
            "warm_up": warm_up,
            "warm_up_port": sink.port,  # never by way of a distant server
            "people": str(folder / "people.jsonl"),
            "templates": templates(),
            "sender_name": SENDER_NAME,
            "sender_address": SENDER_ADDRESS,
            "list_id": LIST_ID,
            "lock_file": str(folder / "lock"),
            "profile": False,
            "postmaster": 0,
            **more,
        }
        with (folder / "people.jsonl").open("w", encoding="utf-8") as file:
            if way not in {"ours", "flows", "smtp-source"}:
                file.writelines(json.dumps(person) + "\n" for person in people(messages + warm_up))
        database = stack.enter_context(empty_database()) if way in {"ours", "flows", "post-office"} else ""
        if database:
            job["postmaster"] = int((server()[0] / "postgres" / "postmaster.pid").read_text().split()[0])
        figures = WAYS[way](bench, job, folder, database)
        received = sink.received()
        sink_cpu = sink.cpu_seconds()
    if received != messages + warm_up:
        raise SystemExit(f"{way}: the sink has {received:,} messages of {messages + warm_up:,}")
    figures["per_second"] = messages / figures["seconds"]
    figures["cpu_us"] = figures["cpu_s"] / messages * 1e6
    figures["sink_us"] = sink_cpu / received * 1e6
    if "postgres_s" in figures:
        figures["postgres_us"] = figures["postgres_s"] / messages * 1e6
    return figures


def with_ours(bench: Bench, job: dict, folder: Path, database: str) -> Figures:  # noqa: ARG001 - as its siblings
    """Send a campaign by the library or the flows."""
    environment = {
        **os.environ,
        "OUTFLOW_DATABASE_URL": database,
        "OUTFLOW_HOME": str(folder),
        "OUTFLOW_PUBLIC_URL": PUBLIC_URL,
        "PREFECT_HOME": str(folder / "prefect"),
    }
    environment.pop("PREFECT_API_URL", None)
    return run([sys.executable, str(PEERS / "ours.py")], job, folder, environment)


def with_nodemailer(bench: Bench, job: dict, folder: Path, database: str) -> Figures:  # noqa: ARG001 - as its siblings
    """Send with nodemailer's pool."""
    return run(["node", str(PEERS / "nodemailer" / "send.js")], job, folder, tools.nodemailer(bench.tools))


def with_post_office(bench: Bench, job: dict, folder: Path, database: str) -> Figures:
    """Send with django-post-office."""
    url = make_url(database)
    job["database"] = {"NAME": url.database, "USER": url.username, "HOST": url.query["host"]}
    python = tools.post_office(bench.tools)
    return run([str(python), str(PEERS / "post_office" / "send.py")], job, folder, dict(os.environ))


def with_aiosmtplib(bench: Bench, job: dict, folder: Path, database: str) -> Figures:  # noqa: ARG001 - as its siblings
    """Send with plain aiosmtplib connections."""
    return run([sys.executable, str(PEERS / "aiosmtplib_pool.py")], job, folder, dict(os.environ))


def with_smtp_source(bench: Bench, job: dict, folder: Path, database: str) -> Figures:  # noqa: ARG001 - as its siblings
    """Send one ready message again and again."""
    postfix = tools.postfix(bench.tools)
    one = folder / "one.eml"
    one.write_bytes(ready_message(bench))
    command = [str(postfix.source), "-s", "10", "-d", "-m", str(job["count"]), "-F", str(one)]
    command += ["-f", SENDER_ADDRESS, "-t", "reader@example.org", f"127.0.0.1:{job['port']}"]
    started = time.perf_counter()
    source = subprocess.Popen(command, env=postfix.environment)
    _, status, used = os.wait4(source.pid, 0)
    seconds = time.perf_counter() - started
    source.returncode = os.waitstatus_to_exitcode(status)
    if source.returncode:
        raise SystemExit(f"smtp-source ended with {source.returncode}")
    return {"seconds": seconds, "cpu_s": used.ru_utime + used.ru_stime}


WAYS: dict[str, Callable[[Bench, dict, Path, str], Figures]] = {
    "ours": with_ours,
    "flows": with_ours,
    "nodemailer": with_nodemailer,
    "post-office": with_post_office,
    "aiosmtplib": with_aiosmtplib,
    "smtp-source": with_smtp_source,
}


def run(command: list[str], job: dict, folder: Path, environment: dict[str, str]) -> Figures:
    """Run a way in a process of its own; its memory is watched when the job says so."""
    file = folder / "job.json"
    file.write_text(json.dumps(job), encoding="utf-8")
    with subprocess.Popen(
        [*command, str(file)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        watch = job.get("watch")
        watched = watch_memory(process) if watch else []
        out, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"{job['way']} ended with {process.returncode}:\n{errors[-3000:]}")
    figures = json.loads(out.splitlines()[-1])
    return figures | ({"memory": watched} if watch else {})


def watch_memory(process: subprocess.Popen[str]) -> list[tuple[float, float]]:
    """Return the resident MB of a process second by second, from when it says that it is ready."""
    assert process.stderr is not None  # noqa: S101 - PIPE was asked for
    process.stderr.readline()
    watched: list[tuple[float, float]] = []
    sending = psutil.Process(process.pid)
    started = time.perf_counter()
    with contextlib.suppress(psutil.Error):
        while process.poll() is None and sending.status() != psutil.STATUS_ZOMBIE:
            watched.append((time.perf_counter() - started, sending.memory_info().rss / 2**20))
            time.sleep(1)
    return watched


@dataclass
class Sink:
    """Postfix's smtp-sink: takes messages, counts them and throws them away."""

    port: int
    _process: psutil.Popen
    _counter: Path

    @classmethod
    @contextlib.contextmanager
    def running(cls, postfix: tools.Postfix, folder: Path, dump: Path | None) -> Iterator["Sink"]:
        """Run one on a free port of loopback; with `dump`, it keeps the messages there."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [str(postfix.sink), "-c", "-m", "300"]
        command += ["-u", "nobody"] if os.geteuid() == 0 else []
        command += ["-d", f"{dump}/%M."] if dump else []
        counter = folder / "counter"
        with (
            counter.open("wb") as file,
            psutil.Popen(
                [*command, f"127.0.0.1:{port}", "1000"], env=postfix.environment, stdout=file
            ) as process,
        ):
            try:
                wait_for(port)
                yield cls(port, process, counter)
            finally:
                process.terminate()

    def received(self) -> int:
        """Return how many messages ended with a dot that was answered."""
        with self._counter.open("rb") as file:
            file.seek(max(0, self._counter.stat().st_size - 200))
            counts = file.read().rpartition(b"mesg=")[2]
        return int(counts.split()[0]) if counts.strip() else 0

    def cpu_seconds(self) -> float:
        """Return the CPU time it has used."""
        used = self._process.cpu_times()
        return used.user + used.system


def wait_for(port: int) -> None:
    """Wait until something listens."""
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit("smtp-sink did not start")


@cache
def server() -> tuple[Path, str]:
    """Start the embedded PostgreSQL, once, and return its folder and its URL."""
    from messaging.storage import embedded

    home = Path(tempfile.mkdtemp(prefix="outflow-benchmark-"))
    home.chmod(0o755)  # the embedded PostgreSQL runs as another user when we are root
    # Registered before the server starts, hence run after the server was stopped.
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return home, embedded.start(home)


@contextlib.contextmanager
def empty_database(name: str = "benchmark") -> Iterator[str]:
    """Make a database, with nothing left to write of the ones before; yield its URL."""
    with psycopg.connect(server()[1], autocommit=True) as connection:
        connection.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        connection.execute("CHECKPOINT")
    yield make_url(server()[1]).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(server()[1], autocommit=True) as connection:
        connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))
        connection.execute("CHECKPOINT")


def dumped(bench: Bench, way: str, count: int) -> list[bytes]:
    """Return what the sink receives from one way, without what the sink adds."""
    with tempfile.TemporaryDirectory(prefix="outflow-benchmark-") as folder:
        Path(folder).chmod(0o777)  # the sink runs as another user when we are root
        local = Bench(bench.tools, bench.connections, 0)
        measure(local, way, count, dump=Path(folder))
        # Ten lines at most before the message: X-Client-Addr, X-Mail-Args and the like, and Received.
        return [file.read_bytes() for file in sorted(Path(folder).iterdir())]


@cache
def ready_message(bench: Bench) -> bytes:
    """Return one of our messages, for smtp-source."""
    return without_the_sink(dumped(bench, "ours", 1)[0])


def without_the_sink(dump: bytes) -> bytes:
    """Cut what the sink writes above a message and after it."""
    lines = dump.split(b"\n")
    at = next(n for n, line in enumerate(lines) if not line.startswith((b"X-", b"Received:", b"\t", b" ")))
    return b"\n".join(lines[at:]).rstrip(b"\n") + b"\n"


def check_same_messages(bench: Bench, ways: list[str]) -> None:
    """Refuse to compare ways that do not send the same messages; print their sizes."""
    expected: dict[str, tuple[str, str, str]] = {}
    for way in ways:
        if way == "smtp-source":
            continue
        found = {}
        sizes = []
        for dump in dumped(bench, way, 12):
            raw = without_the_sink(dump)
            sizes.append(len(raw) + raw.count(b"\n"))
            message = BytesParser(policy=email.policy.default).parsebytes(raw)
            found[str(message["To"])] = content(message)
        expected = expected or found
        for to, parts in expected.items():
            if found.get(to) != parts:
                raise SystemExit(
                    f"{way} sends another message to {to} than {ways[0]}:\n{found.get(to)}\n{parts}"
                )
        print(f"{way}: messages of {statistics.median(sizes):,.0f} bytes", file=sys.stderr)


def content(message) -> tuple[str, str, str]:
    """Return subject, text and HTML, whatever their encoding; blank lines do not count."""
    parts = [message.get_body((kind,)).get_content() for kind in ("plain", "html")]
    text, html = ("\n".join(line.rstrip() for line in part.splitlines() if line.strip()) for part in parts)
    token = str(message["List-Unsubscribe"]).strip("<>").rpartition("/")[2]
    return str(message["Subject"]), text.replace(token, "TOKEN"), html.replace(token, "TOKEN")


def print_comparison(
    found: dict[str, list[Figures]], bars: dict[str, tuple[float | None, float | None]]
) -> None:
    """Print the figures of every way, and ours over theirs."""
    print(
        "| way | messages/s | CPU µs per message | sink's CPU µs | PostgreSQL's CPU µs | before sending, s |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for way, runs in found.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        speed, cpu = (spread([run[key] for run in runs], ",.0f") for key in ("per_second", "cpu_us"))
        postgres = f"{middle['postgres_us']:,.0f}" if "postgres_us" in middle else ""
        before = f"{middle['before_s']:.1f}" if "before_s" in middle else ""
        print(f"| {way} | {speed} | {cpu} | {middle['sink_us']:,.0f} | {postgres} | {before} |")
    if "ours" not in found or len(found) == 1:
        return
    print("\n| ours over | messages/s | bar | planning included | CPU per message | bar |")
    print("|---|---:|---|---:|---:|---|")
    for way, runs in found.items():
        if way == "ours":
            continue
        pairs = list(zip(found["ours"], runs, strict=True))
        speed = [our["per_second"] / their["per_second"] for our, their in pairs]
        whole = [
            (their["seconds"] + their.get("before_s", 0))
            / (our["seconds"] + our["before_s"])
            * (our["per_second"] * our["seconds"])
            / (their["per_second"] * their["seconds"])
            for our, their in pairs
        ]
        cpu = [our["cpu_us"] / their["cpu_us"] for our, their in pairs]
        least, most = bars.get(way, (None, None))
        print(
            f"| {way} | {spread(speed, '.2f')} | {held(speed, least, at_least=True)} "
            f"| {spread(whole, '.2f')} | {spread(cpu, '.3f')} | {held(cpu, most, at_least=False)} |"
        )


def print_prefect(found: dict[str, list[Figures]]) -> None:
    """Print what Prefect adds to the time from the call to the report."""
    for run in found["ours"]:
        run["seconds"] += run["before_s"]
        run["cpu_s"] += run["before_cpu_s"]
    print("| way | plan, send and report, s | CPU s of the process |")
    print("|---|---:|---:|")
    for way, runs in found.items():
        name = {"ours": "the library alone", "flows": "flows on a Prefect server"}[way]
        seconds = spread([run["seconds"] for run in runs], ".1f")
        print(f"| {name} | {seconds} | {spread([run['cpu_s'] for run in runs], '.1f')} |")
    for key in ("seconds", "cpu_s"):
        ratios = [flow[key] / lib[key] for flow, lib in zip(found["flows"], found["ours"], strict=True)]
        bar = held(ratios, 1.03 if key == "seconds" else None, at_least=False)
        print(f"\nwith Prefect over without, {key}: {spread(ratios, '.3f')} {bar}")


def print_memory(bench: Bench, messages: int) -> None:
    """Send one long campaign and print its memory over time."""
    figures = measure(bench, "ours", messages, watch=True)
    watched = figures["memory"]
    length = watched[-1][0]
    print(f"{messages:,} messages in {figures['seconds']:.0f} s, planned in {figures['before_s']:.0f} s\n")
    print("| of the time | resident MB |")
    print("|---:|---:|")
    for tenth in range(11):
        near = min(watched, key=lambda sample: abs(sample[0] - length * tenth / 10))
        print(f"| {tenth * 10} % | {near[1]:.0f} |")
    most = max(mb for _, mb in watched)
    early = max(mb for at, mb in watched if at <= length * 0.2)
    print(f"\nmost: {most:.0f} MB ({'held' if most <= 300 else 'missed'}: at most 300)")
    print(f"most over most of the first fifth: {most / early:.3f}")


def print_profile(bench: Bench, messages: int) -> None:
    """Send once, sampled, and print the CPU time of a message by parts of the project."""
    figures = measure(bench, "ours", messages, profile=True)
    profile = figures["profile"]
    print(
        f"{messages:,} messages, {figures['per_second']:,.0f}/s, {figures['cpu_us']:.0f} µs of CPU each; "
        f"{profile['samples']['samples']:,} samples\n"
    )
    for title, name in (("part", "sections"), ("function", "places")):
        print(f"| {title} | µs per message | share |")
        print("|---|---:|---:|")
        for what, share in profile[name].items():
            print(f"| {what} | {share * figures['cpu_us']:.1f} | {share:.1%} |")
        print()


def spread(values: list[float], form: str) -> str:
    """Write a median with the least and the most."""
    return f"{statistics.median(values):{form}} [{min(values):{form}}..{max(values):{form}}]"


def held(values: list[float], bar: float | None, *, at_least: bool) -> str:
    """Say whether the median holds a bar."""
    if bar is None:
        return ""
    middle = statistics.median(values)
    holds = middle >= bar if at_least else middle <= bar
    return f"{'≥' if at_least else '≤'} {bar:g} {'held' if holds else 'MISSED'}"


if __name__ == "__main__":
    main()
