"""What mailboxes brought, and what today's rules make of it, on a terminal."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from messaging.feedback.progress import running
from messaging.reports.console import err, out, show
from schemas.feedback import FeedbackReport, Reclassified

T = TypeVar("T")
_LOOK_SECONDS = 0.5


async def with_reading_progress(work: Coroutine[Any, Any, T]) -> T:
    """Await work that reads mailboxes in this process, under progress bars when stderr is a terminal."""
    if not err.is_terminal:
        return await work
    with _bars() as bars:
        watcher = asyncio.create_task(_watch(bars))
        try:
            return await work
        finally:
            watcher.cancel()


async def _watch(bars: Progress) -> None:
    lines: dict[str, Any] = {}
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        for progress in running():
            if progress.mailbox not in lines:
                lines[progress.mailbox] = bars.add_task(progress.mailbox, total=None)
            bars.update(lines[progress.mailbox], completed=progress.read, total=progress.found or None)


@contextmanager
def reclassifying_progress() -> Iterator[Callable[[int, int], None]]:
    """Give a function to call with how many mails of how many are done."""
    if not err.is_terminal:
        yield lambda _done, _of: None
        return
    with _bars() as bars:
        line = bars.add_task("reading again", total=None)
        yield lambda done, of: bars.update(line, completed=done, total=of)


def _bars() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=err, transient=True)


def show_readings(reports: list[FeedbackReport]) -> None:
    """Print what each mailbox brought."""
    for report in reports:
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(report.kinds.items()))
        parts = [
            f"{report.seen:,} mails read",
            f"{report.recorded:,} new events" + (f" ({kinds})" if kinds else ""),
            f"{report.suppressed:,} addresses suppressed",
        ]
        parts += [f"{report.repeated:,} known before"] if report.repeated else []
        parts += [f"{report.unmatched:,} of no message of ours"] if report.unmatched else []
        parts += [f"{report.set_aside:,} set aside"] if report.set_aside else []
        show(f"{report.source}: {', '.join(parts)}")
        if report.paused:
            show(f"  paused, as too much came back: campaign {', '.join(map(str, report.paused))}")
        if report.problem:
            show(f"  {report.problem}")


def show_reclassified(result: Reclassified) -> None:
    """Print what today's rules make of the mail that was kept."""
    show(f"{result.mails:,} mails read again, of {result.changed:,} something else is said now")
    if result.changes:
        table = Table(box=None, pad_edge=False)
        for heading in ("was", "is now"):
            table.add_column(heading)
        table.add_column("findings", justify="right")
        for was, becomes in sorted(result.changes.items()):
            for now, n in sorted(becomes.items()):
                table.add_row(was, now, f"{n:,}")
        out.print(table)
    if not result.changed:
        return
    did = "" if result.applied else "would be "
    show(f"{result.lifted:,} suppressions {did}lifted, {result.suppressed:,} addresses {did}suppressed")
    if not result.applied:
        show("nothing was changed; to change it, the same command with --apply")
