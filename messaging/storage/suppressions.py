"""Suppressions: addresses that we must not use, whole lists at a time.

One is never deleted: it ends, by itself or by a person, and then gives way to a new reason.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from schemas.states import Channel, SuppressionReason


@dataclass(frozen=True, slots=True)
class Compared:
    """Our suppressions held against somebody else's list."""

    missing: dict[str, SuppressionReason]
    """Address keys that are suppressed here for good, are not on the list, and did not come from it."""
    gone: int
    """How many came from the list and are not on it any more."""


@dataclass(frozen=True, slots=True)
class Suppression:
    """One address that must not, or must not have been, used."""

    id: int
    channel: Channel
    address_key: str
    reason: SuppressionReason
    source: str
    """The mailbox, queue, list or person that told us."""
    created_at: datetime
    expires_at: datetime | None
    lifted_by: str | None
    """Who ended it, when it did not end by itself."""
    given_back_at: datetime | None
    """When a person ended it or one before it, or one before it ended by itself."""
    is_active: bool


# One that takes the place of another that ended by itself: what was known before it ended counts no more.
_REMEMBER: Final = """given_back_at = greatest(s.given_back_at,
    CASE WHEN s.expires_at <= clock_timestamp() AND s.lifted_by IS NULL THEN s.expires_at END)"""

# One that ends some day, or has ended, gives way to one that does not; else who came first stays.
_ADD = text(f"""
    INSERT INTO suppressions AS s (channel, address_key, reason, source)
    SELECT :channel, n.address_key, n.reason, :source
    FROM unnest(CAST(:keys AS text[]), CAST(:reasons AS text[])) AS n (address_key, reason)
    ORDER BY n.address_key
    ON CONFLICT (channel, address_key) DO UPDATE
    SET reason = excluded.reason, source = excluded.source, created_at = now(), expires_at = NULL,
        lifted_by = NULL, {_REMEMBER}
    WHERE s.expires_at IS NOT NULL
""")  # noqa: S608 - constants
_COMPARE = text("""
    SELECT s.address_key, s.reason, s.source = :source AS gone FROM suppressions s
    WHERE s.channel = :channel AND s.expires_at IS NULL AND s.reason = ANY (:reasons)
        AND NOT EXISTS (SELECT FROM unnest(CAST(:keys AS text[])) AS n (address_key)
            WHERE n.address_key = s.address_key)
    ORDER BY s.id
""")
_LIFT = text("""
    UPDATE suppressions s SET expires_at = clock_timestamp(), lifted_by = :actor,
        given_back_at = CASE WHEN :for_good THEN clock_timestamp() ELSE given_back_at END
    FROM (
        SELECT id FROM suppressions
        WHERE channel = :channel AND address_key = ANY (:keys)
            AND (expires_at IS NULL OR expires_at > clock_timestamp())
        ORDER BY address_key FOR NO KEY UPDATE
    ) chosen
    WHERE s.id = chosen.id
""")
_COLUMNS = """
    id, channel, address_key, reason, source, created_at, expires_at, lifted_by, given_back_at,
    expires_at IS NULL OR expires_at > clock_timestamp() AS is_active
"""
_PAGE = text(f"""
    SELECT {_COLUMNS} FROM suppressions
    WHERE id > :after_id AND (:ended OR expires_at IS NULL OR expires_at > clock_timestamp())
        AND (CAST(:channel AS text) IS NULL OR channel = :channel)
        AND (CAST(:reason AS text) IS NULL OR reason = :reason)
        AND (CAST(:since AS timestamptz) IS NULL OR created_at >= :since)
    ORDER BY id LIMIT :most
""")  # noqa: S608 - constants
_STANDING = text(f"""
    SELECT {_COLUMNS} FROM suppressions
    WHERE (channel, address_key) IN (
        SELECT * FROM unnest(CAST(:channels AS text[]), CAST(:keys AS text[])))
    ORDER BY channel, address_key FOR NO KEY UPDATE
""")  # noqa: S608 - constants

# What is for good goes before what ends, then a person's own wish before a bounce, and a bounce before what
# somebody typed.
_RANK: Final = """(coalesce({0}.expires_at, 'infinity'),
    array_position(ARRAY['manual', 'bounced', 'unsubscribed', 'complained'], {0}.reason))"""
_IMPOSE = text(f"""
    INSERT INTO suppressions AS s (channel, address_key, reason, source, expires_at)
    SELECT n.* FROM unnest(CAST(:channels AS text[]), CAST(:keys AS text[]), CAST(:reasons AS text[]),
        CAST(:sources AS text[]), CAST(:ends AS timestamptz[]))
        AS n (channel, address_key, reason, source, expires_at)
    ORDER BY n.channel, n.address_key
    ON CONFLICT (channel, address_key) DO UPDATE
    SET reason = excluded.reason, source = excluded.source, expires_at = excluded.expires_at,
        created_at = clock_timestamp(), lifted_by = NULL, {_REMEMBER}
    WHERE s.expires_at <= clock_timestamp() OR {_RANK.format("excluded")} > {_RANK.format("s")}
""")  # noqa: S608 - constants

