"""Who sends which campaign now: a row for each process, kept fresh while it lives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

BEAT_SECONDS: Final = 5.0
DEAD_SECONDS: Final = 15.0
"""Without a beat, by the database's clock."""

DONE: Final = "done"
STOPPED: Final = "stopped"
FAILED: Final = "failed"
VANISHED: Final = "vanished"

_ALIVE = f"""
    r.ended_at IS NULL AND r.seen_at >= clock_timestamp() - make_interval(secs => {DEAD_SECONDS})
"""


@dataclass(frozen=True, slots=True)
class Lost:
    """A process that has not been heard of for too long, and holds no lease any more."""

    id: int
    campaign_id: int
    owner: str
    flow_run_id: UUID | None
    is_run_again: bool
    """Whether another process has begun with the same flow run since, as a person has run it again."""


@dataclass(frozen=True, slots=True)
class Idle:
    """A running campaign that nobody is at."""

    campaign_id: int
    seconds: float
    """Since somebody was at it, or it was started or resumed."""
    failures: int
    """Processes that failed or vanished with it in the last hour."""
    flow_run_id: UUID | None
    """That was at it last, unless it was started or resumed since."""


def begin(connection: Connection, campaign_id: int, owner: str, flow_run_id: UUID | None) -> int:
    """Say that a process, host:pid, is at a campaign from now on; return the row's id."""
    statement = text("""
        INSERT INTO campaign_runs (campaign_id, owner, flow_run_id, started_at, seen_at)
        VALUES (:campaign_id, :owner, :flow_run_id, clock_timestamp(), clock_timestamp()) RETURNING id
    """)
    parameters = {"campaign_id": campaign_id, "owner": owner, "flow_run_id": flow_run_id}
    return int(connection.execute(statement, parameters).scalar_one())


def beat(connection: Connection, run_id: int) -> None:
    """Say that it still is; one that had been taken for dead is alive again."""
    statement = text("""
        UPDATE campaign_runs SET seen_at = clock_timestamp(), ended_at = NULL, ended_as = NULL WHERE id = :id
    """)
    connection.execute(statement, {"id": run_id})


def end(connection: Connection, run_id: int, how: str) -> None:
    """Say that it no longer is, and how it came to an end."""
    statement = text("""
        UPDATE campaign_runs SET seen_at = clock_timestamp(), ended_at = clock_timestamp(), ended_as = :how
        WHERE id = :id
    """)
    connection.execute(statement, {"id": run_id, "how": how})


def is_attended(connection: Connection, campaign_id: int) -> bool:
    """Say whether somebody is at a campaign."""
    statement = text(f"SELECT EXISTS (SELECT FROM campaign_runs r WHERE r.campaign_id = :id AND {_ALIVE})")  # noqa: S608 - a constant
    return bool(connection.execute(statement, {"id": campaign_id}).scalar_one())


def attending(connection: Connection, campaign_id: int) -> int:
    """Return how many processes are at a campaign."""
    statement = text(f"SELECT count(*) FROM campaign_runs r WHERE r.campaign_id = :id AND {_ALIVE}")  # noqa: S608 - a constant
    return int(connection.execute(statement, {"id": campaign_id}).scalar_one())


# A process that beats late, for want of a processor or of the database, still renews its leases.
_LOST = f"""
    r.ended_at IS NULL AND NOT ({_ALIVE}) AND NOT EXISTS (
        SELECT FROM batches b WHERE b.campaign_id = r.campaign_id
            AND starts_with(b.lease_owner, r.owner || ':') AND b.lease_expires_at >= clock_timestamp())
"""


def lost(connection: Connection) -> list[Lost]:
    """Return the processes that are gone without a word."""
    statement = text(f"""
        SELECT r.id, r.campaign_id, r.owner, r.flow_run_id,
            EXISTS (SELECT FROM campaign_runs n WHERE n.flow_run_id = r.flow_run_id AND n.id > r.id)
        FROM campaign_runs r WHERE {_LOST}
    """)  # noqa: S608 - constants
    return [Lost(*row) for row in connection.execute(statement)]


def vanish(connection: Connection, run_id: int) -> bool:
    """Call a process vanished, and return whether it was still to be called so."""
    statement = text(f"""
        UPDATE campaign_runs r SET ended_at = clock_timestamp(), ended_as = '{VANISHED}'
        WHERE r.id = :id AND {_LOST}
    """)  # noqa: S608 - constants
    return bool(connection.execute(statement, {"id": run_id}).rowcount)


