"""WhatsApp's Cloud API: what a message costs the sending process, against a stand-in in a process of its own.

    python benchmarks/cloud_api.py [--messages 5000] [--connections 16] [--rounds 3]

Two ways send the same template with one parameter. "Channel" is `WhatsAppCloudPool` alone, each message
marked before its request; "campaign" sends a planned one from an empty PostgreSQL as the flows do, without
Prefect: rendering, limits and ledger included, planning not. The stand-in (tests/fakes/whatsapp_cloud.py)
checks every message and counts them; it is slower than we are, so that the figure to look at is CPU time a
message of the sending process, all its threads together; messages a second are the stand-in's.
"""

import argparse
import asyncio
import atexit
import contextlib
import json
import logging
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine, make_url, text

from messaging.channels.base import Message
from messaging.channels.whatsapp_cloud import WhatsAppCloudPool, WhatsAppCloudSettings
from schemas.campaign import CampaignSpec
from schemas.states import Outcome

FAKE = Path(__file__).parent.parent / "tests" / "fakes" / "whatsapp_cloud.py"
ACCOUNT = "whatsapp-cloud-account/benchmark"
RATE = 1_000.0  # messages a second: the most that Meta gives a number
BAR_MS = 1.0  # CPU a message of the whole sending process

Figures = tuple[float, float]
"""CPU seconds and seconds of all messages together."""


def main() -> None:
    """Measure both ways in turns and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=5_000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    logging.disable(logging.INFO)
    found: dict[str, list[Figures]] = {"channel": [], "campaign": []}
    url = database()
    for _ in range(given.rounds):
        with stand_in(given.messages, given.connections) as settings:
            found["channel"].append(asyncio.run(by_channel(settings, given.messages)))
        with stand_in(given.messages, given.connections) as settings, emptied(url, given.messages) as engine:
            found["campaign"].append(asyncio.run(by_campaign(settings, engine)))
    print(f"{given.messages:,} messages, {given.connections} connections, {given.rounds} rounds\n")
    print("| way | CPU ms per message [least..most] | messages per second |\n|---|---:|---:|")
    for way, measures in found.items():
        cpu = sorted(used / given.messages * 1000 for used, _ in measures)
        rate = statistics.median(given.messages / seconds for _, seconds in measures)
        print(f"| {way} | {statistics.median(cpu):.2f} [{cpu[0]:.2f}..{cpu[-1]:.2f}] | {rate:,.0f} |")
        if statistics.median(cpu) > BAR_MS:
            print(f"{way} takes more than {BAR_MS:g} ms", file=sys.stderr)


async def by_channel(settings: WhatsAppCloudSettings, messages: int) -> Figures:
    """Send over all connections of a pool at once, as workers of a batch do."""
    content = (
        b'{"type":"template","template":{"name":"spring_offer","language":{"code":"en_GB"},'
        b'"components":[{"type":"body","parameters":[{"type":"text","text":"Ada"}]}]}}'
    )
    numbers = iter(range(messages))

    async def marked() -> None:
        await asyncio.sleep(0)

    async with WhatsAppCloudPool(settings) as pool:

        async def work() -> None:
            async with pool.sender() as sender:
                for number in numbers:
                    message = Message(number, "", phone(number), content, f"{number:032x}", 1)
                    receipt = await sender.send(message, marked)
                    if receipt.outcome is not Outcome.ACCEPTED:
                        raise SystemExit(f"refused: {receipt.reply}")

        before = spent()
        await asyncio.gather(*(work() for _ in range(pool.connections)))
        return since(before)


async def by_campaign(settings: WhatsAppCloudSettings, engine: Engine) -> Figures:
    """Plan a campaign, then send it."""
    from messaging.campaign.planning import plan_campaign
    from messaging.campaign.sending import CampaignRun, send_batch
    from messaging.campaign.working import next_work

    spec = CampaignSpec(
        name="benchmark",
        channel="whatsapp",
        account=ACCOUNT,
        audience="benchmark",
        template={"name": "spring_offer", "language": "en_GB", "body": {"1": "{{ name }}"}},
    )
    plan = await asyncio.to_thread(plan_campaign, engine, spec)
    turns = asyncio.Semaphore(2)  # as tasks.sending.BATCHES_AT_ONCE, which would import Prefect
    before = spent()
    async with WhatsAppCloudPool(settings) as pool, CampaignRun(engine, plan.campaign_id, "", pool) as run:

        async def send(number: int) -> None:
            async with turns:
                await send_batch(run, number)

        async for numbers in next_work(run, None):
            await asyncio.gather(*map(send, numbers))
    figures = since(before)
    with engine.connect() as connection:
        states = connection.execute(text("SELECT state, count(*) FROM attempts GROUP BY state")).all()
    if [state for state, _ in states] != ["accepted"]:
        raise SystemExit(f"not everybody was accepted: {states}")
    return figures


def phone(number: int) -> str:
    """Return somebody's number."""
    return f"+4474{number:08d}"


def spent() -> Figures:
    """Return the CPU time this process has used, all its threads together, and the time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime, time.perf_counter()


def since(before: Figures) -> Figures:
    """Return what was used since then."""
    cpu, now = spent()
    return cpu - before[0], now - before[1]


@contextlib.contextmanager
def stand_in(messages: int, connections: int) -> Iterator[WhatsAppCloudSettings]:
    """Run the stand-in in a process of its own; it must have taken each message once."""
    # Another number each time: one number writes to nobody twice in six seconds.
    command = [sys.executable, str(FAKE), str(time.time_ns())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None  # noqa: S101 - asked for above
        assert process.stdout is not None  # noqa: S101 - the same
        told = json.loads(process.stdout.readline())

        settings = WhatsAppCloudSettings(
            phone_number_id=told["id"],
            token=told["token"],
            base_url=told["url"],
            connections=connections,
            messages_per_second=RATE,
            portfolio_limit=0,
        )
        try:
            yield settings
        finally:
            process.stdin.close()
        took = json.loads(process.stdout.readline())
    if took != {"taken": messages, "people": messages, "requests": messages}:
        raise SystemExit(f"the stand-in took {took}")


def database() -> str:
    """Start the embedded PostgreSQL in a folder of its own, and return its URL."""
    from messaging.storage import embedded

    home = Path(tempfile.mkdtemp(prefix="outflow-benchmark-"))
    home.chmod(0o755)  # the embedded PostgreSQL runs as another user when we are root
    # Registered before the server starts, hence run after the server was stopped.
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return embedded.start(home)


@contextlib.contextmanager
def emptied(url: str, people: int) -> Iterator[Engine]:
    """Make a database with an audience of so many people."""
    from messaging.storage import migrating
    from messaging.storage.engine import open_engine

    postgres = open_engine(url)
    with postgres.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("DROP DATABASE IF EXISTS benchmark WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE benchmark"))
    postgres.dispose()
    engine = open_engine(make_url(url).set(database="benchmark").render_as_string(hide_password=False))
    migrating.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO audiences (name) VALUES ('benchmark')"))
        connection.execute(
            text("INSERT INTO contacts (phone, name, consent_source) VALUES (:phone, :name, 'benchmark')"),
            [{"phone": phone(number), "name": f"Ada {number}"} for number in range(people)],
        )
        connection.execute(
            text("""
                INSERT INTO audience_members (audience_id, contact_id)
                SELECT audiences.id, contacts.id FROM contacts, audiences
            """)
        )
    yield engine
    engine.dispose()


if __name__ == "__main__":
    main()
