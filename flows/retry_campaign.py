"""A planned campaign, taken up again."""

from prefect import flow

from flows.send_batches import send_batches
from schemas.campaign import RetryRequest, SendRequest
from schemas.report import CampaignReport
from tasks.accounts import verify_account
from tasks.planning import find_plan, requeue
from tasks.reporting import report_campaign


@flow(name="retry-campaign", flow_run_name="retry-{request.campaign}")
async def retry_campaign(request: RetryRequest) -> CampaignReport:
    """Send what is missing of a campaign, and again to the recipients in the chosen states.

    Without a choice it only finishes what a crash, a pause or a server that was away left undone.
    """
    plan = await find_plan(request.campaign)
    for account in plan.accounts:
        await verify_account(account)
    await requeue(request)
    try:
        await send_batches(SendRequest(campaign_id=plan.campaign_id, batches=request.batches))
    finally:
        report = await report_campaign(plan.campaign_id)
    return report
