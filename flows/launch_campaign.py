"""A campaign from its definition to its report."""

from prefect import flow

from flows.start_campaign import send_and_report
from schemas.campaign import CampaignSpec
from schemas.report import CampaignReport
from tasks.planning import begins_later, keep_campaign, plan_campaign, resolve_templates
from tasks.preflight import preflight_campaign
from tasks.reporting import report_campaign


@flow(name="launch-campaign", flow_run_name="launch-{campaign.name}")
async def launch_campaign(campaign: CampaignSpec) -> CampaignReport:
    """Plan a campaign for its audience, send it in batches and report.

    One with a time to start or that is to be approved is kept until then. A name is sent once: launched
    again, a finished campaign sends nothing, an unfinished one only what is missing.
    """
    resolved = await resolve_templates(campaign)
    await preflight_campaign(resolved)
    if await begins_later(resolved):
        return await report_campaign(await keep_campaign(resolved))
    return await send_and_report(await plan_campaign(resolved))
