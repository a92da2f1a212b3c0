"""What every kind of account can do."""

from abc import abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Annotated

from prefect.blocks.core import Block
from pydantic import AfterValidator

from messaging.campaign.rendering import bounce_address, mailbox
from messaging.channels.base import SenderPool
from messaging.errors import InputError
from schemas.base import OptionalText


def _is_a_mailbox(value: str) -> str:
    try:
        mailbox("sender", value)
    except InputError as error:
        raise ValueError(str(error)) from None
    return value


Mailbox = Annotated[str, AfterValidator(_is_a_mailbox)]
"""An address, or a name and an address, as in `Shop <news@example.org>`."""


def _takes_bounces(value: str) -> str:
    value = value.strip()
    try:
        if value:
            bounce_address(value)
    except InputError as error:
        raise ValueError(str(error)) from None
    return value


ReturnPath = Annotated[OptionalText, AfterValidator(_takes_bounces)]
"""An address that each message's own is made from, or nothing."""


class Account(Block):
    """One login at one provider: stores, unwraps its secrets as late as possible, delegates."""

    @abstractmethod
    async def verify(self) -> str:
        """Connect and log in, send nothing, and say in one line what was met.

        Raises:
            AccountError: The account cannot be used as it is; the text says why.
            NotSent: The server cannot be reached.
        """


class SendingAccount(Account):
    """An account that campaigns are sent over."""

    @property
    @abstractmethod
    def sender_header(self) -> str:
        """Who the reader sees, as in `Shop <news@example.org>`."""

    @property
    def bounce_address(self) -> str:
        """Where bounces go, each message's to an address of its own there; empty: to the sender."""
        return ""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[SenderPool]:
        """Open the account's connections."""
