"""The one engine of a process, on our own PostgreSQL or the embedded one."""

from functools import cache

from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError

from messaging.errors import DatabaseError, InputError
from messaging.settings import Settings, settings
from messaging.storage import embedded, migrating

OLDEST_POSTGRESQL = 150000  # server_version_num; older ones are not tested


@cache
def engine() -> Engine:
    """Return this process's engine, its schema up to date.

    Raises:
        InputError: `OUTFLOW_DATABASE_URL` is no PostgreSQL address.
        DatabaseError: The database is not there, or does not let us in.
    """
    return connect(settings())


def connect(chosen: Settings) -> Engine:
    """Open the database that the settings name and bring its schema up to date."""
    if chosen.database_url is None:
        url, name = embedded.start(chosen.home), "the embedded PostgreSQL"
    else:
        url, name = chosen.database_url.get_secret_value(), "the database of OUTFLOW_DATABASE_URL"
    opened = open_engine(url)
    try:
        with opened.connect() as connection:
            version = connection.execute(text("SHOW server_version_num")).scalar_one()
    except OperationalError as error:
        # The driver's text can hold the address and the user; its first line never holds the password.
        reason = str(error.orig).strip().splitlines()[0] if error.orig else "no answer"
        raise DatabaseError(f"{name} cannot be reached: {reason}") from None
    if int(version) < OLDEST_POSTGRESQL:
        raise InputError(f"{name} is PostgreSQL {int(version) // 10000}; Outflow needs 15 or newer")
    migrating.upgrade(opened)
    return opened


def open_engine(url: str) -> Engine:
    """Make an engine for a libpq or SQLAlchemy URL; nothing connects yet."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InputError(
            "OUTFLOW_DATABASE_URL is not a database address: write postgresql://user:password@host/database"
        ) from None
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise InputError(
            "Outflow keeps its ledger in PostgreSQL only; "
            f"OUTFLOW_DATABASE_URL names {parsed.get_backend_name()}"
        )
    return create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=10,
        max_overflow=20,
        hide_parameters=True,  # no people in the text of an error
        pool_pre_ping=True,  # PostgreSQL may have been restarted since
        connect_args={
            "connect_timeout": 10,
            "application_name": "outflow",
            # A server that vanished without a word is noticed within half a minute, before a lease runs out.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,  # milliseconds
        },
    )
