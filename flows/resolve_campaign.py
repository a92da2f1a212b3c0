"""A campaign's recipients whose answer never came, decided about."""

from prefect import flow

from flows.retry_campaign import retry_campaign
from schemas.campaign import RetryRequest
from schemas.controlling import ResolveRequest
from schemas.report import CampaignReport, Controlled
from schemas.states import AttemptState
from tasks.controlling import accept_unknown


@flow(name="resolve-campaign", flow_run_name="resolve-{request.campaign}")
async def resolve_campaign(request: ResolveRequest) -> Controlled | CampaignReport:
    """Call recipients who are unknown accepted, or send to them again, as a person has decided."""
    if request.decision == "accepted":
        return await accept_unknown(request)
    again = RetryRequest(
        campaign=request.campaign,
        batches=request.batches,
        states=[AttemptState.UNKNOWN],
        because=request.because,
    )
    return await retry_campaign(again)
