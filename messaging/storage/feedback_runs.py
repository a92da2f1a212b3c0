"""Each reading of a mailbox or a queue: when, what it found, and why it could not go on."""

from sqlalchemy import Connection, text

from schemas.feedback import FeedbackReport

_BEGIN = text("INSERT INTO feedback_runs (source) VALUES (:source) RETURNING id")
_FINISH = text("""
    UPDATE feedback_runs SET finished_at = clock_timestamp(), seen = :seen, recorded = :recorded,
        repeated = :repeated, unmatched = :unmatched, suppressed = :suppressed, set_aside = :set_aside,
        problem = nullif(:problem, '')
    WHERE id = :id
""")
_LAST = text("""
    SELECT source, seen, recorded, repeated, unmatched, suppressed, set_aside,
        coalesce(problem, '') AS problem
    FROM feedback_runs WHERE source = :source AND finished_at IS NOT NULL ORDER BY id DESC LIMIT :most
""")


def begin(connection: Connection, source: str) -> int:
    """Note that a reading begins; return its number."""
    return int(connection.execute(_BEGIN, {"source": source}).scalar_one())


def finish(connection: Connection, run_id: int, report: FeedbackReport) -> None:
    """Note what a reading found, also when that is nothing or a problem."""
    connection.execute(_FINISH, report.model_dump(exclude={"source", "kinds", "paused"}) | {"id": run_id})


def last(connection: Connection, source: str, most: int) -> list[FeedbackReport]:
    """Return the last readings of a mailbox or queue, newest first."""
    rows = connection.execute(_LAST, {"source": source, "most": most})
    return [FeedbackReport.model_validate(row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name for it
