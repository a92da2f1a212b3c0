"""The WhatsApp Cloud API for the contract: its stand-in."""

import contextlib
from collections.abc import AsyncIterator
from typing import ClassVar

from messaging.channels.base import Message
from messaging.channels.whatsapp_cloud import WhatsAppCloudPool, WhatsAppCloudSettings
from tests.fakes.whatsapp_cloud import TOKEN, CloudApi, Fault, Manner
from tests.messaging.channels.providers import WAIT, Deed

_DEEDS = {
    Deed.ACCEPTS: Manner(),
    Deed.REFUSES: Fault(400, 131026, "(#131026) Message undeliverable"),
    Deed.THROTTLES: Fault(
        429, 130429, "(#130429) Rate limit hit", headers={"Retry-After": f"{WAIT:g}"}
    ),
    Deed.FAULTS: Fault(503, 131016, "(#131016) Service unavailable"),
    Deed.REFUSES_US: Fault(401, 190, "Error validating access token: Session has expired", subcode=463),
    Deed.DROPS_IDLE: Manner(hangs_up_after=True),
    Deed.DROPS_AFTER: Manner(hangs_up=True),
    Deed.SLOW: Manner(after_seconds=0.5),
    Deed.SILENT: Manner(silent=True),
}  # fmt: skip


def settings_of(server: CloudApi, **others: object) -> WhatsAppCloudSettings:
    """Reach a stand-in; without spacing, as most tests write to one person again and again."""
    usual = {"phone_number_id": server.phone_number_id, "token": TOKEN, "base_url": server.url}
    return WhatsAppCloudSettings(**(usual | {"pair_seconds": 0.0} | others))


class WhatsAppCloudProvider:
    account = "whatsapp-cloud-account/main"
    spec: ClassVar = {"template": {"name": "spring_offer", "language": "en_GB", "body": {"1": "Ada"}}}
    address = "+447400123456"

    def __init__(self, server: CloudApi, running: contextlib.AsyncExitStack) -> None:
        self._server = server
        self._running = running

    def does(self, deed: Deed) -> None:
        self._server.deed = _DEEDS[deed]

    def received(self) -> int:
        return len(self._server.taken)

    async def leave(self) -> None:
        await self._running.aclose()

    def message(self) -> Message:
        content = (
            b'{"type":"template","template":{"name":"spring_offer","language":{"code":"en_GB"},'
            b'"components":[{"type":"body","parameters":[{"type":"text","text":"Ada"}]}]}}'
        )
        return Message(7, "", self.address, content, "c0ffee")

    @contextlib.asynccontextmanager
    async def pool(self, *, patience: float = 10.0, connections: int = 1) -> AsyncIterator[WhatsAppCloudPool]:
        settings = settings_of(
            self._server, connections=connections, connect_timeout=patience, total_timeout=patience
        )
        async with WhatsAppCloudPool(settings) as pool:
            yield pool


@contextlib.asynccontextmanager
async def whatsapp_cloud() -> AsyncIterator[WhatsAppCloudProvider]:
    async with contextlib.AsyncExitStack() as running:
        yield WhatsAppCloudProvider(await running.enter_async_context(CloudApi().running()), running)
