"""Progress and reports, as artifacts: counts only, always from the ledger."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from prefect import task
from prefect.artifacts import (
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.cache_policies import NO_CACHE

from messaging.reports import numbers
from messaging.reports.markdown import campaign_markdown, holding_up
from messaging.storage.engine import engine
from schemas.report import CampaignReport
from tasks.guarding import in_thread

_log = logging.getLogger("messaging.progress")  # the tree that Prefect forwards to the run's page

PROGRESS_SECONDS = 5.0
MOST_ROWS = 1000  # a larger table is no longer read by anyone, and Prefect drops its event


@asynccontextmanager
async def progress(campaign_id: int) -> AsyncIterator[None]:
    """Keep a progress artifact up to date while the block runs."""
    artifact = await acreate_progress_artifact(
        0.0, key=f"campaign-{campaign_id}-progress", description="Sending has started."
    )
    watch = asyncio.create_task(_watch(campaign_id, artifact))
    try:
        yield
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
        await _update(campaign_id, artifact)


async def _watch(campaign_id: int, artifact: UUID) -> None:
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        await _update(campaign_id, artifact)


async def _update(campaign_id: int, artifact: UUID) -> None:
    try:
        await _show(campaign_id, artifact)
    except Exception as error:  # noqa: BLE001 - no display may stop the sending
        _log.warning("the progress of campaign %d could not be shown (%s)", campaign_id, type(error).__name__)


async def _show(campaign_id: int, artifact: UUID) -> None:
    report = await in_thread(lambda: numbers.campaign_report(engine(), campaign_id))
    planned, left = report.totals.planned, report.totals.unfinished
    figures = (
        f"{planned - left:,} of {planned:,} recipients done: {report.totals.accepted:,} accepted, "
        f"{report.totals.rejected:,} rejected, {report.totals.unknown:,} unknown; "
        f"{report.messages_per_second:,.0f} per second"
    )
    paused = [f"Paused because {report.paused_because}"] if report.paused_because else []
    await aupdate_progress_artifact(
        artifact,
        100.0 * (planned - left) / planned if planned else 100.0,
        f"{'. '.join([figures, *paused, *holding_up(report)])}.",
    )


@task(task_run_name="report-campaign-{campaign_id}", cache_policy=NO_CACHE)
async def report_campaign(campaign_id: int) -> CampaignReport:
    """Write a campaign's report and its table of batches."""
    report = await in_thread(lambda: numbers.campaign_report(engine(), campaign_id))
    batches = await in_thread(lambda: numbers.batch_totals(engine(), campaign_id))
    await acreate_table_artifact(
        [
            {
                "batch": batch.number,
                "recipients": batch.totals.planned,
                "accepted": batch.totals.accepted,
                "rejected": batch.totals.rejected,
                "unknown": batch.totals.unknown,
                "left": batch.totals.unfinished,
                "seconds": round(batch.seconds, 2),
                "per second": round(batch.per_second, 1),
            }
            for batch in batches[:MOST_ROWS]
        ],
        key=f"campaign-{campaign_id}-batches",
        description=f"Batches of campaign {report.campaign}.",
    )
    await acreate_markdown_artifact(
        campaign_markdown(report),
        key=f"campaign-{campaign_id}",
        description=f"Report of campaign {report.campaign}.",
    )
    return report
