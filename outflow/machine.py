"""This machine: the demo, what must exist, the server and the worker, what is wrong."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from messaging.errors import MessagingError
from messaging.reports import console
from outflow.running import AsJson, reach_prefect, run


def demo(
    recipients: Annotated[
        int | None, typer.Option(min=1, help="Generate this many contacts instead of the examples.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Run a whole campaign on this machine: sandbox SMTP server, embedded database, Prefect."""
    os.environ.pop("OUTFLOW_DATABASE_URL", None)  # its people do not belong in your own PostgreSQL
    reach_prefect()
    from deployments.demo import run_demo
    from messaging.settings import settings

    started = time.monotonic()
    report = run(run_demo(settings().home, recipients, console.say))
    if as_json:
        console.show_json(
            {
                **console.campaign_json(report.campaign),
                "imported": report.imported.imported,
                "refused": report.imported.refused,
                "messages_per_second": round(report.campaign.messages_per_second, 1),
                "received": report.received,
                "outbox": str(report.outbox),
            }
        )
        return
    console.show_report(report.campaign)
    console.show(
        f"The sandbox received {report.received:,} messages: {report.campaign.totals.accepted:,} accepted"
        f", and {report.received - report.campaign.totals.accepted:,} of the "
        f"{report.campaign.totals.unknown:,} unknown.\n"
        f"They lie in {report.outbox / 'new'}\n"
        f"Done in {time.monotonic() - started:.0f} s. To see the runs in the Prefect UI: {_self()} up"
    )


def init(*, as_json: AsJson = False) -> None:
    """Make what must exist: database schema, block types, work pool, deployments. Safe to repeat."""
    reach_prefect()
    from deployments.bootstrap import bootstrap

    async def steps() -> list[str]:
        done = []
        async for step in bootstrap():
            console.say(step)
            done.append(step)
        return done

    done = run(steps())
    if as_json:
        console.show_json({"done": done})


def up(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of Prefect's UI and API.")] = 4200,
) -> None:
    """Run the Prefect server and a worker in the foreground, until Ctrl-C."""
    from deployments import serving
    from messaging.settings import settings

    async def serve() -> None:
        console.say("starting the Prefect server (a first start takes some 15 seconds)")
        async with serving.server(settings().home, host, port) as api_url:
            os.environ["PREFECT_API_URL"] = api_url
            from deployments.bootstrap import WORK_POOL, bootstrap

            async for step in bootstrap():
                console.say(step)
            async with serving.worker(WORK_POOL) as worker:
                console.show(
                    f"Prefect UI  http://{host}:{port}\n"
                    f"Prefect API {api_url}  (outflow finds it by itself; for prefect: "
                    f"export PREFECT_API_URL={api_url})\n"
                    "A worker is running. Ctrl-C stops all."
                )
                await worker.wait()
                raise MessagingError("the worker stopped by itself: `outflow --verbose up` shows why")

    run(serve())


def doctor(*, as_json: AsJson = False) -> None:
    """Say what is wrong with this installation, and what to do about it."""
    reach_prefect()
    from deployments.diagnosing import Finding, Severity, diagnose

    async def look() -> list[Finding]:
        findings = []
        async for finding in diagnose():
            if not as_json:
                console.show(f"{finding.severity:4} {finding.what}: {finding.text}")
            findings.append(finding)
        return findings

    findings = run(look())
    if as_json:
        console.show_json({"findings": [finding.model_dump(mode="json") for finding in findings]})
    if any(finding.severity is Severity.FAIL for finding in findings):
        sys.exit(1)


def _self() -> str:
    return sys.argv[0] if Path(sys.argv[0]).parent.name == "bin" else "outflow"
