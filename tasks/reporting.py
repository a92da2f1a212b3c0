"""Progress and reports, as artifacts: counts only, always from the ledger."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from prefect import task
from prefect.artifacts import (
    TableArtifact,
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from messaging.reports import numbers
from messaging.reports.accounts import account_rows, account_statuses
from messaging.reports.markdown import campaign_markdown, holding_up
from messaging.storage.engine import engine
from schemas.report import CampaignReport
from tasks.accounts import list_accounts
from tasks.guarding import in_thread
from tasks.stopping import last_words

_log = logging.getLogger("messaging.progress")  # the tree that Prefect forwards to the run's page

PROGRESS_SECONDS = 5.0
_LEAST_REST = 20  # times what the last look took: to count a million attempts takes a second or two
_MOST_REST_SECONDS = 60.0
MOST_ROWS = 1000  # a larger table is no longer read by anyone, and Prefect drops its event


@asynccontextmanager
async def progress(campaign_id: int) -> AsyncIterator[None]:
    """Keep a progress artifact and the table of accounts up to date while the block runs."""
    artifact = await acreate_progress_artifact(
        0.0, key=f"campaign-{campaign_id}-progress", description="Sending has started."
    )
    accounts = await list_accounts()
    table = await acreate_table_artifact(
        await _account_rows(accounts), key="accounts", description="Accounts, their limits and how they are."
    )

    async def update() -> None:
        await _update(f"the progress of campaign {campaign_id}", _show(campaign_id, artifact))
        await _update("the table of accounts", _show_accounts(accounts, table))

    watch = asyncio.create_task(_watch(update))
    try:
        yield
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
        async with last_words():
            await update()


async def _watch(update: Callable[[], Awaitable[None]]) -> None:
    took = 0.0
    while True:
        await asyncio.sleep(min(max(PROGRESS_SECONDS, _LEAST_REST * took), _MOST_REST_SECONDS))
        began = time.monotonic()
        await update()
        took = time.monotonic() - began


async def _update(what: str, showing: Awaitable[None]) -> None:
    try:
        await showing
    except Exception as error:  # noqa: BLE001 - no display may stop the sending
        _log.warning("%s could not be shown (%s)", what, type(error).__name__)


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


async def _show_accounts(accounts: list[str], artifact: UUID) -> None:
    table = TableArtifact(table=await _account_rows(accounts))
    async with get_client() as client:  # Prefect's own functions update no table
        await client.update_artifact(artifact, ArtifactUpdate(data=await table.aformat()))


async def _account_rows(accounts: list[str]) -> list[dict[str, Any]]:
    return await in_thread(lambda: account_rows(account_statuses(engine(), accounts)))


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
