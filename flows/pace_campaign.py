"""A campaign at another pace."""

from prefect import flow

from schemas.controlling import PaceRequest
from schemas.report import Controlled
from tasks.controlling import set_pace


@flow(name="pace-campaign", flow_run_name="pace-{request.campaign}")
async def pace_campaign(request: PaceRequest) -> Controlled:
    """Give a campaign another pace, also while it is being sent."""
    return await set_pace(request)
