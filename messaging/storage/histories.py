"""What became of a campaign beside its decisions: who sent it, and who fell back."""

from datetime import datetime

from sqlalchemy import Connection, text

from messaging.storage.decisions import OURSELVES
from schemas.history import Change, SendingRun
from schemas.states import EventKind


def runs(connection: Connection, campaign_id: int) -> list[SendingRun]:
    """Return the processes that sent a campaign, in the order they came."""
    statement = text("""
        SELECT owner, flow_run_id::text, started_at, ended_at, ended_as FROM campaign_runs
        WHERE campaign_id = :campaign_id ORDER BY id
    """)
    rows = connection.execute(statement, {"campaign_id": campaign_id})
    return [SendingRun.model_validate(dict(row)) for row in rows.mappings()]


def fallen_back(connection: Connection, campaign_id: int) -> list[Change]:
    """Return one change for each account that did not reach somebody, as of the first of them.

    They trickle in for as long as a campaign is sent: a change for each would bury the others.
    """
    statement = text("""
        SELECT e.details ->> 'account' AS account, count(*) AS n, min(e.occurred_at) AS first
        FROM attempts a JOIN events e ON e.attempt_id = a.id AND e.kind = 'fell_back'
        WHERE a.campaign_id = :campaign_id GROUP BY 1 ORDER BY 3
    """)
    return [
        Change(
            at=row.first,
            kind=EventKind.FELL_BACK,
            state=None,
            who=OURSELVES,
            said=f"not reached over {row.account}, hence tried on the next account: {row.n:,} so far",
        )
        for row in connection.execute(statement, {"campaign_id": campaign_id})
    ]


def edition(connection: Connection, campaign_id: int) -> tuple[str | None, datetime | None]:
    """Return the name of the schedule that a campaign is an edition of, and the time it is for."""
    statement = text("""
        SELECT s.name, c.scheduled_for FROM campaigns c LEFT JOIN schedules s ON s.id = c.schedule_id
        WHERE c.id = :campaign_id
    """)
    row = connection.execute(statement, {"campaign_id": campaign_id}).one()
    return row.name, row.scheduled_for
