"""The migrations and the tables say the same."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, text

from messaging.errors import DatabaseError
from messaging.storage import migrating
from messaging.storage.engine import open_engine
from messaging.storage.tables import metadata


@pytest.fixture
def empty_database(migrated: Engine, database_url: str):
    with migrated.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("DROP DATABASE IF EXISTS empty"))
        connection.execute(text("CREATE DATABASE empty"))
    engine = open_engine(database_url.replace("/postgres?", "/empty?"))
    yield engine
    engine.dispose()


def test_the_migrations_make_the_tables(migrated: Engine):
    with migrated.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_upgrading_twice_changes_nothing(migrated: Engine):
    assert migrating.upgrade(migrated) is False


def test_two_processes_may_upgrade_at_once(empty_database: Engine):
    with ThreadPoolExecutor(4) as pool:
        changed = list(pool.map(lambda _: migrating.upgrade(empty_database), range(4)))

    assert sorted(changed) == [False, False, False, True]


def test_a_database_of_a_newer_outflow_is_refused(empty_database: Engine):
    migrating.upgrade(empty_database)
    with empty_database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(DatabaseError, match="newer Outflow"):
        migrating.upgrade(empty_database)
