"""From evidence to the ledger: kept once, matched with its attempt, and given effect.

Anything may come twice, in any order and from several processes at once: what is in the ledger afterwards is
the same. A call takes some twenty statements, whatever the number of pieces.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row

from messaging.feedback import policy, thresholds
from messaging.feedback.evidence import Bounce, Evidence
from messaging.feedback.policy import BY_SOFT_BOUNCES, RECLASSIFIED, Address, Known, Verdict, Weight
from messaging.feedback.thresholds import Touched
from messaging.storage import evidence as storage
from messaging.storage import suppressions
from messaging.storage.campaigns import OURSELVES
from messaging.storage.evidence import Clue, Match, Piece, Resolution
from messaging.storage.suppressions import Imposed, Suppression
from schemas.bounces import BounceClass, BounceReason, Suppress
from schemas.states import AttemptState, Channel, EventKind, SuppressionReason

_MOST_ALIASES: Final = 20
_LONGEST_ID: Final = 500  # characters of a source's own name for a piece
_LARGEST_ID: Final = 2**63
_OF_BOUNCES: Final = ("class", "reason", "suppress", "status", "reply", "rule", "confidence", "diagnostic")
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)

# That the provider has taken the message: a bounce says so as well as an open.
_TAKEN: Final = frozenset(
    {
        EventKind.SENT,
        EventKind.DELIVERED,
        EventKind.DELAYED,
        EventKind.BOUNCED,
        EventKind.COMPLAINED,
        EventKind.OPENED,
        EventKind.CLICKED,
        EventKind.UNSUBSCRIBED,
        EventKind.AUTO_REPLIED,
        EventKind.CHALLENGED,
    }
)
_SIGNS_OF_LIFE: Final = frozenset({Weight.TAKEN, Weight.SEEN})
_NOBODY: Final = frozenset({OURSELVES, RECLASSIFIED})
_RETURNED: Final = frozenset({EventKind.BOUNCED, EventKind.COMPLAINED})


@dataclass(frozen=True, slots=True)
class Recorded:
    """What recording evidence did."""

    recorded: int = 0
    """New events; of `rematch`, those that found their attempt."""
    repeated: int = 0
    """Known before."""
    unmatched: int = 0
    """New ones of no attempt of ours."""
    suppressed: int = 0
    """Addresses that are not written to any more, at all or for one audience."""
    kinds: Mapping[EventKind, int] = field(default_factory=dict)
    """The recorded ones by kind."""
    paused: tuple[int, ...] = ()
    """Campaigns that were paused, as too much of them came back."""

    def __add__(self, other: "Recorded") -> "Recorded":
        """Return both together."""
        return Recorded(
            recorded=self.recorded + other.recorded,
            repeated=self.repeated + other.repeated,
            unmatched=self.unmatched + other.unmatched,
            suppressed=self.suppressed + other.suppressed,
            kinds={
                kind: self.kinds.get(kind, 0) + other.kinds.get(kind, 0)
                for kind in sorted({*self.kinds, *other.kinds})
            },
            paused=tuple(sorted({*self.paused, *other.paused})),
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """A piece of evidence with its attempt."""

    piece: Evidence
    match: Match

    @property
    def is_of_this_account(self) -> bool:
        """Whether it is about the channel that the attempt goes over now, not one it fell back from."""
        return self.piece.channel is self.match.channel

    @property
    def weight(self) -> Weight:
        """How much it says about the recipient."""
        bounce = self.piece.bounce
        return policy.weight(
            self.piece.kind,
            bounce.bounce_class if bounce else None,
            bounce.suppress if bounce else None,
            by_machine=bool(self.piece.details.get("machine")),
            everywhere=self.piece.everywhere,
        )


def record(connection: Connection, evidence: Sequence[Evidence]) -> Recorded:
    """Keep evidence, each piece once, in the caller's transaction, and give it effect.

    It resolves attempts without an answer, suppresses addresses, opts people out of audiences and pauses
    campaigns of which too much comes back. Best called once in a transaction with up to 1,000 pieces: two
    transactions that each call it several times may have to wait for each other, and one then fails. Calling
    again is safe.
    """
    distinct: dict[tuple[str, str], Evidence] = {}
    for piece in map(_storable, evidence):
        distinct.setdefault((piece.source, piece.source_id), piece)
    if not distinct:
        return Recorded()
    pieces = list(distinct.values())
    matches = storage.match(connection, _clues(pieces))
    storage.serialize(connection, {match.person for match in matches.values()})
    new = storage.keep(
        connection,
        [
            Piece(
                kind=piece.kind,
                source=piece.source,
                source_id=piece.source_id,
                occurred_at=piece.occurred_at,
                details=_details(piece, matches.get(n)),
                attempt_id=matches[n].attempt_id if n in matches else None,
            )
            for n, piece in enumerate(pieces)
        ],
    )
    fresh = [(n, piece) for n, (name, piece) in enumerate(distinct.items()) if name in new]
    found = [_Found(piece, matches[n]) for n, piece in fresh if n in matches]
    suppressed, paused = _give_effect(connection, found)
    return Recorded(
        recorded=len(fresh),
        repeated=len(evidence) - len(fresh),
        unmatched=len(fresh) - len(found),
        suppressed=suppressed,
        kinds=_by_kind(piece for _, piece in fresh),
        paused=paused,
    )


def rematch(connection: Connection, most: int = 1000) -> Recorded:
    """Look again for attempts of evidence that had none, the newest first, and give effect to what has one.

    Afterwards everything is as if it had been matched at once.
    """
    rows = storage.unmatched(connection, most)
    if not rows:
        return Recorded()
    pieces = [_read_back(row) for row in rows]
    matches = storage.match(connection, _clues(pieces))
    storage.serialize(connection, {match.person for match in matches.values()})
    attached = {
        rows[n].id: (match.attempt_id, _details(pieces[n], match)) for n, match in sorted(matches.items())
    }
    if not attached:
        return Recorded()
    storage.attach(connection, attached)
    found = [_Found(pieces[n], match) for n, match in sorted(matches.items())]
    suppressed, paused = _give_effect(connection, found)
    kinds = _by_kind(each.piece for each in found)
    return Recorded(recorded=len(found), suppressed=suppressed, kinds=kinds, paused=paused)


def judge_again(
    connection: Connection, attempt_ids: Collection[int], sources: Collection[str], actor: str
) -> int:
    """Lift suppressions that nothing speaks for any more, after events of these attempts were taken back.

    Those that one of these sources was the reason for; `actor` is who lifts them. Returns how many.
    """
    people = storage.people(connection, attempt_ids)
    storage.serialize(connection, people)
    if not people:
        return 0
    picture = _picture(connection, people)
    _suppress(connection, picture)
    doubtful = {*sources, BY_SOFT_BOUNCES}
    return _lift(
        connection,
        [
            address
            for address, row in picture.standing.items()
            if row.is_active
            and row.source in doubtful
            and row.reason is not SuppressionReason.MANUAL
            and address not in picture.verdicts
        ],
        actor,
    )


def _by_kind(pieces: Iterable[Evidence]) -> dict[EventKind, int]:
    kinds: dict[EventKind, int] = {}
    for piece in pieces:
        kinds[piece.kind] = kinds.get(piece.kind, 0) + 1
    return dict(sorted(kinds.items()))


def _give_effect(connection: Connection, found: Sequence[_Found]) -> tuple[int, tuple[int, ...]]:
    """Return how many addresses are not written to any more, and which campaigns were paused."""
    if not found:
        return 0, ()
    resolved = _resolve(connection, found)
    suppressed = _apply_policy(connection, found, resolved)
    touched: dict[int, list[int]] = {}
    for each in found:
        if (
            each.match.is_running
            and each.match.is_named
            and each.piece.kind in _RETURNED
            and each.piece.source != OURSELVES  # whoever sends looks by itself
        ):
            touched.setdefault(each.match.campaign_id, []).append(each.match.attempt_id)
    campaigns = [Touched(campaign_id, tuple(ids)) for campaign_id, ids in touched.items()]
    return suppressed, thresholds.check(connection, campaigns)


def _resolve(connection: Connection, found: Sequence[_Found]) -> set[int]:
    """Give attempts without an answer the one that evidence proves, and return which they were."""
    resolutions: dict[int, Resolution] = {}
    names: dict[int, str] = {}
    for each in found:
        piece, match = each.piece, each.match
        # A refusal that we heard ourselves is an answer already.
        if not match.is_named or not each.is_of_this_account or piece.source == OURSELVES:
            continue
        if piece.provider_message_id and not match.has_provider_id:
            names.setdefault(match.attempt_id, piece.provider_message_id)
        if match.is_answered:
            continue
        if piece.kind in _TAKEN:
            resolutions[match.attempt_id] = Resolution(match.attempt_id, AttemptState.ACCEPTED, piece.source)
        elif piece.kind is EventKind.FAILED:
            # Not in the provider's words, which may name the recipient.
            reason = f"given up by the provider: {piece.bounce.reason}" if piece.bounce else ""
            resolutions.setdefault(
                match.attempt_id,
                Resolution(
                    match.attempt_id,
                    AttemptState.REJECTED,
                    piece.source,
                    reason or "given up by the provider",
                ),
            )
    if names:
        storage.name_messages(connection, names)
    return storage.resolve(connection, list(resolutions.values())) if resolutions else set()


def _apply_policy(connection: Connection, found: Sequence[_Found], resolved: set[int]) -> int:
    """Suppress whom all that is known now is enough for; return how many addresses are new."""
    weighed = [(each, each.weight) for each in found]
    people = {
        each.match.person
        for each, weight in weighed
        if weight in policy.SUPPRESSING
        or each.piece.kind is EventKind.UNSUBSCRIBED
        or each.match.attempt_id in resolved
    }
    alive = {
        (each.match.person, each.match.channel, each.match.address_key)
        for each, weight in weighed
        if weight in _SIGNS_OF_LIFE and each.is_of_this_account and each.match.person not in people
    }
    if alive:
        people |= storage.with_suppression(connection, sorted(alive), BY_SOFT_BOUNCES)
    if not people:
        return 0
    picture = _picture(connection, people)
    suppressed = _suppress(connection, picture)
    unsubscribed = [each for each in found if each.piece.kind is EventKind.UNSUBSCRIBED]
    return suppressed + _unsubscribe(connection, unsubscribed, picture)


@dataclass(frozen=True, slots=True)
class _Picture:
    """All addresses of some people, and what follows from all that is known of them."""

    addresses: dict[int, set[Address]]
    standing: dict[Address, Suppression]
    since: dict[Address, datetime | None]
    """When an address was last given back: only what came later counts."""
    verdicts: dict[Address, Verdict]


def _picture(connection: Connection, people: Collection[int]) -> _Picture:
    known: dict[int, list[Known]] = {person: [] for person in people}
    addresses = {
        person: {Address(channel, key) for channel, key in theirs.items()}
        for person, theirs in storage.addresses(connection, people).items()
    }
    for row in storage.history(connection, people):
        if row.address_key is None:  # fell back from an address that the contact has no more
            continue
        each = _read(row)
        addresses.setdefault(row.person, set()).add(each.address)
        known[row.person].append(each)
    everybody = {address for theirs in addresses.values() for address in theirs}
    rows = suppressions.standing(connection, sorted((each.channel, each.key) for each in everybody))
    standing = {Address(channel, key): row for (channel, key), row in rows.items()}
    since = {address: _given_back(standing.get(address)) for address in everybody}
    now = datetime.now(UTC)
    verdicts: dict[Address, Verdict] = {}
    for person, theirs in addresses.items():
        for address, verdict in policy.judge({a: since[a] for a in theirs}, known[person], now).items():
            before = verdicts.get(address)  # a phone number may be that of several contacts
            if before is None or verdict.strength > before.strength:
                verdicts[address] = verdict
    return _Picture(addresses, standing, since, verdicts)


def _read(row: Row[Any]) -> Known:
    return Known(
        address=Address(Channel(row.channel), row.address_key),
        attempt_id=row.attempt_id,
        weight=policy.weight(
            EventKind(row.kind),
            BounceClass(row.bounce_class) if row.bounce_class else None,
            Suppress(row.suppress) if row.suppress else None,
            by_machine=row.by_machine,
            everywhere=row.everywhere,
        ),
        occurred_at=row.occurred_at,
        source=row.source,
        named=row.is_named,
        accepted=bool(row.was_accepted),
    )


def _given_back(standing: Suppression | None) -> datetime | None:
    """Return when an address was last given back; what we found wrong ourselves was never taken away."""
    if standing is None or standing.is_active or standing.lifted_by is not None:
        return standing.given_back_at if standing else None
    return standing.expires_at


def _suppress(connection: Connection, picture: _Picture) -> int:
    """Suppress what the verdicts say, and return how many addresses were not before."""
    standing, verdicts = picture.standing, picture.verdicts
    # What came late shows that there was life between the bounces, or earlier than it seemed.
    refuted = [
        address
        for address, row in standing.items()
        if row.is_active
        and row.source == BY_SOFT_BOUNCES
        and (address not in verdicts or _ends_before(verdicts[address], row))
    ]
    _lift(connection, refuted, OURSELVES)
    if verdicts:
        imposed = [
            Imposed(address.channel, address.key, verdict.reason, verdict.source, verdict.expires_at)
            for address, verdict in verdicts.items()
        ]
        suppressions.impose(connection, imposed)
    return sum(address not in standing or not standing[address].is_active for address in verdicts)


def _ends_before(verdict: Verdict, row: Suppression) -> bool:
    ends = verdict.expires_at
    return ends is not None and row.expires_at is not None and ends < row.expires_at


def _lift(connection: Connection, addresses: Sequence[Address], actor: str) -> int:
    return sum(
        suppressions.lift(
            connection,
            channel,
            [a.key for a in addresses if a.channel is channel],
            actor,
            for_good=actor not in _NOBODY,
        )
        for channel in sorted({address.channel for address in addresses})
    )


def _unsubscribe(connection: Connection, found: Sequence[_Found], picture: _Picture) -> int:
    """Note who wants no more of anything, or of one audience; return how many addresses are new there."""
    contacts: set[int] = set()
    wishes: dict[tuple[int, Channel, str], str] = {}
    for each in found:
        match = each.match
        theirs = picture.addresses.get(match.person, set())
        given_back = [at for address in theirs if (at := picture.since[address]) is not None]
        if not each.piece.everywhere and match.audience_id is not None:
            for address in theirs:
                wish = (match.audience_id, address.channel, address.key)
                wishes.setdefault(wish, each.piece.source)
        elif match.contact_id is not None and all(at < each.piece.occurred_at for at in given_back):
            contacts.add(match.contact_id)
    if contacts:
        storage.unsubscribe(connection, contacts)
    return storage.opt_out(connection, wishes) if wishes else 0


def _clues(pieces: Sequence[Evidence]) -> list[Clue]:
    known = _email_keys(
        {
            address
            for piece in pieces
            if piece.channel is Channel.EMAIL
            for address in (piece.recipient, *piece.aliases)
            if address
        }
    )
    return [
        Clue(
            channel=piece.channel,
            at=piece.occurred_at,
            token=piece.token,
            campaign_id=piece.campaign_id,
            message_id=piece.message_id,
            provider_message_id=piece.provider_message_id,
            keys=tuple(dict.fromkeys(known.get(a, a) for a in (piece.recipient, *piece.aliases) if a)),
        )
        for piece in pieces
    ]


def _email_keys(given: set[str]) -> dict[str, str]:
    """Return addresses in the form that the ledger compares; one that it would refuse, in lower case."""
    if not given:
        return {}
    # Here, because a page that counts opens must not pay for Polars.
    import polars as pl  # noqa: PLC0415

    from messaging.audience.emails import judge_emails  # noqa: PLC0415

    judged = judge_emails(pl.Series(sorted(given), dtype=pl.String))
    known = zip(judged["given"], judged["email_key"], strict=True)
    return {address: key or address.lower() for address, key in known}


def _storable(piece: Evidence) -> Evidence:
    """Return evidence as PostgreSQL can keep it: what comes from outside may hold anything.

    What is said to happen in the future happens now, or it would outlast every later decision of a person.
    """
    return replace(
        piece,
        source_id=_short(_text(piece.source_id)),
        occurred_at=min(max(piece.occurred_at, _EARLIEST), datetime.now(UTC)),
        campaign_id=piece.campaign_id if (piece.campaign_id or 0) < _LARGEST_ID else None,
        message_id=piece.message_id and _text(piece.message_id),
        provider_message_id=piece.provider_message_id and _text(piece.provider_message_id),
        recipient=_text(piece.recipient),
        aliases=tuple(map(_text, piece.aliases[:_MOST_ALIASES])),
    )


def _text(given: str) -> str:
    """Return text without NUL and halves of surrogate pairs."""
    return given.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _short(source_id: str) -> str:
    """Return a name that fits into an index."""
    return source_id if len(source_id) <= _LONGEST_ID else sha256(source_id.encode()).hexdigest()


def _json(value: Any) -> Any:  # noqa: ANN401 - what JSON can say
    """Return a value with all its text as PostgreSQL can keep it."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return {_text(str(key)): _json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_json(each) for each in value]
    return value


