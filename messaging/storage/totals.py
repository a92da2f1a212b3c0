"""Counts over a campaign's attempts: set-based, by index, never by fetching rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from schemas.report import AccountTotals, BatchTotals, Totals


@dataclass(frozen=True, slots=True)
class Figures:
    """A campaign's attempts counted in one pass: with a million of them each pass takes a second."""

    totals: Totals
    reasons: dict[str, int]
    """Rejected and unknown by reason, the most frequent first."""
    started_at: datetime | None
    """When the first message left."""
    answered_at: datetime | None
    """When the last answer came."""
    deferred: int
    """Of the queued, those whose next turn is not yet due."""
    next_turn_at: datetime | None
    """When the first of the deferred is due."""

    @property
    def seconds(self) -> float:
        """The time from the first message to the last answer."""
        if self.started_at is None or self.answered_at is None:
            return 0.0
        return (self.answered_at - self.started_at).total_seconds()


# A provider's words often hold the address, so its reason is the code and the enhanced status only.
_FIGURES = text("""
    SELECT state, CASE WHEN state IN ('rejected', 'unknown') THEN
            coalesce(reason, nullif(concat_ws(' ', code, status), ''), 'no reason given') END AS reason,
        count(*) AS n,
        min(coalesce(dispatched_at, answered_at)) AS started_at, max(answered_at) AS answered_at,
        count(*) FILTER (WHERE state = 'queued' AND not_before > now()) AS deferred,
        min(not_before) FILTER (WHERE state = 'queued' AND not_before > now()) AS next_turn_at
    FROM attempts WHERE campaign_id = :id GROUP BY 1, 2 ORDER BY n DESC, 2
""")


def figures(connection: Connection, campaign_id: int) -> Figures:
    """Count a campaign's attempts by state and reason, with the times of its sending."""
    rows = connection.execute(_FIGURES, {"id": campaign_id}).all()
    by_state: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for row in rows:
        by_state[row.state] += row.n
        if row.reason is not None:
            reasons[row.reason] += row.n
    return Figures(
        totals=Totals(**by_state),
        reasons=dict(reasons.most_common()),
        started_at=min(filter(None, (row.started_at for row in rows)), default=None),
        answered_at=max(filter(None, (row.answered_at for row in rows)), default=None),
        deferred=sum(row.deferred for row in rows),
        next_turn_at=min(filter(None, (row.next_turn_at for row in rows)), default=None),
    )


def totals_of(connection: Connection, campaign_id: int, numbers: list[int] | None = None) -> Totals:
    """Count the attempts of a campaign, or of some of its batches, by state."""
    statement = text("""
        SELECT state, count(*) AS n FROM attempts
        WHERE campaign_id = :id AND (CAST(:numbers AS int[]) IS NULL OR batch_id IN (
            SELECT id FROM batches WHERE campaign_id = :id AND number = ANY (CAST(:numbers AS int[]))))
        GROUP BY state
    """)
    rows = connection.execute(statement, {"id": campaign_id, "numbers": numbers})
    return Totals(**{row.state: row.n for row in rows})


def of_batch(connection: Connection, campaign_id: int, number: int) -> Totals:
    """Count the attempts of one batch by state: reads these only, however large the campaign is."""
    statement = text("""
        SELECT state, count(*) AS n FROM attempts
        WHERE batch_id = (SELECT id FROM batches WHERE campaign_id = :id AND number = :number) GROUP BY state
    """)
    rows = connection.execute(statement, {"id": campaign_id, "number": number})
    return Totals(**{row.state: row.n for row in rows})


def by_batch(connection: Connection, campaign_id: int) -> list[BatchTotals]:
    """Count the attempts of each batch by state, with the time their sending took."""
    statement = text("""
        SELECT b.number,
            -- All recipients of a batch may have fallen back to another account.
            coalesce(jsonb_object_agg(a.state, a.n) FILTER (WHERE a.n > 0), '{}') AS totals,
            coalesce(extract(epoch FROM max(a.last) - min(a.first)), 0)::float AS seconds
        FROM batches b LEFT JOIN (
            SELECT batch_id, state, count(*) AS n,
                min(coalesce(dispatched_at, answered_at)) AS first, max(answered_at) AS last
            FROM attempts WHERE campaign_id = :id GROUP BY batch_id, state
        ) a ON a.batch_id = b.id
        WHERE b.campaign_id = :id GROUP BY b.number ORDER BY b.number
    """)
    rows = connection.execute(statement, {"id": campaign_id})
    return [BatchTotals(number=row.number, totals=Totals(**row.totals), seconds=row.seconds) for row in rows]


def by_account(connection: Connection, campaign_id: int, accounts: Sequence[str]) -> list[AccountTotals]:
    """Count the attempts of each of a campaign's accounts by state, and those who were tried on the next."""
    statement = text("""
        SELECT leg, jsonb_object_agg(state, n) AS totals FROM (
            SELECT b.leg, a.state, count(*) AS n FROM attempts a JOIN batches b ON b.id = a.batch_id
            WHERE a.campaign_id = :id GROUP BY 1, 2
        ) found GROUP BY leg
    """)
    fallen = text("""
        SELECT CAST(e.details ->> 'leg' AS int) AS leg, count(*) AS n
        FROM attempts a JOIN events e ON e.attempt_id = a.id
        WHERE a.campaign_id = :id AND e.kind = 'fell_back' GROUP BY 1
    """)
    totals = {row.leg: Totals(**row.totals) for row in connection.execute(statement, {"id": campaign_id})}
    fell_back = {row.leg: row.n for row in connection.execute(fallen, {"id": campaign_id})}
    return [
        AccountTotals(account=account, totals=totals.get(leg, Totals()), fell_back=fell_back.get(leg, 0))
        for leg, account in enumerate(accounts)
    ]


def batch_count(connection: Connection, campaign_id: int) -> int:
    """Count a campaign's batches."""
    statement = text("SELECT count(*) FROM batches WHERE campaign_id = :id")
    return int(connection.execute(statement, {"id": campaign_id}).scalar_one())


def recipients_in(connection: Connection, campaign_id: int, state: str) -> list[str]:
    """Return addresses of recipients in one state, for the person at the terminal only."""
    statement = text("SELECT address FROM attempts WHERE campaign_id = :id AND state = :state ORDER BY id")
    return list(connection.execute(statement, {"id": campaign_id, "state": state}).scalars())
