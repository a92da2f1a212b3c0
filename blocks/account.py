"""What every kind of account can do."""

from abc import abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Annotated

from prefect.blocks.core import Block
from pydantic import AfterValidator

from messaging.campaign.rendering import mailbox
from messaging.channels.base import SenderPool
from messaging.errors import InputError


def _is_a_mailbox(value: str) -> str:
    try:
        mailbox("sender", value)
    except InputError as error:
        raise ValueError(str(error)) from None
    return value


Mailbox = Annotated[str, AfterValidator(_is_a_mailbox)]
"""An address, or a name and an address, as in `Shop <news@example.org>`."""


class Account(Block):
    """One login at one provider: stores, unwraps its secrets as late as possible, delegates."""

    @property
    @abstractmethod
    def sender_header(self) -> str:
        """Who the reader sees, as in `Shop <news@example.org>`."""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[SenderPool]:
        """Open the account's connections."""

    @abstractmethod
    async def verify(self) -> str:
        """Connect and log in, send nothing, and say in one line what was met.

        Raises:
            AccountError: The account cannot be used as it is; the text says why.
            NotSent: The server cannot be reached.
        """
