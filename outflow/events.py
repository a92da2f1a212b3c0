"""Events of Amazon SES, read from queues by hand."""

from typing import TYPE_CHECKING, Annotated

import typer

from messaging.reports import console
from outflow.running import AsJson, reach_prefect, run, validated

if TYPE_CHECKING:
    from schemas.feedback import FeedbackReport


def events(
    queue: Annotated[
        str, typer.Argument(metavar="[QUEUE]", help="As in ses-queue/events; without it, all.")
    ] = "",
    *,
    seconds: Annotated[float, typer.Option(help="Receive nothing more after so many seconds.")] = 3600,
    wait: Annotated[int, typer.Option(help="Seconds to wait for an empty queue, 1 to 20.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Read what queues hold of deliveries, bounces, complaints, opens and clicks, until they are empty."""
    from schemas.feedback import EventsRequest

    request = validated(
        EventsRequest, {"queue": queue, "seconds": seconds, "wait": wait, "most": 100_000_000}
    )
    reach_prefect()
    from flows.process_events import process_events
    from messaging.reports.watching_queues import with_queue_progress

    reports = run(
        with_queue_progress(process_events(request)), "stopped; what was not recorded is read next time"
    )
    if as_json:
        console.show_json({"queues": [report.model_dump(mode="json") for report in reports]})
        return
    for report in reports:
        console.show(_sentence(report))
    if not reports:
        console.show("there is no queue: outflow account add ses-queue events queue_url=…")


def _sentence(report: "FeedbackReport") -> str:
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(report.kinds.items()))
    parts = [
        f"{report.seen:,} messages, {report.recorded:,} new events{f' ({kinds})' if kinds else ''}",
        *([f"{report.repeated:,} known before"] if report.repeated else []),
        *([f"{report.unmatched:,} of no message of ours"] if report.unmatched else []),
        f"{report.suppressed:,} addresses suppressed",
        *([f"{report.set_aside:,} could not be read"] if report.set_aside else []),
        *([f"campaigns paused: {', '.join(map(str, report.paused))}"] if report.paused else []),
    ]
    return f"{report.source}: {', '.join(parts)}"
