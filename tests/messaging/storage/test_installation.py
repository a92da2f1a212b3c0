"""A copy of a ledger is known for one, and sends nothing until a person says that it is the right one."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import Connection, Engine, make_url, text

from messaging.campaign import recovering
from messaging.campaign.presence import Presence
from messaging.campaign.sending import CampaignRun
from messaging.channels.smtp import SmtpPool, SmtpSettings
from messaging.errors import InputError
from messaging.storage import installation
from messaging.storage.engine import open_engine
from tests.faults.crowds import plan, states

SENDER = "Shop <news@shop.example.org>"


@pytest.fixture
def used(ledger: Engine) -> Engine:
    """A ledger that was sent from."""
    with ledger.begin() as connection:
        installation.refuse_copy(connection)
    return ledger


@pytest.fixture
def copied(used: Engine, database_url: str) -> Iterator[Engine]:
    """The ledger, with a campaign, copied into another database of the same server."""
    plan(used, 2)
    name = f"copied_{os.getpid()}"
    used.dispose()  # PostgreSQL copies only what nobody is connected to
    there = open_engine(
        make_url(database_url).set(database="template1").render_as_string(hide_password=False)
    )
    with ExitStack() as ending:
        ending.callback(there.dispose)
        with there.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            ending.callback(_drop, there, name)
            _copy(connection, make_url(database_url).database, name)
        copy = open_engine(make_url(database_url).set(database=name).render_as_string(hide_password=False))
        ending.callback(copy.dispose)
        yield copy


def _copy(connection: Connection, original: str, name: str) -> None:
    others = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :original")
    connection.execute(others, {"original": original})
    connection.execute(text(f'CREATE DATABASE {name} TEMPLATE "{original}"'))


def _drop(there: Engine, name: str) -> None:
    with there.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


def problem(ledger: Engine) -> str | None:
    with ledger.begin() as connection:
        return installation.problem_of(connection)


def test_a_ledger_that_nothing_was_sent_from_yet_is_the_original(ledger: Engine):
    assert problem(ledger) is None
    with ledger.begin() as connection:
        installation.refuse_copy(connection)
        noted = connection.execute(text("SELECT * FROM installation")).one()
        installation.refuse_copy(connection)
        assert connection.execute(text("SELECT * FROM installation")).one() == noted


async def test_from_a_copy_nothing_is_sent_and_nothing_is_paused(copied: Engine):
    assert "outflow init --restored" in problem(copied)
    with pytest.raises(InputError, match="is a copy"):
        async with Presence(copied, 1):
            pytest.fail("it was entered")
    pool = SmtpPool(SmtpSettings(host="127.0.0.1", port=1, security="none", connections=1))
    with pytest.raises(InputError, match="is a copy"):
        CampaignRun(copied, 1, SENDER, pool)
    with pytest.raises(InputError, match="is a copy"):
        recovering.stranded(copied)

    assert set(states(copied).values()) == {"queued"}
    with copied.begin() as connection:
        assert connection.execute(text("SELECT state FROM campaigns")).scalar_one() == "running"
        assert connection.execute(text("SELECT count(*) FROM campaign_runs")).scalar_one() == 0


async def test_a_copy_that_a_person_calls_the_right_one_sends(copied: Engine):
    with copied.begin() as connection:
        installation.note(connection)
    assert problem(copied) is None
    async with Presence(copied, 1):
        pass


def test_the_copy_on_another_server_is_one_too(used: Engine):
    with used.begin() as connection:
        connection.execute(text("UPDATE installation SET system_identifier = '7000000000000000000'"))
    assert problem(used) is not None


def test_where_the_server_may_not_be_asked_the_database_decides(used: Engine):
    with used.begin() as connection:
        connection.execute(text("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"))
        connection.execute(text("CREATE ROLE plain_one"))
        connection.execute(text("GRANT SELECT ON installation TO plain_one"))
        connection.execute(text("SET LOCAL ROLE plain_one"))
        assert installation.problem_of(connection) is None
        connection.execute(text("RESET ROLE"))
        connection.execute(text("UPDATE installation SET database_oid = 1"))
        connection.execute(text("SET LOCAL ROLE plain_one"))
        assert installation.problem_of(connection) is not None
        connection.rollback()
