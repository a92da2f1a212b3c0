"""The ASGI application: public pages, pixel, links, webhooks."""

import logging
import traceback
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from messaging.errors import DatabaseError
from messaging.web import pages, previewing, tracking, wishes
from messaging.web.health import Health
from messaging.web.hits import Hits
from messaging.web.journal import Journal
from messaging.web.keys import Keys
from messaging.web.ledger import Ledger
from messaging.web.services import LoadWhatsApp, Services

JOURNAL: Final = "web-journal"
"""The folder under Outflow's own where hits wait while the ledger is away."""

_HEADERS: Final = [
    (b"content-security-policy", pages.CONTENT_SECURITY.encode()),
    (b"referrer-policy", b"no-referrer"),  # the token is in the address
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"x-robots-tag", b"noindex, nofollow"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
_RETRY_SECONDS: Final = 60
_FOR_MACHINES: Final = ("/o/", "/hooks/", "/health")
_log = logging.getLogger(__name__)

Mount = Callable[[Services], Sequence[BaseRoute]]


def application(
    engine: Engine, home: Path, mounts: Sequence[Mount] = (), load_whatsapp: LoadWhatsApp | None = None
) -> ASGIApp:
    """Return the application on a migrated database.

    Args:
        engine: Of the ledger.
        home: Outflow's folder, where hits are kept while the ledger is away.
        mounts: More routes, as webhooks have them.
        load_whatsapp: Reads the accounts whose webhooks are taken.
    """
    ledger = Ledger(engine)
    services = Services(
        ledger=ledger,
        keys=Keys(ledger),
        hits=Hits(ledger, Journal(home / JOURNAL)),
        load_whatsapp=load_whatsapp,
    )
    made = Starlette(
        routes=[
            Route("/o/{token}", tracking.Opens(services)),
            Route("/c/{token}", tracking.Clicks(services)),
            *wishes.routes(services),
            *previewing.routes(services),
            *(route for mount in mounts for route in mount(services)),
            Route("/health", Health(services).show, methods=["GET"]),
            Route("/robots.txt", _robots, methods=["GET"]),
            Route("/favicon.ico", _no_icon, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _refused, DatabaseError: _away, Exception: _refused},
        lifespan=partial(_lifespan, services),
    )
    made.router.redirect_slashes = False
    return _Careful(made)


@asynccontextmanager
async def _lifespan(services: Services, _: Starlette) -> AsyncIterator[None]:
    await services.keys.refresh()
    services.hits.start()
    try:
        yield
    finally:
        await services.hits.stop()
        services.ledger.close()


class _Careful:
    """Puts the headers on every answer, and logs what nobody expected without saying for whom it was."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def careful(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message.setdefault("headers", [])
                names = {name.lower() for name, _ in given}
                given.extend(header for header in _HEADERS if header[0] not in names)
            await send(message)

        try:
            await self._app(scope, receive, careful)
        except Exception as error:  # noqa: BLE001 - it was answered with 500 already; its text may name people
            where = "".join(traceback.format_tb(error.__traceback__))
            _log.error("unexpected %s\n%s", type(error).__name__, where)


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _problem(request, status, getattr(error, "headers", None))


async def _away(request: Request, _: Exception) -> Response:
    return _problem(request, 503, {"Retry-After": str(_RETRY_SECONDS)})


def _problem(request: Request, status: int, headers: Mapping[str, str] | None = None) -> Response:
    if request.scope["path"].startswith(_FOR_MACHINES):
        return Response(status_code=status, headers=headers)
    return HTMLResponse(pages.problem(status), status_code=status, headers=headers)


async def _robots(request: Request) -> Response:  # noqa: ARG001 - as Starlette calls
    return PlainTextResponse("User-agent: *\nDisallow: /\n")


async def _no_icon(request: Request) -> Response:  # noqa: ARG001 - as Starlette calls
    return Response(status_code=204)
