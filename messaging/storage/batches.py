"""Batches in the ledger: their leases, and what is left of them.

A lease has an owner, an epoch and an expiry by the database's clock. Whoever takes a lease over raises
the epoch, so that every later statement of the former owner changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from time import monotonic
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Row, TextClause, select, text

from messaging.storage.prepared import by_index
from messaging.storage.tables import batches
from schemas.accounts import channel_of
from schemas.states import Channel

LEASE_SECONDS = 30
HEARTBEAT_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to send one batch, until someone else takes the next epoch."""

    campaign_id: int
    channel: Channel
    """Of the account that the batch goes over."""
    batch_id: int
    owner: str
    epoch: int
    running: bool = True
    """Whether the campaign was running when the lease was taken."""
    number: int = 0
    """Of the batch, within its campaign."""
    time_zone: str | None = None
    """That of the batch's recipients, when they are written to at their own time."""
    taken_at: datetime | None = None
    """When the lease was taken, by the ledger's clock."""
    heard_at: float = field(default_factory=monotonic)
    """The same by our monotonic clock, which is when we were told."""


@dataclass(frozen=True, slots=True)
class Opening:
    """When a batch may be sent that cannot be now, and what it waits for."""

    at: datetime
    zone: str | None
    """The time zone of its recipients; None: the campaign's."""
    is_quiet: bool
    """Whether it waits for the end of quiet hours, else for the campaign's time in its zone."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is left to do in the chosen batches of a campaign."""

    epochs: dict[int, int]
    """Batches of this account that can be claimed and hold attempts whose time has come: by number, the epoch
    of the lease."""
    unfinished: int
    """Batches that have something left, of this account and those before it."""
    progress: tuple[int, int]
    """Attempts left, and deferrals counted on them: unchanged after a pass, the pass got no answer.

    To count them is to read them all, so only when something is due or the campaign is not running."""
    wait: float | None
    """Seconds until a batch opens, a deferred attempt is due or another process's lease expires.

    None: nothing is left.

    Infinite: nothing for now, but somebody whom an earlier account does not reach may come."""

    opening: Opening | None = None
    """What is waited for, when it is a time zone or the end of quiet hours."""

    @property
    def due(self) -> list[int]:
        """The numbers of batches that can be claimed now."""
        return list(self.epochs)


def numbers(connection: Connection, campaign_id: int) -> list[int]:
    """Return the numbers of a campaign's batches."""
    statement = (
        select(batches.c.number).where(batches.c.campaign_id == campaign_id).order_by(batches.c.number)
    )
    return list(connection.execute(statement).scalars())


def legs(connection: Connection, campaign_id: int) -> list[int]:
    """Return the places of the accounts that a campaign has batches for."""
    statement = select(batches.c.leg).where(batches.c.campaign_id == campaign_id).distinct()
    return list(connection.execute(statement.order_by(batches.c.leg)).scalars())


def claim(
    connection: Connection, campaign_id: int, number: int, owner: str, leg: int | None = None
) -> Lease | None:
    """Take a batch whose lease is free or expired; None when another process holds it or nothing is due.

    One of another account than that of `leg` is not taken (None: of any).

    What the former owner left `dispatched` becomes `unknown`: its answer will never be heard. Whoever has
    been suppressed or has unsubscribed since planning becomes `suppressed`: the server never hears of them.
    """
    parameters = {"campaign_id": campaign_id, "number": number, "leg": leg, "owner": owner}
    return _taken(connection, _TAKE_ONE, parameters)


def claim_first(
    connection: Connection, campaign_id: int, epochs: Mapping[int, int], owner: str, leg: int
) -> Lease | None:
    """Take the first of an account's batches that is free, as `claim` does; None when none is.

    Batches come by their number, with the epoch of their lease as `work` saw it: one that somebody has
    taken since, or is taking now, is passed over without a look at what is left of it.
    """
    parameters = {
        "campaign_id": campaign_id,
        "numbers": list(epochs),
        "epochs": list(epochs.values()),
        "leg": leg,
        "owner": owner,
    }
    return _taken(connection, _TAKE_FIRST, parameters)


