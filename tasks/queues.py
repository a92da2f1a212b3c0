"""Queues that events of Amazon SES come through."""

import asyncio
import contextlib

from prefect import task
from prefect.cache_policies import NO_CACHE

from blocks.ses_queue import SesQueue
from messaging.errors import InputError, MessagingError
from messaging.feedback.queue import Pace, QueueReader
from messaging.storage.engine import engine
from schemas.feedback import EventsRequest, FeedbackReport
from tasks.accounts import load
from tasks.feedback import read_each, sources_of
from tasks.guarding import guarded, in_thread


@task(cache_policy=NO_CACHE)
async def find_queues(request: EventsRequest) -> list[str]:
    """Return the references of the queue that is asked for, or of all."""
    return await sources_of("ses-queue", request.queue)


async def read_queues(queues: list[str], request: EventsRequest) -> list[FeedbackReport]:
    """Read queues, a task run each."""
    return await read_each(queues, lambda queue: read_ses_queue(queue, request), "events")


@task(task_run_name="read-{queue}", cache_policy=NO_CACHE)
async def read_ses_queue(queue: str, request: EventsRequest) -> FeedbackReport:
    """Record what a queue holds; stopped, it finishes what it is recording."""
    with guarded():
        account = await load(queue)
        if not isinstance(account, SesQueue):
            raise InputError(f"{queue!r} is no queue: write ses-queue/NAME")
        settings = await account.settings()
        pace = Pace(request.seconds, request.most, request.wait, rest_per_second=account.rest_per_second)
        reader = QueueReader(await in_thread(engine), queue, settings, pace)
        reading = asyncio.ensure_future(in_thread(reader.read))
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            reader.stop()
            with contextlib.suppress(MessagingError):
                await reading
            raise
