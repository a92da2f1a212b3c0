"""Who told WhatsApp that they want no more messages, whether or not they ever had one of ours."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection

from messaging.feedback.evidence import Evidence
from messaging.storage import suppressions
from messaging.storage.suppressions import Imposed
from schemas.states import Channel, SuppressionReason


def stop(connection: Connection, wishes: Iterable[Evidence]) -> None:
    """Suppress the numbers that wishes name; one that was told before somebody lifted it counts no more.

    Meta has signed them, so that they need no message of ours to be believed.
    """
    latest: dict[str, Evidence] = {}
    for wish in sorted(wishes, key=_when):
        if wish.recipient:
            latest[wish.recipient] = wish
    standing = suppressions.standing(connection, [(Channel.WHATSAPP, phone) for phone in sorted(latest)])
    imposed = []
    for phone, wish in latest.items():
        before = standing.get((Channel.WHATSAPP, phone))
        if before is None or before.is_active or _when(wish) > (before.expires_at or _when(wish)):
            imposed.append(Imposed(Channel.WHATSAPP, phone, SuppressionReason.UNSUBSCRIBED, wish.source))
    if imposed:
        suppressions.impose(connection, imposed)


def _when(wish: Evidence) -> datetime:
    return wish.occurred_at
