"""The last word on each account: of whom uses it, else of who left it, else that they are gone."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine, text

from messaging.storage import senders
from messaging.storage.senders import Beat, Status
from schemas.states import AccountState

ACCOUNT = "whatsapp-web-account/shop"


@pytest.fixture
def connection(ledger: Engine):
    with ledger.begin() as opened:
        yield opened


def said(state: AccountState, owner: str = "one", **more: object) -> Beat:
    return Beat(owner, ACCOUNT, state, "news at smtp.example.org:587", **more)


def later(connection: Connection, seconds: float) -> None:
    """Let time pass: everything in the ledger becomes older."""
    for column in ("seen_at", "paused_until"):
        statement = f"UPDATE senders_status SET {column} = {column} - make_interval(secs => {seconds})"  # noqa: S608
        connection.execute(text(statement))


def status(connection: Connection) -> Status:
    [(account, found)] = senders.statuses(connection).items()
    assert account == ACCOUNT
    return found


def rows(connection: Connection) -> int:
    return connection.execute(text("SELECT count(*) FROM senders_status")).scalar_one()


def test_what_was_never_used_is_not_there(connection: Connection):
    assert senders.statuses(connection) == {}


@pytest.mark.parametrize("state", AccountState)
def test_whatever_a_process_says_is_the_state_while_it_is_heard(connection: Connection, state: AccountState):
    senders.beat(connection, said(AccountState.DISCONNECTED))
    senders.beat(connection, said(state))
    later(connection, senders.VALID_SECONDS - 5)

    found = status(connection)
    assert (found.state, found.identity) == (state, "news at smtp.example.org:587")
    assert rows(connection) == 1


@pytest.mark.parametrize(
    ("state", "after_a_minute"),
    [
        (AccountState.CONNECTED, AccountState.WORKER_GONE),
        (AccountState.READY, AccountState.WORKER_GONE),
        (AccountState.SCAN_QR, AccountState.WORKER_GONE),
        (AccountState.LOGGED_OUT, AccountState.LOGGED_OUT),
        (AccountState.BANNED, AccountState.BANNED),
    ],
)
def test_a_worker_that_is_silent_is_gone_but_what_a_person_must_do_is_not(
    connection: Connection, state: AccountState, after_a_minute: AccountState
):
    senders.beat(connection, said(state))
    later(connection, senders.VALID_SECONDS + 1)

    assert status(connection).state is after_a_minute


def test_a_pause_for_a_while_ends_and_one_for_a_person_does_not(connection: Connection):
    pause = {"reason": "454 4.7.0", "paused_until": datetime.now(UTC) + timedelta(minutes=5)}
    senders.end(connection, said(AccountState.PAUSED, **pause))
    found = status(connection)
    assert (found.state, found.reason) == (AccountState.PAUSED, "454 4.7.0")
    assert found.paused_until == pause["paused_until"]
    later(connection, 301.0)
    found = status(connection)
    assert (found.state, found.paused_until) == (AccountState.DISCONNECTED, None)

    senders.beat(connection, said(AccountState.PAUSED, **pause))
    later(connection, senders.VALID_SECONDS + 1)
    assert status(connection).state is AccountState.WORKER_GONE

    senders.end(connection, said(AccountState.PAUSED, reason="the login was refused: 535"))
    later(connection, 1_000_000.0)
    found = status(connection)
    assert (found.state, found.reason) == (AccountState.PAUSED, "the login was refused: 535")


def test_a_ban_for_a_while_ends_whether_or_not_a_worker_is_heard(connection: Connection):
    ban = {"reason": "too many people", "paused_until": datetime.now(UTC) + timedelta(minutes=5)}
    for note in (senders.beat, senders.end):
        note(connection, said(AccountState.BANNED, **ban))
        later(connection, senders.VALID_SECONDS + 1)
        found = status(connection)
        assert (found.state, found.reason) == (AccountState.BANNED, "too many people")
        assert found.paused_until is not None
        later(connection, 301.0)
        found = status(connection)
        assert (found.state, found.reason, found.paused_until) == (AccountState.DISCONNECTED, None, None)
        senders.forget(connection, ACCOUNT)


def test_who_ends_leaves_one_row_and_the_account_is_disconnected(connection: Connection):
    for owner in ("one", "two", "three"):
        senders.beat(connection, said(AccountState.CONNECTED, owner))
        senders.end(connection, said(AccountState.CONNECTED, owner))

    assert status(connection).state is AccountState.DISCONNECTED
    assert rows(connection) == 1


def test_rows_of_the_dead_go_when_somebody_uses_the_account_again(connection: Connection):
    for owner in ("one", "two"):
        senders.beat(connection, said(AccountState.CONNECTED, owner))
    later(connection, senders.VALID_SECONDS + 1)
    senders.beat(connection, Beat("other", "smtp-account/main", AccountState.CONNECTED, ""))
    assert rows(connection) == 3
    senders.beat(connection, said(AccountState.CONNECTED, "three"))

    assert rows(connection) == 2
    assert senders.statuses(connection)[ACCOUNT].state is AccountState.CONNECTED


def test_of_several_processes_the_one_with_something_for_a_person_speaks(connection: Connection):
    senders.beat(connection, said(AccountState.PAUSED, "one", reason="535"))
    senders.beat(connection, said(AccountState.CONNECTED, "two"))
    senders.beat(connection, said(AccountState.DISCONNECTED, "three"))
    assert status(connection).state is AccountState.PAUSED

    senders.end(connection, said(AccountState.PAUSED, "one", reason="535"))
    assert status(connection).state is AccountState.CONNECTED


def test_a_forgotten_account_was_never_used(connection: Connection):
    senders.end(connection, said(AccountState.CONNECTED))
    senders.forget(connection, ACCOUNT)

    assert senders.statuses(connection) == {}
