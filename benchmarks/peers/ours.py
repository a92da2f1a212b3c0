"""Outflow itself, as one of the ways: a campaign by the library alone, or by its flows.

python ours.py JOB.json prints what it took as JSON; the database that OUTFLOW_DATABASE_URL names is empty.
"""

import asyncio
import contextlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from people import SENDER, people, templates
from sampling import Sampler
from sqlalchemy import Engine, text
from watching import Watch, peak_mb

from schemas.campaign import CampaignSpec
from schemas.report import CampaignReport

SPEC = CampaignSpec(name="benchmark", account="smtp-account/benchmark", audience="benchmark", **templates())


async def main(job: dict) -> None:
    """Insert the contacts, then plan and send."""
    from deployments import environment

    environment.apply()
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    from messaging.storage.engine import engine

    insert_contacts(engine(), job["count"])
    print("ready", file=sys.stderr, flush=True)
    way = {"ours": by_library, "flows": by_flows}[job["way"]]
    took, report = await way(engine(), job)
    if report.totals.accepted != job["count"]:
        raise SystemExit(f"accepted {report.totals.accepted} of {job['count']}")
    print(json.dumps(took))


async def by_library(engine: Engine, job: dict) -> tuple[dict[str, Any], CampaignReport]:
    """Plan and send as the flow and its tasks do, without Prefect."""
    from messaging.campaign.planning import plan_campaign
    from messaging.campaign.sending import CampaignRun, send_batch
    from messaging.campaign.working import next_work
    from messaging.channels.smtp import SmtpPool, SmtpSettings
    from messaging.reports.numbers import campaign_report

    memory_before = peak_mb()
    started, cpu_before = time.perf_counter(), cpu_seconds()
    plan = await asyncio.to_thread(plan_campaign, engine, SPEC)
    planned, cpu = time.perf_counter(), cpu_seconds()
    watch = Watch(engine) if job.get("ledger") else None
    planning_mb = peak_mb() - memory_before
    settings = SmtpSettings("127.0.0.1", job["port"], security="none", connections=job["connections"])
    turns = asyncio.Semaphore(2)  # as tasks.sending.BATCHES_AT_ONCE, which would import Prefect
    postgres = postgres_cpu_seconds(job["postmaster"])
    sampler = Sampler() if job["profile"] else None
    if sampler:
        sampler.start()
    async with (
        watch or contextlib.nullcontext(),
        SmtpPool(settings) as pool,
        CampaignRun(engine, plan.campaign_id, SENDER, pool) as run,
    ):

        async def send(number: int) -> None:
            async with turns:
                await send_batch(run, number)

        async for numbers in next_work(run, None):
            await asyncio.gather(*map(send, numbers))
        report = campaign_report(engine, plan.campaign_id)
        seconds = time.perf_counter() - planned
    took: dict[str, Any] = {
        "seconds": seconds,
        "cpu_s": cpu_seconds() - cpu,
        "before_s": planned - started,
        "before_cpu_s": cpu - cpu_before,
        "postgres_s": postgres_cpu_seconds(job["postmaster"]) - postgres,
    }
    if watch:
        took |= watch.figures | {"planning_mb": planning_mb}
    if sampler:
        took["profile"] = sampler.stop()
    return took, report


async def by_flows(engine: Engine, job: dict) -> tuple[dict[str, Any], CampaignReport]:  # noqa: ARG001 - as its sibling
    """Plan and send by the flow, on a Prefect server that is already there when the clock starts."""
    from flows.launch_campaign import launch_campaign
    from tasks.accounts import add_account

    values = {"host": "127.0.0.1", "port": str(job["port"]), "security": "none", "sender": SENDER}
    await add_account("smtp", "benchmark", values | {"connections": str(job["connections"])})
    started, cpu = time.perf_counter(), cpu_seconds()
    report = await launch_campaign(SPEC)
    return {"seconds": time.perf_counter() - started, "cpu_s": cpu_seconds() - cpu}, report


def insert_contacts(engine: Engine, count: int) -> None:
    """Fill an audience, as quickly as PostgreSQL takes it."""
    copy = "COPY contacts (email_key, email, name, consent_source, attributes) FROM STDIN"
    with engine.begin() as connection:
        raw = connection.connection.driver_connection
        with raw.cursor() as cursor, cursor.copy(copy) as rows:
            for person in people(count):
                attributes = {column: person[column.lower()] for column in ("City", "Plan")}
                attributes = json.dumps({column: value for column, value in attributes.items() if value})
                rows.write_row((person["email"], person["email"], person["name"], "benchmark", attributes))
        connection.execute(text("INSERT INTO audiences (name) VALUES ('benchmark')"))
        connection.execute(
            text("""
                INSERT INTO audience_members (audience_id, contact_id)
                SELECT audiences.id, contacts.id FROM contacts, audiences
            """)
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(
            text("VACUUM (ANALYZE) contacts, audience_members")
        )  # autovacuum would, in a minute


def cpu_seconds() -> float:
    """Return the CPU time this process has used, all its threads together."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def postgres_cpu_seconds(postmaster: int) -> float:
    """Return the CPU time that PostgreSQL has used: its main process, those that ended, those that live."""
    main_process = psutil.Process(postmaster)
    total = sum(main_process.cpu_times()[:4])  # user, system, and both of ended children
    for child in main_process.children():
        with contextlib.suppress(psutil.Error):
            total += sum(child.cpu_times()[:2])
    return total


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
