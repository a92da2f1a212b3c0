"""What is wrong with this installation, in words, with what to do about it."""

import importlib.metadata
import shutil
from collections.abc import AsyncIterator
from enum import StrEnum

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import WorkerFilter
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectNotFound

from deployments.bootstrap import WORK_POOL
from messaging.campaign.links import problem_of
from messaging.errors import MessagingError
from messaging.settings import settings
from messaging.storage import installation
from messaging.storage.alerts import Undelivered, undelivered
from messaging.storage.engine import engine
from schemas.base import Schema
from tasks.accounts import list_accounts, verify_account
from tasks.alerting import list_alert_targets
from tasks.guarding import in_thread

_ROOM = 1_000_000_000  # bytes; a ledger of a million recipients takes about half of it
_BOUNDS = {
    "fastapi": "0.155",
    "sqlalchemy": "2.1",
}  # the first versions Prefect 3.8's server does not work with


class Severity(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(Schema):
    """One thing looked at."""

    what: str
    severity: Severity
    text: str


async def diagnose() -> AsyncIterator[Finding]:
    """Look at each part that a campaign needs."""
    yield _versions()
    yield _room()
    yield _public_url()
    ledger = await _ledger()
    yield ledger
    async for finding in _prefect():
        yield finding
    if ledger.severity is Severity.OK:
        yield await _alerts()


def _versions() -> Finding:
    for package, bound in _BOUNDS.items():
        version = importlib.metadata.version(package)
        if _numbers(version) >= _numbers(bound):
            text = (
                f"{package} {version} is installed, but Prefect's server needs one below {bound}: "
                f"pip install '{package}<{bound}'"
            )
            return Finding(what="packages", severity=Severity.FAIL, text=text)
    text = f"Outflow {importlib.metadata.version('outflow')}, Prefect {importlib.metadata.version('prefect')}"
    return Finding(what="packages", severity=Severity.OK, text=text)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


def _room() -> Finding:
    folder = settings().home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB free in {settings().home}"
    if free < _ROOM:
        return Finding(
            what="disk", severity=Severity.WARN, text=f"{text}: make room, or set OUTFLOW_HOME elsewhere"
        )
    return Finding(what="disk", severity=Severity.OK, text=text)


def _public_url() -> Finding:
    public_url = settings().public_url
    if problem := problem_of(public_url):
        return Finding(what="links", severity=Severity.WARN, text=problem)
    return Finding(what="links", severity=Severity.OK, text=f"those of messages lead to {public_url}")


async def _ledger() -> Finding:
    try:
        await in_thread(engine)
        problem = await in_thread(_copied)
    except MessagingError as error:
        return Finding(what="ledger", severity=Severity.FAIL, text=str(error))
    if problem is not None:
        return Finding(what="ledger", severity=Severity.FAIL, text=problem)
    kind = "your PostgreSQL" if settings().database_url else f"the embedded PostgreSQL in {settings().home}"
    return Finding(what="ledger", severity=Severity.OK, text=f"{kind} answers, its schema is up to date")


def _copied() -> str | None:
    with engine().begin() as connection:
        return installation.problem_of(connection)


async def _alerts() -> Finding:
    names = [target.name for target in await list_alert_targets()]
    told = (
        f"they go to {', '.join(names)}, and to the log"
        if names
        else "they go to the log only: outflow alerts add NAME url=@env:VARIABLE"
    )
    missed = await in_thread(_undelivered)
    counts = [f"{missed.waiting:,} could not be delivered yet"] * bool(missed.waiting)
    counts += [f"{missed.given_up:,} never reached everyone"] * bool(missed.given_up)
    if counts:
        text = f"{', '.join(counts)}: see why with outflow alerts test NAME; {told}"
        return Finding(what="alerts", severity=Severity.WARN, text=text)
    return Finding(what="alerts", severity=Severity.OK, text=told)


def _undelivered() -> Undelivered:
    with engine().begin() as connection:
        return undelivered(connection)


async def _prefect() -> AsyncIterator[Finding]:
    async with get_client() as client:
        api_url, temporary = str(client.api_url), client.server_type.name == "EPHEMERAL"
        if temporary:
            yield Finding(
                what="Prefect server",
                severity=Severity.WARN,
                text="none is running, so each command starts a temporary one: outflow up",
            )
        else:
            yield Finding(what="Prefect server", severity=Severity.OK, text=f"{api_url} answers")
        try:
            await client.read_work_pool(WORK_POOL)
        except ObjectNotFound:
            yield Finding(
                what="work pool",
                severity=Severity.WARN if temporary else Severity.FAIL,
                text=f"there is no work pool {WORK_POOL!r}, so nothing runs from the UI: outflow init",
            )
        else:
            workers = await client.read_workers_for_work_pool(WORK_POOL, worker_filter=WorkerFilter())
            online = [worker.name for worker in workers if worker.status is WorkerStatus.ONLINE]
            yield Finding(
                what="worker",
                severity=Severity.OK if online else Severity.WARN,
                text=f"{len(online)} online"
                if online
                else "none is online, so nothing runs from the UI: outflow up",
            )
    accounts = await list_accounts()
    if not accounts:
        yield Finding(
            what="accounts",
            severity=Severity.WARN,
            text="there is none yet: outflow account add smtp main host=… sender=…",
        )
    for reference in accounts:
        try:
            text = await verify_account.fn(reference)
        except MessagingError as error:
            yield Finding(what=reference, severity=Severity.FAIL, text=str(error))
        else:
            yield Finding(what=reference, severity=Severity.OK, text=text)
