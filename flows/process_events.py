"""What Amazon SES reports, from its queues into the ledger."""

from prefect import flow

from schemas.feedback import EventsRequest, FeedbackReport
from tasks.queues import find_queues, read_queues
from tasks.stopping import stopping_gracefully, then_gone

_ALL = EventsRequest()


@flow(name="process-events", flow_run_name="process-events-of-{request.named}")
async def process_events(request: EventsRequest = _ALL) -> list[FeedbackReport]:
    """Record deliveries, bounces, complaints, opens and clicks; suppress who is not to be written to.

    A run ends when the queues are empty, or after its limits; the next one does the rest. A queue that cannot
    be read fails the run, after the others.
    """
    with stopping_gracefully(), then_gone():
        return await read_queues(await find_queues(request), request)
