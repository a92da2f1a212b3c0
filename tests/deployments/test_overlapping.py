"""However many senders a campaign has at once, nobody gets two copies."""

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import psutil
import pytest
from sqlalchemy import Engine, text

from tests.deployments.conftest import sending_process
from tests.faults.crowds import crowd, judged, states
from tests.faults.sink import Sink

RECIPIENTS = 2000
CONNECTIONS = 8  # of the account

# Prefect's client leaves sockets to the garbage collector when a loop ends.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def test_launched_twice_at_once_everyone_gets_one_copy(
    ledger: Engine, sink: Sink, begin, definition: Callable[..., str]
):
    crowd(ledger, RECIPIENTS)
    campaign = definition(rate="500/s")
    launches = [begin("send", campaign) for _ in range(2)]
    said = [launch.communicate(timeout=120) for launch in launches]

    assert [launch.returncode for launch in launches] == [0, 0], said
    assert judged(states(ledger), sink.copies()) == {"accepted": RECIPIENTS}
    with ledger.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM campaigns")).scalar_one() == 1


@pytest.fixture
def only_worker(installation: SimpleNamespace) -> Iterator[psutil.Process]:
    """A worker that may be killed; the installation's own is frozen meanwhile."""
    [usual] = [one for one in installation.process.children() if "worker" in one.cmdline()]
    usual.suspend()
    command = [*usual.cmdline(), "--name", "expendable"]
    worker = psutil.Popen(command, env=installation.environment | {"PREFECT_API_URL": installation.api_url})
    yield worker
    worker.kill()
    worker.wait()
    usual.resume()


async def test_the_orphan_of_a_killed_worker_and_a_retry_mail_nobody_twice(
    ledger: Engine, sink: Sink, outflow, launch, only_worker: psutil.Process
):
    crowd(ledger, RECIPIENTS)
    await launch("200/s")
    while sink.received() < RECIPIENTS // 10:  # noqa: ASYNC110 - another process counts
        await asyncio.sleep(0.01)
    only_worker.kill()
    orphan = sending_process(ledger)
    retried = await asyncio.to_thread(outflow, "retry", "faults", "--json")
    while orphan.is_running():  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.05)

    assert retried.code == 0, retried.err
    assert retried.json["state"] == "finished"
    assert judged(states(ledger), sink.copies()) == {"accepted": RECIPIENTS}
