"""Where a Prefect server that we start keeps its data."""

from pathlib import Path

import psycopg
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, temporary_settings
from pydantic import SecretStr
from sqlalchemy import make_url

from deployments import prefect_database
from messaging.settings import Settings


def test_it_is_beside_the_ledger(home: Path, database_url: str):
    chosen = Settings(home=home, database_url=None)

    with temporary_settings(restore_defaults={PREFECT_API_DATABASE_CONNECTION_URL}):
        said = prefect_database.environment(chosen)
        assert prefect_database.environment(chosen) == said

    [url] = [make_url(value) for value in said.values()]
    ledger = make_url(database_url)
    assert (url.drivername, url.query) == ("postgresql+asyncpg", ledger.query)
    assert url.database != ledger.database
    as_libpq = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(as_libpq) as connection:
        assert connection.info.dbname == url.database


def test_a_place_that_somebody_has_chosen_stays(home: Path):
    with temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: "sqlite+aiosqlite:///elsewhere.db"}):
        assert prefect_database.environment(Settings(home=home, database_url=None)) == {}


def test_in_a_postgresql_of_somebodys_own_no_database_is_made(home: Path):
    theirs = SecretStr("postgresql://u@127.0.0.1:1/x")

    assert prefect_database.environment(Settings(home=home, database_url=theirs)) == {}
