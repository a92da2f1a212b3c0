"""Schema upgrades: the Alembic revisions that ship inside this package."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from messaging.errors import DatabaseError

_MIGRATIONS = Path(__file__).parent / "migrations"
_ONE_AT_A_TIME = 7_305_801  # any number: the advisory lock that migrations of one database share


def upgrade(engine: Engine) -> bool:
    """Bring the schema to this version; return whether anything changed.

    One transaction under an advisory lock: a second process waits, a killed one leaves the old schema.

    Raises:
        DatabaseError: The database was written by a newer Outflow.
    """
    script = ScriptDirectory.from_config(config())
    with engine.begin() as connection:
        # Seen without a lock: the usual case is that nothing is to be done.
        if _revision(connection) == script.get_current_head():
            return False
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ONE_AT_A_TIME})
        current = _revision(connection)
        if current == script.get_current_head():
            return False
        if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
            raise DatabaseError(
                f"the database was written by a newer Outflow (schema {current}): "
                "upgrade Outflow, or use another database"
            )
        command.upgrade(config(connection), "head")
    return True


def config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration, bound to an open connection when one is given."""
    made = Config()
    made.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
