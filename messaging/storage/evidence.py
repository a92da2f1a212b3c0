"""Evidence in the ledger: whose attempt it is about, what it resolves, and all that is known of a person.

Each function is one statement, whatever the number of pieces. A person is a contact's id or, of an attempt
whose contact was erased, the attempt's id below zero.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, text

from messaging.storage.prepared import by_index
from schemas.states import AttemptState, Channel

# An address alone stands for the last message that was sent to it, if that was not long before; clocks of
# mail servers may be a day off.
_MATCH_DAYS: Final = 30
_CLOCK_SLACK: Final = "interval '1 day'"
_LOCKS: Final = 64
_LOCK_SPACE: Final = 0x0F10  # of our advisory locks, those of people

# What evidence alone has rejected may yet turn out to be taken.
_UNANSWERED: Final = frozenset({AttemptState.UNKNOWN, AttemptState.DISPATCHED, AttemptState.REJECTED})
_CHANNEL: Final = """CASE WHEN CASE WHEN b.leg = 0 THEN ca.spec ->> 'account'
    ELSE ca.spec -> 'fallback' ->> (b.leg - 1) END LIKE 'whatsapp-%' THEN 'whatsapp' ELSE 'email' END"""
_PERSON: Final = "coalesce(a.contact_id, -a.id)"


@dataclass(frozen=True, slots=True)
class Clue:
    """What a piece of evidence says about which message it is of."""

    channel: Channel
    at: datetime
    token: UUID | None = None
    campaign_id: int | None = None
    message_id: str | None = None
    provider_message_id: str | None = None
    keys: tuple[str, ...] = ()
    """Comparable forms of the recipient's address and its aliases, best first."""


@dataclass(frozen=True, slots=True)
class Match:
    """The attempt that a piece of evidence is about."""

    attempt_id: int
    how: str
    """token, provider message id, message id, campaign or address."""
    person: int
    contact_id: int | None
    campaign_id: int
    audience_id: int | None
    """None: the campaign was for groups alone."""
    channel: Channel
    """Of the account that it goes over now."""
    address_key: str
    is_answered: bool
    """Whether evidence cannot change its state."""
    has_provider_id: bool
    is_running: bool
    """Whether the campaign is."""

    @property
    def is_named(self) -> bool:
        """Whether the evidence names the message, by what nobody can guess."""
        return self.how not in {_BY_ADDRESS, _BY_CAMPAIGN}


_BY_ADDRESS: Final = "address"
_BY_CAMPAIGN: Final = (
    "campaign"  # and the address; its number stands in every message, and can be counted up to
)
_UNNAMED: Final = f"e.details ->> 'matched' IN ('{_BY_ADDRESS}', '{_BY_CAMPAIGN}')"

_FOUND: Final = f"""
    a.id AS attempt_id, {_PERSON} AS person, a.contact_id, a.campaign_id, ca.audience_id,
    {_CHANNEL} AS channel, a.address_key, a.state, a.provider_message_id IS NOT NULL AS has_provider_id,
    ca.state = 'running' AS is_running
"""
_OF: Final = "JOIN batches b ON b.id = a.batch_id JOIN campaigns ca ON ca.id = a.campaign_id"
_MATCH_TOKENS = text(f"""
    SELECT t.n, 'token' AS how, {_FOUND}
    FROM unnest(CAST(:ns AS int[]), CAST(:tokens AS uuid[])) AS t (n, token)
    JOIN attempts a ON a.token = t.token {_OF}
""")  # noqa: S608 - constants

