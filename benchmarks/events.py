"""Events of Amazon SES: how many a second become part of the ledger, and what of that is ours.

    python benchmarks/events.py [--messages 5000] [--through-sqs 300]

Each message is an event about another recipient: sends, deliveries, opens and clicks, and 3 % bounces.
"received": bodies as SQS gives them, read and recorded in chunks as a run does after it has received them, on
an embedded PostgreSQL; the limit on what is not a bounce is off. "through SQS": all of a run, from moto's
server in a process of its own, which is far slower than Amazon's: there our CPU time is what counts.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

SOURCE = "ses-queue/benchmark"
MOTO = """
import logging, time
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
time.sleep(3600)
"""
CHUNK = 500


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--through-sqs", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="outflow-benchmark-") as folder:
        Path(folder).chmod(0o755)
        os.environ["OUTFLOW_HOME"] = folder
        from messaging.storage import embedded, migrating
        from messaging.storage.engine import open_engine

        engine = open_engine(embedded.start(Path(folder)))
        migrating.upgrade(engine)
        print("| way | messages | per second | CPU ms of this process per message |\n|---|---:|---:|---:|")
        send_campaign(engine, arguments.messages)
        bodies = events(range(1, arguments.messages + 1))
        show("received: first time", len(bodies), *measured(engine, bodies))
        show("received: again", len(bodies), *measured(engine, bodies))
        if arguments.through_sqs:
            people = range(1, arguments.through_sqs + 1)
            show("through SQS (moto)", len(people), *through_sqs(engine, events(people, "again")))
        engine.dispose()


def show(way: str, messages: int, wall: float, cpu: float) -> None:
    """Print a row."""
    print(f"| {way} | {messages:,} | {messages / wall:,.0f} | {cpu * 1000 / messages:.2f} |", flush=True)


def measured(engine: Engine, bodies: Sequence[str]) -> tuple[float, float]:
    """Read and record bodies as a run does once it has received them; return seconds and CPU seconds."""
    from messaging.feedback.queue_buffer import Buffer, Message, Pace
    from messaging.feedback.recording import record
    from messaging.feedback.ses_events import read_ses_event

    read_ses_event(bodies[0], SOURCE)  # loads the rules
    buffer = Buffer(Pace(chunk=CHUNK, buffer=len(bodies) + 1, rest_per_second=1e9))
    cpu, wall = time.process_time(), time.perf_counter()
    for start in range(0, len(bodies), 10):
        ten = bodies[start : start + 10]
        buffer.put([Message(str(start), read_ses_event(body, SOURCE)) for body in ten])
    buffer.close()
    while messages := buffer.take():
        with engine.begin() as connection:
            record(connection, [one for message in messages for one in message.evidence])
    return time.perf_counter() - wall, time.process_time() - cpu


def through_sqs(engine: Engine, bodies: Sequence[str]) -> tuple[float, float]:
    """Put bodies into a queue of moto's and read it; return seconds and our CPU seconds."""
    import boto3

    from messaging.feedback.queue import Pace, QueueReader, QueueSettings

    with subprocess.Popen([sys.executable, "-c", MOTO], stdout=subprocess.PIPE, text=True) as moto:
        assert moto.stdout is not None  # noqa: S101 - asked for above
        endpoint = f"http://127.0.0.1:{int(moto.stdout.readline())}"
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "eu-west-1"}
        sqs = boto3.client("sqs", endpoint_url=endpoint, **keys)
        url = sqs.create_queue(QueueName="benchmark")["QueueUrl"]
        for start in range(0, len(bodies), 10):
            ten = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[start : start + 10])]
            sqs.send_message_batch(QueueUrl=url, Entries=ten)
        settings = QueueSettings("eu-west-1", "x", "x", queue_url=url, endpoint=endpoint)
        reader = QueueReader(engine, SOURCE, settings, Pace(seconds=600, wait=1, rest_per_second=1e9))
        cpu, wall = time.process_time(), time.perf_counter()
        report = reader.read()
        spent = time.perf_counter() - wall - 1, time.process_time() - cpu  # the last second is for nothing
        moto.terminate()
    if report.recorded + report.repeated < len(bodies):
        raise SystemExit(f"lost: {report}")
    return spent


def send_campaign(engine: Engine, people: int) -> None:
    """Write a campaign that was sent to so many people."""
    with engine.begin() as connection:
        for statement in (
            "INSERT INTO audiences (name) VALUES ('customers')",
            """INSERT INTO campaigns (name, spec, audience_id, state)
                VALUES ('spring', '{"account": "ses-account/main", "channel": "email"}', 1, 'finished')""",
            "INSERT INTO batches (campaign_id, number) SELECT 1, n FROM generate_series(1, 20) n",
            """INSERT INTO contacts (email_key, email, consent_source)
                SELECT k, k, 'form' FROM (SELECT 'reader' || n || '@example.org' AS k
                    FROM generate_series(1, :people) n) AS made""",
            """INSERT INTO attempts (campaign_id, batch_id, contact_id, address_key, address, token, state,
                    dispatched_at, answered_at)
                SELECT 1, 1 + id % 20, id, email_key, email, lpad(to_hex(id), 32, '0')::uuid, 'accepted',
                    '2025-03-20 09:00Z', '2025-03-20 09:00Z'
                FROM contacts ORDER BY id""",
        ):
            connection.execute(text(statement), {"people": people})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


def events(people: Sequence[int], label: str = "first") -> list[str]:
    """Return an event about each, as a queue gives it: in SNS's envelope, with a message's headers."""
    dice = random.Random(7)
    kinds = dice.choices(["Send", "Delivery", "Open", "Click", "Bounce"], [30, 37, 20, 10, 3], k=len(people))
    return [_body(person, kind, label) for person, kind in zip(people, kinds, strict=True)]


def _body(person: int, kind: str, label: str) -> str:
    address, at = f"reader{person}@example.org", "2025-03-20T09:05:00.456Z"
    agent = {"ipAddress": "192.0.2.1", "userAgent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0"}
    parts: dict[str, dict[str, Any]] = {
        "Send": {},
        "Delivery": {"timestamp": at, "recipients": [address], "smtpResponse": "250 2.0.0 queued"},
        "Open": {"timestamp": at, **agent},
        "Click": {"timestamp": at, "link": "https://shop.example.org/spring", **agent},
        "Bounce": {
            "bounceType": "Permanent", "bounceSubType": "General", "timestamp": at,
            "bouncedRecipients": [
                {"emailAddress": address, "diagnosticCode": "smtp; 550 5.1.1 no such user here"}
            ],
        },
    }  # fmt: skip
    mail = {
        "timestamp": "2025-03-20T09:00:00.123Z", "source": "Shop <news@shop.example.org>",
        "messageId": f"{label}-{person}", "destination": [address], "headersTruncated": False,
        "headers": [{"name": f"X-{n}", "value": "forty letters, as headers tend to be"} for n in range(12)],
        "tags": {"campaign": ["1"], "attempt": [UUID(int=person).hex]},
    }  # fmt: skip
    event = json.dumps({"eventType": kind, "mail": mail, kind.lower(): parts[kind]})
    return json.dumps({"Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": event})


if __name__ == "__main__":
    main()
