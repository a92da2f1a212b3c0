"""What was decided about a campaign, by whom and when: kept beside the events of its recipients."""

from sqlalchemy import Connection, text

from schemas.report import Decision
from schemas.states import EventKind


def note(connection: Connection, campaign_id: int, kind: EventKind, actor: str, said: str) -> None:
    """Keep a decision; `said` is shown with the campaign's report and names no recipient."""
    statement = text("""
        INSERT INTO events (campaign_id, kind, source, source_id, details)
        VALUES (:campaign_id, :kind, :actor, gen_random_uuid()::text,
            jsonb_build_object('said', CAST(:said AS text)))
    """)
    parameters = {"campaign_id": campaign_id, "kind": kind, "actor": actor, "said": said}
    connection.execute(statement, parameters)


def last(connection: Connection, campaign_id: int, most: int) -> list[Decision]:
    """Return the last decisions about a campaign, oldest first."""
    statement = text("""
        SELECT occurred_at AS at, source AS who, details ->> 'said' AS said FROM events
        WHERE campaign_id = :campaign_id ORDER BY id DESC LIMIT :most
    """)
    rows = connection.execute(statement, {"campaign_id": campaign_id, "most": most}).all()
    return [Decision(at=row.at, who=row.who, said=row.said) for row in reversed(rows)]
