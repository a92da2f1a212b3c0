"""Amazon SES: what sending costs this process, against a stand-in in a process of its own.

    python benchmarks/ses.py [--messages 5000] [--connections 8]

Messages of 4 KB go through `SesPool` as a campaign sends them, each marked before its request. The stand-in
(tests/fakes/ses.py) checks signature and parameters of each and is slower than we are, so the figure to look
at is CPU time a message of the sending process; messages a second are the stand-in's. Beside it: boto3's
client alone, in one thread, with the same settings and without ours.
"""

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from messaging.channels.base import Message
from messaging.channels.ses import SesPool, SesSettings
from schemas.states import Outcome

TURNS = 5
FAKE = Path(__file__).parent.parent / "tests" / "fakes" / "ses.py"
KEY_ID, SECRET, REGION = "AKIAFAKEFAKEFAKE7EXA", "made-up/secret+of-forty-characters-000000", "eu-west-1"
CONTENT = (
    b"From: Shop <news@shop.example.org>\r\nSubject: Spring\r\n\r\n"
    + b"A line of text, forty bytes long.\r\n" * 115
)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--connections", type=int, default=8)
    arguments = parser.parse_args()
    with stand_in() as endpoint:
        found = asyncio.run(compare(endpoint, arguments.messages, arguments.connections))
    print("| way | CPU ms per message | messages per second |\n|---|---:|---:|")
    for way, measures in found.items():
        cpu, wall = (statistics.median(column) for column in zip(*measures, strict=True))
        print(f"| {way} | {cpu * 1000:.2f} | {1 / wall:,.0f} |")


async def compare(endpoint: str, messages: int, connections: int) -> dict[str, list[tuple[float, float]]]:
    """Send by both ways in turns over open connections; return CPU seconds and seconds a message."""
    settings = SesSettings(
        REGION, KEY_ID, SECRET, configuration_set="outflow", connections=connections, endpoint=endpoint
    )
    client = plain_client(endpoint)
    found: dict[str, list[tuple[float, float]]] = {}
    async with SesPool(settings) as pool:
        ways: dict[str, Callable[[int], Awaitable[None]]] = {
            f"Outflow, {connections} connections": lambda n: through_pool(pool, n),
            "boto3 alone, 1 thread": lambda n: asyncio.to_thread(alone, client, n),
        }
        for turn in range(TURNS + 1):
            for way, send in ways.items():
                cpu, wall = time.process_time(), time.perf_counter()
                await send(messages // TURNS)
                spent = time.process_time() - cpu, time.perf_counter() - wall
                if turn:  # the first one opens connections and makes the client
                    each = tuple(seconds / (messages // TURNS) for seconds in spent)
                    found.setdefault(way, []).append((each[0], each[1]))
    client.close()
    return found


@contextlib.contextmanager
def stand_in() -> Iterator[str]:
    """Run the stand-in in a process of its own."""
    with subprocess.Popen([sys.executable, FAKE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 - asked for above
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


async def through_pool(pool: SesPool, messages: int) -> None:
    """Send over all connections of a pool at once."""
    numbers = iter(range(messages))

    async def marked() -> None:
        await asyncio.sleep(0)

    async def work() -> None:
        async with pool.sender() as sender:
            for number in numbers:
                message = Message(
                    number, "news@shop.example.org", f"p{number}@example.org", CONTENT, f"{number:032x}", 1
                )
                receipt = await sender.send(message, marked)
                if receipt.outcome is not Outcome.ACCEPTED:
                    raise SystemExit(f"refused: {receipt.reply}")

    await asyncio.gather(*(work() for _ in range(pool.connections)))


def plain_client(endpoint: str) -> Any:
    """Return boto3's client as it comes, its repeats off."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "sesv2",
        region_name=REGION,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        endpoint_url=endpoint,
        config=Config(retries={"total_max_attempts": 1}),
    )


def alone(client: Any, messages: int) -> None:
    """Send with boto3 and nothing else."""
    for number in range(messages):
        client.send_email(
            Destination={"ToAddresses": [f"p{number}@example.org"]},
            FeedbackForwardingEmailAddress="news@shop.example.org",
            Content={"Raw": {"Data": CONTENT}},
            EmailTags=[{"Name": "campaign", "Value": "1"}, {"Name": "attempt", "Value": f"{number:032x}"}],
            ConfigurationSetName="outflow",
        )


if __name__ == "__main__":
    main()
