"""What WhatsApp Web reports of messages, as events of the attempts that sent them."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, text

from schemas.states import EventKind

# By way of the account's campaigns: nothing is indexed by the provider's message id, so that an answer stays
# a cheap change of its row, and an account of this kind has few attempts.
_RECORD = text("""
    WITH told AS MATERIALIZED (
        SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:kinds AS text[]), CAST(:times AS timestamptz[]))
            AS told (message_id, kind, at)
    ),
    ours AS MATERIALIZED (
        SELECT a.id, told.message_id, told.kind, told.at
        FROM campaigns c JOIN attempts a ON a.campaign_id = c.id
        JOIN told ON told.message_id = a.provider_message_id
        WHERE c.spec ->> 'account' = :account OR coalesce(c.spec -> 'fallback', '[]') ? :account
    ),
    written AS (
        INSERT INTO events (attempt_id, kind, source, source_id, occurred_at)
        SELECT id, kind, :source, message_id || ' ' || kind, min(at) FROM ours GROUP BY id, message_id, kind
        ON CONFLICT (source, source_id) DO NOTHING
    )
    SELECT DISTINCT message_id FROM ours
""")


def record(
    connection: Connection, account: str, reports: Sequence[tuple[str, EventKind, datetime]]
) -> set[str]:
    """Record what was reported of messages by their ids, each kind once; return the ids that are ours.

    `account` is a reference, as in whatsapp-web-account/shop. In a group the first member's report counts.
    """
    name = account.partition("/")[2]
    told = {
        "account": account,
        "source": f"whatsapp-web:{name}",
        "ids": [message_id for message_id, _, _ in reports],
        "kinds": [kind for _, kind, _ in reports],
        "times": [at for _, _, at in reports],
    }
    return set(connection.execute(_RECORD, told).scalars())
