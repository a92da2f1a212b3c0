"""What the contract asks of every provider's stand-in: a real server on loopback that does as it is told."""

from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Protocol

from messaging.channels.base import Message, SenderPool

WAIT = 7.0  # seconds that a throttling stand-in asks for


class Deed(StrEnum):
    """What a stand-in does with the next message, and with all after it."""

    ACCEPTS = "accepts"
    REFUSES = "refuses the recipient"
    THROTTLES = "asks to wait"
    FAULTS = "says that it is out of order for now"
    REFUSES_US = "refuses our credentials"
    DROPS_IDLE = "accepts, and closes the connection right after its answer"
    DROPS_AFTER = "takes the message and closes the connection without an answer"
    SLOW = "accepts after half a second"
    SILENT = "takes the message and never answers"


class Provider(Protocol):
    """A stand-in that listens, and how to reach it."""

    account: str
    """A reference, as in smtp-account/main; nothing is stored under it."""
    spec: dict[str, object]
    """What a campaign over this account says: subject, text, template."""
    address: str
    """A recipient."""

    def does(self, deed: Deed) -> None:
        """Do this from the next message on."""

    def received(self) -> int:
        """Return how many messages it holds, as it would deliver them."""

    async def leave(self) -> None:
        """Stop listening: connections are refused from now on."""

    def message(self) -> Message:
        """Return a message to `address` as a renderer would make it."""

    def pool(
        self, *, patience: float = 10.0, connections: int = 1
    ) -> AbstractAsyncContextManager[SenderPool]:
        """Open a pool at the stand-in; `patience` is how many seconds it waits for an answer."""
