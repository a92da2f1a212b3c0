"""What is known, before a campaign is sent, of how long it will take; nothing is written here."""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from messaging.storage.caps import DAY_SECONDS
from messaging.storage.limits import campaign_key


class Share(NamedTuple):
    """Recipients of one account who may be written to from one moment on."""

    leg: int
    not_before: datetime | None
    """None: from the campaign's beginning on."""
    zone: str
    """Their time zone; empty: the campaign's."""
    recipients: int


class Counted(NamedTuple):
    """Messages that count against a daily cap until a moment."""

    until: datetime
    messages: int


_LEFT: Final = text("""
    SELECT b.leg, b.not_before, coalesce(b.time_zone, '') AS zone, count(*) AS n
    FROM attempts a JOIN batches b ON b.id = a.batch_id
    WHERE a.campaign_id = :campaign_id AND a.state IN ('queued', 'dispatched')
    GROUP BY b.leg, b.not_before, b.time_zone ORDER BY b.leg, b.not_before, b.time_zone
""")
_COUNTED: Final = text("""
    SELECT minute, n FROM sent_minutes WHERE key = :key AND n > 0 AND minute >= now() - interval '1 day'
    ORDER BY minute
""")
_BEGAN: Final = text("SELECT began_at FROM throttles WHERE key = :key")


def left(connection: Connection, campaign_id: int) -> list[Share]:
    """Count who is left of a planned campaign."""
    return [Share(*row) for row in connection.execute(_LEFT, {"campaign_id": campaign_id})]


def counted(connection: Connection, key: str) -> list[Counted]:
    """Return what counts against a daily cap now, by when it ceases to, the first first."""
    rows = connection.execute(_COUNTED, {"key": key})
    return [Counted(row.minute.astimezone(UTC) + timedelta(seconds=DAY_SECONDS), row.n) for row in rows]


def warm_up_began(connection: Connection, campaign_id: int) -> datetime | None:
    """Return when a campaign's warm-up began; None: it did not yet."""
    began: datetime | None = connection.execute(_BEGAN, {"key": campaign_key(campaign_id)}).scalar()
    return began
