"""What is left of a campaign, sent."""

from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from schemas.campaign import SendRequest
from tasks.attending import attending
from tasks.reporting import progress
from tasks.sending import at_once, due_batches, has_work, legs_of, open_run, send_batch_runs
from tasks.sharing import shared
from tasks.stopping import stopping_gracefully, then_gone


def _run_name() -> str:
    given: Any = flow_run.parameters["request"]
    request = SendRequest.model_validate(given if isinstance(given, dict) else given.model_dump())
    shard = f"-shard-{request.shard}" if request.shard else ""
    return f"send-batches-of-campaign-{request.campaign_id}{shard}"


@flow(name="send-batches", flow_run_name=_run_name)
async def send_batches(request: SendRequest) -> None:
    """Send what is left of a campaign's batches, one task run each, until no recipient is left.

    Each of its accounts sends its own, all at the same time; whom one does not reach goes to the next. A
    campaign with workers is sent by as many runs, which share its batches. Safe to run again at any time: who
    has an answer is not sent to again.
    """
    with stopping_gracefully():
        async with attending(request.campaign_id, partly=bool(request.batches)):
            if request.shard:
                await _send(request)
            else:
                async with progress(request.campaign_id), shared(request):
                    await _send(request)


async def _send(request: SendRequest) -> None:
    chosen = list(request.batches) if request.batches else None
    with then_gone():
        legs = await legs_of(request.campaign_id)
        await at_once(_send_over(request.campaign_id, leg, chosen) for leg in legs)


async def _send_over(campaign_id: int, leg: int, chosen: list[int] | None) -> None:
    """Send what is left for one of the accounts, which is open while there is something for it."""
    while await has_work(campaign_id, leg, chosen):
        async with open_run(campaign_id, leg, chosen) as run:
            if run is not None:
                async for batches in due_batches(run, chosen):
                    await send_batch_runs(run, batches)
