"""The Gmail API for the contract: a Google of our own on loopback."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from messaging.channels.base import Message
from messaging.channels.gmail import GmailPool, GmailSettings
from messaging.channels.gmail_login import Identity, Tokens
from tests.fakes.gmail import CLIENT_ID, CLIENT_SECRET, MAILBOX, Answer, FakeGoogle, error
from tests.messaging.channels.providers import WAIT, Deed

CONTENT = b"From: news@example.com\r\nTo: Ada <ada@example.org>\r\nSubject: hello\r\n\r\nHello Ada\r\n"
RECIPIENT = "ada@example.org"


def too_fast(seconds: float) -> Answer:
    """Ask to wait, as Gmail does: until a moment."""
    until = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return error(429, "rateLimitExceeded", f"User-rate limit exceeded.  Retry after {until}")


_ANSWERS = {
    Deed.ACCEPTS: Answer(),
    Deed.REFUSES: error(400, "invalidArgument", "Invalid To header"),
    Deed.FAULTS: error(503, "backendError", "Backend Error"),
    Deed.REFUSES_US: error(403, "insufficientPermissions", "Insufficient Permission"),
    Deed.DROPS_IDLE: Answer(hangs_up=True),
    Deed.DROPS_AFTER: Answer(keeps=True, silent=True, hangs_up=True),
    Deed.SLOW: Answer(after_seconds=0.5),
    Deed.SILENT: Answer(keeps=True, stalls=True),
}


def settings(google: FakeGoogle, refresh_token: str = "", **others: object) -> GmailSettings:
    """Name a mailbox at our Google, for which somebody has signed in."""
    tokens = Tokens(refresh_token or google.a_refresh_token())
    identity = Identity(
        CLIENT_ID, CLIENT_SECRET, tokens, token_uri=f"{google.url}/token", login="outflow gmail login news",
        patience=float(others.get("patience", 10.0)),
    )  # fmt: skip
    return GmailSettings(**({"sender": MAILBOX, "identity": identity, "endpoint": google.url} | others))


def a_message(content: bytes = CONTENT, recipient: str = RECIPIENT) -> Message:
    return Message(7, MAILBOX, recipient, content, "c0ffee")


async def dispatched() -> None:
    """Agree, as the ledger does."""


class GmailProvider:
    account = "gmail-account/main"
    spec: ClassVar = {"subject": "Hello", "text": "Hello"}
    address = RECIPIENT

    def __init__(self, google: FakeGoogle, running: contextlib.AsyncExitStack) -> None:
        self._google = google
        self._running = running

    def does(self, deed: Deed) -> None:
        self._google.always = _ANSWERS.get(deed) or too_fast(WAIT)

    def received(self) -> int:
        return len(self._google.messages)

    async def leave(self) -> None:
        await self._running.aclose()

    def message(self) -> Message:
        return a_message()

    @contextlib.asynccontextmanager
    async def pool(self, *, patience: float = 10.0, connections: int = 1) -> AsyncIterator[GmailPool]:
        there = settings(self._google, patience=patience, connections=connections)
        async with GmailPool(there) as pool:
            yield pool


@contextlib.asynccontextmanager
async def gmail() -> AsyncIterator[GmailProvider]:
    async with contextlib.AsyncExitStack() as running:
        yield GmailProvider(await running.enter_async_context(FakeGoogle().running()), running)
