"""What came back to the mailboxes, into the ledger."""

from prefect import flow

from schemas.feedback import BouncesRequest, FeedbackReport
from tasks.mailboxes import find_mailboxes, read_mailboxes

_ALL = BouncesRequest()


@flow(name="process-bounces", flow_run_name="process-bounces-of-{request.named}")
async def process_bounces(request: BouncesRequest = _ALL) -> list[FeedbackReport]:
    """Read bounces, complaints and automatic answers from mailboxes; suppress who is not to be written to.

    Run again it reads only what is new. A mailbox that cannot be read fails the run, after the others.
    """
    return await read_mailboxes(await find_mailboxes(request), request)
