"""How the application is, for whoever watches it: figures only."""

import asyncio
import time
from typing import Final

from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from messaging.errors import DatabaseError
from messaging.web.services import Services

_SECONDS: Final = 2.0
_FRESH_SECONDS: Final = 1.0  # the ledger is asked this often at most, however many ask us
_LOOK: Final = text("SELECT 1")


class Health:
    """Looks at the ledger for all who ask at once."""

    def __init__(self, services: Services) -> None:
        """Take what is looked at."""
        self._services = services
        self._looking = asyncio.Lock()
        self._looked_at = -_FRESH_SECONDS
        self._there = False

    async def show(self, request: Request) -> Response:  # noqa: ARG002 - as Starlette calls
        """Say how things are; 503 only when hits are lost, as neither ledger nor disk takes them."""
        there = await self._ledger_is_there()
        hits = self._services.hits
        journal = await asyncio.to_thread(hits.figures)
        status = "ok" if there and not journal["bytes"] else "degraded"
        if not there and not hits.are_kept:
            status = "failing"
        return JSONResponse(
            {"status": status, "database": "ok" if there else "away", "journal": journal},
            status_code=503 if status == "failing" else 200,
        )

    async def _ledger_is_there(self) -> bool:
        async with self._looking:
            if time.monotonic() - self._looked_at >= _FRESH_SECONDS:
                try:
                    await self._services.ledger.transaction(
                        lambda connection: connection.execute(_LOOK), _SECONDS
                    )
                    self._there = True
                except DatabaseError:
                    self._there = False
                self._looked_at = time.monotonic()
        return self._there
