"""Queues of Amazon SQS that Amazon SES's events come through."""

from pydantic import Field, SecretStr

from blocks.account import Account
from blocks.aws_credentials import CredentialsName, KeyId, KeySecret, SessionToken, load_credentials
from messaging.feedback import queue_facts
from messaging.feedback.sqs import QueueSettings, region_of
from schemas.base import OptionalText


class SesQueue(Account):
    """A queue of Amazon SQS that Amazon SES's events come through."""

    _block_type_name = "Amazon SES Queue"
    _block_type_slug = "ses-queue"
    _description = "A queue of Amazon SQS: deliveries, bounces and complaints that Amazon SES reports."

    queue_url: str = Field(
        description="URL of the queue that the topic of Amazon SES writes to.",
        examples=["https://sqs.eu-west-1.amazonaws.com/123456789012/outflow"],
        pattern=r"^https?://[^/\s]+/\S*[^/\s]$",
    )
    region: OptionalText = Field(
        default="",
        description="AWS region of the queue, as in eu-west-1. May be left empty when the URL names it.",
        examples=["eu-west-1"],
    )
    credentials: CredentialsName = ""
    access_key_id: KeyId = ""
    secret_access_key: KeySecret = SecretStr("")
    session_token: SessionToken = SecretStr("")
    connections: int = Field(
        default=8, ge=2, le=50, description="Requests at once, half of them to receive and half to delete."
    )
    rest_per_second: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="Deliveries, opens, clicks and the like that are recorded a second at most. Bounces, "
        "complaints and unsubscribes are not held back.",
    )
    endpoint: OptionalText = Field(
        default="",
        description="URL in place of Amazon's, as of a VPC endpoint. Empty: the region's own.",
        pattern=r"^(https?://\S+)?$",
    )

    async def verify(self) -> str:
        """Ask SQS about the queue, take nothing from it, and say what is there and what is missing."""
        return await queue_facts.verify(await self.settings())

    async def settings(self) -> QueueSettings:
        """Return how to reach the queue.

        Raises:
            InputError: The settings do not go together, or the AWS Credentials block is not there.
        """
        found = await load_credentials(self.credentials) if self.credentials else None
        return QueueSettings(
            queue_url=self.queue_url,
            region=self.region or region_of(self.queue_url) or (found and found.region_name) or "",
            access_key_id=self.access_key_id or None,
            secret_access_key=self.secret_access_key.get_secret_value() or None,
            session_token=self.session_token.get_secret_value() or None,
            make_session=found.get_boto3_session if found else None,
            connections=self.connections,
            endpoint=self.endpoint or None,
        )
