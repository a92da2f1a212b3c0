"""Evidence of webhooks on its way to the ledger."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from sqlalchemy import Connection

from messaging.feedback.evidence import Evidence
from messaging.feedback.recording import record
from messaging.web.ledger import Ledger, WorkRefused

_GROUP: Final = 1000  # pieces in one transaction


async def keep(ledger: Ledger, evidence: Sequence[Evidence]) -> int:
    """Record evidence, committed on return; return how many pieces the ledger refused.

    A piece that it does not take would be no better the next time, and keeps no other from being recorded.

    Raises:
        DatabaseError: The ledger is away; recording all of it again is safe.
    """
    groups = [evidence[start : start + _GROUP] for start in range(0, len(evidence), _GROUP)]
    return sum([await _keep_group(ledger, group) for group in groups])


async def _keep_group(ledger: Ledger, group: Sequence[Evidence]) -> int:
    try:
        await ledger.transaction(partial(_record, group))
    except WorkRefused:
        if len(group) == 1:
            return 1
        half = len(group) // 2
        return await _keep_group(ledger, group[:half]) + await _keep_group(ledger, group[half:])
    return 0


def _record(group: Sequence[Evidence], connection: Connection) -> None:
    record(connection, group)
