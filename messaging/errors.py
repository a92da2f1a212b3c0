"""The error tree: silence is an exception, an answer is a value.

Texts name ids, files and accounts, never addresses: Prefect stores them.
"""

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from messaging.channels.base import Receipt


class MessagingError(Exception):
    """Base of the tree; `retryable` says whether repeating the call unchanged can help."""

    retryable: ClassVar[bool] = False


class InputError(MessagingError):
    """What a person gave us cannot be used; the text says what to do."""


class ContractBreach(MessagingError):
    """A file broke its audience's contract; nothing of it was loaded."""

    def __init__(self, text: str, import_id: int = 0) -> None:
        """Pass every argument on, so that the error survives pickling."""
        super().__init__(text, import_id)
        self.import_id = import_id

    def __str__(self) -> str:
        """Return the sentence."""
        return str(self.args[0])


class ContractError(MessagingError):
    """Whether a file keeps its audience's contract could not be told; nothing of it was loaded."""

    retryable = True


class DatabaseError(MessagingError):
    """The ledger cannot be reached or used."""

    retryable = True


class AccountError(MessagingError):
    """The account cannot go on: credentials, quota, blocked. Every recipient stays queued."""


class NotSent(MessagingError):
    """The provider gave no answer and nothing was handed over; calling again is safe."""

    retryable = True
    throttle: "Receipt | None" = None
    """What the provider said, when it asked us to slow down."""


class BrokenOff(NotSent):
    """The connection broke while this message was on its way, before its end; nothing was handed over.

    It may be this message that the server cannot bear, so its next turn comes later each time.
    """


class Unknown(MessagingError):
    """The message may have been handed over and no answer came; never repeat it by itself."""


class Withdrawn(MessagingError):
    """The ledger refused the dispatch: the address has been suppressed since planning."""


class CampaignStopped(MessagingError):
    """The ledger refused the dispatch: the campaign is paused or cancelled. Recipients stay queued."""


class LeaseLost(MessagingError):
    """Another process holds the batch; stop before sending anything more."""

    retryable = True
