"""A recurring campaign, kept until it is removed."""

from prefect import flow

from schemas.schedule import ScheduleSpec, ScheduleStatus
from tasks import recurring


@flow(name="add-schedule", flow_run_name="add-schedule-{campaign.name}")
async def add_schedule(campaign: ScheduleSpec) -> ScheduleStatus:
    """Have a campaign sent again and again: each time to its audience as it is then.

    Added again under the same name, it is changed.
    """
    return await recurring.add_schedule(campaign)
