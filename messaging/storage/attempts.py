"""Attempts in the ledger: every change of state, set-based and fenced by the batch's lease."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from messaging.errors import LeaseLost
from messaging.storage.batches import Lease
from schemas.states import AttemptState

LONGEST_REPLY = 500  # characters of a provider's words worth keeping


@dataclass(frozen=True, slots=True)
class Attempt:
    """One recipient whose turn has come, with what the template needs."""

    id: int
    token: UUID
    address: str
    tries: int
    name: str | None
    phone: str | None
    attributes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Mark:
    """An attempt about to be handed over."""

    attempt_id: int
    message_id: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an attempt, to be recorded."""

    attempt_id: int
    state: AttemptState
    code: int | None = None
    status: str | None = None
    reply: str | None = None
    reason: str | None = None
    provider_message_id: str | None = None
    wait: float | None = None
    """For `queued`: seconds until its next turn."""
    counts: bool = False
    """For `queued`: whether this was a definite "not now", counted in `tries`."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of the ledger allowed."""

    marked: set[int]
    """Ids of the attempts that are `dispatched` now."""
    running: bool
    """Whether the campaign is running: if not, nothing was marked."""


_DUE = text("""
    SELECT a.id, a.token, a.address, a.tries, c.name, c.phone, coalesce(c.attributes, '{}') AS attributes
    FROM attempts a LEFT JOIN contacts c ON c.id = a.contact_id
    WHERE a.batch_id = :batch_id AND a.id > :after AND a.state = 'queued'
        AND (a.not_before IS NULL OR a.not_before <= clock_timestamp())
    ORDER BY a.id LIMIT :limit
""")


