"""Told to stop, a sender has every answer heard, gives its batches back and is gone in some seconds."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from prefect.client.orchestration import PrefectClient
from sqlalchemy import Engine, text

from tests.deployments.conftest import (
    add_account,
    another,
    finished,
    installed,
    launched,
    sending_process,
    wait_for,
)
from tests.faults.crowds import crowd, held, judged, states
from tests.faults.sink import Sink

RECIPIENTS = 2000
GRACE = 8  # seconds; docker stop grants 10

# Prefect's client leaves sockets to the garbage collector when a loop ends.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def check_everyone_was_heard(ledger: Engine, sink: Sink) -> None:
    counts = judged(states(ledger), sink.copies())
    assert set(counts) == {"accepted", "queued"}  # nothing unknown, nothing left dispatched
    assert counts["accepted"] == sink.copies().total() < RECIPIENTS
    assert held(ledger) == 0


def stands(ledger: Engine) -> tuple[str, str]:
    """Read the campaign's state, and why it is in it, without who decided so."""
    with ledger.begin() as connection:
        found = connection.execute(text("SELECT state, state_reason FROM campaigns")).one()
    return found.state, (found.state_reason or "").partition(", by ")[0]


def test_a_command_told_to_stop_by_its_surroundings(
    ledger: Engine, sink: Sink, begin, definition: Callable[..., str]
):
    crowd(ledger, RECIPIENTS)
    sender = begin("send", definition(rate="400/s"))
    wait_for(sink, RECIPIENTS // 4, sender)
    sender.terminate()
    _, said = sender.communicate(timeout=GRACE)

    assert sender.returncode == 130
    assert "to go on: outflow resume faults" in said
    assert stands(ledger) == ("paused", "its command was told to stop")
    check_everyone_was_heard(ledger, sink)


def test_a_command_stopped_by_ctrl_c_waits_for_who_stopped_it(
    ledger: Engine, sink: Sink, begin, outflow, definition: Callable[..., str]
):
    crowd(ledger, RECIPIENTS)
    sender = begin("send", definition(rate="400/s"))
    wait_for(sink, RECIPIENTS // 4, sender)
    sender.send_signal(signal.SIGINT)
    _, said = sender.communicate(timeout=120)

    assert sender.returncode == 130
    assert "to go on: outflow resume faults" in said
    assert stands(ledger) == ("paused", "its command was stopped by Ctrl-C")
    check_everyone_was_heard(ledger, sink)

    assert outflow("resume", "faults").code == 0
    assert judged(states(ledger), sink.copies()) == {"accepted": RECIPIENTS}


async def test_a_workers_flow_run_told_to_stop(ledger: Engine, sink: Sink, prefect: PrefectClient, launch):
    crowd(ledger, RECIPIENTS)
    run = await launch("400/s")
    while sink.received() < RECIPIENTS // 4:  # noqa: ASYNC110 - another process counts
        await asyncio.sleep(0.01)
    sender = sending_process(ledger)
    os.kill(sender.pid, signal.SIGTERM)
    told_at = time.monotonic()
    while sender.is_running():
        await asyncio.sleep(0.05)
        assert time.monotonic() < told_at + GRACE

    check_everyone_was_heard(ledger, sink)
    ended = await finished(prefect, run)
    assert not ended.state.is_completed()
    assert stands(ledger)[0] == "running"  # nobody has decided anything: `sweep` goes on with it


async def test_a_workers_flow_run_whose_prefect_does_not_answer(
    ledger: Engine, sink: Sink, installation: SimpleNamespace, prefect: PrefectClient, launch
):
    crowd(ledger, RECIPIENTS)
    run = await launch("400/s")
    while sink.received() < RECIPIENTS // 4:  # noqa: ASYNC110 - another process counts
        await asyncio.sleep(0.01)
    sender = sending_process(ledger)
    [prefect_server] = [one for one in installation.process.children() if "server" in one.cmdline()]
    prefect_server.suspend()
    try:
        sender.terminate()
        gone, _ = await asyncio.to_thread(psutil.wait_procs, [sender], GRACE)
    finally:
        prefect_server.resume()

    assert gone
    check_everyone_was_heard(ledger, sink)
    ended = await finished(prefect, run)
    assert not ended.state.is_completed()


async def test_a_whole_installation_told_to_stop(
    ledger: Engine, sink: Sink, mail_port: int, home: Path, database_url: str, tmp_path: Path
):
    crowd(ledger, RECIPIENTS)
    with installed(another(home, database_url, tmp_path), "--workers", "2") as one:
        workers = [process for process in one.process.children() if "worker" in process.cmdline()]
        account = add_account(one.environment, "own", mail_port, 8)
        async with PrefectClient(api=one.api_url) as client:
            await launched(client, account, "100/s")
        while sink.received() < RECIPIENTS // 10:  # noqa: ASYNC110 - another process counts
            await asyncio.sleep(0.01)
        sender = sending_process(ledger)
        one.process.terminate()
        gone, _ = await asyncio.to_thread(psutil.wait_procs, [sender], GRACE)

    assert gone
    assert [worker.is_running() for worker in workers] == [False, False]
    check_everyone_was_heard(ledger, sink)
