"""The keys of links, held in memory: most links are checked without the ledger."""

import asyncio
import math
import time
from base64 import urlsafe_b64decode
from typing import Final
from uuid import UUID

from messaging import tokens
from messaging.errors import DatabaseError
from messaging.storage.link_keys import read_keys
from messaging.tokens import Purpose
from messaging.web.ledger import Ledger

FRESH_SECONDS: Final = 5.0
"""A key that we do not know is looked for this often at most: strangers make up links faster."""


class Keys:
    """All keys, read again when a link names one that we have not met."""

    def __init__(self, ledger: Ledger) -> None:
        """Know none; `refresh` reads them."""
        self._ledger = ledger
        self._keys: dict[int, bytes] = {}
        self._looked_at = -math.inf
        self._is_away = False
        self._looking = asyncio.Lock()

    async def refresh(self) -> None:
        """Read the keys from the ledger, making the first one when there is none.

        Raises:
            DatabaseError: The ledger is away; the keys that we had are kept.
        """
        self._keys = await self._ledger.transaction(read_keys)
        self._looked_at = time.monotonic()
        self._is_away = False

    async def read(self, purpose: Purpose, token: str, bound: str = "") -> UUID | None:
        """Return whose token it is; None: it was not made by one of our keys for this purpose and URL.

        Raises:
            DatabaseError: It names a key that we do not know, and the ledger is away.
        """
        attempt = tokens.read(self._keys, purpose, token, bound)
        if attempt is None and await self._learnt(token):
            attempt = tokens.read(self._keys, purpose, token, bound)
        return attempt

    async def _learnt(self, token: str) -> bool:
        """Say whether a look at the ledger brought the key that a token names."""
        if tokens.unverified(token) is None:
            return False
        key_id = urlsafe_b64decode(token[:4])[0]
        if key_id in self._keys:
            return False
        async with self._looking:
            if key_id not in self._keys and time.monotonic() - self._looked_at >= FRESH_SECONDS:
                try:
                    await self.refresh()
                except DatabaseError:
                    self._looked_at = time.monotonic()
                    self._is_away = True
                    raise
        if self._is_away and key_id not in self._keys:
            raise DatabaseError("the keys of links could not be read some seconds ago")
        return key_id in self._keys