# SES puts its own id into the Message-ID header, before the @.  A phone number that stands beside an e-mail
# address is in no index of contacts, hence the way over the campaigns that may still hear of their messages.
_MATCH_ADDRESSES = text(f"""
    WITH told AS MATERIALIZED (
        SELECT * FROM unnest(CAST(:ns AS int[]), CAST(:places AS int[]), CAST(:keys AS text[]),
            CAST(:channels AS text[]), CAST(:times AS timestamptz[]), CAST(:campaign_ids AS bigint[]),
            CAST(:message_ids AS text[]), CAST(:provider_ids AS text[])
        ) AS t (n, place, key, channel, at, campaign_id, message_id, provider_id)
    ),
    candidates AS (
        SELECT t.*, a.id FROM told t JOIN contacts c ON c.email_key = t.key
        JOIN attempts a ON a.contact_id = c.id
        WHERE t.channel = 'email'
        UNION ALL
        SELECT t.*, a.id FROM told t JOIN contacts c ON c.phone = t.key AND c.email_key IS NULL
        JOIN attempts a ON a.contact_id = c.id
        WHERE t.channel = 'whatsapp'
        UNION ALL
        SELECT t.*, a.id FROM told t
        JOIN attempts a ON a.campaign_id = t.campaign_id AND a.address_key = t.key
        UNION ALL
        SELECT t.*, a.id FROM told t
        JOIN campaigns ca ON ca.finished_at IS NULL
            OR ca.finished_at > t.at - make_interval(days => {_MATCH_DAYS})
        JOIN attempts a ON a.campaign_id = ca.id AND a.address_key = t.key
        WHERE t.channel = 'whatsapp'
    )
    SELECT DISTINCT ON (found.n) found.* FROM (
        SELECT t.n, t.place, a.dispatched_at, CASE
                WHEN a.provider_message_id IN (t.provider_id, split_part(ltrim(t.message_id, '<'), '@', 1))
                    THEN 'provider message id'
                WHEN a.message_id = t.message_id THEN 'message id'
                WHEN a.campaign_id = t.campaign_id THEN '{_BY_CAMPAIGN}'
                WHEN (a.state IN ('accepted', 'unknown', 'dispatched')
                        OR (a.state = 'rejected' AND a.code IS NULL)) -- as evidence says, maybe not for good
                    AND a.dispatched_at > t.at - make_interval(days => {_MATCH_DAYS})
                    AND a.dispatched_at < t.at + {_CLOCK_SLACK} AND t.channel = {_CHANNEL}
                    THEN '{_BY_ADDRESS}'
            END AS how, {_FOUND}
        FROM candidates t JOIN attempts a ON a.id = t.id {_OF}
    ) found WHERE found.how IS NOT NULL
    ORDER BY found.n,
        array_position(ARRAY['provider message id', 'message id', 'campaign'], found.how) NULLS LAST,
        found.place, found.dispatched_at DESC NULLS LAST, found.attempt_id DESC
""")  # noqa: S608 - constants


def match(connection: Connection, clues: Sequence[Clue]) -> dict[int, Match]:
    """Return the attempts that evidence is about, by its place among `clues`; what has none is not there.

    Two statements: addresses are looked up of what no token names.
    """
    found: dict[int, Match] = {}
    tokens = {n: clue.token for n, clue in enumerate(clues) if clue.token is not None}
    with by_index(connection):
        if tokens:
            parameters = {"ns": list(tokens), "tokens": list(tokens.values())}
            found |= _matches(connection.execute(_MATCH_TOKENS, parameters))
        rows = [
            (n, place, key, clue)
            for n, clue in enumerate(clues)
            if n not in found
            for place, key in enumerate(clue.keys)
        ]
        if rows:
            addressed: dict[str, list[Any]] = {
                "ns": [n for n, _, _, _ in rows],
                "places": [place for _, place, _, _ in rows],
                "keys": [key for _, _, key, _ in rows],
                "channels": [clue.channel for _, _, _, clue in rows],
                "times": [clue.at for _, _, _, clue in rows],
                "campaign_ids": [clue.campaign_id for _, _, _, clue in rows],
                "message_ids": [clue.message_id for _, _, _, clue in rows],
                "provider_ids": [clue.provider_message_id for _, _, _, clue in rows],
            }
            found |= _matches(connection.execute(_MATCH_ADDRESSES, addressed))
    return found


def _matches(rows: Iterable[Row[Any]]) -> dict[int, Match]:
    return {
        row.n: Match(
            attempt_id=row.attempt_id,
            how=row.how,
            person=row.person,
            contact_id=row.contact_id,
            campaign_id=row.campaign_id,
            audience_id=row.audience_id,
            channel=Channel(row.channel),
            address_key=row.address_key,
            is_answered=row.state not in _UNANSWERED,
            has_provider_id=row.has_provider_id,
            is_running=row.is_running,
        )
        for row in rows
    }


_SERIALIZE = text("SELECT pg_advisory_xact_lock(:space, n) FROM unnest(CAST(:buckets AS int[])) AS b (n)")


