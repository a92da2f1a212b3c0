"""Batches sent."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from messaging.campaign import sending, working
from messaging.campaign.finding import campaign_numbered
from messaging.campaign.sending import CampaignRun
from messaging.campaign.turns import LONGEST_HOLD
from messaging.errors import CampaignStopped, MessagingError
from messaging.storage.engine import engine
from schemas.report import BatchReport
from tasks.accounts import load_account
from tasks.guarding import guarded, in_thread, is_retryable
from tasks.slots import slot_of

BATCHES_AT_ONCE = 2  # they share the account's connections; one fills them while the other ends


async def legs_of(campaign_id: int) -> list[int]:
    """Return the places of a campaign's accounts, in the order they are tried."""
    campaign = await in_thread(lambda: campaign_numbered(engine(), campaign_id))
    return list(range(len(campaign.spec.accounts)))


async def has_work(campaign_id: int, leg: int, chosen: list[int] | None) -> bool:
    """Wait until an account has something to send; False: there is nothing left that it could send."""
    with guarded():
        return await working.has_work(engine(), campaign_id, leg, chosen)


@asynccontextmanager
async def open_run(campaign_id: int, leg: int, chosen: list[int] | None) -> AsyncIterator[CampaignRun | None]:
    """Open the connections of one of a campaign's accounts, when it is free, and compile its templates.

    None: while it was not, others have sent what was left.
    """
    campaign = await in_thread(lambda: campaign_numbered(engine(), campaign_id))
    reference = campaign.spec.accounts[leg]
    async with slot_of(reference, lambda: has_work(campaign_id, leg, chosen)) as is_free:
        if not is_free:
            yield None
            return
        account = await load_account(reference)
        async with account.open() as pool:
            run = await in_thread(
                lambda: CampaignRun(
                    engine(),
                    campaign_id,
                    account.sender_header,
                    pool,
                    leg,
                    return_path=account.bounce_address,
                )
            )
            async with run:
                yield run


async def due_batches(run: CampaignRun, chosen: list[int] | None) -> AsyncIterator[dict[int, int]]:
    """Yield batches that an account can send now, waiting for those it cannot yet, until none is left.

    By number, with the epochs of their leases.
    """
    with guarded():
        async for epochs in working.next_work(run, chosen):
            yield epochs


@task(
    task_run_name="send-batch-{number}",
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=5),
    retry_jitter_factor=0.5,
    retry_condition_fn=is_retryable,
    cache_policy=NO_CACHE,  # the ledger remembers, not Prefect
)
async def send_batch(run: CampaignRun, number: int) -> BatchReport:
    """Send what is due of one batch."""
    with guarded():
        return await sending.send_batch(run, number)


async def send_batch_runs(run: CampaignRun, epochs: dict[int, int]) -> None:
    """Send those batches that no other process takes, a task run each, two at a time; then raise a failure.

    One failed batch does not cut the others short.
    """
    left = dict(epochs)
    failures: list[MessagingError] = []

    async def send() -> None:
        while left and not run.halted and run.limits.closed_for() <= LONGEST_HOLD:
            with guarded():
                number = await run.claims.next(left)
            if number is None:
                return
            del left[number]
            try:
                await send_batch(run, number)
            except MessagingError as failure:
                failures.append(failure)
            finally:
                await run.claims.give_back(number)

    await at_once(send() for _ in range(BATCHES_AT_ONCE))
    if failures:
        raise failures[0]


async def at_once(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do several things at the same time to their end; then raise what failed.

    Of several failures the one that stopped the others, when one did.
    """
    found = await asyncio.gather(*work, return_exceptions=True)
    failures = [failure for failure in found if failure is not None]
    if failures:
        raise min(failures, key=lambda failure: isinstance(failure, CampaignStopped))
