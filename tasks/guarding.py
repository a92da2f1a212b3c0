"""Prefect stores the text of every error, so only errors of ours, which name no people, get out."""

import asyncio
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun

from messaging.errors import MessagingError
from messaging.storage.failing import database_errors

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def guarded() -> Iterator[None]:
    """Replace an error that is not ours by one that says its type and place only.

    Raises:
        MessagingError: Ours, unchanged; or the replacement.
    """
    try:
        with database_errors():
            yield
    except MessagingError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, its text stays here
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"
        raise MessagingError(f"unexpected {type(error).__name__} at {place}") from None


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a library call that blocks in a thread, guarded."""
    with guarded():
        return await asyncio.to_thread(function, *args, **kwargs)


async def is_retryable(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001 - Prefect passes three
    """Retry only what the error itself says can succeed unchanged."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, MessagingError) and error.retryable
