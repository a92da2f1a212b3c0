"""Suppressions: addresses that we must not use, whole lists at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from schemas.states import Channel, SuppressionReason


@dataclass(frozen=True, slots=True)
class Compared:
    """Our suppressions held against somebody else's list."""

    missing: dict[str, SuppressionReason]
    """Address keys that are suppressed here for good, are not on the list, and did not come from it."""
    gone: int
    """How many came from the list and are not on it any more."""


# One that ends some day gives way to one that does not; else who came first stays.
_ADD = text("""
    INSERT INTO suppressions (channel, address_key, reason, source)
    SELECT :channel, n.address_key, n.reason, :source
    FROM unnest(CAST(:keys AS text[]), CAST(:reasons AS text[])) AS n (address_key, reason)
    ON CONFLICT (channel, address_key) DO UPDATE
    SET reason = excluded.reason, source = excluded.source, created_at = now(), expires_at = NULL
    WHERE suppressions.expires_at IS NOT NULL
""")
_COMPARE = text("""
    SELECT s.address_key, s.reason, s.source = :source AS gone FROM suppressions s
    WHERE s.channel = :channel AND s.expires_at IS NULL AND s.reason = ANY (:reasons)
        AND NOT EXISTS (SELECT FROM unnest(CAST(:keys AS text[])) AS n (address_key)
            WHERE n.address_key = s.address_key)
    ORDER BY s.id
""")


def add(
    connection: Connection, channel: Channel, reasons: Mapping[str, SuppressionReason], source: str
) -> int:
    """Suppress addresses, by key; return how many were not suppressed before, or only for a while."""
    parameters = {
        "channel": channel,
        "keys": list(reasons),
        "reasons": list(reasons.values()),
        "source": source,
    }
    return connection.execute(_ADD, parameters).rowcount


def compare(
    connection: Connection,
    channel: Channel,
    keys: Sequence[str],
    reasons: Sequence[SuppressionReason],
    source: str,
) -> Compared:
    """Hold what is suppressed here for one of these reasons against a list that we call `source`."""
    parameters = {"channel": channel, "keys": list(keys), "reasons": list(reasons), "source": source}
    rows = connection.execute(_COMPARE, parameters).all()
    return Compared(
        missing={row.address_key: SuppressionReason(row.reason) for row in rows if not row.gone},
        gone=sum(row.gone for row in rows),
    )
