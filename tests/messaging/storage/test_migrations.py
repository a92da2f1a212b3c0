"""The migrations and the tables say the same."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
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


def test_contacts_and_imports_of_the_first_tables_are_kept(empty_database: Engine):
    with empty_database.begin() as connection:
        command.upgrade(migrating.config(connection), "0001")
        connection.execute(
            text("""
                INSERT INTO audiences (name) VALUES ('customers');
                INSERT INTO contacts (email_key, email, attributes)
                    VALUES ('a@b.org', 'A@b.org', '{"City": "Leeds"}');
                INSERT INTO imports (audience_id, file_name, sha256, columns, attributes, rows, imported,
                        refused, duplicates)
                    VALUES (1, 'people.csv', 'abc', '[{"column": "City"}]', '["City"]', 1, 1, 0, 0);
                INSERT INTO audience_members (audience_id, contact_id, import_id) VALUES (1, 1, 1)
            """)
        )

    assert migrating.upgrade(empty_database) is True

    with empty_database.begin() as connection:
        contact = connection.execute(text("SELECT * FROM contacts")).one()
        assert (contact.email, contact.attributes, contact.country) == ("A@b.org", {"City": "Leeds"}, None)
        loaded = connection.execute(text("SELECT * FROM imports")).one()
        assert (loaded.state, loaded.rows, loaded.columns) == ("loaded", 1, [{"column": "City"}])
        assert connection.execute(text("SELECT contact_id FROM audience_members")).scalars().all() == [1]


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
