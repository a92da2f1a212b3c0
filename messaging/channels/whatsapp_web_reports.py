"""What WhatsApp reports of messages while a session is open, written to the ledger a few at a time."""

import asyncio
import contextlib
import logging
import time
from typing import Final, Self

from sqlalchemy import Engine

from messaging.channels.whatsapp_web_session import Reported
from messaging.errors import DatabaseError
from messaging.storage import whatsapp_receipts
from messaging.storage.failing import database_errors

_log = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = 2.0
_KEPT_SECONDS: Final = 120.0  # a report may be faster than the commit of the answer that it is about


class Reports:
    """The reports of one session, for `async with`: written as they come, and at the end."""

    def __init__(self, engine: Engine, account: str) -> None:
        """Write nothing yet; `account` is the account's name."""
        self._engine = engine
        self._account = f"whatsapp-web-account/{account}"
        self._kept: dict[Reported, float] = {}
        self._writing: asyncio.Task[None] | None = None

    def hear(self, reported: Reported) -> None:
        """Take a report."""
        self._kept.setdefault(reported, time.monotonic())

    async def __aenter__(self) -> Self:
        """Start writing."""
        self._writing = asyncio.create_task(self._write_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Write what is left; what nobody knows is of messages that were sent on the phone."""
        if self._writing is not None:
            self._writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writing
        await self._write()

    async def _write_on(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            await self._write()

    async def _write(self) -> None:
        now = time.monotonic()
        self._kept = {report: since for report, since in self._kept.items() if now - since < _KEPT_SECONDS}
        if not self._kept:
            return
        reports = list(self._kept)
        try:
            ours = await asyncio.to_thread(self._record, reports)
        except DatabaseError as error:  # the sending itself tells; these are tried again
            _log.warning("%d reports of messages could not be written yet (%s)", len(reports), error)
            return
        for report in reports:
            if report.message_id in ours:
                del self._kept[report]

    def _record(self, reports: list[Reported]) -> set[str]:
        told = [(report.message_id, report.kind, report.at) for report in reports]
        with database_errors(), self._engine.begin() as connection:
            return whatsapp_receipts.record(connection, self._account, told)
