"""Amazon SES for the contract: the stand-in that holds requests against the service's own description."""

import contextlib
from collections.abc import AsyncIterator
from typing import ClassVar

from messaging.channels.base import Message
from messaging.channels.ses import SesPool, SesSettings
from tests.fakes.ses import KEY_ID, REGION, SECRET, FakeSes, Fault, Refusal
from tests.messaging.channels.providers import WAIT, Deed

_DEEDS = {
    Deed.ACCEPTS: Fault(),
    Deed.REFUSES: Fault(Refusal("BadRequestException", "Local address contains control or whitespace")),
    Deed.THROTTLES: Fault(
        Refusal(
            "TooManyRequestsException", "Maximum sending rate exceeded.", 429, {"Retry-After": f"{WAIT:g}"}
        )
    ),
    Deed.FAULTS: Fault(Refusal("ServiceUnavailableException", "Service is unavailable.", 503)),
    Deed.REFUSES_US: Fault(
        Refusal("UnrecognizedClientException", "The security token included in the request is invalid.", 403)
    ),
    Deed.DROPS_IDLE: Fault(hangs_up=True),
    Deed.DROPS_AFTER: Fault(silent=True, hangs_up=True),
    Deed.SLOW: Fault(after_seconds=0.5),
    Deed.SILENT: Fault(silent=True),
}
_CONTENT = b"From: Shop <news@shop.example.org>\r\nTo: ada@example.org\r\nSubject: hello\r\n\r\nHello\r\n"


def settings(fake: FakeSes, **values: object) -> SesSettings:
    """Return how to reach a stand-in."""
    usual = {
        "region": REGION, "access_key_id": KEY_ID, "secret_access_key": SECRET, "endpoint": fake.endpoint,
        "sender": "news@shop.example.org", "configuration_set": "outflow", "connections": 1,
    }  # fmt: skip
    return SesSettings(**usual | values)


def a_message(recipient: str = "ada@example.org", **values: object) -> Message:
    """Return a message from an address that the stand-in knows as verified."""
    usual = {"token": "c0ffee", "campaign_id": 7}
    return Message(7, "news@shop.example.org", recipient, _CONTENT, **usual | values)


class SesProvider:
    account = "ses-account/main"
    spec: ClassVar = {"subject": "Hello", "text": "Hello"}
    address = "ada@example.org"

    def __init__(self, fake: FakeSes, running: contextlib.AsyncExitStack) -> None:
        self._fake = fake
        self._running = running

    def does(self, deed: Deed) -> None:
        self._fake.faults["SendEmail"] = _DEEDS[deed]

    def received(self) -> int:
        return len(self._fake.sent)

    async def leave(self) -> None:
        await self._running.aclose()

    def message(self) -> Message:
        return a_message(self.address)

    @contextlib.asynccontextmanager
    async def pool(self, *, patience: float = 10.0, connections: int = 1) -> AsyncIterator[SesPool]:
        reached = settings(
            self._fake, connections=connections, connect_timeout=patience, read_timeout=patience
        )
        async with SesPool(reached) as pool:
            yield pool


@contextlib.asynccontextmanager
async def ses() -> AsyncIterator[SesProvider]:
    async with contextlib.AsyncExitStack() as running:
        yield SesProvider(await running.enter_async_context(FakeSes().running()), running)
