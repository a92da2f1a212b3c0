"""Recurring campaigns, kept."""

import logging
from pathlib import Path

from prefect import task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE

from messaging.campaign import definition, recurring
from messaging.reports.markdown import table_cell
from messaging.storage.engine import engine
from schemas.schedule import ScheduleSpec, ScheduleStatus
from tasks.guarding import in_thread

_log = logging.getLogger("messaging.schedule")  # the tree that Prefect forwards to the run's page


async def keep_schedule(campaign: ScheduleSpec, folder: Path) -> ScheduleStatus:
    """Keep a schedule, with the templates that it names by path relative to `folder`."""
    resolved = await in_thread(definition.resolve_templates, campaign, folder)
    return await in_thread(lambda: recurring.add(engine(), resolved))


@task(task_run_name="add-schedule-{campaign.name}", cache_policy=NO_CACHE)
async def add_schedule(campaign: ScheduleSpec) -> ScheduleStatus:
    """Keep a schedule, with templates from this worker's working directory, and say so on the run's page."""
    status = await keep_schedule(campaign, Path.cwd())
    _log.info("%s", status.said)
    times = [f"- {moment:%F %H:%M} UTC" for moment in status.next]
    await acreate_markdown_artifact(
        "\n".join(
            [f"# Schedule {status.schedule}: {status.state}", "", f"{table_cell(status.said)}.", "", *times]
        ),
        key="schedule",
        description=f"Schedule {status.schedule} and its next times.",
    )
    return status
