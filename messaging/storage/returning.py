"""How much of a campaign comes back: counted over few attempts, however many it has."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median_low
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from messaging.storage.prepared import by_index

_MOST_PLACES: Final = 3  # that are looked at around what came back


@dataclass(frozen=True, slots=True)
class Returned:
    """What became of some messages that the provider has answered; each counts once."""

    answered: int
    bounced: int
    """Refused at once, or returned later, for whatever reason."""
    complained: int


# A report that names no message can be made up by anybody, and must not stop a campaign.  Whoever is not on
# WhatsApp is found out by writing to them, which the provider does not hold against us.
_BY_REPORTS: Final = """
    LEFT JOIN LATERAL (
        SELECT bool_or(e.kind = 'bounced') AS bounced, bool_or(e.kind = 'complained') AS complained
        FROM events e WHERE e.attempt_id = a.id AND e.kind IN ('bounced', 'complained')
            AND coalesce(e.details ->> 'matched', '') NOT IN ('address', 'campaign')
            AND CASE e.kind WHEN 'bounced' THEN e.details ->> 'channel' IS DISTINCT FROM 'whatsapp'
                ELSE e.details ->> 'suppress' IS DISTINCT FROM 'never' END
    ) told ON true
"""
_COUNTS: Final = """
    count(*) AS answered,
    count(*) FILTER (WHERE told.bounced OR (a.state = 'rejected' AND a.code IS NOT NULL
        AND account NOT LIKE 'whatsapp-%' AND a.id <> ALL (:spared))) AS bounced,
    count(*) FILTER (WHERE told.complained) AS complained
"""
_ACCOUNT: Final = """CASE WHEN b.leg = 0 THEN ca.spec ->> 'account'
    ELSE ca.spec -> 'fallback' ->> (b.leg - 1) END AS account"""

_SINCE = text("""
    SELECT coalesce((SELECT max(e.occurred_at) FROM events e
        WHERE e.campaign_id = :campaign_id AND e.kind = 'resumed'), to_timestamp(0))
    FROM campaigns WHERE id = :campaign_id AND state = 'running'
""")
_HOLD = text("""
    SELECT id FROM campaigns WHERE id = :campaign_id AND state = 'running' FOR NO KEY UPDATE SKIP LOCKED
""")

# Batches from the newest: what is being sent now, then those sent last. Each is read from its end by its
# index, and no more of them than the answers asked for.
_LATEST = text(f"""
    SELECT {_COUNTS}
    FROM (
        SELECT newest.account, a.* FROM (
            SELECT b.id, {_ACCOUNT} FROM batches b JOIN campaigns ca ON ca.id = b.campaign_id
            WHERE b.campaign_id = :campaign_id AND b.lease_epoch > 0
            ORDER BY b.lease_owner IS NULL, b.number DESC LIMIT :most
        ) newest
        CROSS JOIN LATERAL (
            SELECT a.id, a.state, a.code FROM attempts a
            WHERE a.batch_id = newest.id AND a.answered_at > :since AND a.state IN ('accepted', 'rejected')
            ORDER BY a.id DESC LIMIT :most
        ) a LIMIT :most
    ) a {_BY_REPORTS}
""")  # noqa: S608 - constants

# Attempts were numbered when they were planned, and are sent in that order.
_AROUND = text(f"""
    SELECT {_COUNTS}
    FROM unnest(CAST(:lows AS bigint[]), CAST(:highs AS bigint[])) AS place (low, high)
    CROSS JOIN LATERAL (
        SELECT a.id, a.state, a.code, {_ACCOUNT}
        FROM attempts a JOIN batches b ON b.id = a.batch_id JOIN campaigns ca ON ca.id = a.campaign_id
        WHERE a.id BETWEEN place.low AND place.high AND a.campaign_id + 0 = :campaign_id
            AND a.answered_at > :since AND a.state IN ('accepted', 'rejected')
    ) a {_BY_REPORTS}
    GROUP BY place.low
""")  # noqa: S608 - constants


def since(connection: Connection, campaign_id: int) -> datetime | None:
    """Return when a person last resumed a campaign, or the beginning of time; None: it is not running."""
    return connection.execute(_SINCE, {"campaign_id": campaign_id}).scalar_one_or_none()


def hold(connection: Connection, campaign_id: int) -> bool:
    """Keep others from changing a running campaign's state, and return whether that is possible at once.

    Whoever has it now may be waiting for us.
    """
    return connection.execute(_HOLD, {"campaign_id": campaign_id}).one_or_none() is not None


def latest(
    connection: Connection, campaign_id: int, after: datetime, most: int, spared: Sequence[int]
) -> Returned:
    """Count what came back of a campaign's latest answers, at most so many, after a time.

    Who is `spared` does not count as refused.
    """
    parameters = {"campaign_id": campaign_id, "since": after, "most": most, "spared": list(spared)}
    with by_index(connection):
        return _returned(connection.execute(_LATEST, parameters).one())


def around(
    connection: Connection, campaign_id: int, after: datetime, attempt_ids: Sequence[int], width: int
) -> list[Returned]:
    """Count what came back of the neighbours of attempts, `width` of them, where most of these are."""
    crowds = Counter(attempt_id // width for attempt_id in attempt_ids).most_common(_MOST_PLACES)
    centres = [median_low(i for i in attempt_ids if i // width == crowd) for crowd, _ in crowds]
    parameters = {
        "campaign_id": campaign_id,
        "since": after,
        "lows": [centre - width // 2 for centre in centres],
        "highs": [centre + width // 2 - 1 for centre in centres],
        "spared": [],
    }
    with by_index(connection):
        return [_returned(row) for row in connection.execute(_AROUND, parameters)]


def _returned(row: Row[Any]) -> Returned:
    return Returned(answered=row.answered, bounced=row.bounced, complained=row.complained)
