"""What a browser or a mail provider posts: `application/x-www-form-urlencoded` or `multipart/form-data`."""

import re
from typing import Final
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from messaging.web.bodies import read_body

_MOST_FIELDS: Final = 1000
_BOUNDARY: Final = re.compile(r"boundary=(?:\"([^\"]{1,70})\"|([^\s;,\"]{1,70}))", re.IGNORECASE)  # RFC 2046
_NAME: Final = re.compile(
    rb"^content-disposition:[^\n]*?;[ \t]*name=\"?([^\";\n]{1,100})", re.IGNORECASE | re.MULTILINE
)

Form = dict[str, list[str]]


async def read_form(request: Request) -> Form:
    """Return the values by field; files are read as if they were text.

    Raises:
        HTTPException: 400, it is no form; 413, it is too long.
    """
    body = await read_body(request)
    content_type = request.headers.get("content-type", "application/x-www-form-urlencoded")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        pairs = _urlencoded(body)
    elif kind == "multipart/form-data" and (boundary := _BOUNDARY.search(content_type)):
        pairs = _multipart(body, (boundary[1] or boundary[2]).encode("latin-1"))
    else:
        raise HTTPException(400)
    form: Form = {}
    for name, value in pairs:
        form.setdefault(name, []).append(value)
    return form


def _urlencoded(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise HTTPException(400) from None


def _multipart(body: bytes, boundary: bytes) -> list[tuple[str, str]]:
    """Split a body (RFC 7578) into parts with a name; what stands around them is not read."""
    pairs = []
    for part in body.split(b"--" + boundary)[1 : _MOST_FIELDS + 1]:
        if part.startswith(b"--"):
            break
        head, _, value = part.replace(b"\r\n", b"\n").partition(b"\n\n")
        if name := _NAME.search(head):
            pairs.append(
                (name[1].decode(errors="replace"), value.removesuffix(b"\n").decode(errors="replace"))
            )
    return pairs