def _taken(connection: Connection, statement: TextClause, parameters: dict[str, Any]) -> Lease | None:
    with by_index(connection):
        row = connection.execute(statement, {**parameters, "seconds": LEASE_SECONDS}).one_or_none()
    if row is None:
        return None
    channel = channel_of(row.account)
    campaign_id = parameters["campaign_id"]
    connection.execute(
        text("""
            UPDATE attempts SET state = 'unknown', answered_at = clock_timestamp(),
                reason = 'no answer: our process stopped first'
            WHERE batch_id = :batch_id AND state = 'dispatched'
        """),
        {"batch_id": row.id},
    )
    connection.execute(_WITHDRAW, {"campaign_id": campaign_id, "batch_id": row.id, "channel": channel})
    return Lease(
        campaign_id=campaign_id,
        channel=channel,
        batch_id=row.id,
        owner=parameters["owner"],
        epoch=row.lease_epoch,
        running=row.running,
        number=row.number,
        time_zone=row.time_zone,
        taken_at=row.taken_at,
    )


_FREE = """
    b.leg = coalesce(:leg, b.leg) AND (b.lease_owner IS NULL OR b.lease_expires_at < clock_timestamp())
    AND (b.not_before IS NULL OR b.not_before <= clock_timestamp())
    AND EXISTS (
        SELECT FROM attempts a
        WHERE a.batch_id = b.id AND (a.state = 'dispatched' OR a.state = 'queued' AND (
            a.not_before IS NULL OR a.not_before <= clock_timestamp())))
"""
_TAKEN = """
    UPDATE batches b SET lease_owner = :owner, lease_epoch = lease_epoch + 1,
        lease_expires_at = clock_timestamp() + make_interval(secs => :seconds)
"""
_RETURNING = """
    RETURNING b.id, b.number, b.lease_epoch, b.time_zone, clock_timestamp() AS taken_at,
        (SELECT CASE WHEN b.leg = 0 THEN spec ->> 'account' ELSE spec -> 'fallback' ->> (b.leg - 1) END
            FROM campaigns WHERE id = :campaign_id) AS account,
        (SELECT state = 'running' FROM campaigns WHERE id = :campaign_id) AS running
"""
_TAKE_ONE = text(f"""
    {_TAKEN} WHERE b.campaign_id = :campaign_id AND b.number = :number AND {_FREE} {_RETURNING}
""")
# One that was taken and finished since is told by its epoch: to see that nothing is left would be to read it.
_TAKE_FIRST = text(f"""
    {_TAKEN} WHERE b.id = (
        SELECT b.id
        FROM unnest(CAST(:numbers AS int[]), CAST(:epochs AS int[])) AS seen (number, epoch)
        JOIN batches b ON b.campaign_id = :campaign_id AND b.number = seen.number
            AND b.lease_epoch = seen.epoch
        WHERE {_FREE} LIMIT 1 FOR UPDATE OF b SKIP LOCKED)
    {_RETURNING}
""")  # noqa: S608 - constants

