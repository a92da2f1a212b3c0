"""What mailboxes and queues tell of messages: several sources read at once, and shown together."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from prefect import task
from prefect.artifacts import acreate_table_artifact
from prefect.cache_policies import NO_CACHE

from messaging.errors import MessagingError
from schemas.feedback import FeedbackReport
from tasks.accounts import list_accounts

_log = logging.getLogger("messaging.feedback")  # the tree that Prefect forwards to the run's page


async def sources_of(kind: str, named: str) -> list[str]:
    """Return the reference that was asked for, or, when none was, those of all of a kind that are saved."""
    if named:
        return [named]
    found = [reference for reference in await list_accounts() if reference.startswith(f"{kind}/")]
    if not found:
        _log.info("there is no %s to read: outflow account add %s …", kind, kind)
    return found


async def read_each(
    sources: list[str], read: Callable[[str], Awaitable[FeedbackReport]], artifact: str
) -> list[FeedbackReport]:
    """Read sources, all at the same time; show what they brought; then raise what failed.

    One that cannot be read does not stop the others.
    """
    results = await asyncio.gather(*map(read, sources), return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    if foreign := next((error for error in failures if not isinstance(error, MessagingError)), None):
        raise foreign
    reports = [
        result if isinstance(result, FeedbackReport) else FeedbackReport(source=source, problem=str(result))
        for source, result in zip(sources, results, strict=True)
    ]
    if told := [report for report in reports if report.seen or report.problem]:
        await report_feedback(told, artifact)
    if len(sources) > 1 and failures:
        said = "; ".join(f"{report.source}: {report.problem}" for report in reports if report.problem)
        raise MessagingError(f"{len(failures)} of {len(sources)} could not be read: {said}")
    if failures:
        raise failures[0]
    return reports


@task(task_run_name="report-{artifact}", cache_policy=NO_CACHE)
async def report_feedback(reports: list[FeedbackReport], artifact: str) -> None:
    """Show what sources brought, as counts."""
    rows = [_row(report) for report in reports]
    await acreate_table_artifact(rows, key=artifact, description="What came back, by where it was read.")


def _row(report: FeedbackReport) -> dict[str, Any]:
    return {
        "read from": report.source,
        "messages": report.seen,
        "new events": report.recorded,
        "of these": ", ".join(f"{n:,} {kind}" for kind, n in sorted(report.kinds.items())),
        "known before": report.repeated,
        "of no message of ours": report.unmatched,
        "addresses suppressed": report.suppressed,
        "set aside": report.set_aside,
        "campaigns paused": ", ".join(map(str, report.paused)),
        "problem": report.problem,
    }
