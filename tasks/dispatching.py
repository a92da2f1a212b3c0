"""What is due, started: editions of schedules, and campaigns whose time has come."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect import task
from prefect.cache_policies import NO_CACHE

from messaging.campaign import editions, recovering, scheduling
from messaging.campaign.editions import Made
from messaging.campaign.scheduling import Due
from messaging.errors import MessagingError
from messaging.storage.engine import engine
from schemas.schedule import DispatchReport
from tasks.guarding import in_thread
from tasks.starting import start_run
from tasks.sweeping import start_stranded

_log = logging.getLogger("messaging.dispatch")  # the tree that Prefect forwards to the run's page


@task(task_run_name="start-what-is-due", cache_policy=NO_CACHE)
async def start_due() -> DispatchReport:
    """Make the editions that are due, pause what is too late, and have a run started for each other campaign.

    What cannot be made or started does not keep the rest waiting.

    Raises:
        InputError: The ledger is a copy, from which nothing is started.
        MessagingError: Prefect did not take a run; calling again is safe.
    """
    await in_thread(lambda: recovering.refuse_copy(engine()))
    made, due, started = Made(), Due(), list[str]()
    failures: list[MessagingError] = []
    with _noted(failures):
        made = await in_thread(lambda: editions.make_editions(engine()))
    with _noted(failures):
        due = await in_thread(lambda: scheduling.due_campaigns(engine()))
    for number, name in due.to_start.items():
        with _noted(failures):
            if await start_run(number) is not None:
                started.append(name)
    with _noted(failures):
        await start_stranded()
    report = DispatchReport(
        editions=made.editions, skipped=made.skipped, late=list(due.late.values()), started=started
    )
    for what, names in report.model_dump().items():
        if names:
            _log.info("%s: %s", what, ", ".join(names))
    if failures:
        raise failures[0]
    return report


@contextmanager
def _noted(failures: list[MessagingError]) -> Iterator[None]:
    """Go on behind the block when it fails, and keep the error for the end."""
    try:
        yield
    except MessagingError as error:
        failures.append(error)
