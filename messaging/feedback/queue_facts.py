"""What Amazon SQS says of a queue, and what that queue lacks."""

import asyncio
import json
from collections.abc import Mapping
from typing import Final

from messaging.feedback.sqs import QueueSettings, SqsQueue

_DAYS: Final = 86_400
_SHORT_RETENTION: Final = 3 * _DAYS  # a weekend without a worker


async def verify(settings: QueueSettings) -> str:
    """Ask SQS about a queue, take nothing from it, and say in one line what is there and what is missing.

    Raises:
        NotSent: SQS cannot be reached.
        AccountError: The queue cannot be asked; the text says what to do.
    """
    return await asyncio.to_thread(_verify, settings)


def _verify(settings: QueueSettings) -> str:
    queue = SqsQueue(settings)
    try:
        attributes, key = queue.attributes(), queue.key
    finally:
        queue.close()
    waiting = int(attributes.get("ApproximateNumberOfMessages", "0"))
    taken = int(attributes.get("ApproximateNumberOfMessagesNotVisible", "0"))
    parts = [f"about {waiting:,} messages wait", *([f"{taken:,} are being read"] if taken else [])]
    if dead := _dead_letters(attributes):
        parts.append(f"what cannot be read goes to {dead[0]} after {dead[1]} tries")
    lacks = "; ".join(_missing(attributes))
    found = f"{settings.where}, key …{key}: queue {settings.queue}, {', '.join(parts)}"
    return f"{found}; missing: {lacks}" if lacks else found


def _missing(attributes: Mapping[str, str]) -> list[str]:
    """Return what can be done without, or keeps events away, in words."""
    missing: list[str] = []
    if attributes.get("FifoQueue") == "true":
        missing.append("a standard queue (SES's topic cannot write to a FIFO queue)")
    if not _dead_letters(attributes):
        missing.append("a redrive policy with a dead-letter queue (what cannot be read comes again for days)")
    if "sns.amazonaws.com" not in attributes.get("Policy", ""):
        missing.append("a policy that lets the topic send to it (sqs:SendMessage for sns.amazonaws.com)")
    kept = int(attributes.get("MessageRetentionPeriod", _SHORT_RETENTION))
    if kept < _SHORT_RETENTION:
        missing.append(f"time: messages are kept for {kept // 3600} hours only")
    return missing


def _dead_letters(attributes: Mapping[str, str]) -> tuple[str, int] | None:
    """Return the name of the dead-letter queue and after how many receipts a message goes there."""
    try:
        policy = json.loads(attributes.get("RedrivePolicy", ""))
        return str(policy["deadLetterTargetArn"]).rpartition(":")[2], int(policy["maxReceiveCount"])
    except (ValueError, KeyError, TypeError):
        return None
