"""A whole installation in processes of its own: `outflow up`, its worker, and a receiver that counts."""

import asyncio
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from sqlalchemy import Engine, make_url, text

from messaging import sandbox
from messaging.storage import embedded
from tests.faults import sink as smtp_sink

OUTFLOW = str(Path(sys.executable).with_name("outflow"))
START_SECONDS = 600

Command = Callable[..., SimpleNamespace]
Begin = Callable[..., "subprocess.Popen[str]"]

CAMPAIGN = """
name: faults
account: {account}
audience: crowd
subject: "Hello {{{{ name }}}}"
text: "Dear {{{{ name }}}}"
batch_size: 300
pacing:
  rate: {rate}
"""


def surrounded(home: Path, prefect_home: Path) -> dict[str, str]:
    """Return the environment of an installation that nobody has used yet."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    kept.pop("OUTFLOW_DATABASE_URL", None)
    return kept | {
        "OUTFLOW_HOME": str(home),
        "PREFECT_HOME": str(prefect_home),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }


def another(home: Path, database_url: str, folder: Path) -> dict[str, str]:
    """Return the environment of one more installation on the same ledger, with a Prefect of its own."""
    url = make_url(embedded.database(home, f"prefect-{folder.name}")).set(drivername="postgresql+asyncpg")
    return surrounded(folder, folder) | {
        "OUTFLOW_DATABASE_URL": database_url,
        "PREFECT_API_DATABASE_CONNECTION_URL": url.render_as_string(hide_password=False),
    }


@contextlib.contextmanager
def installed(environment: dict[str, str], *options: str) -> Iterator[SimpleNamespace]:
    """Run `outflow up` with these options until the end of the block, or until somebody else stops it."""
    port = smtp_sink.free_port()
    said = Path(environment["PREFECT_HOME"]) / "up.log"
    with said.open("w") as log:
        up = subprocess.Popen(
            [OUTFLOW, "up", "--port", str(port), "--web-port", str(smtp_sink.free_port()), *options],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while "Ctrl-C stops all" not in said.read_text():
            assert up.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.3)
        yield SimpleNamespace(
            environment=environment, api_url=f"http://127.0.0.1:{port}/api", process=psutil.Process(up.pid)
        )
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(60)


@pytest.fixture(scope="session")
def installation(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    with installed(surrounded(home, tmp_path_factory.mktemp("prefect"))) as running:
        yield running


def run(environment: dict[str, str], *arguments: str) -> SimpleNamespace:
    """Run a command of the front door and return what it printed."""
    done = subprocess.run(
        [OUTFLOW, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return SimpleNamespace(
        code=done.returncode,
        json=json.loads(done.stdout) if "--json" in arguments and done.stdout else None,
        out=done.stdout,
        err=done.stderr,
    )


def add_account(environment: dict[str, str], name: str, port: int, connections: int) -> str:
    """Make an account for a server on loopback and return its reference."""
    sender = "sender=Shop <news@shop.example.org>"
    where = ["host=127.0.0.1", f"port={port}", "security=none", f"connections={connections}"]
    made = run(environment, "account", "add", "smtp", name, *where, sender, "--json")
    assert made.code == 0, made.err
    return str(made.json["account"])


@pytest.fixture(scope="session")
def outflow(installation: SimpleNamespace) -> Command:
    """Run a command of the front door against the installation and return what it printed."""
    return lambda *arguments: run(installation.environment, *arguments)


@pytest.fixture
def begin(installation: SimpleNamespace) -> Iterator[Begin]:
    """Begin a command of the front door, to be disturbed."""
    begun = []

    def command(*arguments: str) -> subprocess.Popen[str]:
        begun.append(
            subprocess.Popen(
                [OUTFLOW, *arguments],
                env=installation.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return begun[-1]

    yield command
    for process in begun:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def mail_port() -> int:
    """Where the account's server listens, a new one for each test."""
    return smtp_sink.free_port()


@pytest.fixture
def sink(mail_port: int) -> Iterator[smtp_sink.Sink]:
    with smtp_sink.running(mail_port) as running:
        yield running


@pytest.fixture(scope="session")
def account(installation: SimpleNamespace, mail_port: int) -> str:
    """An account for the sink, with eight connections."""
    return add_account(installation.environment, "sink", mail_port, 8)


@pytest.fixture
def sandbox_account(installation: SimpleNamespace, server: sandbox.Sandbox) -> str:
    """An account for the sandbox server."""
    return add_account(installation.environment, "sandbox", server.port, 4)


@pytest.fixture
def definition(tmp_path: Path, account: str) -> Callable[..., str]:
    """Write a campaign file for the crowd."""

    def written(rate: str = "''") -> str:
        file = tmp_path / "campaign.yaml"
        file.write_text(CAMPAIGN.format(account=account, rate=rate))
        return str(file)

    return written


def wait_for(sink: smtp_sink.Sink, goal: int, process: "subprocess.Popen[str]") -> None:
    """Wait until so many messages have come from a command that still runs."""
    while sink.received() < goal:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def sending_process(engine: Engine) -> psutil.Process:
    """Find the process that sends, by the leases it holds."""
    with engine.begin() as connection:
        owners = connection.execute(text("SELECT lease_owner FROM batches WHERE lease_owner IS NOT NULL"))
        [pid] = {int(owner.split(":")[1]) for owner in owners.scalars()}
    return psutil.Process(pid)


@pytest.fixture
async def prefect(installation: SimpleNamespace) -> AsyncIterator[PrefectClient]:
    async with PrefectClient(api=installation.api_url) as client:
        yield client


async def launched(client: PrefectClient, account: str, rate: str) -> FlowRun:
    """Have the deployment launch a campaign to the crowd."""
    campaign = {
        "name": "faults",
        "account": account,
        "audience": "crowd",
        "subject": "Hello {{ name }}",
        "text": "Dear {{ name }}",
        "batch_size": 300,
        "pacing": {"rate": rate},
    }
    deployment = await client.read_deployment_by_name("launch-campaign/launch-campaign")
    return await client.create_flow_run_from_deployment(deployment.id, parameters={"campaign": campaign})


@pytest.fixture
def launch(prefect: PrefectClient, account: str) -> Callable[[str], Awaitable[FlowRun]]:
    """Have the deployment launch a campaign to the crowd, at a rate."""
    return functools.partial(launched, prefect, account)


async def finished(client: PrefectClient, run: FlowRun) -> FlowRun:
    """Wait for a flow run's end."""
    for _ in range(240):
        run = await client.read_flow_run(run.id)
        if run.state is not None and run.state.is_final():
            return run
        await asyncio.sleep(0.5)
    pytest.fail(f"{run.name} did not end: {run.state}")


async def run_deployed(client: PrefectClient, deployment: str, parameters: dict[str, object]) -> FlowRun:
    """Have a deployment run with these parameters, and wait for its end.

    Named as the flow, or as flow/deployment.
    """
    name = deployment if "/" in deployment else f"{deployment}/{deployment}"
    found = await client.read_deployment_by_name(name)
    run = await client.create_flow_run_from_deployment(found.id, parameters=parameters)
    return await finished(client, run)
