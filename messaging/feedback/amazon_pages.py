"""Fetch what lies at one of Amazon's own URLs, and nowhere else: no redirect is followed."""

import time
from http import HTTPStatus
from http.client import HTTPException
from ssl import SSLContext, create_default_context
from typing import Final
from urllib.error import HTTPError
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
)

SECONDS: Final = 5.0
MOST_BYTES: Final = 64 * 1024


class Absent(OSError):
    """The server says that there is nothing, or something that we do not take."""


def fetch(url: str, context: SSLContext | None = None) -> bytes:
    """Return what lies at an https URL, in 5 seconds and at most 64 KiB; a proxy of the environment is used.

    Whoever calls this has checked the URL.

    Raises:
        Absent: The answer is not 200, or is too large.
        OSError: There is no answer in time, or the server is not who it should be.
    """
    if not url.startswith("https://"):
        raise Absent("not https")
    # Only these: no plain HTTP, no files, no redirects.
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        HTTPSHandler(context=context or create_default_context()),
        HTTPErrorProcessor(),
        HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    until = time.monotonic() + SECONDS
    try:
        with opener.open(url, timeout=SECONDS) as response:
            if response.status != HTTPStatus.OK:
                raise Absent(f"answered {response.status}")
            found = bytearray()
            while chunk := response.read1(8192):
                found += chunk
                if len(found) > MOST_BYTES:
                    raise Absent("too large")
                if time.monotonic() > until:
                    raise TimeoutError
            return bytes(found)
    except HTTPError as refused:
        refused.close()
        if refused.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise OSError(f"answered {refused.code}") from None
        raise Absent(f"answered {refused.code}") from None
    except HTTPException as error:
        raise OSError(type(error).__name__) from None