# What is looked up for each of a batch's attempts is found by index. A join would be planned as a scan of all
# contacts for each batch (measured at 400,000: 70 ms); LIMIT 1 keeps it from becoming one.
_WITHDRAW = text("""
    UPDATE attempts a SET state = 'suppressed', answered_at = clock_timestamp(), reason = w.reason
    FROM (
        SELECT a.id, coalesce('suppressed: ' || s.reason, CASE WHEN o.channel IS NOT NULL
            THEN 'suppressed: unsubscribed from this audience' END, c.status) AS reason
        FROM attempts a
        LEFT JOIN LATERAL (
            SELECT id, reason FROM suppressions
            WHERE channel = :channel AND address_key = a.address_key
                AND (expires_at IS NULL OR expires_at > clock_timestamp())
            LIMIT 1
        ) s ON true
        LEFT JOIN LATERAL (
            SELECT channel FROM audience_opt_outs
            WHERE channel = :channel AND address_key = a.address_key
                AND audience_id = (SELECT audience_id FROM campaigns WHERE id = :campaign_id)
            LIMIT 1
        ) o ON true
        LEFT JOIN LATERAL (
            SELECT id, status FROM contacts WHERE id = a.contact_id AND status <> 'subscribed' LIMIT 1
        ) c ON true
        WHERE a.batch_id = :batch_id AND a.state = 'queued'
            AND (s.id IS NOT NULL OR o.channel IS NOT NULL OR c.id IS NOT NULL)
    ) w
    WHERE a.batch_id = :batch_id AND a.id = w.id AND a.state = 'queued'
""")

# Neither changes a row when another process has taken the batch.  Parameters: the lease's `fence`, and for
# `RENEW` the seconds.
RENEW = """
    UPDATE batches SET lease_expires_at = clock_timestamp() + make_interval(secs => $4)
    WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3
"""
RELEASE = """
    UPDATE batches SET lease_owner = NULL, lease_expires_at = NULL
    WHERE id = $1 AND lease_owner = $2 AND lease_epoch = $3
"""


def fence(lease: Lease) -> list[bytes | None]:
    """Return what every change of a batch or its attempts is fenced by, as parameters."""
    return [str(lease.batch_id).encode(), lease.owner.encode(), str(lease.epoch).encode()]


# Each batch is asked for one attempt that can be sent, not for all of them; of a batch that another process
# holds, or that is not open yet, any that is left will do.  Only an open batch with nothing but future work
# is read through.
_LEFT = text("""
    SELECT b.number, b.leg, b.lease_epoch, b.time_zone, b.held, b.lease_left, b.opens_at, b.opens_in,
        b.is_quiet, found.is_due, later.due_in
    FROM (
        SELECT id, number, leg, lease_epoch, time_zone,
            greatest(not_before, q.until) AS opens_at,
            coalesce(extract(epoch FROM greatest(not_before, q.until) - clock_timestamp()), 0)::float
                AS opens_in,
            coalesce(q.until >= not_before, q.until IS NOT NULL) AS is_quiet,
            coalesce(lease_owner IS NOT NULL AND lease_expires_at >= clock_timestamp(), false) AS held,
            coalesce(extract(epoch FROM lease_expires_at - clock_timestamp()), 0)::float AS lease_left
        FROM batches
        LEFT JOIN unnest(CAST(:quiet_zones AS text[]), CAST(:quiet_until AS timestamptz[])) AS q (zone, until)
            ON q.zone = coalesce(time_zone, '')
        WHERE campaign_id = :campaign_id AND leg <= coalesce(:leg, leg)
            AND (CAST(:numbers AS int[]) IS NULL OR number = ANY (CAST(:numbers AS int[])))
    ) b
    LEFT JOIN LATERAL (
        SELECT true AS is_due FROM attempts a
        WHERE a.batch_id = b.id AND (a.state = 'dispatched' OR a.state = 'queued' AND (
            b.held OR b.opens_in > 0 OR a.not_before IS NULL OR a.not_before <= clock_timestamp()))
        LIMIT 1
    ) found ON true
    LEFT JOIN LATERAL (
        SELECT extract(epoch FROM min(a.not_before) - clock_timestamp())::float AS due_in FROM attempts a
        WHERE found.is_due IS NULL AND a.batch_id = b.id AND a.state = 'queued'
    ) later ON true
    WHERE found.is_due OR later.due_in IS NOT NULL
    ORDER BY b.number
""")

