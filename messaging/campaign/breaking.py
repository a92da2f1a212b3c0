"""A server that refuses everyone alike is telling us about ourselves, not about them."""

from messaging.channels.base import Receipt
from schemas.states import Outcome

ALIKE_IN_A_ROW = 20
_ABOUT_THE_RECIPIENT = ("5.1.", "5.2.")  # RFC 3463: addressing and mailbox status
_TRANSACTION_FAILED = 554  # said without an enhanced status by servers that refuse the client


class Breaker:
    """Counts refusals of one batch that are alike and not about the recipient."""

    def __init__(self) -> None:
        """Nothing was refused yet."""
        self._said: tuple[int | None, str | None] | None = None
        self._refused: list[int] = []

    def trips(self, attempt_id: int, receipt: Receipt) -> list[int]:
        """Note an answer; return the attempts of the streak when it is long enough, else nothing."""
        if not _is_about_us(receipt):
            self._said, self._refused = None, []
            return []
        said = (receipt.code, receipt.status)
        if said != self._said:
            self._said, self._refused = said, []
        self._refused.append(attempt_id)
        return self._refused if len(self._refused) >= ALIKE_IN_A_ROW else []


def _is_about_us(receipt: Receipt) -> bool:
    if receipt.outcome is not Outcome.REJECTED:
        return False
    if receipt.status is None:
        return receipt.code == _TRANSACTION_FAILED
    return not receipt.status.startswith(_ABOUT_THE_RECIPIENT)
