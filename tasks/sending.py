"""Batches sent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from messaging.campaign import sending
from messaging.campaign.finding import campaign_numbered
from messaging.campaign.sending import CampaignRun
from messaging.campaign.turns import LONGEST_HOLD
from messaging.campaign.working import next_work
from messaging.storage.engine import engine
from schemas.report import BatchReport
from tasks.accounts import load_account
from tasks.guarding import guarded, in_thread, is_retryable

BATCHES_AT_ONCE = 2  # they share the account's connections; one fills them while the other ends


@asynccontextmanager
async def open_run(campaign_id: int) -> AsyncIterator[CampaignRun]:
    """Open the connections of a campaign's account and compile its templates."""
    campaign = await in_thread(lambda: campaign_numbered(engine(), campaign_id))
    account = await load_account(campaign.spec.account)
    async with account.open() as pool:
        run = await in_thread(lambda: CampaignRun(engine(), campaign_id, account.sender_header, pool))
        async with run:
            yield run


async def due_batches(run: CampaignRun, chosen: list[int] | None) -> AsyncIterator[list[int]]:
    """Yield the batches that can be sent now, waiting for those that cannot yet, until none is left."""
    with guarded():
        async for numbers in next_work(run, chosen):
            yield numbers


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


async def send_batch_runs(run: CampaignRun, numbers: list[int]) -> None:
    """Send several batches, a task run each, two at a time; then raise the first failure.

    One failed batch does not cut the others short.
    """
    turns = asyncio.Semaphore(BATCHES_AT_ONCE)

    async def send(number: int) -> None:
        async with turns:
            if not run.halted and run.limits.closed_for() <= LONGEST_HOLD:
                await send_batch(run, number)

    failures = await asyncio.gather(*(send(number) for number in numbers), return_exceptions=True)
    for failure in failures:
        if failure is not None:
            raise failure
