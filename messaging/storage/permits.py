"""Permits in the ledger: who shares an account's limits, what each wishes for, what was dealt."""

import json
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, text

from messaging.storage.limits import HOLDING, OF_ACCOUNT, Limit, of_account
from messaging.storage.throttles import COLUMNS, Throttled
from schemas.pacing import Pacing

HOLDER_SECONDS: Final = 1.2  # a process that was not seen for longer gets no more permits

_LOOK = text(f"""
    WITH me AS (
        INSERT INTO permit_holders (owner, account, campaign_id, wishes, rate, seen_at)
        VALUES (:owner, :account, :campaign_id, CAST(:wishes AS jsonb), :rate, clock_timestamp())
        ON CONFLICT (owner) DO UPDATE
            SET wishes = excluded.wishes, rate = excluded.rate, seen_at = excluded.seen_at),
    counted AS (
        INSERT INTO sent_minutes AS m (key, minute, n)
        SELECT :account_key, date_trunc('minute', clock_timestamp()), CAST(:sent AS int) WHERE :sent > 0
        ON CONFLICT (key, minute) DO UPDATE SET n = m.n + excluded.n)
    SELECT extract(epoch FROM clock_timestamp())::float8 AS now,
        (SELECT spec -> 'pacing' FROM campaigns WHERE id = :campaign_id) AS pacing,
        (SELECT jsonb_agg(to_jsonb(l)) FROM ({HOLDING}) l) AS limits,
        (SELECT jsonb_agg(to_jsonb(t)) FROM (SELECT {COLUMNS} FROM throttles
            WHERE {OF_ACCOUNT} AND (key = :account_key OR slowed_to IS NOT NULL)) t) AS throttled,
        (SELECT jsonb_object_agg(frame, coalesce(permits -> :owner, '{{}}'::jsonb)) FROM permit_frames
            WHERE account = :account AND frame > :after) AS permits
""")  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Presence:
    """What a process that shares an account's limits says of itself."""

    owner: str
    """A campaign in one process."""
    account: str
    campaign_id: int
    wishes: dict[str, int | None]
    """Permits for half a second by limited provider group, `""` for all others; None for any number."""
    rate: float
    """Its answers per second."""
    sent: int
    """Its messages since it last looked, unless they were reserved of a daily cap."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the ledger says about an account and a campaign at one moment."""

    now: float
    pacing: Pacing
    limits: dict[str, Limit]
    throttled: dict[str, Throttled]
    permits: dict[int, dict[str, Any]]
    """Ours, by frame and provider group."""


def look(connection: Connection, presence: Presence, after: int) -> Seen:
    """Say that we are there and what we wish for; return what holds, and our permits after a frame."""
    parameters = {
        "owner": presence.owner,
        "account": presence.account,
        "campaign_id": presence.campaign_id,
        "wishes": json.dumps(presence.wishes),
        "rate": presence.rate,
        "sent": presence.sent,
        "after": after,
    }
    row = connection.execute(_LOOK, parameters | of_account(presence.account)).one()
    return Seen(
        now=row.now,
        pacing=pacing_of(row.pacing),
        limits={limit["key"]: Limit(limit["rate"], limit["per_day"]) for limit in row.limits or []},
        throttled={throttled["key"]: Throttled(**throttled) for throttled in row.throttled or []},
        permits={int(frame): permits for frame, permits in (row.permits or {}).items()},
    )


def leave(connection: Connection, owner: str) -> None:
    """Say that we are gone."""
    connection.execute(text("DELETE FROM permit_holders WHERE owner = :owner"), {"owner": owner})


def pacing_of(value: Any) -> Pacing:  # noqa: ANN401 - JSON
    """Return the pacing of a stored campaign; of one that is gone, no limit."""
    return Pacing.model_validate(value or {})


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that shares an account's limits."""

    owner: str
    campaign_id: int
    pacing: Pacing
    wishes: dict[str, int | None]


_HOLDERS = text("""
    SELECT h.owner, h.campaign_id, h.wishes, c.spec -> 'pacing' AS pacing
    FROM permit_holders h LEFT JOIN campaigns c ON c.id = h.campaign_id
    WHERE h.account = :account AND h.seen_at > clock_timestamp() - make_interval(secs => :seconds)
    ORDER BY h.owner
""")
_DEALT = text("SELECT frame, permits FROM permit_frames WHERE account = :account AND frame >= :first")


def dealt(connection: Connection, account: str, first: int) -> dict[int, dict[str, Any]]:
    """Return the permits dealt from a frame on, by frame and owner."""
    rows = connection.execute(_DEALT, {"account": account, "first": first})
    return {row.frame: row.permits for row in rows}


def holders(connection: Connection, account: str) -> list[Holder]:
    """Return who shares an account's limits now."""
    rows = connection.execute(_HOLDERS, {"account": account, "seconds": HOLDER_SECONDS})
    return [Holder(row.owner, row.campaign_id, pacing_of(row.pacing), row.wishes) for row in rows]


_SAVE = text("""
    INSERT INTO permit_frames (account, frame, permits) VALUES (:account, :frame, CAST(:permits AS jsonb))
""")
_NEXT = text("""
    UPDATE throttles t SET next_at = to_timestamp(n.at)
    FROM unnest(CAST(:keys AS text[]), CAST(:at AS float8[])) AS n (key, at) WHERE t.key = n.key
""")
_FORGET = text("""
    WITH gone AS (DELETE FROM permit_holders
        WHERE account = :account AND seen_at < clock_timestamp() - interval '1 minute')
    DELETE FROM permit_frames WHERE account = :account AND frame < :past
""")


def save(
    connection: Connection,
    account: str,
    frames: dict[int, dict[str, dict[str, Any]]],
    next_at: dict[str, float],
) -> None:
    """Keep dealt permits, and when each key's next one is due; forget those of the past."""
    connection.execute(
        _SAVE,
        [{"account": account, "frame": frame, "permits": json.dumps(frames[frame])} for frame in frames],
    )
    connection.execute(_NEXT, {"keys": list(next_at), "at": list(next_at.values())})
    connection.execute(_FORGET, {"account": account, "past": min(frames) - 4})


def observed_rates(connection: Connection, account: str) -> float:
    """Return the answers per second of all who share an account."""
    return float(
        connection.execute(
            text("""
                SELECT coalesce(sum(rate), 0) FROM permit_holders
                WHERE account = :account AND seen_at > clock_timestamp() - make_interval(secs => :seconds)
            """),
            {"account": account, "seconds": 3 * HOLDER_SECONDS},
        ).scalar_one()
    )