def _details(piece: Evidence, match: Match | None) -> str:
    """Return what is kept of a piece beside its columns, as JSON; without an attempt, all of it."""
    details: dict[str, Any] = {**piece.details, "channel": piece.channel}
    if piece.bounce is not None:
        bounce = asdict(piece.bounce)
        details |= {
            "class": bounce.pop("bounce_class"),
            **{name: said for name, said in bounce.items() if said},
        }
    if piece.kind is EventKind.UNSUBSCRIBED:
        details["everywhere"] = piece.everywhere
    if match is not None:
        details["matched"] = match.how
    else:
        origin = {
            "token": piece.token.hex if piece.token else None,
            "campaign_id": piece.campaign_id,
            "message_id": piece.message_id,
            "provider_message_id": piece.provider_message_id,
            "recipient": piece.recipient,
            "aliases": piece.aliases,
        }
        details["origin"] = {name: said for name, said in origin.items() if said}
    return json.dumps(_json(details), ensure_ascii=False)


def _read_back(row: Row[Any]) -> Evidence:
    """Return the evidence that an event without an attempt was made from."""
    details = dict(row.details)
    origin = details.pop("origin", {})
    channel, everywhere = details.pop("channel"), details.pop("everywhere", True)
    said = {name: details.pop(name) for name in _OF_BOUNCES if name in details}
    bounce = None
    if "class" in said:
        bounce = Bounce(
            BounceClass(said.pop("class")),
            BounceReason(said.pop("reason")),
            Suppress(said.pop("suppress")),
            **said,
        )
    return Evidence(
        kind=EventKind(row.kind),
        channel=Channel(channel),
        source=row.source,
        source_id=row.source_id,
        occurred_at=row.occurred_at,
        token=UUID(origin["token"]) if "token" in origin else None,
        campaign_id=origin.get("campaign_id"),
        message_id=origin.get("message_id"),
        provider_message_id=origin.get("provider_message_id"),
        recipient=origin.get("recipient", ""),
        aliases=tuple(origin.get("aliases", ())),
        bounce=bounce,
        everywhere=everywhere,
        details=details,
    )
