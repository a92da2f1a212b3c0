"""What a person decides about recipients whose answer never came."""

from sqlalchemy import Connection, text


def accept_unknown(connection: Connection, campaign_id: int, numbers: list[int] | None, actor: str) -> int:
    """Call unknown recipients accepted, note with each who decided so, and return how many they were."""
    statement = text("""
        WITH chosen AS (
            SELECT a.id, a.state FROM attempts a JOIN batches b ON b.id = a.batch_id
            WHERE a.campaign_id = :campaign_id AND (a.state = 'unknown'
                -- What a process left on its way when it died is unknown, though nobody has noted it yet.
                OR (a.state = 'dispatched' AND coalesce(b.lease_expires_at < clock_timestamp(), true)))
                AND (CAST(:numbers AS int[]) IS NULL OR b.number = ANY (CAST(:numbers AS int[])))
            FOR UPDATE OF a
        ),
        noted AS (
            INSERT INTO events (attempt_id, kind, source, source_id, details)
            SELECT id, 'resolved', :actor, gen_random_uuid()::text,
                jsonb_build_object('from', state, 'to', 'accepted')
            FROM chosen
        )
        UPDATE attempts a SET state = 'accepted', answered_at = coalesce(a.answered_at, clock_timestamp())
        FROM chosen WHERE a.id = chosen.id
    """)
    parameters = {"campaign_id": campaign_id, "numbers": numbers, "actor": actor}
    return connection.execute(statement, parameters).rowcount
