"""Amazon SES accounts."""

import contextlib
from collections.abc import AsyncIterator

from pydantic import Field, SecretStr

from blocks.account import Mailbox, SendingAccount
from blocks.aws_credentials import CredentialsName, KeyId, KeySecret, SessionToken, load_credentials
from messaging.campaign.rendering import mailbox
from messaging.channels import ses
from messaging.channels.base import SenderPool
from schemas.base import OptionalText


class SesAccount(SendingAccount):
    """Amazon SES in one region of one AWS account."""

    _block_type_name = "Amazon SES Account"
    _block_type_slug = "ses-account"
    _description = "Amazon SES, by its API, that Outflow sends campaigns through."

    region: OptionalText = Field(
        default="",
        description="AWS region where the sender is verified, as in eu-west-1. May be left empty when the "
        "AWS Credentials block names one.",
        examples=["eu-west-1"],
    )
    sender: Mailbox = Field(
        description="Who the reader sees, as in Example Shop <news@example.org>: an identity verified in the "
        "region.",
        examples=["Example Shop <news@example.org>"],
    )
    configuration_set: OptionalText = Field(
        default="",
        description="Configuration set that reports deliveries, bounces and complaints. Empty: nothing is "
        "heard of them by events.",
        examples=["outflow"],
    )
    credentials: CredentialsName = ""
    access_key_id: KeyId = ""
    secret_access_key: KeySecret = SecretStr("")
    session_token: SessionToken = SecretStr("")
    connections: int = Field(
        default=8,
        ge=1,
        le=100,
        description="Messages that may be on their way at once; a request takes about a tenth of a second.",
    )
    endpoint: OptionalText = Field(
        default="",
        description="URL in place of Amazon's, as of a VPC endpoint. Empty: the region's own.",
        pattern=r"^(https?://\S+)?$",
    )

    @property
    def sender_header(self) -> str:
        """Who the reader sees."""
        return self.sender

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[SenderPool]:
        """Open the pool of connections; each connects when it is first used."""
        async with ses.SesPool(await self.settings()) as pool:
            yield pool

    async def verify(self) -> str:
        """Ask SES for all that a campaign needs, send nothing, and say what was met and what is missing."""
        return (await ses.verify(await self.settings())).sentence

    async def settings(self) -> ses.SesSettings:
        """Return how to reach the account.

        Raises:
            InputError: The settings do not go together, or the AWS Credentials block is not there.
        """
        found = await load_credentials(self.credentials) if self.credentials else None
        return ses.SesSettings(
            region=self.region or (found and found.region_name) or "",
            access_key_id=self.access_key_id or None,
            secret_access_key=self.secret_access_key.get_secret_value() or None,
            session_token=self.session_token.get_secret_value() or None,
            make_session=found.get_boto3_session if found else None,
            sender=mailbox("sender", self.sender)[1],
            configuration_set=self.configuration_set or None,
            connections=self.connections,
            endpoint=self.endpoint or None,
        )
