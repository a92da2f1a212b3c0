"""The pages where recipients say what they want: `/u/TOKEN` and `/p/TOKEN`."""

from functools import partial
from typing import Final
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from messaging.storage import preferences
from messaging.tokens import Purpose
from messaging.web import pages, unsubscribing
from messaging.web.forms import Form, read_form
from messaging.web.services import Services

_ONE_CLICK: Final = ("List-Unsubscribe", "One-Click")  # RFC 8058, 3.2
_SCOPES: Final = {"everything": True, "audience": False}


def routes(services: Services) -> list[Route]:
    """Return both pages; looking at them changes nothing, however often and by whom."""
    made = _Pages(services)
    return [
        Route("/u/{token}", made.unsubscribe, methods=["GET", "POST"]),
        Route("/p/{token}", made.choose, methods=["GET", "POST"]),
    ]


class _Pages:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def unsubscribe(self, request: Request) -> Response:
        return await (self._unsubscribe if request.method == "POST" else self._ask)(request)

    async def choose(self, request: Request) -> Response:
        return await (self._save if request.method == "POST" else self._show)(request)

    async def _ask(self, request: Request) -> Response:
        token, attempt = await self._named(request)
        found = await self._services.ledger.transaction(partial(preferences.find, token=attempt))
        return HTMLResponse(pages.unsubscribe(found, token) if found else pages.test_message())

    async def _unsubscribe(self, request: Request) -> Response:
        token, attempt = await self._named(request)
        form = await read_form(request)
        name, value = _ONE_CLICK
        one_click = value in form.get(name, [])
        # The header stands for the list that the message was sent to, which is what List-Id names.
        everywhere = False if one_click else _scope(form)
        act = partial(
            unsubscribing.unsubscribe,
            token=attempt,
            how="one-click" if one_click else "page",
            everywhere=everywhere,
        )
        done = await self._services.ledger.transaction(act)
        if done is None:
            return HTMLResponse(pages.test_message(), status_code=404)
        return HTMLResponse(pages.unsubscribed(done[0], token, everywhere=everywhere))

    async def _show(self, request: Request) -> Response:
        _, attempt = await self._named(request)
        found = await self._services.ledger.transaction(partial(unsubscribing.look, token=attempt))
        return HTMLResponse(pages.preferences(*found) if found else pages.test_message())

    async def _save(self, request: Request) -> Response:
        _, attempt = await self._named(request)
        form = await read_form(request)
        nothing = form.get("nothing", [])
        # Only what our page sends: an empty form would take everything back.
        was = form.get("was", [])
        if form.get("do") != ["save"] or nothing not in ([], ["yes"]) or was not in ([], ["nothing"]):
            raise HTTPException(400)
        kept = _numbers(form, "keep")
        act = partial(
            unsubscribing.change,
            token=attempt,
            shown={audience: audience in kept for audience in _numbers(form, "shown")},
            stopped=bool(was),
            nothing=bool(nothing),
        )
        done = await self._services.ledger.transaction(act)
        if done is None:
            return HTMLResponse(pages.test_message(), status_code=404)
        return HTMLResponse(pages.preferences(*done, saved=True))

    async def _named(self, request: Request) -> tuple[str, UUID]:
        token = request.path_params["token"]
        attempt = await self._services.keys.read(Purpose.UNSUBSCRIBE, token)
        if attempt is None:
            raise HTTPException(404)
        return token, attempt


def _scope(form: Form) -> bool:
    chosen = form.get("from", [])
    if len(chosen) != 1 or chosen[0] not in _SCOPES:
        raise HTTPException(400)
    return _SCOPES[chosen[0]]


def _numbers(form: Form, name: str) -> set[int]:
    """Return ids as our page writes them."""
    values = form.get(name, [])
    if not all(value.isascii() and value.isdigit() and len(value) < 19 for value in values):  # noqa: PLR2004 - fits a bigint
        raise HTTPException(400)
    return set(map(int, values))
