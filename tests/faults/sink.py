"""Postfix's smtp-sink: a receiver that shares no code with us and keeps every message it took."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_WHERE = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
_START_SECONDS = 30
_ENVELOPE = b"X-Rcpt-Args: <"


@dataclass(frozen=True, slots=True)
class Sink:
    """A running smtp-sink, which writes each message to a file of its own."""

    port: int
    folder: Path

    def received(self) -> int:
        """Count the messages it has, one that is just coming in too."""
        with os.scandir(self.folder) as entries:
            return sum(1 for _ in entries)

    def copies(self) -> Counter[str]:
        """Count the copies it took for each recipient; what was broken off before the dot it removes."""
        kept: Counter[str] = Counter()
        for file in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError), file.open("rb") as lines:
                found = next((line for line in lines if line.startswith(_ENVELOPE)), None)
                if found is not None:
                    kept[found.removeprefix(_ENVELOPE).partition(b">")[0].decode()] += 1
        return kept


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(port: int | None = None) -> Iterator[Sink]:
    """Run an smtp-sink, on a free port when none is given; without one on this machine, skip, in CI fail."""
    program = shutil.which("smtp-sink", path=_WHERE)
    if program is None:
        missing = "there is no smtp-sink on this machine: apt-get install --no-install-recommends postfix"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    port = port or free_port()
    as_root = ["-u", "root"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="outflow-sink-") as folder:
        command = [program, *as_root, "-d", "%H%M%S.", f"127.0.0.1:{port}", "200"]
        with subprocess.Popen(command, cwd=folder) as server:
            try:
                _wait_for(server, port)
                yield Sink(port, Path(folder))
            finally:
                server.kill()


def _wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        assert server.poll() is None, "smtp-sink ended; its words are on stderr"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline, "smtp-sink did not start"
            time.sleep(0.02)
        else:
            return
