"""WhatsApp Web for the contract: its stand-in, and the library with the stand-in's key."""

import asyncio
import atexit
import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from ctypes.util import find_library
from pathlib import Path
from typing import ClassVar

import pytest
from sqlalchemy import Engine

from messaging.channels.base import Message
from messaging.channels.whatsapp_web import WhatsAppWebPool, WhatsAppWebSettings, pairing
from messaging.storage import embedded, migrating
from messaging.storage.engine import open_engine
from tests.fakes import whatsapp_web_library
from tests.fakes.whatsapp_web import Manners, WhatsAppWeb, World
from tests.fakes.whatsapp_web_wire import Node
from tests.messaging.channels.providers import Deed

_MANNERS = {
    Deed.ACCEPTS: Manners(),
    Deed.REFUSES: Manners(),  # the number is not registered, which the check finds
    Deed.FAULTS: Manners(error=503),
    Deed.REFUSES_US: Manners(),  # the connection is refused
    Deed.DROPS_IDLE: Manners(hangs_up=True),
    Deed.DROPS_AFTER: Manners(hangs_up=True, answers=False),
    Deed.SLOW: Manners(after_seconds=0.5),
    Deed.SILENT: Manners(answers=False),
}
LINKED: set[str] = set()
"""Devices that the account of the contract was given."""
_CANNOT = {
    Deed.THROTTLES: "WhatsApp Web names no wait: its 429 and 463 come before bans, so they stop the account",
}


@functools.cache
def world() -> tuple[World, Path]:
    """Make the stand-in's keys and the library that trusts them, once: paired devices outlive a server."""
    made, folder = World(), Path(tempfile.mkdtemp(prefix="outflow-whatsapp-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    whatsapp_web_library.copy_library(made, folder)
    return made, folder


@functools.cache
def ledger_engine() -> Engine:
    """Open the ledger of the tests, whose home a fixture has put into the environment."""
    engine = open_engine(embedded.start(Path(os.environ["OUTFLOW_HOME"])))
    migrating.upgrade(engine)
    return engine


def settings_of(server: WhatsAppWeb, account: str, **others: object) -> WhatsAppWebSettings:
    usual = {"proxy": server.proxy, "patience": 10.0, "connecting": 30.0, "check_days": 0}
    return WhatsAppWebSettings(account, **(usual | others))


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[WhatsAppWeb]:
    """Run a stand-in, and let new processes use the library that trusts it.

    Without libmagic on this machine, skip, in CI fail.
    """
    if find_library("magic") is None:
        missing = "the library of WhatsApp Web needs libmagic: apt-get install libmagic1"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    made, folder = world()
    async with WhatsAppWeb(made).running() as server:
        with whatsapp_web_library.used(folder):
            yield server


async def link(server: WhatsAppWeb, account: str) -> None:
    """Pair an account, as a person with a phone does."""
    async with contextlib.aclosing(pairing(settings_of(server, account), ledger_engine)) as steps:
        async for step in steps:
            if step.code:
                await server.scan(step.code)


async def until(happened: Callable[[], object]) -> None:
    """Wait for what another process brings about."""
    async with asyncio.timeout(30):
        while not happened():  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


class WhatsAppWebProvider:
    account = "whatsapp-web-account/contract"
    spec: ClassVar = {"text": "Hello"}
    address = "+447400123456"

    def __init__(self, server: WhatsAppWeb, running: contextlib.AsyncExitStack) -> None:
        self._server = server
        self._running = running

    def does(self, deed: Deed) -> None:
        if deed in _CANNOT:
            pytest.skip(_CANNOT[deed])
        self._server.manners = _MANNERS[deed]
        self._server.unregistered = {self.address.lstrip("+")} if deed is Deed.REFUSES else set()
        if deed is Deed.REFUSES_US:
            self._server.login = Node("failure", {"reason": "401"})
            self._server.world.devices.clear()

    def received(self) -> int:
        return len(self._server.sent)

    async def leave(self) -> None:
        await self._running.aclose()

    def message(self) -> Message:
        return Message(7, "", self.address, b'{"type":"text","text":{"body":"Hello"}}', "c0ffee")

    @contextlib.asynccontextmanager
    async def pool(self, *, patience: float = 10.0, connections: int = 1) -> AsyncIterator[WhatsAppWebPool]:
        settings = settings_of(self._server, "contract", patience=patience)
        async with WhatsAppWebPool(settings, ledger_engine) as pool:
            assert pool.connections == connections
            yield pool


@contextlib.asynccontextmanager
async def whatsapp_web() -> AsyncIterator[WhatsAppWebProvider]:
    async with contextlib.AsyncExitStack() as running:
        server = await running.enter_async_context(serving())
        if not LINKED & server.world.devices:  # those of other tests are not ours
            others = set(server.world.devices)
            await link(server, "contract")
            LINKED.update(server.world.devices - others)
        yield WhatsAppWebProvider(server, running)