# What no process of this kind was ever at, nor was started or resumed, an older version left behind: nobody
# expects it to go on by itself.
_IDLE = text(f"""
    SELECT c.id, extract(epoch FROM clock_timestamp() - greatest(told.at, seen.at))::float AS seconds,
        seen.failures, CASE WHEN seen.at >= told.at THEN seen.flow_run_id END
    FROM campaigns c
    CROSS JOIN LATERAL (
        SELECT max(e.received_at) AS at FROM events e
        WHERE e.campaign_id = c.id AND e.kind IN ('started', 'resumed')
    ) told
    CROSS JOIN LATERAL (
        SELECT max(CASE r.ended_as WHEN '{VANISHED}' THEN r.seen_at ELSE coalesce(r.ended_at, r.seen_at) END)
                AS at,
            count(*) FILTER (WHERE r.ended_as IN ('{FAILED}', '{VANISHED}')
                AND r.ended_at > clock_timestamp() - interval '1 hour') AS failures,
            (array_agg(r.flow_run_id ORDER BY r.id DESC))[1] AS flow_run_id
        FROM campaign_runs r WHERE r.campaign_id = c.id
    ) seen
    WHERE c.state = 'running' AND c.planned_at IS NOT NULL
        AND greatest(told.at, seen.at) < clock_timestamp() - make_interval(secs => {DEAD_SECONDS})
        AND NOT EXISTS (SELECT FROM campaign_runs r WHERE r.campaign_id = c.id AND {_ALIVE})
        AND NOT EXISTS (
            SELECT FROM batches b WHERE b.campaign_id = c.id AND b.lease_expires_at >= clock_timestamp())
    ORDER BY c.id
""")  # noqa: S608 - constants


def idle(connection: Connection) -> list[Idle]:
    """Return the running campaigns that nobody has been at for a while."""
    return [Idle(*row) for row in connection.execute(_IDLE)]


_LEFT_BEHIND = text("""
    SELECT DISTINCT b.campaign_id FROM batches b JOIN campaigns c ON c.id = b.campaign_id
    WHERE b.lease_expires_at < clock_timestamp() AND c.state IN ('paused', 'cancelled', 'finished')
    ORDER BY b.campaign_id
""")
_RELEASE = text("""
    UPDATE batches SET lease_owner = NULL, lease_expires_at = NULL, lease_epoch = lease_epoch + 1
    WHERE campaign_id = :campaign_id AND lease_expires_at < clock_timestamp()
""")


def left_behind(connection: Connection) -> list[int]:
    """Return the campaigns that are not sent now and of which batches are held by the dead."""
    return list(connection.execute(_LEFT_BEHIND).scalars())


def release(connection: Connection, campaign_id: int) -> int:
    """Take a campaign's batches from whoever held them and is gone; return how many they were."""
    return connection.execute(_RELEASE, {"campaign_id": campaign_id}).rowcount


@dataclass(frozen=True, slots=True)
class Unread:
    """A batch with refusals that are no evidence yet."""

    campaign_id: int
    batch_id: int
    leg: int


# Only of campaigns that somebody left before their end: the others have read their own.
_UNREAD = text(f"""
    SELECT c.id, b.id, b.leg FROM campaigns c JOIN batches b ON b.campaign_id = c.id
    WHERE EXISTS (
            SELECT FROM campaign_runs r WHERE r.campaign_id = c.id AND r.ended_as <> '{DONE}'
                AND r.ended_at > clock_timestamp() - interval '1 day')
        AND NOT EXISTS (SELECT FROM campaign_runs r WHERE r.campaign_id = c.id AND {_ALIVE})
        AND coalesce(b.lease_expires_at < clock_timestamp(), true)
        AND b.id IN (
            SELECT a.batch_id FROM attempts a
            WHERE a.campaign_id = c.id AND a.unreachable AND a.state = 'rejected' AND a.code IS NOT NULL
                AND NOT EXISTS (
                    SELECT FROM events e
                    WHERE e.attempt_id = a.id AND e.kind = 'bounced' AND e.source = 'outflow'))
    ORDER BY c.id, b.id
""")  # noqa: S608 - constants


def unread(connection: Connection) -> Sequence[Unread]:
    """Return the batches whose sender was gone before it had taken its refusals for bounces."""
    return [Unread(*row) for row in connection.execute(_UNREAD)]
