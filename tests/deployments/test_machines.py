"""Workers on machines of their own share a campaign over one PostgreSQL: compose.yaml, without containers."""

import json
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from messaging.storage.engine import open_engine
from tests.deployments.machines import SERVER, START_SECONDS, Machine, NetworkedCluster, network
from tests.faults.crowds import crowd, judged, states
from tests.faults.sink import _WHERE, Sink

RECIPIENTS = 3000
MAIL_PORT = 2525
CAMPAIGN = {
    "name": "faults",
    "account": "smtp-account/main",
    "audience": "crowd",
    "subject": "Hello {{ name }}",
    "text": "Dear {{ name }}",
    "batch_size": 100,
    "pacing": {"rate": "10/s"},
    "workers": 3,  # the run that starts, and one for each machine
}


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[Machine]]:
    with network(tmp_path, "middle", "one", "two") as made:
        yield made


@pytest.fixture
def cluster(database_url: str, machines: list[Machine]) -> Iterator[NetworkedCluster]:
    assert database_url  # the shared one has made the user that ours runs as
    with tempfile.TemporaryDirectory(prefix="outflow-pg-", ignore_cleanup_errors=True) as folder:
        own = NetworkedCluster(Path(folder))
        own.prepare(machines[0])
        yield own
        own.stop()


@pytest.fixture
def ledger(cluster: NetworkedCluster) -> Iterator[Engine]:
    """The ledger that the machines share, by the socket of its PostgreSQL."""
    engine = open_engine(cluster.ledger_url)
    yield engine
    engine.dispose()


@pytest.fixture
def sink(machines: list[Machine]) -> Iterator[Sink]:
    program = shutil.which("smtp-sink", path=_WHERE)
    if program is None:
        pytest.skip("there is no smtp-sink on this machine")
    with tempfile.TemporaryDirectory(prefix="outflow-sink-") as folder:
        listening = [program, "-u", "root", "-d", "%H%M%S.", f"{SERVER}:{MAIL_PORT}", "200"]
        with subprocess.Popen(machines[0].within(*listening), cwd=folder) as process:
            yield Sink(MAIL_PORT, Path(folder))
            process.kill()


def senders(engine: Engine) -> set[str]:
    """Return the machines that hold batches now."""
    with engine.begin() as connection:
        owners = connection.execute(text("SELECT lease_owner FROM batches WHERE lease_owner IS NOT NULL"))
        return {owner.split(":")[0] for owner in owners.scalars()}


def came_from(sink: Sink) -> Counter[str]:
    """Count messages by the address that they came from."""
    found: Counter[str] = Counter()
    for file in sink.folder.iterdir():
        [line] = [line for line in file.read_text().splitlines() if line.startswith("X-Client-Addr: ")]
        found[line.split()[1]] += 1
    return found


def test_two_machines_share_a_campaign_over_one_database(machines: list[Machine], ledger: Engine, sink: Sink):
    middle, one, two = machines
    server = middle.start("server")
    middle.wait_until_healthy("server", server)
    init = one.run("init", "outflow", "init")
    assert init.returncode == 0, init.stderr
    settings = [f"host={SERVER}", f"port={MAIL_PORT}", "security=none", "connections=4"]
    added = one.run("worker", "outflow", "account", "add", "smtp", "main", *settings, "sender=a@example.org")
    assert added.returncode == 0, added.stderr
    workers = {machine: machine.start("worker") for machine in (one, two)}
    web = middle.start("web")
    crowd(ledger, RECIPIENTS)
    parameters = json.dumps({"campaign": CAMPAIGN})
    launch = ["prefect", "deployment", "run", "launch-campaign/launch-campaign", "--params", parameters]
    launched = one.run("worker", *launch)
    assert launched.returncode == 0, launched.stderr

    deadline = time.monotonic() + START_SECONDS
    while senders(ledger) != {"one", "two"}:
        for machine, worker in workers.items():
            assert worker.poll() is None, machine.said("worker")
        assert time.monotonic() < deadline, one.said("worker") + two.said("worker")
        time.sleep(0.2)
    paced = one.run("worker", "outflow", "pace", "faults", "--free")
    assert paced.returncode == 0, paced.stderr
    while sum(sink.copies().values()) < RECIPIENTS:
        assert time.monotonic() < deadline + START_SECONDS, one.said("worker") + two.said("worker")
        time.sleep(0.5)
    middle.wait_until_healthy("web", web)
    for worker in workers.values():
        worker.terminate()

    assert [worker.wait(60) for worker in workers.values()] == [130, 130]  # as after Ctrl-C
    assert judged(states(ledger), sink.copies()) == {"accepted": RECIPIENTS}
    assert came_from(sink).keys() == {one.address, two.address}
