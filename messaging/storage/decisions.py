"""What was decided about a campaign, by whom and when: kept beside the events of its recipients."""

from typing import Final

from sqlalchemy import Connection, text

from schemas.history import Change
from schemas.report import Decision
from schemas.states import EventKind

OURSELVES: Final = "outflow"
"""Who decided, when no person did."""


def note(connection: Connection, campaign_id: int, kind: EventKind, actor: str, said: str) -> None:
    """Keep a decision; `said` is shown with the campaign's report and names no recipient.

    Noted after the change, in its transaction: the state that the campaign is in now is kept with it.
    """
    statement = text("""
        INSERT INTO events (campaign_id, kind, source, source_id, occurred_at, details)
        SELECT id, :kind, :actor, gen_random_uuid()::text, clock_timestamp(),
            jsonb_build_object('said', CAST(:said AS text), 'state', state)
        FROM campaigns WHERE id = :campaign_id
    """)
    parameters = {"campaign_id": campaign_id, "kind": kind, "actor": actor, "said": said}
    connection.execute(statement, parameters)


def last(connection: Connection, campaign_id: int, most: int) -> list[Decision]:
    """Return the last decisions about a campaign, oldest first; not what becomes of it by itself."""
    statement = text("""
        SELECT occurred_at AS at, source AS who, details ->> 'said' AS said FROM events
        WHERE campaign_id = :campaign_id AND kind NOT IN ('scheduled', 'started', 'finished')
        ORDER BY id DESC LIMIT :most
    """)
    rows = connection.execute(statement, {"campaign_id": campaign_id, "most": most}).all()
    return [Decision(at=row.at, who=row.who, said=row.said) for row in reversed(rows)]


def history(connection: Connection, campaign_id: int) -> list[Change]:
    """Return every change of a campaign, oldest first."""
    statement = text("""
        SELECT occurred_at AS at, kind, details ->> 'state' AS state, source AS who,
            coalesce(details ->> 'said', kind) AS said
        FROM events WHERE campaign_id = :campaign_id ORDER BY id
    """)
    rows = connection.execute(statement, {"campaign_id": campaign_id})
    return [Change.model_validate(dict(row)) for row in rows.mappings()]
