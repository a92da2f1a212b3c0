"""Real parts for every test that asks: PostgreSQL, the sandbox SMTP server, a campaign to send to it."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from messaging import sandbox
from messaging.storage import embedded, migrating
from messaging.storage.engine import open_engine
from messaging.storage.tables import metadata
from schemas.campaign import CampaignSpec


@pytest.fixture(scope="session")
def home() -> Path:
    """A home that the embedded PostgreSQL can use as root too: pytest's own folders are private."""
    folder = Path(tempfile.mkdtemp(prefix="outflow-tests-"))
    folder.chmod(0o755)
    os.environ["OUTFLOW_HOME"] = str(folder)
    os.environ["OUTFLOW_SPAMASSASSIN"] = ""  # it takes seconds of each launch; its own tests ask it
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


@pytest.fixture
def spec() -> CampaignSpec:
    return CampaignSpec(
        name="spring-offer",
        account="smtp-account/main",
        audience="customers",
        subject="Hello {{ name }}",
        text="Dear {{ name }}",
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[sandbox.Sandbox]:
    with sandbox.running(tmp_path / "outbox") as running:
        yield running


@pytest.fixture
def states(ledger: Engine) -> Callable[[], dict[str, str]]:
    """Read each recipient's state."""

    def read() -> dict[str, str]:
        with ledger.begin() as connection:
            rows = connection.execute(text("SELECT address, state FROM attempts ORDER BY id"))
            return {row.address: row.state for row in rows}

    return read
