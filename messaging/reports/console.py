"""Figures on a terminal, and as the JSON that commands print."""

import json
import logging
from typing import Any

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from messaging.reports.markdown import campaign_markdown, holding_up, waiting_for
from schemas.report import CampaignReport, TrackingReport

_WHEN_THERE_ARE = {"due_at", "deferred", "next_turn_at", "openings", "slowdowns", "accounts"}

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """Tell the person at the terminal what is going on, apart from the result."""
    err.print(line, style="dim", markup=False)


def say_warnings(logger: str) -> None:
    """Tell the person at the terminal what a logger warns of from now on."""
    logging.getLogger(logger).addHandler(_Saying(logging.WARNING))


class _Saying(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.lower()}: {record.getMessage()}")


def show(line: str) -> None:
    """Print a line of the result."""
    out.print(line, markup=False)


def show_json(value: dict[str, Any]) -> None:
    """Print the one object that stdout is for."""
    print(json.dumps(value, ensure_ascii=False, default=str))  # noqa: T201 - not through rich, which may wrap it


def campaign_json(report: CampaignReport) -> dict[str, Any]:
    """Return a campaign's figures under the keys that every command uses."""
    return {
        "campaign": report.campaign,
        "number": report.campaign_id,
        "state": report.state,
        **({"paused_because": report.paused_because} if report.paused_because else {}),
        **report.totals.model_dump(),
        "seconds": round(report.seconds, 3),
        **report.model_dump(mode="json", include=_WHEN_THERE_ARE, exclude_defaults=True),
    }


def show_report(report: CampaignReport) -> None:
    """Print a campaign's report."""
    out.print(Markdown(campaign_markdown(report)))


def show_status(reports: list[CampaignReport]) -> None:
    """Print one line per campaign."""
    counts = [report.totals.model_dump() for report in reports]
    # Only what there is to tell: ten columns do not fit a terminal.
    usual = ["planned", "accepted", "rejected", "unknown"]
    others = [state for state in counts[0] if state not in usual and any(count[state] for count in counts)]
    columns = usual + others
    table = Table(box=None, pad_edge=False)
    table.add_column("no", justify="right")
    for heading in ["campaign", "state"]:
        table.add_column(heading, no_wrap=True, overflow="fold")
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for report, count in zip(reports, counts, strict=True):
        number = str(report.campaign_id)
        table.add_row(number, report.campaign, report.state, *(f"{count[column]:,}" for column in columns))
    out.print(table)
    for report in reports:
        if report.paused_because:
            show(f"{report.campaign} is paused: {report.paused_because}")
        if waits := waiting_for(report):
            show(f"{report.campaign} {waits}")
        for line in holding_up(report):
            show(f"{report.campaign}: {line}")


def show_error(error: Exception) -> None:
    """Print what went wrong, on stderr."""
    err.print(f"outflow: {error}", style="red", markup=False)


def show_tracking(tracking: TrackingReport) -> None:
    """Print what of a message tells who reads it, and what does not though it was asked for."""
    tracked = [f"clicks on {tracking.links:,} link{'s' * (tracking.links != 1)}"] if tracking.links else []
    show(f"Tracked: {', '.join(['opens'] * tracking.opens + tracked) or 'nothing'}.")
    for one in tracking.left:
        show(f"  not tracked: {one}")
    if tracking.problem:
        show(f"Warning: {tracking.problem}.")


def show_counts(title: str, counts: dict[str, int]) -> None:
    """Print how many of each there are, under a title; nothing when there are none."""
    if counts:
        show(f"{title}:")
        for what, n in counts.items():
            show(f"  {n:>9,}  {what}")
