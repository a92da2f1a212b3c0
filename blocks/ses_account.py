"""Amazon SES accounts."""

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from pydantic import Field, SecretStr

from blocks.account import Account, Mailbox
from messaging.campaign.rendering import mailbox
from messaging.channels import ses
from messaging.channels.base import SenderPool
from messaging.errors import InputError
from schemas.base import OptionalText

if TYPE_CHECKING:
    from prefect.blocks.core import Block

_CREDENTIALS = "aws-credentials"


class SesAccount(Account):
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
    credentials: OptionalText = Field(
        default="",
        title="AWS Credentials block",
        description="Name of an AWS Credentials block to use: team, or aws-credentials/team. Empty: the keys "
        "below.",
        examples=["team"],
    )
    access_key_id: OptionalText = Field(
        default="",
        description="Key id of an IAM user. Without keys and block those of the machine serve: environment, "
        "~/.aws, or its role.",
    )
    secret_access_key: SecretStr = Field(default=SecretStr(""), description="The key's secret.")
    session_token: SecretStr = Field(
        default=SecretStr(""), description="Session token, of temporary keys only."
    )
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
        found = await self._found() if self.credentials else None
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

    async def _found(self) -> Any:  # noqa: ANN401 - its type costs five seconds to import
        """Load the AWS Credentials block; who has none does not wait for its package."""
        try:
            kind: type[Block] = (
                await asyncio.to_thread(importlib.import_module, "prefect_aws")
            ).AwsCredentials
        except ImportError:
            raise InputError(
                "an AWS Credentials block needs more packages: pip install 'outflow[ses]'"
            ) from None
        name = self.credentials.removeprefix(f"{_CREDENTIALS}/")
        try:
            return await kind.aload(name)
        except ValueError:
            raise InputError(
                f"there is no AWS Credentials block {name!r}: make it in the Prefect UI under Blocks"
            ) from None
