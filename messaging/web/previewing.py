"""The page that shows a campaign's messages: `/preview/TOKEN`, made anew at each look.

Its link is kept by Prefect, so nobody's values are on it: the names of fields stand for them.
"""

from functools import partial
from typing import Final

from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from messaging.campaign.preview_links import campaign_of
from messaging.campaign.previewing import From, previews
from messaging.errors import InputError
from messaging.reports.preview_page import CONTENT_SECURITY, preview_page
from messaging.storage import campaigns
from messaging.storage.campaigns import CampaignFile
from messaging.tokens import Purpose
from messaging.web.services import Services

_HEADERS: Final = {"content-security-policy": f"{CONTENT_SECURITY}; frame-ancestors 'none'; sandbox"}


def routes(services: Services) -> list[Route]:
    """Return the page; looking at it changes nothing."""
    return [Route("/preview/{token}", _Page(services).show, methods=["GET"])]


class _Page:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def show(self, request: Request) -> Response:
        token = await self._services.keys.read(Purpose.PREVIEW, request.path_params["token"])
        digest = campaign_of(token) if token is not None else None
        if digest is None:
            raise HTTPException(404)
        page = await self._services.ledger.transaction(partial(_page, digest=digest))
        if page is None:
            raise HTTPException(404)
        return HTMLResponse(page, headers=_HEADERS)


def _page(connection: Connection, digest: bytes) -> str | None:
    campaign = campaigns.with_digest(connection, digest)
    if campaign is None:
        return None
    senders = [From(account) for account in campaign.spec.accounts]
    named = campaigns.attached(
        connection, campaign.id
    )  # their names are shown, and nothing of their contents
    files = [CampaignFile(name, "application/octet-stream", b"") for name, _ in named]
    try:
        made = previews(connection, campaign.spec, senders, files, hidden=True)
    except InputError:
        return None  # its audience is no more
    return preview_page(campaign.spec.name, made.people, hidden=True)
