"""Asking Amazon SQS through boto3 for the messages of one queue.

Error codes: API reference of Amazon SQS, "Common Error Types" and those of each action.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from messaging.channels.aws import CREDENTIALS, AwsAccess, AwsClient, Refusal, error_of, silence
from messaging.errors import AccountError, InputError, MessagingError, NotSent

AT_ONCE: Final = 10  # messages that SQS gives or deletes with one request

_POLICY: Final = "docs/events.md has the whole policy"
_REGION_IN_HOST: Final = re.compile(r"(?:^|\.)([a-z]{2,4}(?:-[a-z]+)+-\d{1,2})\.")
_TIMES: Final = "ApproximateReceiveCount"
_AMAZON: Final = (".amazonaws.com", ".amazonaws.com.cn")

# The first that fits counts.
_REFUSALS: Final = (
    Refusal(
        r"(AWS\.SimpleQueueService\.)?(NonExistentQueue|QueueDoesNotExist)(Exception)?|InvalidAddress",
        "there is no queue {queue} in {region}: make it there, or correct the account's queue_url",
    ),
    Refusal(
        r"KMS\..*|Kms.*",
        "queue {queue} is encrypted with a key that may not be used: allow kms:Decrypt with it; {policy}",
    ),
    Refusal(
        "AccessDenied(Exception)?|NotAuthorized(Exception)?|UnauthorizedOperation",
        "the key's policy does not allow {action} on queue {queue} in {region}: add it; {policy}",
    ),
    Refusal("InvalidSecurity", "queue {queue} asks for https: correct the account's endpoint"),
    *CREDENTIALS,
)
_BY_STATUS: Final = {
    401: "AWS refuses the credentials in {region}: save the account with others",
    403: "AWS refuses what we ask of queue {queue} in {region}: check the policy; {policy}",
    404: "what answers for {region} is not Amazon SQS: check the account's endpoint",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings(AwsAccess):
    """One queue of Amazon SQS; half of `connections` receive, half delete."""

    service: ClassVar[str] = "Amazon SQS"

    queue_url: str
    read_timeout: float = 30.0
    """Longer than the longest poll of SQS, 20 seconds."""

    def __post_init__(self) -> None:
        """Refuse what can never work."""
        parts = urlsplit(self.queue_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or not self.queue:
            raise InputError(
                "Amazon SQS: queue_url is one such as https://sqs.eu-west-1.amazonaws.com/123456789012/outflow"
            )
        AwsAccess.__post_init__(self)
        if (there := region_of(self.queue_url)) and there != self.region:
            raise InputError(f"Amazon SQS: the queue is in {there}, the account's region is {self.region}")

    @property
    def queue(self) -> str:
        """The queue's name."""
        return urlsplit(self.queue_url).path.rpartition("/")[2]


def region_of(queue_url: str) -> str:
    """Return the region that a queue's URL names, or nothing."""
    host = urlsplit(queue_url).hostname or ""
    found = _REGION_IN_HOST.search(host) if host.endswith(_AMAZON) else None
    return found[1] if found else ""


@dataclass(frozen=True, slots=True)
class Received:
    """One message as SQS gave it."""

    id: str
    handle: str
    """By which this receipt of it is deleted."""
    body: str
    times: int
    """How often it was received, this time included; about."""


class SqsQueue(AwsClient):
    """One queue; several threads may use it at once. All its calls block."""

    def __init__(self, settings: QueueSettings) -> None:
        """Make boto3's client, as `AwsClient` does; nothing connects yet."""
        super().__init__(settings, "sqs")
        self._settings = settings

    def receive(self, wait: int, hidden: int) -> list[Received]:
        """Take up to ten messages, waiting for the first one `wait` seconds; none: the queue is empty.

        They are hidden from other receivers for `hidden` seconds and come again if they are not deleted.

        Raises:
            NotSent: SQS gave no answer.
            AccountError: The queue cannot be read; the text says what to do.
        """
        answer = self._ask(
            "receive_message",
            MaxNumberOfMessages=AT_ONCE,
            WaitTimeSeconds=wait,
            VisibilityTimeout=hidden,
            MessageSystemAttributeNames=[_TIMES],
        )
        return [
            Received(
                message["MessageId"],
                message["ReceiptHandle"],
                message["Body"],
                int(message.get("Attributes", {}).get(_TIMES, "1")),
            )
            for message in answer.get("Messages", ())
        ]

    def delete(self, handles: Sequence[str]) -> list[str]:
        """Delete up to ten messages; return those that SQS could not delete.

        Raises:
            NotSent: SQS gave no answer; they may be deleted.
            AccountError: It may not be done; the text says what to do.
        """
        entries = [{"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(handles)]
        answer = self._ask("delete_message_batch", Entries=entries)
        return [handles[int(failed["Id"])] for failed in answer.get("Failed", ())]

    def attributes(self) -> Mapping[str, str]:
        """Return what SQS says of the queue.

        Raises:
            NotSent: SQS gave no answer.
            AccountError: It may not be asked; the text says what to do.
        """
        answer = self._ask("get_queue_attributes", AttributeNames=["All"])
        return {str(name): str(value) for name, value in answer.get("Attributes", {}).items()}

    def _ask(self, action: str, **parameters: object) -> Any:  # noqa: ANN401 - boto3 has no types
        try:
            return getattr(self._client, action)(QueueUrl=self._settings.queue_url, **parameters)
        except self._exceptions.ClientError as error:
            raise self._refused(action, error.response) from None
        except self._exceptions.BotoCoreError as error:
            failure = silence(error, self._settings.where)
            raise failure if isinstance(failure, AccountError) else NotSent(str(failure)) from None

    def _refused(self, action: str, response: Mapping[str, Any]) -> MessagingError:
        code, said, status = error_of(response)
        sentence = next((about.sentence for about in _REFUSALS if about.fits(code, said)), "")
        if sentence := sentence or _BY_STATUS.get(status, ""):
            settings = self._settings
            known = {
                "queue": settings.queue,
                "region": settings.region,
                "action": f"sqs:{_ACTIONS[action]}",
                "policy": _POLICY,
            }
            return AccountError(f"Amazon SQS: {sentence.format(**known)}")
        return NotSent(f"{self._settings.where}: {_ACTIONS[action]} was answered {status}")


_ACTIONS: Final = {
    "receive_message": "ReceiveMessage",
    "delete_message_batch": "DeleteMessage",
    "get_queue_attributes": "GetQueueAttributes",
}
