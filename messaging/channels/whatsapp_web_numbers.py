"""Whether numbers are on WhatsApp, and under which address: asked seldom, as asking much is suspicious."""

import asyncio
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Engine

from messaging.channels.whatsapp_web_session import WhatsAppWebSession
from messaging.storage import whatsapp_numbers
from messaging.storage.failing import database_errors

MOST_AT_ONCE: Final = 20
"""Numbers in one question."""
_SERVER = "s.whatsapp.net"


class Numbers:
    """What is known of numbers: in this process for the session, in the database for some days.

    The database keeps whether a number is registered. Some have an account under another number (Brazil's
    and Mexico's, with and without a digit): these are known in this process only, and asked again.
    """

    def __init__(self, engine: Engine, days: int) -> None:
        """Believe an answer for so many days."""
        self._engine = engine
        self._days = days
        self._addresses: dict[str, str | None] = {}
        self._epoch = 0

    async def addresses(self, session: WhatsAppWebSession, phones: Sequence[str]) -> dict[str, str | None]:
        """Return the address of each number's account, None for a number without; ask for those unknown.

        A number that WhatsApp says nothing about is missing.

        Raises:
            Said: WhatsApp refused to tell.
            NotSent: WhatsApp did not answer.
            DatabaseError: The database did not.
        """
        if self._epoch != session.epoch:  # connected anew, perhaps as another account
            self._epoch = session.epoch
            self._addresses.clear()
        if unknown := [phone for phone in phones if phone not in self._addresses]:
            known = await asyncio.to_thread(self._recall, unknown)
            self._addresses |= {phone: _plain(phone) if here else None for phone, here in known.items()}
        unknown = [phone for phone in phones if phone not in self._addresses]
        for start in range(0, len(unknown), MOST_AT_ONCE):
            await self._ask(session, unknown[start : start + MOST_AT_ONCE])
        return {phone: self._addresses[phone] for phone in phones if phone in self._addresses}

    async def _ask(self, session: WhatsAppWebSession, phones: list[str]) -> None:
        found = await session.check(phones)
        told = {phone: address if here else None for phone, (address, here) in found.items()}
        self._addresses |= told
        plain = {
            phone: address is not None for phone, address in told.items() if address in {None, _plain(phone)}
        }
        if plain:
            await asyncio.to_thread(self._remember, plain)

    def _recall(self, phones: list[str]) -> dict[str, bool]:
        with database_errors(), self._engine.begin() as connection:
            return whatsapp_numbers.known(connection, phones, self._days)

    def _remember(self, registered: dict[str, bool]) -> None:
        with database_errors(), self._engine.begin() as connection:
            whatsapp_numbers.remember(connection, registered)


def _plain(phone: str) -> str:
    return f"{phone.removeprefix('+')}@{_SERVER}"
