"""SMTP for the contract: a scripted server."""

import contextlib
from collections.abc import AsyncIterator
from typing import ClassVar

from messaging.channels.base import Message
from messaging.channels.smtp import SmtpPool, SmtpSettings
from tests.fakes.scripted_smtp import HOST, ScriptedSmtp, Step, hangs_up, says, stalls
from tests.messaging.channels.providers import WAIT, Deed

_SCRIPTS = {
    Deed.ACCEPTS: {},
    Deed.REFUSES: {"RCPT": says("550 5.1.1 no such mailbox")},
    Deed.THROTTLES: {"RCPT": says(f"450 4.7.28 too many messages, try again in {WAIT:g} seconds")},
    Deed.FAULTS: {"DOT": says("451 4.3.0 out of order for now")},
    Deed.REFUSES_US: {"MAIL": says("530 5.7.0 authentication required")},
    Deed.DROPS_IDLE: {"DOT": says("250 2.0.0 Ok: queued as 1F", hangs_up=True, stores=True)},
    Deed.DROPS_AFTER: {"DOT": hangs_up(stores=True)},
    Deed.SLOW: {"DOT": Step(b"250 2.0.0 Ok: queued as 1F\r\n", after_seconds=0.5, stores=True)},
    Deed.SILENT: {"DOT": stalls(stores=True)},
}


class SmtpProvider:
    account = "smtp-account/main"
    spec: ClassVar = {"subject": "Hello", "text": "Hello"}
    address = "ada@example.org"

    def __init__(self, server: ScriptedSmtp, running: contextlib.AsyncExitStack) -> None:
        self._server = server
        self._running = running

    def does(self, deed: Deed) -> None:
        self._server.script = _SCRIPTS[deed]

    def received(self) -> int:
        return len(self._server.stored)

    async def leave(self) -> None:
        await self._running.aclose()

    def message(self) -> Message:
        return Message(7, "news@example.com", self.address, b"Subject: hello\r\n\r\nHello\r\n", "c0ffee")

    @contextlib.asynccontextmanager
    async def pool(self, *, patience: float = 10.0, connections: int = 1) -> AsyncIterator[SmtpPool]:
        settings = SmtpSettings(
            HOST, self._server.port, "none", connections=connections, command_timeout=patience,
            connect_timeout=patience, content_timeout=patience, final_timeout=patience,
        )  # fmt: skip
        async with SmtpPool(settings) as pool:
            yield pool


@contextlib.asynccontextmanager
async def smtp() -> AsyncIterator[SmtpProvider]:
    async with contextlib.AsyncExitStack() as running:
        yield SmtpProvider(await running.enter_async_context(ScriptedSmtp().running()), running)
