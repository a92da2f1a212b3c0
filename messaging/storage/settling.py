"""Recipients of campaigns that nobody sends any more."""

from sqlalchemy import Connection, text

# Rows that a sender is at are passed over rather than waited for: it holds several, and so would we.  It
# settles what it leaves behind when it looks for more work.
_WITHDRAW = text("""
    WITH chosen AS (
        SELECT id FROM attempts WHERE campaign_id = :campaign_id AND state = 'queued'
        FOR UPDATE SKIP LOCKED
    )
    UPDATE attempts a SET state = 'cancelled', not_before = NULL FROM chosen WHERE a.id = chosen.id
""")

_GIVE_UP = text("""
    UPDATE attempts a SET state = 'unknown', answered_at = clock_timestamp(),
        reason = 'no answer: our process stopped first'
    FROM batches b
    WHERE b.id = a.batch_id AND a.campaign_id = :campaign_id AND a.state = 'dispatched'
        AND coalesce(b.lease_expires_at < clock_timestamp(), true)
""")


def settle_cancelled(connection: Connection, campaign_id: int) -> int:
    """Call the queued recipients of a cancelled campaign `cancelled` and return how many they were.

    What a process left on its way when it died becomes `unknown`: nobody will claim its batch any more.
    """
    give_up(connection, campaign_id)
    return connection.execute(_WITHDRAW, {"campaign_id": campaign_id}).rowcount


def give_up(connection: Connection, campaign_id: int) -> None:
    """Call what a process left on its way when it died `unknown`: its answer will never be heard."""
    connection.execute(_GIVE_UP, {"campaign_id": campaign_id})
