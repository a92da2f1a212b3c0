"""A planned campaign, taken up again."""

from prefect import flow

from flows.send_batches import send_batches
from flows.start_campaign import start_campaign
from schemas.campaign import RetryRequest, SendRequest, StartRequest
from schemas.report import CampaignReport
from tasks.accounts import verify_account
from tasks.alerting import telling_alerts
from tasks.planning import find_plan, requeue, resume_unsent
from tasks.reporting import report_campaign


@flow(name="retry-campaign", flow_run_name="retry-{request.campaign}")
async def retry_campaign(request: RetryRequest) -> CampaignReport:
    """Send what is missing of a campaign, and again to the recipients in the chosen states.

    Without a choice it only finishes what a crash, a pause or a server that was away left undone. One that
    was paused before it began is started, unless its time is still ahead.
    """
    unsent = await resume_unsent(request)
    if unsent is not None:
        if unsent.is_due:
            return await start_campaign(StartRequest(campaign_id=unsent.campaign_id))
        return await report_campaign(unsent.campaign_id)
    plan = await find_plan(request.campaign)
    for account in plan.accounts:
        await verify_account(account)
    await requeue(request)
    async with telling_alerts():
        try:
            await send_batches(SendRequest(campaign_id=plan.campaign_id, batches=request.batches or None))
        finally:
            report = await report_campaign(plan.campaign_id)
    return report
