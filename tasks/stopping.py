"""Being told to stop, so that messages in flight still get their answers."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

_LEAVE_SECONDS: Final = 5.0  # from the last answer; docker stop grants 10 in all
_LAST_WORDS_SECONDS: Final = 1.5  # for one of the things that Prefect's server is told at the end

_told = threading.Event()  # as a signal is, for the whole process


def cancel_once(task: "asyncio.Task[object]") -> None:
    """Cancel a task unless it has been told before: a second cancel would cut its last answers off."""
    if not task.cancelling():
        task.cancel()


@contextmanager
def stopping_gracefully() -> Iterator[None]:
    """On SIGTERM cancel the task that runs the block, and nothing else.

    Prefect's own handler, which a cancelled run's process gets, raises wherever the main thread happens to
    be: in the event loop itself it takes all tasks down at once (seen: one attempt per connection left
    without an answer), in a callback it is lost (seen: all 3,000 messages sent after the cancel).
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    previous = signal.getsignal(signal.SIGTERM)

    def stop() -> None:
        _told.set()
        if task is not None:
            cancel_once(task)

    if task is None:
        yield
        return
    try:
        loop.add_signal_handler(signal.SIGTERM, stop)
    except (RuntimeError, ValueError):  # not the main thread: signals do not come here
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def then_gone() -> Iterator[None]:
    """Have a flow run's process, told to stop, be gone some seconds after the block, whatever it waits for.

    The block holds what must not be cut off. After it Prefect tells its server how the run ended, again and
    again if that does not answer (seen: a process that was still there after 100 seconds). A run that ends
    without a word is called Crashed by its worker.
    """
    try:
        yield
    finally:
        if _told.is_set() and "PREFECT__FLOW_RUN_ID" in os.environ:  # set by a worker for its run's process
            leave = threading.Timer(_LEAVE_SECONDS, os._exit, (128 + signal.SIGTERM,))
            leave.daemon = True
            leave.start()


@asynccontextmanager
async def last_words() -> AsyncIterator[None]:
    """Let the block take its time, unless the process was told to stop: then a second or two."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORDS_SECONDS if _told.is_set() else None):
            yield
