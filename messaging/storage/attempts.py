"""Attempts in the ledger: every change of state, set-based and fenced by the batch's lease."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString, cast
from uuid import UUID

from sqlalchemy import Connection, text

from messaging.storage import alerts, decisions
from messaging.storage.batches import Lease, fence
from messaging.storage.decisions import OURSELVES
from messaging.storage.prepared import array, by_index, text_array
from schemas.campaign import RetryRequest
from schemas.states import AttemptState, EventKind

if TYPE_CHECKING:
    import psycopg
    from psycopg.pq.abc import PGresult

LONGEST_REPLY = 500  # characters of a provider's words worth keeping


# None of the three is frozen, though nobody changes one: there is one of each for every message, and freezing
# costs a quarter of a microsecond a field.
@dataclass(slots=True)
class Attempt:
    """One recipient whose turn has come, with what the template needs."""

    id: int
    token: UUID
    address: str
    tries: int
    delays: int
    name: str | None
    phone: str | None
    attributes: dict[str, str]
    email: str | None = None
    """The contact's, whatever `address` is."""


@dataclass(slots=True)
class Mark:
    """An attempt about to be handed over."""

    attempt_id: int
    message_id: str


@dataclass(slots=True)
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
    """Whether this was a definite "not now" about this recipient, counted in `tries`."""
    delays: bool = False
    """Whether this was a "not now" of the server's or a broken connection, counted in `delays`."""
    unreachable: bool = False
    """For `rejected`: the address leads to nobody, so that the next account may be tried."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of the ledger allowed."""

    marked: set[int]
    """Ids of the attempts that are `dispatched` now."""
    running: bool
    """Whether the campaign is running: if not, nothing was marked."""


# Whoever reads a page gets plain tuples: a row mapped by name costs more than the row.
_DUE: LiteralString = """
    SELECT a.id, a.token, a.address, a.tries, a.delays, c.name, c.phone, coalesce(c.attributes, '{}'), c.email
    FROM attempts a LEFT JOIN contacts c ON c.id = a.contact_id
    WHERE a.batch_id = %s AND a.id > %s AND a.state = 'queued'
        AND (a.not_before IS NULL OR a.not_before <= clock_timestamp())
    ORDER BY a.id LIMIT %s
"""


def due(connection: Connection, batch_id: int, after: int, limit: int) -> list[Attempt]:
    """Return the next queued attempts of a batch whose time has come, in order of id above `after`."""
    driver = cast("psycopg.Connection[tuple[Any, ...]]", connection.connection.driver_connection)
    with by_index(connection):
        rows = driver.execute(_DUE, (batch_id, after, limit), binary=True).fetchall()
    return [Attempt(*row) for row in rows]


# One statement, one round trip, one commit.  `FOR SHARE` holds off whoever would take the lease over, so
# that an attempt is never marked by two owners.  `+ 0` leaves the planner no way to the attempts but by id:
# without statistics it would rather walk through the batch.
ROUND = """
    WITH held AS MATERIALIZED (
        SELECT b.id, c.state, c.audience_id FROM batches b JOIN campaigns c ON c.id = b.campaign_id
        WHERE b.id = $1 AND b.lease_owner = $2 AND b.lease_epoch = $3 FOR SHARE OF b
    ),
    answers AS MATERIALIZED (
        SELECT r.*, CASE WHEN r.given = 'queued' AND held.state = 'cancelled'
            THEN 'cancelled' ELSE r.given END AS state
        FROM held, unnest($5::bigint[], $6::text[], $7::smallint[], $8::text[], $9::text[], $10::text[],
            $11::text[], $12::float[], $13::bool[], $17::bool[], $18::bool[]
        ) AS r (
            id, given, code, status, reply, reason, provider_message_id, wait, counts, delays, unreachable)
    ),
    answered AS (
        UPDATE attempts a SET state = r.state, code = r.code, status = r.status, reply = r.reply,
            reason = r.reason, provider_message_id = r.provider_message_id, unreachable = r.unreachable,
            tries = a.tries + r.counts::int, delays = a.delays + r.delays::int,
            not_before = clock_timestamp() + make_interval(secs => r.wait),
            answered_at = CASE WHEN r.state <> 'queued' THEN clock_timestamp() END
        FROM answers r
        WHERE a.id = r.id AND a.batch_id + 0 = $1 AND (
            a.state IN ('queued', 'dispatched') OR (a.state = 'rejected' AND r.state = 'queued'))
    ),
    marks AS MATERIALIZED (
        SELECT m.id, m.message_id, coalesce('suppressed: ' || s.reason, CASE WHEN o.channel IS NOT NULL
            THEN 'suppressed: unsubscribed from this audience' END, p.status) AS withdrawn
        FROM held CROSS JOIN unnest($14::bigint[], $15::text[]) AS m (id, message_id)
        JOIN attempts a ON a.id = m.id
        LEFT JOIN suppressions s ON s.channel = $4 AND s.address_key = a.address_key
            AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp())
        LEFT JOIN audience_opt_outs o ON o.audience_id = held.audience_id AND o.channel = $4
            AND o.address_key = a.address_key
        LEFT JOIN contacts p ON p.id = a.contact_id AND p.status <> 'subscribed'
        WHERE held.state = 'running'
    ),
    marked AS (
        UPDATE attempts a SET
            state = CASE WHEN m.withdrawn IS NULL THEN 'dispatched' ELSE 'suppressed' END,
            message_id = CASE WHEN m.withdrawn IS NULL THEN m.message_id ELSE a.message_id END,
            dispatched_at = CASE WHEN m.withdrawn IS NULL THEN clock_timestamp() ELSE a.dispatched_at END,
            answered_at = CASE WHEN m.withdrawn IS NOT NULL THEN clock_timestamp() END,
            reason = coalesce(m.withdrawn, a.reason)
        FROM marks m
        WHERE a.id = m.id AND a.batch_id + 0 = $1
            AND (a.state = 'queued' OR (a.state = 'dispatched' AND a.id = ANY ($16::bigint[])))
        RETURNING a.id, a.state
    )
    SELECT held.state = 'running', ARRAY(SELECT id FROM marked WHERE state = 'dispatched') FROM held
"""


