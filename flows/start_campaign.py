"""A campaign whose time has come."""

from prefect import flow

from flows.send_batches import send_batches
from schemas.campaign import SendRequest, StartRequest
from schemas.report import CampaignReport, Plan
from schemas.states import CampaignState
from tasks.alerting import telling_alerts
from tasks.attending import attending
from tasks.planning import start_plan
from tasks.preflight import preflight_kept
from tasks.reporting import report_campaign
from tasks.starting import refusal_pauses


@flow(name="start-campaign", flow_run_name="start-campaign-{request.campaign_id}")
async def start_campaign(request: StartRequest) -> CampaignReport:
    """Plan a campaign that was kept until its time, send it in batches and report.

    Started before, it goes on with what is missing. One that cannot be sent is paused, and people are told.
    """
    async with telling_alerts(), attending(request.campaign_id), refusal_pauses(request.campaign_id):
        await preflight_kept(request.campaign_id)
        return await send_and_report(await start_plan(request.campaign_id))


async def send_and_report(plan: Plan) -> CampaignReport:
    """Send what is left of a planned campaign, and report whatever becomes of it."""
    async with telling_alerts():
        try:
            if plan.state is not CampaignState.FINISHED:
                await send_batches(SendRequest(campaign_id=plan.campaign_id))
        finally:
            report = await report_campaign(plan.campaign_id)
    return report