def serialize(connection: Connection, people: Collection[int]) -> None:
    """Let nobody else record evidence about these people until the transaction ends.

    Two who record at once would each miss what the other knows, and neither see the second bounce.
    """
    buckets = sorted({person % _LOCKS for person in people})
    if buckets:
        connection.execute(_SERIALIZE, {"space": _LOCK_SPACE, "buckets": buckets})


_PEOPLE: Final = text(f"""
    SELECT DISTINCT {_PERSON} FROM unnest(CAST(:ids AS bigint[])) AS p (id) JOIN attempts a ON a.id = p.id
""")  # noqa: S608 - constants


def people(connection: Connection, attempt_ids: Collection[int]) -> set[int]:
    """Return whose attempts these are."""
    with by_index(connection):
        return set(connection.execute(_PEOPLE, {"ids": list(attempt_ids)}).scalars())


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of evidence, to be kept."""

    kind: str
    source: str
    source_id: str
    occurred_at: datetime
    details: str
    """JSON."""
    attempt_id: int | None


# In order, so that two who keep the same pieces wait for each other and nobody waits in a circle.
_KEEP = text("""
    INSERT INTO events (attempt_id, kind, source, source_id, details, occurred_at)
    SELECT attempt_id, kind, source, source_id, CAST(details AS jsonb), at
    FROM unnest(CAST(:attempt_ids AS bigint[]), CAST(:kinds AS text[]), CAST(:sources AS text[]),
        CAST(:source_ids AS text[]), CAST(:details AS text[]), CAST(:times AS timestamptz[])
    ) AS p (attempt_id, kind, source, source_id, details, at)
    ORDER BY source, source_id
    ON CONFLICT (source, source_id) DO NOTHING
    RETURNING source, source_id
""")


def keep(connection: Connection, pieces: Sequence[Piece]) -> set[tuple[str, str]]:
    """Keep evidence as events, each piece once; return the sources and their ids of what is new."""
    parameters = {
        "attempt_ids": [piece.attempt_id for piece in pieces],
        "kinds": [piece.kind for piece in pieces],
        "sources": [piece.source for piece in pieces],
        "source_ids": [piece.source_id for piece in pieces],
        "details": [piece.details for piece in pieces],
        "times": [piece.occurred_at for piece in pieces],
    }
    return {(row.source, row.source_id) for row in connection.execute(_KEEP, parameters)}


@dataclass(frozen=True, slots=True)
class Resolution:
    """What evidence says of an attempt whose answer never came."""

    attempt_id: int
    state: str
    source: str
    reason: str | None = None
    provider_message_id: str | None = None


# An answer of the provider stands.  Whoever waits for one hears what evidence says first: the connection may
# never bring it.  What evidence alone has called rejected gives way to evidence that it was taken: which of
# the two comes first is chance.  A row that is being changed is passed over: its sender has the answer.
_RESOLVE = text("""
    WITH chosen AS (
        SELECT a.id, a.state AS was, t.state, t.source, t.reason
        FROM unnest(CAST(:ids AS bigint[]), CAST(:states AS text[]), CAST(:sources AS text[]),
            CAST(:reasons AS text[])) AS t (id, state, source, reason)
        JOIN attempts a ON a.id = t.id JOIN batches b ON b.id = a.batch_id
        WHERE a.state = 'unknown'
            -- What a process left on its way when it died is unknown, though nobody has noted it yet.
            OR (a.state = 'dispatched'
                AND (t.state = 'accepted' OR coalesce(b.lease_expires_at < clock_timestamp(), true)))
            OR (a.state = 'rejected' AND t.state = 'accepted' AND (
                SELECT e.details ->> 'to' FROM events e
                WHERE e.attempt_id = a.id AND e.kind = 'resolved' ORDER BY e.id DESC LIMIT 1) = 'rejected')
        FOR NO KEY UPDATE OF a SKIP LOCKED
    ),
    noted AS (
        INSERT INTO events (attempt_id, kind, source, source_id, details)
        SELECT id, 'resolved', source, gen_random_uuid()::text, jsonb_build_object('from', was, 'to', state)
        FROM chosen
    )
    UPDATE attempts a SET state = chosen.state, answered_at = coalesce(a.answered_at, clock_timestamp()),
        reason = chosen.reason
    FROM chosen WHERE a.id = chosen.id RETURNING a.id
