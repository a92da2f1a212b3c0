"""Whether phone numbers are on WhatsApp, asked over a linked account without sending anything."""

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from messaging.channels.base import SenderPool
from messaging.channels.whatsapp_web import WhatsAppWebPool
from messaging.channels.whatsapp_web_numbers import MOST_AT_ONCE
from messaging.channels.whatsapp_web_session import Said
from messaging.errors import InputError, NotSent

LIKE_A_PERSON: Final = (10.0, 25.0)
"""Seconds between two questions, the pause that campaigns make too: what asks like a machine is banned."""


async def ask_whatsapp(
    pool: SenderPool, phones: Sequence[str], between: tuple[float, float] = LIKE_A_PERSON
) -> None:
    """Ask about numbers in E.164, 20 at once; the ledger keeps the answers.

    Raises:
        InputError: The account is not WhatsApp Web's.
        NotSent: WhatsApp cannot be reached, or does not tell now; what was answered is kept.
        AccountError: The account cannot be used.
        DatabaseError: The ledger went away.
    """
    if not isinstance(pool, WhatsAppWebPool):
        raise InputError("only a whatsapp-web-account can tell who is on WhatsApp")
    for start in range(0, len(phones), MOST_AT_ONCE):
        if start:
            await asyncio.sleep(random.uniform(*between))  # noqa: S311 - a pause, no secret
        session = await pool.session()
        try:
            await pool.numbers.addresses(session, phones[start : start + MOST_AT_ONCE])
        except Said as said:
            pool.heard(said, sent=False)
            raise NotSent("WhatsApp does not tell now who is registered: try again later") from None
