"""Bodies of requests: read whole, but never more than one may hold."""

import asyncio
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

MOST: Final = 64 * 1024
"""Bytes, where nothing else is said."""

_SECONDS: Final = 20.0


async def read_body(request: Request, most: int = MOST) -> bytes:
    """Return a request's raw body.

    Raises:
        HTTPException: 413, it is larger than `most` bytes; 400, it breaks off; 408, it comes too slowly.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > most:
        raise HTTPException(413)
    body = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise HTTPException(413)
    except ClientDisconnect:
        raise HTTPException(400) from None
    except TimeoutError:
        raise HTTPException(408) from None
    return bytes(body)
