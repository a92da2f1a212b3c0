"""A campaign from its definition to its report."""

from prefect import flow

from flows.send_batches import send_batches
from schemas.campaign import CampaignSpec, SendRequest
from schemas.report import CampaignReport
from schemas.states import CampaignState
from tasks.accounts import verify_account
from tasks.planning import plan_campaign, resolve_templates
from tasks.reporting import report_campaign


@flow(name="launch-campaign", flow_run_name="launch-{campaign.name}")
async def launch_campaign(campaign: CampaignSpec) -> CampaignReport:
    """Plan a campaign for its audience, send it in batches and report.

    A name is sent once: launched again, a finished campaign sends nothing, an unfinished one only what
    is missing.
    """
    resolved = await resolve_templates(campaign)
    for account in resolved.accounts:
        await verify_account(account)
    plan = await plan_campaign(resolved)
    try:
        if plan.state is not CampaignState.FINISHED:
            await send_batches(SendRequest(campaign_id=plan.campaign_id))
    finally:
        report = await report_campaign(plan.campaign_id)
    return report
