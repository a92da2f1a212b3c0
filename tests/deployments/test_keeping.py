"""A process that dies is started again, unless it dies all the time."""

import asyncio
import os
import signal

import psutil
import pytest

from deployments.keeping import Kept
from messaging.errors import MessagingError
from tests.waiting import until

PATIENCE = 60  # seconds


async def test_what_is_killed_is_started_again_and_stopped_in_the_end():
    said: list[str] = []
    async with Kept("server", ["http.server", "0", "--bind", "127.0.0.1"], {}, said.append) as server:
        first = server.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: server.pid != first, PATIENCE)
        second = psutil.Process(server.pid)

    assert said == ["the server has died (SIGKILL), so it is started again"]
    assert not second.is_running()


async def test_what_dies_all_the_time_is_given_up():
    said: list[str] = []
    async with Kept("clock", ["timeit", "-n", "1", "pass"], {}, said.append) as clock:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(MessagingError, match="the clock died 5 times within a minute"):
                await clock.given_up()

    assert said == ["the clock has died (exit code 0), so it is started again"] * 4


async def test_what_does_not_listen_is_killed_when_nobody_waits_any_longer():
    async with Kept("server", ["http.server", "0", "--bind", "127.0.0.1"], {}, print) as server:
        deaf = psutil.Process(server.pid)
        deaf.suspend()
        await until(
            lambda: deaf.status() == psutil.STATUS_STOPPED, PATIENCE
        )  # a later signal may overtake it
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.1)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        await until(lambda: not deaf.is_running(), PATIENCE)
