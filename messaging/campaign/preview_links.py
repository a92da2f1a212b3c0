"""Links to the page that shows a campaign's messages: for whoever has one, for some days.

Prefect keeps them, so the page shows no more of anybody than Prefect may: see messaging.web.previewing.
"""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import UUID

from messaging.tokens import LinkKey, Purpose, sign

LASTS: Final = timedelta(days=7)
DIGEST_BYTES: Final = 12
"""Of the SHA-256 of a campaign's name: known before the campaign is in the ledger."""
_END_BYTES: Final = 4  # seconds since 1970, until 2106


def link(key: LinkKey, campaign: str, public_url: str) -> str:
    """Return a link to a campaign's page, good for 7 days from now; the page is there with the campaign."""
    end = int((datetime.now(UTC) + LASTS).timestamp())
    named = sha256(campaign.encode()).digest()[:DIGEST_BYTES] + end.to_bytes(_END_BYTES)
    return f"{public_url.rstrip('/')}/preview/{sign(key, Purpose.PREVIEW, named)}"


def campaign_of(token: UUID) -> bytes | None:
    """Return the beginning of the digest that a token's 16 bytes hold; None: its time is over."""
    named, end = token.bytes[:DIGEST_BYTES], int.from_bytes(token.bytes[DIGEST_BYTES:])
    return named if end >= datetime.now(UTC).timestamp() else None
