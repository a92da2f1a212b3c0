"""This machine: the demo, what must exist, all that runs on it, what is wrong."""

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

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


def init(
    *,
    restored: Annotated[
        bool,
        typer.Option(
            "--restored",
            help="The ledger's database was restored from a copy, and the one it is a copy of is gone: send "
            "from here.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make what must exist: database schema, block types, work pool, deployments. Safe to repeat."""
    done = [_take_over()] if restored else []
    reach_prefect()
    from deployments.bootstrap import bootstrap

    async def steps() -> None:
        async for step in bootstrap():
            console.say(step)
            done.append(step)

    run(steps())
    if as_json:
        console.show_json({"done": done})


def _take_over() -> str:
    """Have the ledger be sent from where it lives now, and say so."""
    from messaging.storage import installation
    from messaging.storage.engine import engine
    from messaging.storage.failing import database_errors

    with database_errors(), engine().begin() as connection:
        installation.note(connection)
    said = "the ledger is sent from here from now on"
    console.say(said)
    return said


def up(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of Prefect's UI and API.")] = 4200,
    web_port: Annotated[int, typer.Option(help="Port of the web app: unsubscribe, opens, clicks.")] = 8422,
    workers: Annotated[int, typer.Option(min=1, help="How many worker processes to run.")] = 1,
) -> None:
    """Run the Prefect server, workers and the web app in the foreground, until Ctrl-C.

    One that dies is started again.
    """
    from deployments import serving
    from messaging.settings import settings

    async def serve() -> None:
        console.say("starting the Prefect server (a first start takes some 15 seconds)")
        api_url = serving.api_url(host, port)
        os.environ["PREFECT_API_URL"] = api_url  # Prefect reads it when it is imported, which may be now
        async with serving.server(settings(), host, port, console.say) as server:
            from deployments.bootstrap import WORK_POOL, bootstrap

            async for step in bootstrap():
                console.say(step)
            async with (
                serving.web_app(host, web_port, console.say) as (web_url, web),
                serving.workers(WORK_POOL, workers, console.say) as running,
            ):
                count = "A worker is" if workers == 1 else f"{workers} workers are"
                console.show(
                    f"Prefect UI  http://{host}:{port}\n"
                    f"Prefect API {api_url}  (outflow finds it by itself; for prefect: "
                    f"export PREFECT_API_URL={api_url})\n"
                    f"Web app     {web_url}  (links in mails lead to {settings().public_url})\n"
                    f"{count} running. Ctrl-C stops all."
                )
                await asyncio.gather(*(process.given_up() for process in (server, web, *running)))

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
