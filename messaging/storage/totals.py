"""Counts over a campaign's attempts: set-based, by index, never by fetching rows."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from schemas.report import BatchTotals, Totals


@dataclass(frozen=True, slots=True)
class Span:
    """When the first message left and the last answer came."""

    started_at: datetime | None
    answered_at: datetime | None


def totals_of(connection: Connection, campaign_id: int) -> Totals:
    """Count a campaign's attempts by state."""
    statement = text("SELECT state, count(*) AS n FROM attempts WHERE campaign_id = :id GROUP BY state")
    return Totals(**{row.state: row.n for row in connection.execute(statement, {"id": campaign_id})})


def span(connection: Connection, campaign_id: int) -> Span:
    """Return when a campaign's first message left and its last answer came."""
    statement = text("""
        SELECT min(coalesce(dispatched_at, answered_at)) AS started_at, max(answered_at) AS answered_at
        FROM attempts WHERE campaign_id = :id
    """)
    return Span(**connection.execute(statement, {"id": campaign_id}).one()._mapping)  # noqa: SLF001 - SQLAlchemy's documented way to a mapping


def by_batch(connection: Connection, campaign_id: int, number: int | None = None) -> list[BatchTotals]:
    """Count the attempts of each batch, or of one, by state, with the time their sending took."""
    statement = text("""
        SELECT b.number,
            jsonb_object_agg(a.state, a.n) AS totals,
            coalesce(extract(epoch FROM max(a.last) - min(a.first)), 0)::float AS seconds
        FROM batches b JOIN (
            SELECT batch_id, state, count(*) AS n,
                min(coalesce(dispatched_at, answered_at)) AS first, max(answered_at) AS last
            FROM attempts WHERE campaign_id = :id GROUP BY batch_id, state
        ) a ON a.batch_id = b.id
        WHERE b.campaign_id = :id AND (CAST(:number AS int) IS NULL OR b.number = :number)
        GROUP BY b.number ORDER BY b.number
    """)
    rows = connection.execute(statement, {"id": campaign_id, "number": number})
    return [BatchTotals(number=row.number, totals=Totals(**row.totals), seconds=row.seconds) for row in rows]


def batch_count(connection: Connection, campaign_id: int) -> int:
    """Count a campaign's batches."""
    statement = text("SELECT count(*) FROM batches WHERE campaign_id = :id")
    return int(connection.execute(statement, {"id": campaign_id}).scalar_one())


def reasons(connection: Connection, campaign_id: int) -> dict[str, int]:
    """Count rejected and unknown attempts by reason, the most frequent first.

    A provider's words often hold the address, so its reason is the code and the enhanced status only.
    """
    statement = text("""
        SELECT coalesce(reason, nullif(concat_ws(' ', code, status), ''), 'no reason given') AS reason,
            count(*) AS n
        FROM attempts WHERE campaign_id = :id AND state IN ('rejected', 'unknown')
        GROUP BY 1 ORDER BY n DESC, 1
    """)
    return {row.reason: row.n for row in connection.execute(statement, {"id": campaign_id})}


def recipients_in(connection: Connection, campaign_id: int, state: str) -> list[str]:
    """Return addresses of recipients in one state, for the person at the terminal only."""
    statement = text("SELECT address FROM attempts WHERE campaign_id = :id AND state = :state ORDER BY id")
    return list(connection.execute(statement, {"id": campaign_id, "state": state}).scalars())
