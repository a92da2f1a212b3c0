"""How accounts are: what each process that uses one said last, by the database's clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from schemas.states import AccountState

VALID_SECONDS: Final = 60.0  # whoever says nothing for longer is gone

_FOR_PEOPLE: Final = frozenset(
    {AccountState.PAUSED, AccountState.AUTHENTICATION_FAILED, AccountState.LOGGED_OUT, AccountState.BANNED}
)
_FOR_A_WHILE: Final = frozenset({AccountState.PAUSED, AccountState.BANNED})
_IN_ORDER: Final = frozenset({AccountState.CONNECTED, AccountState.READY})


@dataclass(frozen=True, slots=True)
class Status:
    """How an account is, and why."""

    state: AccountState
    identity: str
    """Who we are to the provider."""
    reason: str | None
    paused_until: datetime | None
    seen_at: datetime
    """When a process said so."""


# Each process has a row per account and campaign while it sends; the row that stays after it is owned by
# the account itself.  So there is one for each account, and one for each process that uses or left it.
_BEAT = text("""
    WITH superseded AS (
        DELETE FROM senders_status WHERE account = :account AND owner NOT IN (:owner, :account)
            AND seen_at < clock_timestamp() - make_interval(secs => :valid))
    INSERT INTO senders_status AS s (owner, account, state, identity, reason, paused_until, seen_at)
    VALUES (:owner, :account, :state, :identity, :reason, :paused_until, clock_timestamp())
    ON CONFLICT (owner) DO UPDATE SET state = excluded.state, identity = excluded.identity,
        reason = excluded.reason, paused_until = excluded.paused_until, seen_at = excluded.seen_at
""")
_LEAVE = text("DELETE FROM senders_status WHERE owner = :owner")
_FORGET = text("DELETE FROM senders_status WHERE account = :account")
_ALL = text("""
    SELECT account, owner = account AS ended, state, identity, reason, paused_until, seen_at,
        seen_at < clock_timestamp() - make_interval(secs => :valid) AS silent,
        paused_until <= clock_timestamp() AS pause_is_over
    FROM senders_status ORDER BY account
""")


@dataclass(slots=True)
class Beat:
    """What a process says of an account that it uses."""

    owner: str
    """A campaign in one process."""
    account: str
    state: AccountState
    identity: str
    reason: str | None = None
    paused_until: datetime | None = None


def beat(connection: Connection, said: Beat) -> None:
    """Note how an account is; what processes said that have been silent for long is superseded."""
    _write(connection, said, said.owner)


def end(connection: Connection, said: Beat) -> None:
    """Note that a process does not use an account any more, and how it left it.

    What was said of it while it was connected is over then: it is disconnected.
    """
    connection.execute(_LEAVE, {"owner": said.owner})
    _write(connection, said, said.account)


def _write(connection: Connection, said: Beat, owner: str) -> None:
    connection.execute(
        _BEAT,
        {
            "owner": owner,
            "account": said.account,
            "state": said.state if owner != said.account else _left(said.state),
            "identity": said.identity,
            "reason": said.reason,
            "paused_until": said.paused_until,
            "valid": VALID_SECONDS,
        },
    )


def _left(state: AccountState) -> AccountState:
    return state if state in _FOR_PEOPLE else AccountState.DISCONNECTED


def forget(connection: Connection, account: str) -> None:
    """Remove what was said of an account."""
    connection.execute(_FORGET, {"account": account})


def statuses(connection: Connection) -> dict[str, Status]:
    """Return how each account is that was ever used.

    Of several processes that use it, the one speaks that a person should hear.
    """
    found: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(_ALL, {"valid": VALID_SECONDS}):
        found.setdefault(row.account, []).append(row)
    return {account: _status(rows) for account, rows in found.items()}


def _status(rows: Sequence[Row[Any]]) -> Status:
    in_use = [row for row in rows if not row.ended and not row.silent]
    row = max(in_use, key=_urgency) if in_use else max(rows, key=lambda row: row.seen_at)
    state = AccountState(row.state)
    for_a_while = state in _FOR_A_WHILE and row.paused_until is not None
    lasts = state is AccountState.BANNED  # whether or not somebody is there to say so
    if for_a_while and row.pause_is_over and (row.ended or lasts):
        state = AccountState.DISCONNECTED
    elif row.silent and not row.ended and ((for_a_while and not lasts) or state not in _FOR_PEOPLE):
        state = AccountState.WORKER_GONE
    return Status(
        state=state,
        identity=row.identity,
        reason=row.reason if state in _FOR_PEOPLE else None,
        paused_until=row.paused_until if state in _FOR_A_WHILE else None,
        seen_at=row.seen_at,
    )


def _urgency(row: Row[Any]) -> tuple[int, datetime]:
    ranks = [AccountState(row.state) in words for words in (_IN_ORDER, _FOR_PEOPLE)]
    return (2 * ranks[1] + ranks[0], row.seen_at)
