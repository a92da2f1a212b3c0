"""Where a Prefect server that we start keeps its runs and accounts: beside the ledger."""

from typing import Final

from sqlalchemy import make_url

from messaging.settings import Settings
from messaging.storage import embedded

_DATABASE: Final = "prefect"
_VARIABLE: Final = "PREFECT_API_DATABASE_CONNECTION_URL"


def environment(chosen: Settings) -> dict[str, str]:
    """Return the environment that has a Prefect server keep its data in the embedded PostgreSQL.

    Empty, when somebody has chosen a place, or the ledger is in a PostgreSQL of your own: then Prefect
    chooses, by default SQLite. That is for one client at a time (measured on 3.8.8, 6 clients for 30 s, each
    making deployments and runs): 23 requests answered, 53 refused as "locked", 6 after a minute's wait;
    PostgreSQL answered 246 and refused none.

    Raises:
        InputError: The folder of the embedded PostgreSQL cannot be used.
        DatabaseError: It did not start.
    """
    if chosen.database_url is not None or _is_chosen():
        return {}
    url = make_url(embedded.database(chosen.home, _DATABASE)).set(drivername="postgresql+asyncpg")
    return {_VARIABLE: url.render_as_string(hide_password=False)}


def _is_chosen() -> bool:
    from prefect.settings import get_current_settings  # noqa: PLC0415 - reads the environment when imported

    chosen = get_current_settings().server.database.model_fields_set
    return not chosen.isdisjoint({"connection_url", "driver"})
