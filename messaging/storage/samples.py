"""Contacts whose data a message is tried with; nothing is written here."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, func, or_, select

from messaging.storage import audiences
from messaging.storage.tables import contacts, suppressions
from schemas.states import Channel, SubscriptionStatus


@dataclass(frozen=True, slots=True)
class Sample:
    """One contact, as a message needs it."""

    email_key: str | None
    email: str | None
    phone: str | None
    name: str | None
    attributes: dict[str, str]
    status: str

    @property
    def subscribed(self) -> bool:
        """Whether this contact wants messages: has confirmed where asked, and not unsubscribed."""
        return self.status == SubscriptionStatus.SUBSCRIBED


NOBODY: Final = Sample(None, None, None, None, {}, SubscriptionStatus.SUBSCRIBED)
"""Whose data a message to a group is made with."""


def with_addresses(connection: Connection, addresses: Collection[str]) -> dict[str, Sample]:
    """Return the contacts that have these e-mail addresses or numbers, by address as the ledger compares it.

    Of several who share a number, the one that was there first.
    """
    wanted = list(addresses)
    asked = _samples().where(or_(contacts.c.email_key.in_(wanted), contacts.c.phone.in_(wanted)))
    found: dict[str, Sample] = {}
    for sample in _read(connection, asked):
        for address in {sample.email_key, sample.phone} & {*wanted}:
            if address is not None:
                found.setdefault(address, sample)
    return found


def first_members(connection: Connection, audience_id: int, where: str, count: int) -> list[Sample]:
    """Return the first contacts of an audience for whom `where` holds.

    Raises:
        InputError: The filter cannot be evaluated.
    """
    chosen = audiences.members(connection, audience_id, where)
    return _read(connection, _samples().where(contacts.c.id.in_(chosen)).limit(count))


def suppressed(connection: Connection, channel: Channel, addresses: Collection[str]) -> dict[str, str]:
    """Return those of these addresses that must not be used on a channel, and why."""
    known = suppressions.c
    asked = select(known.address_key, known.reason).where(
        known.channel == channel,
        known.address_key.in_(list(addresses)),
        or_(known.expires_at.is_(None), known.expires_at > func.now()),
    )
    return {row.address_key: row.reason for row in connection.execute(asked)}


def _samples() -> Select[Any]:
    names = ("email_key", "email", "phone", "name", "attributes", "status")
    return select(*(contacts.c[name] for name in names)).order_by(contacts.c.id)


def _read(connection: Connection, asked: Select[Any]) -> list[Sample]:
    return [Sample(*row) for row in connection.execute(asked)]
