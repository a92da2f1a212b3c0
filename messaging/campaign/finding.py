"""Campaigns by name or number, or a sentence that says which there are."""

from sqlalchemy import Engine

from messaging.errors import InputError
from messaging.storage import campaigns
from messaging.storage.campaigns import Campaign

_MOST_LISTED = 20


def campaign_named(engine: Engine, name: str) -> Campaign:
    """Return the campaign of that name.

    Raises:
        InputError: There is none; the text lists those there are.
    """
    with engine.begin() as connection:
        found = campaigns.find(connection, name)
        if found is None:
            known = ", ".join(campaigns.names(connection)[:_MOST_LISTED]) or "none yet"
            raise InputError(f"there is no campaign {name!r} (campaigns: {known})")
        return found


def campaign_numbered(engine: Engine, number: int) -> Campaign:
    """Return the campaign of that number.

    Raises:
        InputError: There is none.
    """
    with engine.begin() as connection:
        found = campaigns.get(connection, number)
        if found is None:
            raise InputError(f"there is no campaign {number}; `outflow status` lists them")
        return found