def due(connection: Connection, batch_id: int, after: int, limit: int) -> list[Attempt]:
    """Return the next queued attempts of a batch whose time has come, in order of id above `after`."""
    rows = connection.execute(_DUE, {"batch_id": batch_id, "after": after, "limit": limit})
    return [Attempt(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's documented way to a mapping


# One statement, one round trip, one commit.  `FOR SHARE` holds off whoever would take the lease over, so
# that an attempt is never marked by two owners.  The ids are joined from arrays: a planner that is given
# them as constants has been seen to scan the table.
_ROUND = text("""
    WITH held AS (
        SELECT b.id, b.campaign_id FROM batches b
        WHERE b.id = :batch_id AND b.lease_owner = :owner AND b.lease_epoch = :epoch FOR SHARE
    ),
    answered AS (
        UPDATE attempts a SET state = r.state, code = r.code, status = r.status, reply = r.reply,
            reason = r.reason, provider_message_id = r.provider_message_id,
            tries = a.tries + r.counts::int,
            not_before = clock_timestamp() + make_interval(secs => r.wait),
            answered_at = CASE WHEN r.state <> 'queued' THEN clock_timestamp() END
        FROM held, unnest(CAST(:ids AS bigint[]), CAST(:states AS text[]), CAST(:codes AS smallint[]),
            CAST(:statuses AS text[]), CAST(:replies AS text[]), CAST(:reasons AS text[]),
            CAST(:provider_message_ids AS text[]), CAST(:waits AS float[]), CAST(:counts AS bool[])
        ) AS r (id, state, code, status, reply, reason, provider_message_id, wait, counts)
        WHERE a.id = r.id AND a.batch_id = held.id AND (
            a.state IN ('queued', 'dispatched') OR (a.state = 'rejected' AND r.state = 'queued'))
    ),
    marked AS (
        UPDATE attempts a SET state = 'dispatched', dispatched_at = clock_timestamp(),
            message_id = m.message_id, answered_at = NULL
        FROM held, unnest(CAST(:mark_ids AS bigint[]), CAST(:message_ids AS text[])) AS m (id, message_id)
        WHERE a.id = m.id AND a.batch_id = held.id
            AND (a.state = 'queued' OR (a.state = 'dispatched' AND a.id = ANY (:again)))
            AND EXISTS (SELECT FROM campaigns c WHERE c.id = held.campaign_id AND c.state = 'running')
            AND NOT EXISTS (
                SELECT FROM suppressions s WHERE s.channel = :channel AND s.address_key = a.address_key
                    AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp()))
            AND NOT EXISTS (
                SELECT FROM contacts c WHERE c.id = a.contact_id AND c.status <> 'subscribed')
        RETURNING a.id
    )
    SELECT EXISTS (SELECT FROM held) AS held, ARRAY(SELECT id FROM marked) AS marked,
        (SELECT c.state = 'running' FROM campaigns c, held WHERE c.id = held.campaign_id) AS running
""")

_SUPPRESS = text("""
    UPDATE attempts a SET state = 'suppressed', answered_at = clock_timestamp(), reason = w.reason
    FROM (
        SELECT a.id, coalesce('suppressed: ' || s.reason, c.status) AS reason
        FROM attempts a
        LEFT JOIN suppressions s ON s.channel = :channel AND s.address_key = a.address_key
            AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp())
        LEFT JOIN contacts c ON c.id = a.contact_id AND c.status <> 'subscribed'
        WHERE a.id = ANY (:ids) AND a.batch_id = :batch_id
    ) w
    WHERE a.id = w.id AND a.state = 'queued' AND w.reason IS NOT NULL
""")


def commit_round(
    connection: Connection,
    lease: Lease,
    answers: Sequence[Answer],
    marks: Sequence[Mark],
    again: Sequence[int] = (),
) -> Round:
    """Record answers and mark attempts `dispatched`.

    A mark is refused when the address has been suppressed, or the contact has unsubscribed, since planning
    (the attempt becomes `suppressed`) or when the campaign is not running (it stays `queued`).

    Raises:
        LeaseLost: Another process holds the batch; nothing was changed.
    """
    row = connection.execute(
        _ROUND,
        {
            "batch_id": lease.batch_id,
            "owner": lease.owner,
            "epoch": lease.epoch,
            "channel": lease.channel,
            "ids": [answer.attempt_id for answer in answers],
            "states": [answer.state for answer in answers],
            "codes": [answer.code for answer in answers],
            "statuses": [answer.status for answer in answers],
            "replies": [answer.reply[:LONGEST_REPLY] if answer.reply else None for answer in answers],
            "reasons": [answer.reason for answer in answers],
            "provider_message_ids": [answer.provider_message_id for answer in answers],
            "waits": [answer.wait for answer in answers],
            "counts": [answer.counts for answer in answers],
            "again": list(again),
            "mark_ids": [mark.attempt_id for mark in marks],
            "message_ids": [mark.message_id for mark in marks],
        },
    ).one()
    if not row.held:
        raise LeaseLost(f"batch {lease.batch_id} was taken over by another process")
    marked = set(row.marked)
    refused = [mark.attempt_id for mark in marks if mark.attempt_id not in marked]
    if refused:
        connection.execute(_SUPPRESS, {"ids": refused, "batch_id": lease.batch_id, "channel": lease.channel})
    return Round(marked=marked, running=row.running)


def requeue(
    connection: Connection,
    campaign_id: int,
    states: Sequence[AttemptState],
    numbers: list[int] | None,
    actor: str,
) -> int:
    """Put attempts in these final states back to `queued` and note who decided so; return how many."""
    statement = text("""
        WITH chosen AS (
            SELECT a.id, a.state FROM attempts a JOIN batches b ON b.id = a.batch_id
            WHERE a.campaign_id = :campaign_id AND (a.state = ANY (:states)
                -- What a process left on its way when it died is unknown, though nobody has noted it yet.
                OR (a.state = 'dispatched' AND 'unknown' = ANY (:states)
                    AND coalesce(b.lease_expires_at < clock_timestamp(), true)))
                AND (CAST(:numbers AS int[]) IS NULL OR b.number = ANY (CAST(:numbers AS int[])))
            FOR UPDATE OF a
        ),
        noted AS (
            INSERT INTO events (attempt_id, kind, source, source_id, details)
            SELECT id, 'requeued', :actor, gen_random_uuid()::text, jsonb_build_object('from', state)
            FROM chosen
        )
        UPDATE attempts a SET state = 'queued', tries = 0, not_before = NULL, answered_at = NULL,
            code = NULL, status = NULL, reply = NULL, reason = NULL
        FROM chosen WHERE a.id = chosen.id
    """)
    parameters = {"campaign_id": campaign_id, "states": list(states), "numbers": numbers, "actor": actor}
    return connection.execute(statement, parameters).rowcount
