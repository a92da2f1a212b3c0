"""A real PostgreSQL for every test that asks for one."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from messaging.storage import embedded, migrating
from messaging.storage.engine import open_engine
from messaging.storage.tables import metadata


@pytest.fixture(scope="session")
def home() -> Path:
    """A home that the embedded PostgreSQL can use as root too: pytest's own folders are private."""
    folder = Path(tempfile.mkdtemp(prefix="outflow-tests-"))
    folder.chmod(0o755)
    os.environ["OUTFLOW_HOME"] = str(folder)
    # Registered before the server starts, hence run after the server was stopped.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@pytest.fixture(scope="session")
def database_url(home: Path) -> str:
    return embedded.start(home)


@pytest.fixture(scope="session")
def migrated(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url)
    migrating.upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def ledger(migrated: Engine) -> Engine:
    """An engine on an empty ledger."""
    tables = ", ".join(table.name for table in metadata.sorted_tables)
    with migrated.begin() as connection:
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
    return migrated