_PROGRESS = text("""
    SELECT count(*), coalesce(sum(a.tries + a.delays), 0) FROM attempts a
    WHERE a.campaign_id = :campaign_id AND a.state IN ('queued', 'dispatched')
        AND (:anything_due OR (SELECT state <> 'running' FROM campaigns WHERE id = :campaign_id))
        AND (CAST(:numbers AS int[]) IS NULL OR a.batch_id IN (
            SELECT id FROM batches
            WHERE campaign_id = :campaign_id AND number = ANY (CAST(:numbers AS int[]))))
""")


def work(
    connection: Connection,
    campaign_id: int,
    chosen: list[int] | None,
    leg: int | None = None,
    quiet: Mapping[str | None, datetime] = MappingProxyType({}),
) -> Work:
    """Say which batches of an account can be sent now, and how long to wait when none can.

    Something is left for it as long as something is left for those before it. None: for all accounts as one.
    `quiet` are the time zones that nothing is sent to now, and until when; None among them: the campaign's.
    """
    parameters = {"campaign_id": campaign_id, "numbers": chosen}
    with by_index(connection):
        rows = connection.execute(_LEFT, {**parameters, **_quiet(quiet), "leg": leg}).all()
    if not rows:
        return Work(epochs={}, unfinished=0, progress=(0, 0), wait=None)
    ours = [row for row in rows if leg is None or row.leg == leg]
    epochs = {
        row.number: row.lease_epoch for row in ours if row.is_due and not row.held and row.opens_in <= 0
    }
    left, tries = connection.execute(_PROGRESS, {**parameters, "anything_due": bool(epochs)}).one()
    first = min(ours, key=_wait_for, default=None)
    return Work(
        epochs=epochs,
        unfinished=len(rows),
        progress=(left, tries),
        wait=inf if first is None else _wait_for(first),
        opening=None if epochs or first is None or first.opens_in <= 0 else _opening(first),
    )


def _wait_for(row: Row[Any]) -> float:
    """Return the seconds after which another look at a batch may find it due."""
    if row.opens_in > 0:
        return float(row.opens_in)
    return max(0.0, row.lease_left if row.held else row.due_in or 0.0)


def _opening(row: Row[Any]) -> Opening:
    return Opening(row.opens_at.astimezone(UTC), row.time_zone, row.is_quiet)


def _quiet(quiet: Mapping[str | None, datetime]) -> dict[str, Any]:
    return {"quiet_zones": [zone or "" for zone in quiet], "quiet_until": list(quiet.values())}


def time_zones(connection: Connection, campaign_id: int) -> list[str | None]:
    """Return the time zones that a campaign has batches of; None: the campaign's own."""
    statement = select(batches.c.time_zone).where(batches.c.campaign_id == campaign_id).distinct()
    return list(connection.execute(statement).scalars())


# One attempt of each batch is looked for, and mostly found at once.
_CLOSED = text("""
    SELECT b.time_zone, min(b.opens_at) AS opens_at, bool_or(b.is_quiet) AS is_quiet
    FROM (
        SELECT id, time_zone, greatest(not_before, q.until) AS opens_at,
            coalesce(q.until >= not_before, q.until IS NOT NULL) AS is_quiet
        FROM batches
        LEFT JOIN unnest(CAST(:quiet_zones AS text[]), CAST(:quiet_until AS timestamptz[])) AS q (zone, until)
            ON q.zone = coalesce(time_zone, '')
        WHERE campaign_id = :campaign_id
    ) b
    WHERE b.opens_at > clock_timestamp()
        AND EXISTS (SELECT FROM attempts a WHERE a.batch_id = b.id AND a.state = 'queued')
    GROUP BY b.time_zone ORDER BY 2, 1
""")


def openings(connection: Connection, campaign_id: int, quiet: Mapping[str | None, datetime]) -> list[Opening]:
    """Return the time zones that wait for the campaign's time or the end of quiet hours, the first first."""
    with by_index(connection):
        rows = connection.execute(_CLOSED, {"campaign_id": campaign_id, **_quiet(quiet)}).all()
    return [_opening(row) for row in rows]
