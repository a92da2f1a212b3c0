"""Batches in the ledger: their leases, and what is left of them.

A lease has an owner, an epoch and an expiry by the database's clock. Whoever takes a lease over raises
the epoch, so that every later statement of the former owner changes nothing.
"""

from dataclasses import dataclass
from math import inf

from sqlalchemy import Connection, select, text

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


@dataclass(frozen=True, slots=True)
class Work:
    """What is left to do in the chosen batches of a campaign."""

    due: list[int]
    """Numbers of batches of this account that can be claimed and hold attempts whose time has come."""
    progress: tuple[int, int]
    """Attempts left, and deferrals counted on them: unchanged after a pass, the pass got no answer.

    To count them is to read them all, so only when something is due or the campaign is not running."""
    wait: float | None
    """Seconds until a deferred attempt is due or another process's lease expires; None: nothing is left.

    Infinite: nothing for now, but somebody whom an earlier account does not reach may come."""


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
    statement = text("""
            UPDATE batches SET lease_owner = :owner, lease_epoch = lease_epoch + 1,
                lease_expires_at = clock_timestamp() + make_interval(secs => :seconds)
            WHERE campaign_id = :campaign_id AND number = :number AND leg = coalesce(:leg, leg)
                AND (lease_owner IS NULL OR lease_expires_at < clock_timestamp())
                AND EXISTS (
                    SELECT FROM attempts a
                    WHERE a.batch_id = batches.id AND (a.state = 'dispatched' OR a.state = 'queued' AND (
                        a.not_before IS NULL OR a.not_before <= clock_timestamp())))
            RETURNING id, lease_epoch,
                (SELECT CASE WHEN batches.leg = 0 THEN spec ->> 'account'
                    ELSE spec -> 'fallback' ->> (batches.leg - 1) END
                    FROM campaigns WHERE id = :campaign_id) AS account,
                (SELECT state = 'running' FROM campaigns WHERE id = :campaign_id) AS running
        """)
    parameters = {
        "campaign_id": campaign_id,
        "number": number,
        "leg": leg,
        "owner": owner,
        "seconds": LEASE_SECONDS,
    }
    with by_index(connection):
        row = connection.execute(statement, parameters).one_or_none()
    if row is None:
        return None
    channel = channel_of(row.account)
    connection.execute(
        text("""
            UPDATE attempts SET state = 'unknown', answered_at = clock_timestamp(),
                reason = 'no answer: our process stopped first'
            WHERE batch_id = :batch_id AND state = 'dispatched'
        """),
        {"batch_id": row.id},
    )
    connection.execute(_WITHDRAW, {"batch_id": row.id, "channel": channel})
    return Lease(
        campaign_id=campaign_id,
        channel=channel,
        batch_id=row.id,
        owner=owner,
        epoch=row.lease_epoch,
        running=row.running,
    )


_WITHDRAW = text("""
    UPDATE attempts a SET state = 'suppressed', answered_at = clock_timestamp(), reason = w.reason
    FROM (
        SELECT a.id, coalesce('suppressed: ' || s.reason, c.status) AS reason
        FROM attempts a
        LEFT JOIN suppressions s ON s.channel = :channel AND s.address_key = a.address_key
            AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp())
        LEFT JOIN contacts c ON c.id = a.contact_id AND c.status <> 'subscribed'
        WHERE a.batch_id = :batch_id AND a.state = 'queued' AND (s.id IS NOT NULL OR c.id IS NOT NULL)
    ) w
    WHERE a.id = w.id AND a.state = 'queued'
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
# holds, any that is left will do.  Only a batch with nothing but future work is read through.
_LEFT = text("""
    SELECT b.number, b.leg, b.held, b.lease_left, found.is_due, later.due_in
    FROM (
        SELECT id, number, leg,
            coalesce(lease_owner IS NOT NULL AND lease_expires_at >= clock_timestamp(), false) AS held,
            coalesce(extract(epoch FROM lease_expires_at - clock_timestamp()), 0)::float AS lease_left
        FROM batches
        WHERE campaign_id = :campaign_id AND leg <= coalesce(:leg, leg)
            AND (CAST(:numbers AS int[]) IS NULL OR number = ANY (CAST(:numbers AS int[])))
    ) b
    LEFT JOIN LATERAL (
        SELECT true AS is_due FROM attempts a
        WHERE a.batch_id = b.id AND (a.state = 'dispatched' OR a.state = 'queued' AND (
            b.held OR a.not_before IS NULL OR a.not_before <= clock_timestamp()))
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


def work(connection: Connection, campaign_id: int, chosen: list[int] | None, leg: int | None = None) -> Work:
    """Say which batches of an account can be sent now, and how long to wait when none can.

    Something is left for it as long as something is left for those before it. None: for all accounts as one.
    """
    parameters = {"campaign_id": campaign_id, "numbers": chosen}
    with by_index(connection):
        rows = connection.execute(_LEFT, {**parameters, "leg": leg}).all()
    if not rows:
        return Work(due=[], progress=(0, 0), wait=None)
    ours = [row for row in rows if leg is None or row.leg == leg]
    due = [row.number for row in ours if row.is_due and not row.held]
    waits = [row.lease_left if row.held else row.due_in or 0.0 for row in ours]
    left, tries = connection.execute(_PROGRESS, {**parameters, "anything_due": bool(due)}).one()
    return Work(due=due, progress=(left, tries), wait=max(0.0, min(waits, default=inf)))