def round_of(
    lease: Lease, answers: Sequence[Answer], marks: Sequence[Mark], again: Iterable[int] = ()
) -> list[bytes | None]:
    """Return the parameters of `ROUND`, which records answers and then marks attempts `dispatched`.

    A mark is refused when the address has been suppressed, or the contact has unsubscribed, since planning
    (the attempt becomes `suppressed`), when the campaign is not running (it stays `queued`), and when the
    attempt is not queued; `again` names those that a round in doubt may have marked already. An attempt has
    an answer or a mark in one round, never both.
    """
    return [
        *fence(lease),
        lease.channel.encode(),
        array([answer.attempt_id for answer in answers]),
        text_array([answer.state for answer in answers]),
        array([answer.code for answer in answers]),
        text_array([answer.status for answer in answers]),
        text_array([answer.reply[:LONGEST_REPLY] if answer.reply else None for answer in answers]),
        text_array([answer.reason for answer in answers]),
        text_array([answer.provider_message_id for answer in answers]),
        array([answer.wait for answer in answers]),
        array([answer.counts for answer in answers]),
        array([mark.attempt_id for mark in marks]),
        text_array([mark.message_id for mark in marks]),
        array(list(again)),
        array([answer.delays for answer in answers]),
        array([answer.unreachable for answer in answers]),
    ]


def round_done(result: "PGresult") -> Round | None:
    """Read what a round did; None: another process holds the batch, and nothing was changed."""
    if result.ntuples == 0:
        return None
    marked = (result.get_value(0, 1) or b"{}")[1:-1]
    return Round(
        running=result.get_value(0, 0) == b"t",
        marked=set(map(int, marked.split(b","))) if marked else set(),
    )


def requeue(connection: Connection, campaign_id: int, request: RetryRequest, actor: str) -> int:
    """Put attempts in the chosen final states back to `queued` and note who decided so; return how many.

    With a limit, those who were planned first.
    """
    statement = text("""
        WITH chosen AS (
            SELECT a.id, a.state FROM attempts a JOIN batches b ON b.id = a.batch_id
            WHERE a.campaign_id = :campaign_id AND (a.state = ANY (:states)
                -- What a process left on its way when it died is unknown, though nobody has noted it yet.
                OR (a.state = 'dispatched' AND 'unknown' = ANY (:states)
                    AND coalesce(b.lease_expires_at < clock_timestamp(), true)))
                AND (CAST(:numbers AS int[]) IS NULL OR b.number = ANY (CAST(:numbers AS int[])))
            ORDER BY a.id LIMIT :limit FOR UPDATE OF a
        ),
        noted AS (
            INSERT INTO events (attempt_id, kind, source, source_id, details)
            SELECT id, 'requeued', :actor, gen_random_uuid()::text, jsonb_build_object('from', state)
            FROM chosen
        )
        UPDATE attempts a SET state = 'queued', tries = 0, delays = 0, not_before = NULL, answered_at = NULL,
            code = NULL, status = NULL, reply = NULL, reason = NULL, unreachable = false
        FROM chosen WHERE a.id = chosen.id
    """)
    parameters = {
        "campaign_id": campaign_id,
        "states": list(request.states),
        "numbers": request.batches or None,
        "actor": actor,
        "limit": request.limit or None,
    }
    return connection.execute(statement, parameters).rowcount


def take_back(connection: Connection, campaign_id: int, attempt_ids: Sequence[int]) -> None:
    """Queue again whoever of these was rejected for a fault of ours; a finished campaign is paused then."""
    reason = "recipients were refused for a fault of ours"
    parameters = {"campaign_id": campaign_id, "ids": list(attempt_ids), "reason": reason}
    statement = text("""
        WITH taken AS (
            UPDATE attempts SET state = 'queued', not_before = NULL, answered_at = NULL, code = NULL,
                status = NULL, reply = NULL, reason = NULL
            WHERE campaign_id = :campaign_id AND id = ANY (:ids) AND state = 'rejected' RETURNING id
        )
        UPDATE campaigns SET state = 'paused', finished_at = NULL, state_reason = :reason
        WHERE id = :campaign_id AND state = 'finished' AND EXISTS (SELECT FROM taken) RETURNING name
    """)
    name = connection.execute(statement, parameters).scalar_one_or_none()
    if name is not None:
        said = f"paused: {reason}"
        decisions.note(connection, campaign_id, EventKind.PAUSED, OURSELVES, said)
        alerts.campaign_paused(connection, campaign_id, name, said, late=False)
