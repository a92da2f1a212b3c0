"""Real flows: a Prefect server for the session, the sandbox SMTP server and a real ledger."""

import gc
import logging
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from prefect import settings as prefect_settings
from prefect.client.schemas.objects import Artifact
from prefect.settings import temporary_settings
from prefect.testing.utilities import prefect_test_harness
from sqlalchemy import Engine, make_url, text

from deployments import environment
from messaging import sandbox
from messaging.audience.importing import import_file
from messaging.settings import settings
from messaging.storage.engine import engine
from schemas.contacts import ImportOptions
from tasks.accounts import add_account


@pytest.fixture(scope="session", autouse=True)
def prefect_database() -> Iterator[Path]:
    """A Prefect server of our own; the file of its database."""
    environment.apply()
    with (
        tempfile.TemporaryDirectory(prefix="outflow-prefect-") as folder,
        temporary_settings(
            {
                prefect_settings.PREFECT_HOME: folder,
                prefect_settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,  # its thread costs a second a run
                prefect_settings.PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore",  # tests plan too
            }
        ),
        prefect_test_harness(server_startup_timeout=180),
    ):
        yield Path(make_url(prefect_settings.PREFECT_SERVER_DATABASE_CONNECTION_URL.value()).database)


@pytest.fixture(autouse=True)
def configured(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the tasks find the ledger of the tests, and write their files to `home` in the test's folder."""
    monkeypatch.setenv("OUTFLOW_DATABASE_URL", database_url)
    monkeypatch.setenv("OUTFLOW_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    engine.cache_clear()
    yield
    engine().dispose()
    engine.cache_clear()
    settings.cache_clear()
    # Prefect leaves sockets of a finished event loop to the collector, which complains; not in a later test,
    # where that is an error, but here, where it is ignored.
    gc.collect()


@pytest.fixture(autouse=True)
def forwarded_log() -> Iterator[None]:
    """Let our log lines reach the run's page, as PREFECT_LOGGING_EXTRA_LOGGERS does in a process of its own.

    Prefect read that setting when it was imported, before the environment was ours; and outside of flows its
    handler complains.
    """
    ours, handlers = logging.getLogger("messaging"), logging.getLogger("prefect.extra").handlers
    for handler in handlers:
        ours.addHandler(handler)
    yield
    for handler in handlers:
        ours.removeHandler(handler)


@pytest.fixture
def ledger(ledger: Engine) -> Engine:
    """An empty ledger that counts campaigns on: artifacts of two tests never share a key."""
    ledger_ids["campaigns"] += 100
    ledger_ids["imports"] += 100
    with ledger.begin() as connection:
        for table, last in ledger_ids.items():
            connection.execute(
                text("SELECT setval(pg_get_serial_sequence(:table, 'id'), :last)"),
                {"table": table, "last": last},
            )
    return ledger


ledger_ids: Counter[str] = Counter()


@pytest.fixture
def audience(ledger: Engine, tmp_path: Path) -> Callable[..., None]:
    """Import an audience of these addresses."""

    def make(*addresses: str, name: str = "customers", city: str = "") -> None:
        contacts = tmp_path / "contacts.csv"
        rows = [f"{address},{address.partition('@')[0]},{city}" for address in addresses]
        contacts.write_text("\n".join(["email,name,city", *rows]))
        options = ImportOptions(audience=name, consent="newsletter form", again=True)
        import_file(ledger, options, contacts, folder=tmp_path / "home")

    return make


@pytest.fixture
def account() -> Callable[..., Awaitable[str]]:
    """Save an account, a real block, that sends through a server on loopback."""

    async def save(port: int, **values: str) -> str:
        usual = {"host": "127.0.0.1", "port": str(port), "security": "none", "connections": "4"}
        sender = {"sender": "Shop <news@shop.example.org>"}
        return await add_account("smtp", "main", usual | sender | values)

    return save


@pytest.fixture
def received(server: sandbox.Sandbox) -> Callable[[], Counter[str]]:
    """Count the copies that the sandbox took for each recipient."""

    def count() -> Counter[str]:
        messages = (file.read_text() for file in (server.outbox / "new").iterdir())
        return Counter(message.split("X-Sandbox-Rcpt-To: ")[1].split("\n")[0].strip() for message in messages)

    return count


@pytest.fixture
def campaigns_written(ledger: Engine) -> Callable[[], int]:
    def count() -> int:
        with ledger.begin() as connection:
            return connection.execute(text("SELECT count(*) FROM campaigns")).scalar_one()

    return count


@pytest.fixture
def campaign_id(ledger: Engine) -> Callable[[], int]:
    """Read the id of the one campaign there is."""

    def read() -> int:
        with ledger.begin() as connection:
            return connection.execute(text("SELECT id FROM campaigns")).scalar_one()

    return read


@pytest.fixture
def artifact() -> Callable[[str], Awaitable[Artifact]]:
    """Read the newest artifact of a key from Prefect."""
    from prefect.artifacts import Artifact as Stored  # noqa: PLC0415 - the other Artifact is the client's

    async def read(key: str) -> Artifact:
        found = await Stored.aget(key)
        assert found is not None, f"there is no artifact {key}"
        return found

    return read
