"""Without its database nothing is sent; without Prefect's server the sending goes on."""

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, text

from deployments.serving import answers
from tests.deployments.conftest import (
    CAMPAIGN,
    OUTFLOW,
    START_SECONDS,
    add_account,
    another,
    run,
    wait_for,
)
from tests.faults.cluster import Cluster, running
from tests.faults.crowds import crowd, judged, states
from tests.faults.sink import Sink, free_port

RECIPIENTS = 2000


@pytest.fixture(scope="module")
def cluster(database_url: str) -> Iterator[Cluster]:
    """A PostgreSQL of our own with a crowd, to which everyone but `reader` may write."""
    assert database_url  # the shared one has made the user that ours runs as
    with running() as own:
        crowd(own.ledger, 10)
        own.ask_for_a_password("writer", "right")
        with own.ledger.begin() as connection:
            connection.execute(text("CREATE ROLE reader LOGIN IN ROLE pg_read_all_data"))
            connection.execute(text("ALTER ROLE reader SET default_transaction_read_only = on"))
            connection.execute(text("CREATE ROLE latecomer LOGIN CONNECTION LIMIT 0"))
        yield own


@pytest.mark.parametrize(
    ("user", "where", "sentence"),
    [
        ("postgres", "/nowhere", "cannot be reached"),
        ("writer:wrong", "", "cannot be reached"),
        ("reader", "", "read-only"),
        ("latecomer", "", "cannot be reached"),
    ],
    ids=["away", "wrong password", "read-only", "no connection left"],
)
def test_without_a_database_it_can_write_to_a_command_says_so_and_calls_no_server(
    cluster: Cluster,
    installation: SimpleNamespace,
    mail_port: int,
    definition: Callable[..., str],
    user: str,
    where: str,
    sentence: str,
):
    url = f"postgresql://{user}@/postgres?host={where or cluster.folder}"
    with socket.create_server(("127.0.0.1", mail_port)) as listener:
        started_at = time.monotonic()
        done = run(installation.environment | {"OUTFLOW_DATABASE_URL": url}, "send", definition())
        seconds = time.monotonic() - started_at
        called = select.select([listener], [], [], 0)[0]

    assert not called
    assert done.code == 1
    assert seconds < 30
    assert sentence in done.err.splitlines()[-1]
    assert "wrong" not in done.err
    assert "Traceback" not in done.err


@pytest.fixture
def prefect_server(home: Path, database_url: str, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A Prefect server that may be killed, and commands that use it."""
    port = free_port()
    api_url = f"http://127.0.0.1:{port}/api"
    environment = another(home, database_url, tmp_path) | {"PREFECT_API_URL": api_url}
    servers = []

    def start() -> None:
        command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
        servers.append(
            subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )
        deadline = time.monotonic() + START_SECONDS
        while not answers(api_url):
            assert servers[-1].poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def kill() -> None:
        os.killpg(servers[-1].pid, 9)
        servers[-1].wait()

    start()
    yield SimpleNamespace(environment=environment, start=start, kill=kill)
    kill()


def test_with_prefects_server_killed_the_sending_goes_on_and_the_next_campaign_starts(
    ledger: Engine, sink: Sink, prefect_server: SimpleNamespace, mail_port: int, tmp_path: Path
):
    crowd(ledger, RECIPIENTS)
    account = add_account(prefect_server.environment, "sink", mail_port, 8)
    file = tmp_path / "campaign.yaml"
    file.write_text(CAMPAIGN.format(account=account, rate="200/s"))
    command = [OUTFLOW, "send", str(file), "--json"]
    with subprocess.Popen(
        command, env=prefect_server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as sender:
        wait_for(sink, RECIPIENTS // 10, sender)
        prefect_server.kill()
        while sink.received() < RECIPIENTS:
            time.sleep(0.1)
        prefect_server.start()
        out, said = sender.communicate(timeout=120)

    assert sender.returncode == 0, said
    assert json.loads(out)["state"] == "finished"
    assert judged(states(ledger), sink.copies()) == {"accepted": RECIPIENTS}

    file.write_text(CAMPAIGN.format(account=account, rate="''").replace("faults", "next"))
    started_at = time.monotonic()
    following = run(prefect_server.environment, "send", str(file), "--json")

    assert following.code == 0, following.err
    assert time.monotonic() - started_at < 60
    assert following.json["accepted"] == RECIPIENTS
