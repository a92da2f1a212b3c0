"""The suppression list of an Amazon SES account, mirrored both ways.

SES refuses to deliver to whom its list has (developer guide, "Using the Amazon SES account-level suppression
list"), whatever program sends, and knows two reasons. So bounces and complaints go both ways, and who
unsubscribed, or was suppressed by hand, stays ours: a lost password must still reach them.
"""

import asyncio
from typing import Final

import polars as pl
from pydantic import Field
from sqlalchemy import Engine

from messaging.audience.emails import judge_emails
from messaging.channels.ses_client import Refused, SesClient
from messaging.channels.ses_settings import SesSettings
from messaging.storage import suppressions
from messaging.storage.failing import database_errors
from messaging.storage.suppressions import Compared
from schemas.base import Schema
from schemas.states import Channel, SuppressionReason

PAGE_SIZE: Final = 1000
BETWEEN_ACTIONS: Final = 1.0  # seconds; SES takes all actions but sending once a second (SES quotas)

_REASONS: Final = {"BOUNCE": SuppressionReason.BOUNCED, "COMPLAINT": SuppressionReason.COMPLAINED}
_THEIRS: Final = {ours: theirs for theirs, ours in _REASONS.items()}


class SuppressionSync(Schema):
    """What mirroring a provider's suppression list did."""

    account: str
    listed: int = Field(description="Addresses on the provider's list.")
    added_here: int = Field(description="Of them, those that we did not suppress.")
    added_there: int = Field(description="Ours that its list did not have.")
    refused_there: int = Field(description="Ours that it did not take.")
    removed_there: int = Field(
        description="Those that came from its list and are not on it any more; they stay suppressed here."
    )

    @property
    def sentence(self) -> str:
        """All of it on one line."""
        parts = [
            f"{self.listed:,} addresses on its list, {self.added_here:,} of them new here",
            f"{self.added_there:,} of ours put there",
            *([f"{self.refused_there:,} refused there"] if self.refused_there else []),
            *([f"{self.removed_there:,} removed there and kept here"] if self.removed_there else []),
        ]
        return f"{self.account}: {', '.join(parts)}"


async def sync_suppressions(
    engine: Engine, account: str, settings: SesSettings, between: float = BETWEEN_ACTIONS
) -> SuppressionSync:
    """Take over what SES suppresses, and put there what it lacks, one every `between` seconds.

    Broken off, it has done a part; calling again does the rest.

    Raises:
        NotSent: SES gave no answer.
        AccountError: The key may not do it, or is refused.
        DatabaseError: The ledger went away.
    """
    client = await asyncio.to_thread(SesClient, settings)
    try:
        theirs = await _listed(client, between)
        source = f"ses:{account}"
        added, compared = await asyncio.to_thread(_take_over, engine, theirs, source)
        refused = 0
        for key, reason in compared.missing.items():
            await asyncio.sleep(between)
            refused += not await asyncio.to_thread(_put, client, key, reason)
    finally:
        client.close()
    return SuppressionSync(
        account=account,
        listed=len(theirs),
        added_here=added,
        added_there=len(compared.missing) - refused,
        refused_there=refused,
        removed_there=compared.gone,
    )


async def _listed(client: SesClient, between: float) -> dict[str, SuppressionReason]:
    """Return SES's list by address key; who complained and bounced has complained."""
    found: dict[str, SuppressionReason] = {}
    more: dict[str, str] = {}
    while True:
        page = await asyncio.to_thread(client.ask, "list_suppressed_destinations", PageSize=PAGE_SIZE, **more)
        summaries = (page or {}).get("SuppressedDestinationSummaries", [])
        keys = _keys([summary["EmailAddress"] for summary in summaries])
        for key, summary in zip(keys, summaries, strict=True):
            if found.get(key) is not SuppressionReason.COMPLAINED:
                found[key] = _REASONS[summary["Reason"]]
        if (token := (page or {}).get("NextToken")) is None:
            return found
        more = {"NextToken": token}
        await asyncio.sleep(between)


def _keys(addresses: list[str]) -> list[str]:
    """Return addresses in the form that the ledger compares; one that it would refuse, in lower case."""
    judged = judge_emails(pl.Series(addresses, dtype=pl.String))
    known = dict(zip(judged["given"], judged["email_key"], strict=True))
    return [known[address] or address.lower() for address in addresses]


def _take_over(engine: Engine, theirs: dict[str, SuppressionReason], source: str) -> tuple[int, Compared]:
    with database_errors(), engine.begin() as connection:
        added = suppressions.add(connection, Channel.EMAIL, theirs, source)
        return added, suppressions.compare(connection, Channel.EMAIL, list(theirs), list(_THEIRS), source)


def _put(client: SesClient, address: str, reason: SuppressionReason) -> bool:
    try:
        client.ask("put_suppressed_destination", EmailAddress=address, Reason=_THEIRS[reason])
    except Refused:
        return False
    return True
