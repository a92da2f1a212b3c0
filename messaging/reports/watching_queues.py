"""A line of progress for the person who waits for queues to be read."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from messaging.feedback.queue import running
from messaging.reports.console import err

T = TypeVar("T")
_LOOK_SECONDS = 0.5


async def with_queue_progress(work: Coroutine[Any, Any, T]) -> T:
    """Await work that reads queues in this process, under a line of progress when stderr is a terminal."""
    if not err.is_terminal:
        return await work
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        watcher = asyncio.create_task(_watch(bar))
        try:
            return await work
        finally:
            watcher.cancel()


async def _watch(bar: Progress) -> None:
    line = bar.add_task("asking for messages", total=None)
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        if reports := [reader.report for reader in running()]:
            seen, recorded = (sum(getattr(one, name) for one in reports) for name in ("seen", "recorded"))
            bar.update(line, description=f"{seen:,} messages read, {recorded:,} new events recorded")
