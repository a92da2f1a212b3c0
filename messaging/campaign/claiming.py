"""Batches taken, so that processes that send one campaign keep out of each other's way."""

import asyncio
import os
import platform
from collections.abc import Callable, Mapping
from functools import partial
from uuid import uuid4

from sqlalchemy import Connection, Engine

from messaging.campaign.ledger import BatchLedger
from messaging.storage import batches
from messaging.storage.batches import Lease


class Claims:
    """The batches of one of a campaign's accounts that this process has taken."""

    def __init__(self, engine: Engine, campaign_id: int, leg: int) -> None:
        """Nothing is taken yet."""
        self._engine = engine
        self._campaign_id = campaign_id
        self._leg = leg
        self._ahead: dict[int, Lease] = {}
        self.taken = 0
        """How many there were so far."""

    async def next(self, epochs: Mapping[int, int]) -> int | None:
        """Take the first free one of these batches and return its number; None: others have taken them all.

        The epochs of their leases are those that `work` saw. It is kept for `take`, which must follow within
        seconds.
        """
        seen = dict(epochs)  # whoever claims beside us may change theirs meanwhile
        lease = await self._claimed(
            lambda connection, owner: batches.claim_first(
                connection, self._campaign_id, seen, owner, self._leg
            )
        )
        if lease is None:
            return None
        self._ahead[lease.number] = lease
        return lease.number

    async def take(self, number: int) -> Lease | None:
        """Return the lease of a batch, taken now unless it was by `next`; None: it cannot be taken now."""
        if (ahead := self._ahead.pop(number, None)) is not None:
            return ahead
        claim = partial(batches.claim, campaign_id=self._campaign_id, number=number, leg=self._leg)
        return await self._claimed(lambda connection, owner: claim(connection, owner=owner))

    async def give_back(self, number: int) -> None:
        """Give a batch back that `next` took and nobody asked for."""
        if (lease := self._ahead.pop(number, None)) is not None:
            await self._released(lease)

    async def _claimed(self, claim: Callable[[Connection, str], Lease | None]) -> Lease | None:
        """Claim in a thread; cancelled meanwhile, give the batch back, as a thread cannot be stopped."""
        claiming = asyncio.create_task(asyncio.to_thread(self._claim, claim))
        try:
            lease = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            if (lease := await claiming) is not None:
                await self._released(lease)
            raise
        self.taken += lease is not None
        return lease

    def _claim(self, claim: Callable[[Connection, str], Lease | None]) -> Lease | None:
        owner = f"{platform.node()}:{os.getpid()}:{uuid4().hex[:8]}"
        with self._engine.begin() as connection:
            return claim(connection, owner)

    async def _released(self, lease: Lease) -> None:
        async with BatchLedger(self._engine, lease):
            pass
