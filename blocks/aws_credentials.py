"""What accounts at AWS have in common: keys of their own, or a team's AWS Credentials block."""

import asyncio
import importlib
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, SecretStr

from messaging.errors import InputError
from schemas.base import OptionalText

if TYPE_CHECKING:
    from prefect.blocks.core import Block

_CREDENTIALS = "aws-credentials"

CredentialsName = Annotated[
    OptionalText,
    Field(
        title="AWS Credentials block",
        description="Name of an AWS Credentials block to use: team, or aws-credentials/team. Empty: the keys "
        "below.",
        examples=["team"],
    ),
]
KeyId = Annotated[
    OptionalText,
    Field(
        description="Key id of an IAM user. Without keys and block those of the machine serve: environment, "
        "~/.aws, or its role."
    ),
]
KeySecret = Annotated[SecretStr, Field(description="The key's secret.")]
SessionToken = Annotated[SecretStr, Field(description="Session token, of temporary keys only.")]


async def load_credentials(name: str) -> Any:  # noqa: ANN401 - its type costs five seconds to import
    """Load an AWS Credentials block; who has none does not wait for its package.

    Raises:
        InputError: It is not there, or its package is not.
    """
    try:
        kind: type[Block] = (await asyncio.to_thread(importlib.import_module, "prefect_aws")).AwsCredentials
    except ImportError:
        raise InputError("an AWS Credentials block needs more packages: pip install 'outflow[ses]'") from None
    name = name.removeprefix(f"{_CREDENTIALS}/")
    try:
        return await kind.aload(name)
    except ValueError:
        raise InputError(
            f"there is no AWS Credentials block {name!r}: make it in the Prefect UI under Blocks"
        ) from None
