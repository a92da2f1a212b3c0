"""Signed tokens: the names of attempts in links, which nobody else can make.

A token is 44 characters of base64url (RFC 4648, 5), without padding: one byte for the key, 16 for the
attempt, 16 of an HMAC-SHA256 over the purpose, both, and the URL that a click leads to. No address is in it,
and those in messages never expire: the law asks that a link to unsubscribe works for months (CAN-SPAM 30
days, CASL 60). That of a preview holds its end.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error, b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Final
from uuid import UUID

LENGTH: Final = 44
KEY_BYTES: Final = 32

_NAME_BYTES: Final = 17  # of the key and the attempt
_MAC_BYTES: Final = 16
_BLOCK_BYTES: Final = 64  # of SHA-256
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


class Purpose(Enum):
    """What a token is good for; one made for another is refused."""

    UNSUBSCRIBE = b"u"
    OPEN = b"o"
    CLICK = b"c"
    PREVIEW = b"p"  # names a campaign and an end instead of an attempt: see messaging.campaign.preview_links


@dataclass(frozen=True, slots=True)
class LinkKey:
    """One key and its number, from 1 to 255."""

    id: int
    key: bytes


def sign(key: LinkKey, purpose: Purpose, attempt: bytes, bound: str = "") -> str:
    """Return a token for an attempt's 16 bytes; `bound` is a URL that it is good for, and no other."""
    named = bytes((key.id,)) + attempt
    return urlsafe_b64encode(named + _mac(key.key, purpose, named, bound)).decode()


class Signer:
    """Signs for one purpose as `sign` does, in a third of its time: the key is hashed once (RFC 2104)."""

    def __init__(self, key: LinkKey, purpose: Purpose) -> None:
        """Hash the key, which has a block of SHA-256 at most."""
        block = key.key.ljust(_BLOCK_BYTES, b"\0")
        self._id = bytes((key.id,))
        self._inner = sha256(bytes(byte ^ 0x36 for byte in block) + purpose.value).copy
        self._outer = sha256(bytes(byte ^ 0x5C for byte in block)).copy

    def sign(self, attempt: bytes, bound: bytes = b"") -> str:
        """Return a token for an attempt's 16 bytes; `bound` is a URL in UTF-8."""
        named = self._id + attempt
        inner, outer = self._inner(), self._outer()
        inner.update(named + bound if bound else named)
        outer.update(inner.digest())
        token = b2a_base64(named + outer.digest()[:_MAC_BYTES], newline=False)
        return token.translate(_URL_SAFE).decode()


def read(keys: Mapping[int, bytes], purpose: Purpose, token: str, bound: str = "") -> UUID | None:
    """Return whose token it is; None: it was not made by one of these keys, for this purpose and URL."""
    found = _bytes(token)
    if found is None or (key := keys.get(found[0])) is None:
        return None
    named = found[:_NAME_BYTES]
    if not hmac.compare_digest(found[_NAME_BYTES:], _mac(key, purpose, named, bound)):
        return None
    return UUID(bytes=named[1:])


def unverified(token: str) -> UUID | None:
    """Return whose token it says it is, whoever made it; None: it is no token.

    Enough where knowing the attempt's 122 random bits is proof by itself, as in a returned message.
    """
    found = _bytes(token)
    return UUID(bytes=found[1:_NAME_BYTES]) if found else None


def _mac(key: bytes, purpose: Purpose, named: bytes, bound: str) -> bytes:
    return hmac.digest(key, purpose.value + named + bound.encode(), "sha256")[:_MAC_BYTES]


def _bytes(token: str) -> bytes | None:
    if len(token) != LENGTH or not token.isascii():
        return None
    try:
        found = urlsafe_b64decode(token)
    except (Error, ValueError):
        return None
    # Characters outside the alphabet are passed over by the decoder: only what it would write itself counts.
    return found if urlsafe_b64encode(found).decode() == token else None
