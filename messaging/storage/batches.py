"""Batches in the ledger: their leases, and what is left of them.

A lease has an owner, an epoch and an expiry by the database's clock. Whoever takes a lease over raises
the epoch, so that every later statement of the former owner changes nothing.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, select, text

from messaging.storage.tables import batches

LEASE_SECONDS = 30
HEARTBEAT_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to send one batch, until someone else takes the next epoch."""

    campaign_id: int
    channel: str
    batch_id: int
    owner: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Work:
    """What is left to do in the chosen batches of a campaign."""

    due: list[int]
    """Numbers of batches that can be claimed and hold attempts whose time has come."""
    progress: tuple[int, int]
    """Attempts left, and deferrals counted on them: unchanged after a pass, the pass got no answer."""
    wait: float | None
    """Seconds until a deferred attempt is due or another process's lease expires; None: nothing is left."""


def numbers(connection: Connection, campaign_id: int) -> list[int]:
    """Return the numbers of a campaign's batches."""
    statement = (
        select(batches.c.number).where(batches.c.campaign_id == campaign_id).order_by(batches.c.number)
    )
    return list(connection.execute(statement).scalars())


def claim(connection: Connection, campaign_id: int, number: int, owner: str) -> Lease | None:
    """Take a batch whose lease is free or expired; None when another process holds it.

    What the former owner left `dispatched` becomes `unknown`: its answer will never be heard.
    """
    row = connection.execute(
        text("""
            UPDATE batches SET lease_owner = :owner, lease_epoch = lease_epoch + 1,
                lease_expires_at = clock_timestamp() + make_interval(secs => :seconds)
            WHERE campaign_id = :campaign_id AND number = :number
                AND (lease_owner IS NULL OR lease_expires_at < clock_timestamp())
            RETURNING id, lease_epoch,
                (SELECT spec ->> 'channel' FROM campaigns WHERE id = :campaign_id) AS channel
        """),
        {"campaign_id": campaign_id, "number": number, "owner": owner, "seconds": LEASE_SECONDS},
    ).one_or_none()
    if row is None:
        return None
    connection.execute(
        text("""
            UPDATE attempts SET state = 'unknown', answered_at = clock_timestamp(),
                reason = 'no answer: our process stopped first'
            WHERE batch_id = :batch_id AND state = 'dispatched'
        """),
        {"batch_id": row.id},
    )
    return Lease(
        campaign_id=campaign_id, channel=row.channel, batch_id=row.id, owner=owner, epoch=row.lease_epoch
    )


def renew(connection: Connection, lease: Lease) -> bool:
    """Put the expiry off; False when another process has taken the batch."""
    return _change(
        connection, lease, "lease_expires_at = clock_timestamp() + make_interval(secs => :seconds)"
    )


def release(connection: Connection, lease: Lease) -> bool:
    """Give the batch back; False when another process has taken it."""
    return _change(connection, lease, "lease_owner = NULL, lease_expires_at = NULL")


def _change(connection: Connection, lease: Lease, change: str) -> bool:
    statement = text(
        f"UPDATE batches SET {change} WHERE id = :batch_id AND lease_owner = :owner AND lease_epoch = :epoch"  # noqa: S608 - one of the two constants above
    )
    parameters = {
        "batch_id": lease.batch_id,
        "owner": lease.owner,
        "epoch": lease.epoch,
        "seconds": LEASE_SECONDS,
    }
    return connection.execute(statement, parameters).rowcount == 1


_LEFT = text("""
    SELECT b.number,
        coalesce(b.lease_owner IS NOT NULL AND b.lease_expires_at >= clock_timestamp(), false) AS held,
        coalesce(extract(epoch FROM b.lease_expires_at - clock_timestamp()), 0)::float AS lease_left,
        bool_or(a.state = 'dispatched' OR a.not_before IS NULL OR a.not_before <= clock_timestamp())
            AS is_due,
        coalesce(extract(epoch FROM min(a.not_before) - clock_timestamp()), 0)::float AS due_in,
        count(*) AS n, sum(a.tries) AS tries
    FROM batches b JOIN attempts a ON a.batch_id = b.id AND a.state IN ('queued', 'dispatched')
    WHERE b.campaign_id = :campaign_id
        AND (CAST(:numbers AS int[]) IS NULL OR b.number = ANY (CAST(:numbers AS int[])))
    GROUP BY b.id ORDER BY b.number
""")


def work(connection: Connection, campaign_id: int, chosen: list[int] | None) -> Work:
    """Say which batches can be sent now, and how long to wait when none can."""
    rows = connection.execute(_LEFT, {"campaign_id": campaign_id, "numbers": chosen}).all()
    if not rows:
        return Work(due=[], progress=(0, 0), wait=None)
    due = [row.number for row in rows if row.is_due and not row.held]
    waits = [row.lease_left if row.held else row.due_in for row in rows]
    progress = (sum(row.n for row in rows), sum(row.tries for row in rows))
    return Work(due=due, progress=progress, wait=max(0.0, min(waits)))
