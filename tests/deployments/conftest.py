"""A whole installation in processes of its own: `outflow up`, its worker, and the sandbox server."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from messaging import sandbox

OUTFLOW = str(Path(sys.executable).with_name("outflow"))
START_SECONDS = 180

Command = Callable[..., subprocess.CompletedProcess[str]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def installation(
    home: Path, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    """Run `outflow up` until the end of the session."""
    prefect_home = tmp_path_factory.mktemp("prefect")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {
        "OUTFLOW_HOME": str(home),
        "OUTFLOW_DATABASE_URL": database_url,
        "PREFECT_HOME": str(prefect_home),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    port = free_port()
    log = (prefect_home / "up.log").open("w+")
    up = subprocess.Popen(
        [OUTFLOW, "up", "--port", str(port)], env=environment, stdout=log, stderr=subprocess.STDOUT
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while "A worker is running" not in (prefect_home / "up.log").read_text():
            assert up.poll() is None, (prefect_home / "up.log").read_text()
            assert time.monotonic() < deadline, (prefect_home / "up.log").read_text()
            time.sleep(0.3)
        yield SimpleNamespace(environment=environment, api_url=f"http://127.0.0.1:{port}/api")
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(60)
        log.close()


@pytest.fixture
def outflow(installation: SimpleNamespace) -> Command:
    """Run a command of the front door against the installation and return what it printed."""

    def run(*arguments: str) -> SimpleNamespace:
        done = subprocess.run(
            [OUTFLOW, *arguments],
            env=installation.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return SimpleNamespace(
            code=done.returncode,
            json=json.loads(done.stdout) if "--json" in arguments and done.stdout else None,
            out=done.stdout,
            err=done.stderr,
        )

    return run


@pytest.fixture
def account(outflow: Command, server: sandbox.Sandbox) -> str:
    """Make an account for the sandbox server."""
    made = outflow(
        "account",
        "add",
        "smtp",
        "sandbox",
        "host=127.0.0.1",
        f"port={server.port}",
        "security=none",
        "sender=Shop <news@shop.example.org>",
        "connections=4",
        "--json",
    )
    assert made.code == 0, made.err
    return str(made.json["account"])
