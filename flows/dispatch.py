"""Every minute: what is due, started."""

from prefect import flow

from schemas.schedule import DispatchReport
from tasks.alerting import telling_alerts
from tasks.approving import start_approvals
from tasks.dispatching import start_due


@flow(name="dispatch", flow_run_name="dispatch")
async def dispatch() -> DispatchReport:
    """Start the campaigns whose time has come, and make the editions of schedules that are due.

    Each is started once, however often this runs and on however many workers. What is too late is paused,
    and people are told. Of a draft people are asked whether to send it.
    """
    async with telling_alerts():
        try:
            return await start_due()
        finally:
            await start_approvals()
