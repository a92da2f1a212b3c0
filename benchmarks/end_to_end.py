"""A campaign to the sandbox server, with Prefect and without: messages per second, CPU, memory.

    python benchmarks/end_to_end.py --recipients 100000

Each measurement is a process of its own on a ledger of its own; `--rounds` interleaves the two ways and
reports medians. The sandbox is a Python server on the same two cores: it bounds the rate, so the figures
are a baseline for our own share (CPU per message), not a limit.
"""

import argparse
import asyncio
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COLUMNS = ["Name", "E-mail", "Mobile", "City", "Plan"]
SPEC = {
    "name": "benchmark",
    "account": "smtp-account/benchmark",
    "audience": "benchmark",
    "subject": '{{ name | default("Hello") }}, our spring offer',
    "html": (Path(__file__).parent.parent / "examples" / "campaign.html").read_text(),
}


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipients", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--way", choices=["prefect", "library"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(asyncio.run(measure(arguments.way, arguments.recipients))))
        return
    found: dict[str, list[dict[str, float]]] = {"prefect": [], "library": []}
    for turn in range(arguments.rounds):
        for way in ["prefect", "library"] if turn % 2 == 0 else ["library", "prefect"]:
            found[way].append(in_own_process(way, arguments.recipients))
            print(way, found[way][-1], file=sys.stderr)
    print(f"{arguments.recipients:,} recipients, medians of {arguments.rounds} rounds\n")
    print("| way | import s | send s | messages/s | CPU µs per message | peak MB |")
    print("|---|---:|---:|---:|---:|---:|")
    for way, runs in found.items():
        medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        print(
            f"| {way} | {medians['import_s']:.1f} | {medians['send_s']:.1f} | {medians['per_second']:,.0f} "
            f"| {medians['cpu_us']:,.0f} | {medians['peak_mb']:,.0f} |"
        )
    for what in ("send_s", "cpu_us"):
        ratios = [p[what] / q[what] for p, q in zip(found["prefect"], found["library"], strict=True)]
        print(f"\nwith Prefect / without, {what}: {statistics.median(ratios):.3f}")


def in_own_process(way: str, recipients: int) -> dict[str, float]:
    """Measure in a fresh process with a fresh home."""
    with tempfile.TemporaryDirectory(prefix="outflow-benchmark-") as folder:
        Path(folder).chmod(0o755)  # the embedded PostgreSQL runs as another user when we are root
        environment = {**os.environ, "OUTFLOW_HOME": folder, "PREFECT_HOME": f"{folder}/prefect"}
        environment.pop("OUTFLOW_DATABASE_URL", None)
        environment.pop("PREFECT_API_URL", None)
        done = subprocess.run(
            [sys.executable, __file__, "--recipients", str(recipients), "--way", way],
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
        )
        return json.loads(done.stdout.splitlines()[-1])


async def measure(way: str, recipients: int) -> dict[str, float]:
    """Import and send once."""
    from deployments import environment

    environment.apply()
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    from messaging import sandbox
    from messaging.settings import settings
    from schemas.campaign import CampaignSpec
    from schemas.contacts import ImportRequest

    contacts = settings().home / "contacts.csv"
    write_contacts(contacts, recipients)
    with sandbox.running(settings().home / "outbox") as server:
        request = ImportRequest(files=[str(contacts)], audience="benchmark", region="GB", consent="benchmark")
        spec = CampaignSpec.model_validate(SPEC)
        run = with_prefect if way == "prefect" else with_library
        import_s, send_s, cpu_s, accepted = await run(request, spec, server.port)
        received = server.received()
    if not accepted == received == recipients:
        raise SystemExit(f"{accepted} accepted, {received} received of {recipients}")
    return {
        "import_s": import_s,
        "send_s": send_s,
        "per_second": recipients / send_s,
        "cpu_us": cpu_s / recipients * 1e6,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


async def with_prefect(request, spec, port):
    """Import and send as the flows do, on a temporary Prefect server."""
    from flows.import_contacts import import_contacts
    from flows.launch_campaign import launch_campaign
    from tasks.accounts import add_account

    values = {"host": "127.0.0.1", "port": str(port), "security": "none", "sender": "news@shop.example.org"}
    await add_account("smtp", "benchmark", values)
    started = time.perf_counter()
    await import_contacts(request)
    imported = time.perf_counter()
    cpu = time.process_time()
    report = await launch_campaign(spec)
    return (
        imported - started,
        time.perf_counter() - imported,
        time.process_time() - cpu,
        report.totals.accepted,
    )


async def with_library(request, spec, port):
    """Import and send by the library alone: the same batches, two at a time."""
    from messaging.audience.importing import import_file
    from messaging.campaign.planning import plan_campaign
    from messaging.campaign.sending import CampaignRun, send_batch
    from messaging.campaign.working import next_work
    from messaging.channels.smtp import SmtpPool, SmtpSettings
    from messaging.reports.numbers import campaign_report
    from messaging.storage.engine import engine

    started = time.perf_counter()
    [file] = request.files
    await asyncio.to_thread(import_file, engine(), request, Path(file))
    imported = time.perf_counter()
    cpu = time.process_time()
    plan = await asyncio.to_thread(plan_campaign, engine(), spec)
    turns = asyncio.Semaphore(2)
    async with SmtpPool(SmtpSettings(host="127.0.0.1", port=port, security="none")) as pool:
        run = CampaignRun(engine(), plan.campaign_id, "news@shop.example.org", pool)

        async def send(number: int) -> None:
            async with turns:
                await send_batch(run, number)

        async for numbers in next_work(engine(), plan.campaign_id, None):
            await asyncio.gather(*map(send, numbers))
    report = campaign_report(engine(), plan.campaign_id)
    return (
        imported - started,
        time.perf_counter() - imported,
        time.process_time() - cpu,
        report.totals.accepted,
    )


def write_contacts(path: Path, count: int) -> None:
    """Write contacts that the sandbox accepts."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(count):
            city = ("Leeds", "York", "Bath", "")[number % 4]
            row = [f"Réader {number}", f"reader.{number}@example.org", f"07400 {number % 1_000_000:06}", city]
            writer.writerow([*row, ("free", "pro", "team")[number % 3]])


if __name__ == "__main__":
    main()
