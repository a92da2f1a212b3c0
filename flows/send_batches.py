"""What is left of a campaign, sent."""

from prefect import flow

from schemas.campaign import SendRequest
from tasks.reporting import progress
from tasks.sending import at_once, due_batches, has_work, legs_of, open_run, send_batch_runs
from tasks.stopping import stopping_gracefully


@flow(name="send-batches", flow_run_name="send-batches-of-campaign-{request.campaign_id}")
async def send_batches(request: SendRequest) -> None:
    """Send what is left of a campaign's batches, one task run each, until no recipient is left.

    Each of its accounts sends its own, all at the same time; whom one does not reach goes to the next. Safe
    to run again at any time: who has an answer is not sent to again.
    """
    with stopping_gracefully():
        chosen = list(request.batches) if request.batches else None
        legs = await legs_of(request.campaign_id)
        async with progress(request.campaign_id):
            await at_once(_send_over(request.campaign_id, leg, chosen) for leg in legs)


async def _send_over(campaign_id: int, leg: int, chosen: list[int] | None) -> None:
    """Send what is left for one of the accounts, which is opened once there is something."""
    if await has_work(campaign_id, leg, chosen):
        async with open_run(campaign_id, leg) as run:
            async for numbers in due_batches(run, chosen):
                await send_batch_runs(run, numbers)
