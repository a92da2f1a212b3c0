"""The pixel and the links of a message: answered from memory, whatever becomes of the ledger.

Written to the ASGI interface itself: these two are most of what the public asks for.
"""

from base64 import b64decode
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from messaging.errors import DatabaseError
from messaging.feedback.machines import LONGEST_AGENT
from messaging.hosts import ascii_host
from messaging.tokens import Purpose
from messaging.web.hits import LONGEST_URL as KEPT_OF_URL
from messaging.web.hits import Hit
from messaging.web.services import Services
from schemas.states import EventKind

PIXEL: Final = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")
"""A GIF of one transparent pixel, 43 bytes."""

LONGEST_URL: Final = 8000
"""Characters that a click may lead to; RFC 9110, 4.1 asks servers for as much."""

_METHODS: Final = ("GET", "HEAD")
_SAFE: Final = "%/:=&?~#+!$,;'@()*[]"
_MOST_PARAMETERS: Final = 50  # mail clients and scanners add some of their own
_PREFETCH: Final = {
    b"sec-purpose": b"prefetch",
    b"purpose": b"prefetch",
    b"x-purpose": b"preview",
    b"x-moz": b"prefetch",
}
_PIXEL_HEADERS: Final = [
    (b"content-type", b"image/gif"),
    (b"content-length", str(len(PIXEL)).encode()),
    (b"cross-origin-resource-policy", b"cross-origin"),  # mail is read on other people's pages
]


class Opens:
    """The pixel: `/o/TOKEN`, `/o/TOKEN.gif`."""

    def __init__(self, services: Services) -> None:
        """Take what it needs."""
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI calls
        """Answer with the pixel, and keep that it was asked for."""
        _refuse_other_methods(scope)
        token = scope["path_params"]["token"].removesuffix(".gif")
        try:
            attempt = await self._services.keys.read(Purpose.OPEN, token)
        except DatabaseError:  # a new key that we have not met; a broken picture would help nobody
            pass
        else:
            if attempt is None:
                raise HTTPException(404)
            self._services.hits.put(_hit(EventKind.OPENED, attempt, "", scope))
        await send({"type": "http.response.start", "status": 200, "headers": list(_PIXEL_HEADERS)})
        await send({"type": "http.response.body", "body": PIXEL})


class Clicks:
    """A link: `/c/TOKEN?to=URL`, good for the URL that it was signed with and no other."""

    def __init__(self, services: Services) -> None:
        """Take what it needs."""
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI calls
        """Lead on to the URL, and keep that it was asked for."""
        _refuse_other_methods(scope)
        url = _asked_for(scope["query_string"])
        location = location_of(url)
        attempt = location and await self._services.keys.read(
            Purpose.CLICK, scope["path_params"]["token"], bound=url
        )
        if not attempt:
            raise HTTPException(404)
        self._services.hits.put(_hit(EventKind.CLICKED, attempt, url, scope))
        headers = [(b"location", location.encode()), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 302, "headers": headers})
        await send({"type": "http.response.body"})


def location_of(url: str) -> str:
    """Return a URL as a Location header takes it; empty: it is none that a mail may lead to.

    Only http and https with a host, and nothing before it that makes it look like another.
    """
    if (
        not url
        or len(url) > LONGEST_URL
        or "\\" in url
        or any(ord(character) < ord(" ") for character in url)
    ):
        return ""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port
        in_ascii = host if host.isascii() else ascii_host(host)
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https"} or not host or "@" in parts.netloc:
        return ""
    if host.isascii():
        return quote(url, safe=_SAFE)
    netloc = f"{in_ascii}:{port}" if port else in_ascii
    return quote(parts._replace(netloc=netloc).geturl(), safe=_SAFE)


def _asked_for(query: bytes) -> str:
    try:
        given = parse_qs(query.decode("ascii"), errors="strict", max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        return ""
    urls = given.get("to", [])
    return urls[0] if len(urls) == 1 else ""


def _refuse_other_methods(scope: Scope) -> None:
    if scope["method"] not in _METHODS:
        raise HTTPException(405, headers={"Allow": ", ".join(_METHODS)})


def _hit(kind: EventKind, attempt: UUID, url: str, scope: Scope) -> Hit:
    agent = b""
    prefetched = False
    for name, value in scope["headers"]:
        if name == b"user-agent":
            agent = value
        elif name in _PREFETCH and _PREFETCH[name] in value.lower():
            prefetched = True
    return Hit(
        kind=kind,
        token=attempt,
        method=scope["method"],
        agent=agent[:LONGEST_AGENT].decode("latin-1"),
        url=url[:KEPT_OF_URL],
        prefetched=prefetched,
    )
