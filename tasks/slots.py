"""How many runs may use an account at once: Prefect's global concurrency limit named after the account."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from uuid import UUID

from httpx import HTTPError, HTTPStatusError
from prefect import runtime
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.client.schemas.responses import ConcurrencyLimitWithLeaseResponse
from prefect.exceptions import ObjectNotFound

from messaging.errors import NotSent

_log = logging.getLogger("messaging.slots")  # the tree that Prefect forwards to the run's page

LEASE_SECONDS: Final = 60.0  # the shortest that Prefect's server takes
RENEWAL_SECONDS: Final = 15.0
LONGEST_GOODBYE: Final = 5.0  # seconds for a server that is away: we may have been told to stop
LONGEST_NAP: Final = 4.0  # seconds, after which a free slot, a pause or the campaign's end is noticed


@dataclass(frozen=True, slots=True)
class _Slot:
    """Leave to use an account."""

    lease: UUID | None
    """None: the account has no limit."""


@asynccontextmanager
async def slot_of(account: str, is_wanted: Callable[[], Awaitable[bool]]) -> AsyncIterator[bool]:
    """Hold one of an account's slots while the block runs; wait until there is one, or none is wanted.

    Yields whether the account may be used. While it waits it asks now and then whether it should; what that
    raises ends the waiting. An account without a limit has as many slots as are wanted. A slot whose holder
    is killed is free again after a minute. When Prefect does not answer any more the block runs on: its
    sending is worth more than the limit.

    Raises:
        NotSent: Prefect does not answer at the start; nothing was sent, and calling again is safe.
    """
    async with get_client() as client:
        slot = await _slot(client, account, is_wanted)
        if slot is None or slot.lease is None:
            yield slot is not None
            return
        lease = slot.lease
        renewing = asyncio.create_task(_renew(client, lease, account))
        try:
            yield True
        finally:
            renewing.cancel()
            try:
                async with asyncio.timeout(LONGEST_GOODBYE):
                    await client.release_concurrency_slots_with_lease(lease)
            except Exception as error:  # noqa: BLE001 - what was sent is sent; the lease runs out by itself
                _log.warning("the slot of %s is free in a minute (%s)", account, type(error).__name__)


async def limit_runs(account: str, runs: int | None) -> None:
    """Let at most so many runs use an account at once; None lifts the limit."""
    async with get_client() as client:
        if runs is not None:
            await client.upsert_global_concurrency_limit_by_name(_name(account), runs)
            return
        with contextlib.suppress(ObjectNotFound):
            await client.delete_global_concurrency_limit_by_name(_name(account))


async def runs_at_once(account: str) -> int | None:
    """Return how many runs may use an account at once; None: there is no limit."""
    async with get_client() as client:
        try:
            found = await client.read_global_concurrency_limit_by_name(_name(account))
        except ObjectNotFound:
            return None
    return found.limit if found.active else None


def _name(account: str) -> str:
    """Return what an account's limit is called: Prefect takes no slash in names."""
    return account.replace("/", "-")


async def _slot(
    client: PrefectClient, account: str, is_wanted: Callable[[], Awaitable[bool]]
) -> _Slot | None:
    """Wait for a slot; None: it is not wanted any more."""
    is_said = False
    while True:
        try:
            return _Slot(await _lease(client, account))
        except HTTPStatusError as error:
            if error.response.status_code != HTTPStatus.LOCKED:
                raise NotSent(_unasked(account, str(error.response.status_code))) from None
        except HTTPError as error:
            raise NotSent(_unasked(account, type(error).__name__)) from None
        if not is_said:
            _log.info("waiting for %s: as many runs use it as may at once", account)
            is_said = True
        await asyncio.sleep(LONGEST_NAP)
        if not await is_wanted():
            return None


async def _lease(client: PrefectClient, account: str) -> UUID | None:
    """Take a slot and return the lease of it; None: the account has no limit."""
    run = runtime.flow_run.id
    holder = ConcurrencyLeaseHolder(type="flow_run", id=UUID(run)) if run else None
    answer = await client.increment_concurrency_slots_with_lease(
        [_name(account)], 1, "concurrency", LEASE_SECONDS, holder
    )
    granted = ConcurrencyLimitWithLeaseResponse.model_validate(answer.json())
    return granted.lease_id if granted.limits else None


def _unasked(account: str, why: str) -> str:
    return f"Prefect did not say whether {account} may be used by one more run ({why}): outflow retry"


async def _renew(client: PrefectClient, lease: UUID, account: str) -> None:
    """Keep the slot ours until cancelled."""
    is_said = False
    while True:
        await asyncio.sleep(RENEWAL_SECONDS)
        try:
            await client.renew_concurrency_lease(lease, LEASE_SECONDS)
        except Exception as error:  # noqa: BLE001 - the sending goes on without it
            if not is_said:
                _log.warning("the slot of %s could not be kept (%s)", account, type(error).__name__)
            is_said = True
        else:
            is_said = False
