"""A campaign, stopped for good."""

from prefect import flow

from schemas.controlling import CancelRequest
from schemas.report import Controlled
from tasks.controlling import cancel


@flow(name="cancel-campaign", flow_run_name="cancel-{request.campaign}")
async def cancel_campaign(request: CancelRequest) -> Controlled:
    """Stop a campaign for good: who has not been written to yet will not be."""
    return await cancel(request)
