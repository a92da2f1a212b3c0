"""A campaign, held."""

from prefect import flow

from schemas.controlling import PauseRequest
from schemas.report import Controlled
from tasks.controlling import pause


@flow(name="pause-campaign", flow_run_name="pause-{request.campaign}")
async def pause_campaign(request: PauseRequest) -> Controlled:
    """Let nothing more of a campaign be sent for now, wherever it is being sent."""
    return await pause(request)