# That somebody typed it says less than why it came to be, unless it lasts longer.
_IMPOSE_LIST = text(f"""
    WITH given AS (SELECT DISTINCT address_key FROM unnest(CAST(:keys AS text[])) AS n (address_key)),
    before AS (
        -- LIMIT: looked up one by one, whatever the planner takes the table to be
        SELECT count(*) AS n FROM given g CROSS JOIN LATERAL (
            SELECT FROM suppressions s WHERE s.channel = :channel AND s.address_key = g.address_key
                AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp()) LIMIT 1) known
    ),
    imposed AS (
        INSERT INTO suppressions AS s (channel, address_key, reason, source, expires_at)
        SELECT :channel, address_key, CAST(:reason AS text), :source, CAST(:ends AS timestamptz)
        FROM given ORDER BY address_key
        ON CONFLICT (channel, address_key) DO UPDATE
        SET reason = excluded.reason, source = excluded.source, expires_at = excluded.expires_at,
            created_at = clock_timestamp(), lifted_by = NULL, {_REMEMBER}
        WHERE s.expires_at <= clock_timestamp() OR CASE excluded.reason
            WHEN 'manual' THEN s.expires_at < coalesce(excluded.expires_at, 'infinity')
            ELSE {_RANK.format("excluded")} > {_RANK.format("s")} END
    )
    SELECT (SELECT count(*) FROM given) - before.n AS added, before.n AS known FROM before
""")  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Imposed:
    """A suppression to be, until it expires if it does."""

    channel: Channel
    address_key: str
    reason: SuppressionReason
    source: str
    expires_at: datetime | None = None


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


def lift(
    connection: Connection,
    channel: Channel,
    address_keys: Collection[str],
    actor: str,
    *,
    for_good: bool = True,
) -> int:
    """End the suppressions of addresses, by key, and note who did; return how many were active.

    What was known before counts no more: only new evidence suppresses them again. Not so when we ourselves
    found them wrong (`for_good` is false).
    """
    parameters = {"channel": channel, "keys": list(address_keys), "actor": actor, "for_good": for_good}
    return connection.execute(_LIFT, parameters).rowcount


def page(  # noqa: PLR0913 - an argument per condition
    connection: Connection,
    after_id: int,
    limit: int,
    channel: Channel | None = None,
    reason: SuppressionReason | None = None,
    *,
    since: datetime | None = None,
    ended: bool = False,
) -> list[Suppression]:
    """Return the next suppressions by id above `after_id`, oldest first; `ended`: ended ones too."""
    parameters = {
        "after_id": after_id,
        "most": limit,
        "channel": channel,
        "reason": reason,
        "since": since,
        "ended": ended,
    }
    return [_suppression(row) for row in connection.execute(_PAGE, parameters)]


def standing(
    connection: Connection, addresses: Collection[tuple[Channel, str]]
) -> dict[tuple[Channel, str], Suppression]:
    """Return what there is of suppressions of these addresses, ended ones too.

    Nobody else changes them until the transaction ends.
    """
    parameters = {
        "channels": [channel for channel, _ in addresses],
        "keys": [key for _, key in addresses],
    }
    found = [_suppression(row) for row in connection.execute(_STANDING, parameters)]
    return {(each.channel, each.address_key): each for each in found}


def impose(connection: Connection, imposed: Sequence[Imposed]) -> None:
    """Suppress addresses; a weaker reason that holds already gives way, a stronger one stays."""
    parameters = {
        "channels": [each.channel for each in imposed],
        "keys": [each.address_key for each in imposed],
        "reasons": [each.reason for each in imposed],
        "sources": [each.source for each in imposed],
        "ends": [each.expires_at for each in imposed],
    }
    connection.execute(_IMPOSE, parameters)


def impose_list(  # noqa: PLR0913, PLR0917 - a suppression's columns
    connection: Connection,
    channel: Channel,
    address_keys: Collection[str],
    reason: SuppressionReason,
    source: str,
    expires_at: datetime | None = None,
) -> tuple[int, int]:
    """Suppress many addresses for one reason; return how many are new, and how many were before."""
    parameters = {
        "channel": channel,
        "keys": list(address_keys),
        "reason": reason,
        "source": source,
        "ends": expires_at,
    }
    row = connection.execute(_IMPOSE_LIST, parameters).one()
    return row.added, row.known


def _suppression(row: Row[Any]) -> Suppression:
    return Suppression(
        id=row.id,
        channel=Channel(row.channel),
        address_key=row.address_key,
        reason=SuppressionReason(row.reason),
        source=row.source,
        created_at=row.created_at,
        expires_at=row.expires_at,
        lifted_by=row.lifted_by,
        given_back_at=row.given_back_at,
        is_active=row.is_active,
    )
