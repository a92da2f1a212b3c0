"""A server that refuses everyone alike is telling us about ourselves, not about them."""

import re
from typing import Final

from messaging.channels.base import Receipt
from schemas.states import Outcome

ALIKE_IN_A_ROW: Final = 20
ALIKE_IN_A_ROW_OF_POLICY: Final = 5

_ABOUT_THE_RECIPIENT = ("5.1.", "5.2.")  # RFC 3463: addressing and mailbox status
_TRANSACTION_FAILED = 554  # said without an enhanced status by servers that refuse the client
# Said of the sender only: SPF, DKIM, DMARC, reverse DNS (RFC 7372; Gmail's 5.7.26 to 30, Outlook's 5.7.5xx).
_POLICY = re.compile(r"5\.7\.(2\d|30|5\d\d|6\d\d|7\d\d)")


class Breaker:
    """Counts refusals in a row that are alike and not about the recipient, for each provider group.

    Per group, because a list goes to many providers: the one that refuses us all does not speak for the
    others, whose acceptances come in between.
    """

    def __init__(self) -> None:
        """Nothing was refused yet."""
        self._streaks: dict[str, tuple[tuple[int | None, str | None], list[int]]] = {}

    @property
    def pending(self) -> set[int]:
        """Attempts whose refusals may yet turn out to be about us."""
        return {attempt_id for _, refused in self._streaks.values() for attempt_id in refused}

    def trips(self, group: str, attempt_id: int, receipt: Receipt) -> list[int]:
        """Note an answer; return the attempts of the streak when it is long enough, else nothing."""
        if not _is_about_us(receipt):
            if receipt.outcome is not Outcome.DEFERRED and self._streaks:
                self._streaks.pop(group, None)
            return []
        said = (receipt.code, receipt.status)
        before, refused = self._streaks.get(group, (said, []))
        if said != before:
            refused = []
        refused.append(attempt_id)
        self._streaks[group] = said, refused
        most = ALIKE_IN_A_ROW_OF_POLICY if _POLICY.fullmatch(receipt.status or "") else ALIKE_IN_A_ROW
        return refused if len(refused) >= most else []


def _is_about_us(receipt: Receipt) -> bool:
    if receipt.outcome is not Outcome.REJECTED or receipt.unreachable:
        return False
    if receipt.status is None:
        return receipt.code == _TRANSACTION_FAILED
    return not receipt.status.startswith(_ABOUT_THE_RECIPIENT)
