"""A campaign whose messages were sent, and a queue of moto's that says what became of them."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from moto.sqs.models import sqs_backends
from sqlalchemy import Connection, Engine, text

from messaging.feedback.queue import Pace, QueueReader
from messaging.feedback.sqs import QueueSettings
from schemas.feedback import FeedbackReport
from tests.fakes.ses import REGION
from tests.fakes.ses_events import Wire, wired
from tests.messaging.feedback.ses_samples import MESSAGE, mail

SOURCE = "ses-queue/events"
SOON = Pace(seconds=60, wait=1)


def token_of(person: int) -> UUID:
    return UUID(int=person)


def address_of(person: int) -> str:
    return f"reader{person}@example.org"


def send_campaign(connection: Connection, people: int = 3) -> None:
    """Write a running campaign, and that SES has accepted its messages."""
    for statement in (
        "INSERT INTO audiences (name) VALUES ('customers')",
        """INSERT INTO campaigns (name, spec, audience_id, state)
            VALUES ('spring', '{"account": "ses-account/main", "channel": "email"}', 1, 'running')""",
        "INSERT INTO batches (campaign_id, number) VALUES (1, 1)",
        """INSERT INTO contacts (email_key, email, consent_source)
            SELECT k, k, 'form' FROM (SELECT 'reader' || n || '@example.org' AS k
                FROM generate_series(1, :people) n) AS made""",
        """INSERT INTO attempts (campaign_id, batch_id, contact_id, address_key, address, token, state,
                dispatched_at, answered_at)
            SELECT 1, 1, id, email_key, email, lpad(to_hex(id), 32, '0')::uuid, 'accepted',
                '2025-03-20 09:00Z', '2025-03-20 09:00Z'
            FROM contacts ORDER BY id""",
    ):
        connection.execute(text(statement), {"people": people})


def about(person: int, notice: dict[str, Any]) -> dict[str, Any]:
    """Return an event as one about a message to somebody else."""
    theirs = json.loads(json.dumps(notice).replace("ada@example.org", address_of(person)))
    tags = {"campaign": ["1"], "attempt": [token_of(person).hex]}
    return theirs | {
        "mail": mail(address_of(person), tags=False, messageId=f"{MESSAGE}-{person}") | {"tags": tags}
    }


@dataclass
class Queue:
    """The queue, and how it is read."""

    wire: Wire
    engine: Engine

    def put(self, notices: Sequence[dict[str, Any] | str]) -> None:
        """Put messages into the queue."""
        bodies = [notice if isinstance(notice, str) else json.dumps(notice) for notice in notices]
        for start in range(0, len(bodies), 10):
            entries = [
                {"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[start : start + 10])
            ]
            answer = self.wire.sqs.send_message_batch(QueueUrl=self.wire.queue_url, Entries=entries)
            assert not answer.get("Failed")

    def settings(self, **values: object) -> QueueSettings:
        usual = {
            "queue_url": self.wire.queue_url, "region": REGION, "access_key_id": "x",
            "secret_access_key": "x", "endpoint": self.wire.endpoint, "connections": 4,
        }  # fmt: skip
        return QueueSettings(**usual | values)

    def reader(self, pace: Pace = SOON, **values: object) -> QueueReader:
        return QueueReader(self.engine, SOURCE, self.settings(**values), pace)

    def read(self, pace: Pace = SOON, **values: object) -> FeedbackReport:
        return self.reader(pace, **values).read()

    def left(self) -> int:
        """Return how many messages are in the queue, hidden ones too."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.wire.sqs.get_queue_attributes(QueueUrl=self.wire.queue_url, AttributeNames=names)
        return sum(int(found["Attributes"][name]) for name in names)


@contextmanager
def a_queue(engine: Engine, *, people: int = 3, raw: bool = True) -> Iterator[Queue]:
    """Run moto with a queue, beside a campaign that was sent."""
    with engine.begin() as connection:
        send_campaign(connection, people)
    with wired(raw=raw) as wire:
        yield Queue(wire, engine)


def hidden_until_now(queue: Queue) -> None:
    """Let the time pass after which messages that were received and not deleted come again."""
    held = sqs_backends["123456789012"][REGION].queues[queue.settings().queue]
    for message in held._messages:  # noqa: SLF001 - by its API only whoever holds the receipt could say so
        message.change_visibility(0)


def rows(engine: Engine, statement: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def suppressed(engine: Engine) -> dict[str, str]:
    return dict(rows(engine, "SELECT address_key, reason FROM suppressions"))


def kinds(engine: Engine) -> dict[str, int]:
    return dict(rows(engine, "SELECT kind, count(*) FROM events GROUP BY 1"))


def runs(engine: Engine) -> list[tuple[Any, ...]]:
    return rows(
        engine, "SELECT source, seen, recorded, repeated, set_aside, problem FROM feedback_runs ORDER BY id"
    )
