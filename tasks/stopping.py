"""Being told to stop, so that messages in flight still get their answers."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager


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
    if task is None:
        yield
        return
    try:
        loop.add_signal_handler(signal.SIGTERM, cancel_once, task)
    except (RuntimeError, ValueError):  # not the main thread: signals do not come here
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, previous)
