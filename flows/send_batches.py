"""What is left of a campaign, sent."""

from prefect import flow

from schemas.campaign import SendRequest
from tasks.reporting import progress
from tasks.sending import due_batches, open_run, send_batch_runs
from tasks.stopping import stopping_gracefully


@flow(name="send-batches", flow_run_name="send-batches-of-campaign-{request.campaign_id}")
async def send_batches(request: SendRequest) -> None:
    """Send what is left of a campaign's batches, one task run each, until no recipient is left.

    Safe to run again at any time: who has an answer is not sent to again.
    """
    with stopping_gracefully():
        async with open_run(request.campaign_id) as run, progress(request.campaign_id):
            async for numbers in due_batches(run, request.batches):
                await send_batch_runs(run, numbers)
