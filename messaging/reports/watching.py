"""Progress bars for the person who waits: sending by the ledger, importing by this process."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from messaging.audience.progress import running
from messaging.campaign.finding import campaign_named
from messaging.errors import InputError
from messaging.reports.console import err
from messaging.reports.markdown import moment
from messaging.reports.numbers import campaign_report
from messaging.storage.engine import engine

T = TypeVar("T")
_LOOK_SECONDS = 0.5
_NAPS_PER_LOOK = 10


async def with_progress(campaign: str, work: Coroutine[Any, Any, T]) -> T:
    """Await the work that sends a campaign, under a progress bar when stderr is a terminal."""
    if not err.is_terminal:
        return await work
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        watcher = asyncio.create_task(_watch(campaign, bar))
        try:
            return await work
        finally:
            watcher.cancel()


async def with_import_progress(work: Coroutine[Any, Any, T]) -> T:
    """Await work that imports files in this process, under a progress bar when stderr is a terminal."""
    if not err.is_terminal:
        return await work
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        watcher = asyncio.create_task(_watch_imports(bar))
        try:
            return await work
        finally:
            watcher.cancel()


async def _watch_imports(bar: Progress) -> None:
    line = bar.add_task("opening", total=100)
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        for progress in running():
            told = f"{progress.path.name}: {progress.doing}, {progress.rows:,} rows"
            bar.update(line, description=told, completed=progress.percent)


async def _watch(campaign: str, bar: Progress) -> None:
    line = bar.add_task("planning", total=None)
    nap = _LOOK_SECONDS
    left_before = None
    while True:
        await asyncio.sleep(nap)
        try:
            found = await asyncio.to_thread(campaign_named, engine(), campaign)
        except InputError:
            continue  # not planned yet
        started = time.monotonic()
        report = await asyncio.to_thread(campaign_report, engine(), found.id)
        # The count of a large campaign is work for the database, which has better things to do.
        nap = max(_LOOK_SECONDS, _NAPS_PER_LOOK * (time.monotonic() - started))
        planned, left = report.totals.planned, report.totals.unfinished
        doing = "sending"
        if report.next_turn_at is not None and report.deferred == left:
            doing = f"waiting until {moment(report.next_turn_at)}"
        elif report.openings and left == left_before:
            doing = f"waiting until {moment(report.openings[0].at)}"
        left_before = left
        bar.update(line, description=doing, total=planned, completed=planned - left)
