"""The sending flow without Prefect, in a process of its own: what the tests here kill.

The same parts in the same order as `flows/send_batches.py`. Forked from a process that has imported them, a
sender starts in some milliseconds; the flow itself is killed in `tests/deployments`.
"""

import asyncio
import multiprocessing
import os
from multiprocessing.connection import Connection

from messaging.campaign.sending import CampaignRun, send_batch
from messaging.campaign.working import next_work
from messaging.channels.smtp import SmtpPool, SmtpSettings
from messaging.storage.engine import open_engine
from messaging.storage.failing import database_errors
from tasks.stopping import stopping_gracefully

ACCOUNT = "Shop <news@shop.example.org>"
BATCHES_AT_ONCE = 2
PATIENCE = 60

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


class Sender:
    """A process that sends what is left of a campaign."""

    def __init__(self, database_url: str, campaign_id: int, port: int, connections: int) -> None:
        """Start it."""
        self._heard, told = _processes.Pipe(duplex=False)
        arguments = (told, database_url, campaign_id, port, connections)
        self._process = _processes.Process(target=_main, args=arguments, daemon=True)
        self._process.start()
        told.close()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> None:
        self._process.join(PATIENCE)
        assert not self.alive, "the sender did not end"

    def failure(self) -> str:
        """Wait for its end, and return the error that it ended with, or nothing."""
        self.wait()
        try:
            return self._heard.recv()
        except EOFError:
            return f"it died: {self._process.exitcode}"


def _main(told: Connection, database_url: str, campaign_id: int, port: int, connections: int) -> None:
    try:
        asyncio.run(_send_all(database_url, campaign_id, port, connections))
    except Exception as error:  # noqa: BLE001 - told to the test
        told.send(f"{type(error).__name__}: {error}")
    else:
        told.send("")


async def _send_all(database_url: str, campaign_id: int, port: int, connections: int) -> None:
    engine = open_engine(database_url)
    turns = asyncio.Semaphore(BATCHES_AT_ONCE)
    account = SmtpSettings(host="127.0.0.1", port=port, security="none", connections=connections)
    with stopping_gracefully(), database_errors():
        async with SmtpPool(account) as pool, CampaignRun(engine, campaign_id, ACCOUNT, pool) as run:

            async def send(number: int) -> None:
                async with turns:
                    await send_batch(run, number)

            async for numbers in next_work(run, None):
                failures = await asyncio.gather(*map(send, numbers), return_exceptions=True)
                for failure in failures:
                    if failure is not None:
                        raise failure
