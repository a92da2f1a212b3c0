"""A receiver that counts, senders to kill, a database to maltreat."""

from collections.abc import Callable, Iterator

import pytest

from tests.faults import sink as smtp_sink
from tests.faults.cluster import Cluster, running
from tests.faults.sender import Sender

Start = Callable[..., Sender]


@pytest.fixture
def sink() -> Iterator[smtp_sink.Sink]:
    with smtp_sink.running() as kept:
        yield kept


@pytest.fixture
def start(database_url: str) -> Iterator[Start]:
    """Start a process that sends what is left of a campaign."""
    started = []

    def sender(campaign_id: int, port: int, connections: int = 8, url: str = database_url) -> Sender:
        started.append(Sender(url, campaign_id, port, connections))
        return started[-1]

    yield sender
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def finish(start: Start) -> Callable[..., None]:
    """Send what is left of a campaign, undisturbed."""

    def to_the_end(campaign_id: int, port: int, **how: str) -> None:
        assert not start(campaign_id, port, **how).failure()

    return to_the_end


@pytest.fixture
def cluster(database_url: str) -> Iterator[Cluster]:
    """A PostgreSQL of the test's own."""
    assert database_url  # the shared one has made the user that ours runs as
    with running() as own:
        yield own