""")
_NAME = text("""
    WITH free AS (
        SELECT a.id, t.name FROM unnest(CAST(:ids AS bigint[]), CAST(:names AS text[])) AS t (id, name)
        JOIN attempts a ON a.id = t.id
        WHERE a.provider_message_id IS NULL ORDER BY a.id FOR NO KEY UPDATE OF a SKIP LOCKED
    )
    UPDATE attempts a SET provider_message_id = free.name FROM free WHERE a.id = free.id
""")


def resolve(connection: Connection, resolutions: Sequence[Resolution]) -> set[int]:
    """Give attempts without an answer the state that evidence proves; return which they were."""
    parameters = {
        "ids": [each.attempt_id for each in resolutions],
        "states": [each.state for each in resolutions],
        "sources": [each.source for each in resolutions],
        "reasons": [each.reason for each in resolutions],
    }
    with by_index(connection):
        return set(connection.execute(_RESOLVE, parameters).scalars())


def name_messages(connection: Connection, names: Mapping[int, str]) -> None:
    """Keep the provider's ids of messages, by attempt, where we have none."""
    connection.execute(_NAME, {"ids": list(names), "names": list(names.values())})


_WITH_LASTING = text("""
    SELECT t.person FROM unnest(CAST(:people AS bigint[]), CAST(:channels AS text[]), CAST(:keys AS text[]))
        AS t (person, channel, key)
    JOIN suppressions s ON s.channel = t.channel AND s.address_key = t.key
    WHERE s.source = :source AND s.expires_at > clock_timestamp()
""")


def with_suppression(
    connection: Connection, people: Sequence[tuple[int, Channel, str]], source: str
) -> set[int]:
    """Return who of these people, given with an address each, is suppressed there for now by this source."""
    parameters = {
        "people": [person for person, _, _ in people],
        "channels": [channel for _, channel, _ in people],
        "keys": [key for _, _, key in people],
        "source": source,
    }
    return set(connection.execute(_WITH_LASTING, parameters).scalars())


# Each event with the address that it is about: of one on another channel than the attempt's account now, as
# after a fall-back, the contact's there.
_HISTORY = text(f"""
    SELECT {_PERSON} AS person, a.id AS attempt_id, e.kind, e.source, e.occurred_at,
        coalesce(e.details ->> 'channel', {_CHANNEL}) AS channel,
        CASE coalesce(e.details ->> 'channel', {_CHANNEL}) WHEN {_CHANNEL} THEN a.address_key
            WHEN 'email' THEN c.email_key ELSE c.phone END AS address_key,
        e.details ->> 'class' AS bounce_class, e.details ->> 'suppress' AS suppress,
        ({_UNNAMED}) IS NOT TRUE AS is_named,
        coalesce(e.details ->> 'machine', '') <> '' AS by_machine,
        coalesce(e.details ->> 'everywhere', 'true') = 'true' AS everywhere,
        {_UNNAMED} AND e.kind IN ('bounced', 'complained') AND EXISTS (
            SELECT FROM (
                SELECT a.state, a.address_key, a.dispatched_at
                UNION ALL
                SELECT o.state, o.address_key, o.dispatched_at FROM attempts o
                WHERE o.contact_id = a.contact_id
            ) o
            WHERE o.state = 'accepted' AND o.address_key = a.address_key
                AND o.dispatched_at > e.occurred_at - make_interval(days => {_MATCH_DAYS})
                AND o.dispatched_at < e.occurred_at + {_CLOCK_SLACK}) AS was_accepted
    FROM (
        SELECT a.* FROM unnest(CAST(:contact_ids AS bigint[])) AS p (id)
        JOIN attempts a ON a.contact_id = p.id
        UNION ALL
        SELECT a.* FROM unnest(CAST(:attempt_ids AS bigint[])) AS p (id) JOIN attempts a ON a.id = p.id
    ) a
    JOIN events e ON e.attempt_id = a.id
    JOIN batches b ON b.id = a.batch_id JOIN campaigns ca ON ca.id = a.campaign_id
    LEFT JOIN contacts c ON c.id = a.contact_id
    WHERE e.kind IN ('bounced', 'complained', 'delivered', 'opened', 'clicked', 'unsubscribed')
        AND NOT (e.kind = 'unsubscribed' AND e.details ? 'taken_back_at')
""")  # noqa: S608 - constants
_ADDRESSES = text("""
    SELECT c.id AS person, c.email_key, c.phone
    FROM unnest(CAST(:ids AS bigint[])) AS p (id) JOIN contacts c ON c.id = p.id
""")


