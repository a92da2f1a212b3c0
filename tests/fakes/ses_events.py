"""What Amazon SES reports of messages, from the stand-in over SNS to an SQS queue, both by moto's server.

The mailbox simulator's addresses get what they are for, everybody else a delivery. Shapes: developer guide,
"Examples of event data that Amazon SES publishes to Amazon SNS".
"""

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import boto3
from moto.server import ThreadedMotoServer

from tests.fakes.ses import HOST, REGION, Sent

_ACCOUNT = "123456789012"
_AFTER_SEND = {
    "success": ["Delivery"],
    "ooto": ["Delivery"],
    "bounce": ["Bounce"],
    "suppressionlist": ["Bounce"],
    "complaint": ["Delivery", "Complaint"],
}
_DIAGNOSES = {
    "suppressionlist": (
        "OnAccountSuppressionList",
        "Amazon SES did not send the message: its address is on the suppression list for your account.",
    )
}


def events_of(sent: Sent) -> list[dict[str, Any]]:
    """Return the events of one message, in the order in which they happen."""
    kinds = ["Send", *_AFTER_SEND.get(sent.simulated or "success", ["Delivery"])]
    return [_event(kind, sent) for kind in kinds] if sent.configuration_set else []


def _event(kind: str, sent: Sent) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    [recipient] = sent.recipients
    subtype, said = _DIAGNOSES.get(sent.simulated or "", ("General", "smtp; 550 5.1.1 user unknown"))
    parts = {
        "Send": {},
        "Delivery": {
            "timestamp": now, "processingTimeMillis": 500, "recipients": [recipient],
            "smtpResponse": "250 2.6.0 Message received", "reportingMTA": "a8-50.smtp-out.amazonses.com",
        },
        "Bounce": {
            "bounceType": "Permanent", "bounceSubType": subtype, "timestamp": now,
            "bouncedRecipients": [
                {"emailAddress": recipient, "action": "failed", "status": "5.1.1", "diagnosticCode": said}
            ],
            "feedbackId": f"{sent.message_id[:16]}-feedback-000000", "reportingMTA": "dns; amazonses.com",
        },
        "Complaint": {
            "complainedRecipients": [{"emailAddress": recipient}], "timestamp": now,
            "feedbackId": f"{sent.message_id[:16]}-feedback-000000", "complaintFeedbackType": "abuse",
        },
    }  # fmt: skip
    header_from = str(sent.mime["From"])
    tags = {"ses:configuration-set": [sent.configuration_set]} | {k: [v] for k, v in sent.tags.items()}
    mail = {
        "timestamp": now, "source": header_from, "sendingAccountId": _ACCOUNT, "messageId": sent.message_id,
        "destination": sent.recipients, "headersTruncated": False,
        "headers": [{"name": name, "value": str(value)} for name, value in sent.mime.items()],
        "commonHeaders": {
            "from": [header_from], "to": [str(sent.mime["To"])], "subject": str(sent.mime["Subject"]),
            "messageId": sent.message_id,
        },
        "tags": tags,
    }  # fmt: skip
    return {"eventType": kind, "mail": mail, kind.lower(): parts[kind]}


class Wire:
    """A topic with a queue subscribed to it; `publish` is what a stand-in calls for each message."""

    def __init__(self, endpoint: str, *, raw: bool) -> None:
        credentials = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": REGION}
        self.endpoint = endpoint
        self.sqs = boto3.client("sqs", endpoint_url=endpoint, **credentials)
        self._sns = boto3.client("sns", endpoint_url=endpoint, **credentials)
        name = f"outflow-{uuid4().hex[:8]}"  # moto's servers of one process hold the same things
        self.topic = self._sns.create_topic(Name=name)["TopicArn"]
        self.queue_url = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=["QueueArn"])
        self._sns.subscribe(
            TopicArn=self.topic,
            Protocol="sqs",
            Endpoint=attributes["Attributes"]["QueueArn"],
            Attributes={"RawMessageDelivery": str(raw).lower()},
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ses-events")
        self._published: list[Future[Any]] = []

    def publish(self, sent: Sent) -> None:
        """Publish a message's events; returns at once, and keeps their order."""
        self._published += [
            self._thread.submit(self._sns.publish, TopicArn=self.topic, Message=json.dumps(event))
            for event in events_of(sent)
        ]

    def wait(self) -> None:
        """Wait until all is published."""
        for published in self._published:
            published.result()

    def received(self, most: int = 100) -> list[str]:
        """Take what is in the queue, once all is published."""
        self.wait()
        bodies: list[str] = []
        while len(bodies) < most and (
            got := self.sqs.receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=10).get("Messages")
        ):
            for message in got:
                bodies.append(message["Body"])
                self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    def close(self) -> None:
        self._thread.shutdown()
        self.sqs.close()
        self._sns.close()


@contextlib.contextmanager
def wired(*, raw: bool = True) -> Iterator[Wire]:
    """Run moto with a topic and its queue; `raw` leaves out the envelope that SNS puts around an event."""
    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    wire = Wire(f"http://{HOST}:{port}", raw=raw)
    try:
        yield wire
    finally:
        wire.close()
        server.stop()
