"""A machine more for the flow runs of a Prefect server that runs elsewhere."""

import asyncio

from messaging.errors import InputError
from messaging.reports import console
from outflow.running import reach_prefect, run


def worker() -> None:
    """Run deployments on this machine, in the foreground, until Ctrl-C or SIGTERM.

    Of the runs that share a campaign it takes one at a time, so that other machines get theirs; of all
    others as many as come. Stopped, it lets messages in flight finish first, for up to 10 seconds.
    """
    reach_prefect()
    from prefect.settings import PREFECT_API_URL  # of a profile, too

    if PREFECT_API_URL.value() is None:
        raise InputError(
            "a worker needs a Prefect server: name it in PREFECT_API_URL, or have all here by outflow up"
        )
    from deployments import serving
    from deployments.bootstrap import SENDING_QUEUE, WORK_POOL

    async def serve() -> None:
        async with (
            serving.workers(WORK_POOL, 1, console.say, "--work-queue", "default") as all_else,
            serving.workers(
                WORK_POOL, 1, console.say, "--work-queue", SENDING_QUEUE, "--limit", "1"
            ) as sending,
        ):
            console.show(f"Working for {PREFECT_API_URL.value()}. Ctrl-C stops it.")
            await asyncio.gather(*(process.given_up() for process in (*all_else, *sending)))

    run(serve())