def history(connection: Connection, people: Collection[int]) -> Sequence[Row[Any]]:
    """Return what is known of people, each event with the address that it is about.

    Rows have person, attempt_id, kind, source, occurred_at, channel, address_key, bounce_class, suppress,
    is_named, by_machine, everywhere and was_accepted: whether, of what named no message, its address
    was sent something in the 30 days before which the server has accepted.
    """
    parameters = {
        "contact_ids": [person for person in people if person > 0],
        "attempt_ids": [-person for person in people if person < 0],
    }
    with by_index(connection):
        return connection.execute(_HISTORY, parameters).all()


def addresses(connection: Connection, people: Collection[int]) -> dict[int, dict[Channel, str]]:
    """Return the addresses that contacts have now, in comparable form."""
    rows = connection.execute(_ADDRESSES, {"ids": [person for person in people if person > 0]})
    return {
        row.person: {
            channel: key
            for channel, key in ((Channel.EMAIL, row.email_key), (Channel.WHATSAPP, row.phone))
            if key
        }
        for row in rows
    }


_UNSUBSCRIBE = text("""
    UPDATE contacts SET status = 'unsubscribed', updated_at = now()
    WHERE id = ANY (SELECT id FROM contacts WHERE id = ANY (:ids) AND status <> 'unsubscribed'
        ORDER BY id FOR NO KEY UPDATE)
""")
_OPT_OUT = text("""
    INSERT INTO audience_opt_outs (audience_id, channel, address_key, source)
    SELECT * FROM unnest(CAST(:audience_ids AS bigint[]), CAST(:channels AS text[]), CAST(:keys AS text[]),
        CAST(:sources AS text[])) AS o (audience_id, channel, address_key, source)
    ORDER BY audience_id, channel, address_key
    ON CONFLICT DO NOTHING
""")


def unsubscribe(connection: Connection, contact_ids: Collection[int]) -> None:
    """Note of contacts that they want no more of anything."""
    connection.execute(_UNSUBSCRIBE, {"ids": list(contact_ids)})


def opt_out(connection: Connection, wishes: Mapping[tuple[int, Channel, str], str]) -> int:
    """Note who wants no more of an audience: audience, channel and address, with who told us.

    Returns how many are new.
    """
    parameters = {
        "audience_ids": [audience_id for audience_id, _, _ in wishes],
        "channels": [channel for _, channel, _ in wishes],
        "keys": [key for _, _, key in wishes],
        "sources": list(wishes.values()),
    }
    return connection.execute(_OPT_OUT, parameters).rowcount


_UNMATCHED = text("""
    SELECT id, kind, source, source_id, occurred_at, details FROM events
    WHERE attempt_id IS NULL AND campaign_id IS NULL ORDER BY id DESC LIMIT :most
    FOR NO KEY UPDATE SKIP LOCKED
""")
_ATTACH = text("""
    UPDATE events e SET attempt_id = t.attempt_id, details = CAST(t.details AS jsonb)
    FROM unnest(CAST(:ids AS bigint[]), CAST(:attempt_ids AS bigint[]), CAST(:details AS text[]))
        AS t (id, attempt_id, details)
    WHERE e.id = t.id
""")


def unmatched(connection: Connection, most: int) -> Sequence[Row[Any]]:
    """Return the newest events of no attempt of ours, to be matched by nobody else meanwhile."""
    return connection.execute(_UNMATCHED, {"most": most}).all()


def attach(connection: Connection, found: Mapping[int, tuple[int, str]]) -> None:
    """Give events, by id, their attempts and details as JSON."""
    parameters = {
        "ids": list(found),
        "attempt_ids": [attempt_id for attempt_id, _ in found.values()],
        "details": [details for _, details in found.values()],
    }
    connection.execute(_ATTACH, parameters)
