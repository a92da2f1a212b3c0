"""Clients that block: a thread for each connection, so that their senders can be awaited.

A pool of such a provider derives from `ThreadedPool`; each of its senders is made with `Calls` and runs its
client's blocking calls with them:

    class XPool(ThreadedPool["XSender"]):
        def __init__(self, settings: XSettings) -> None:
            super().__init__(settings.connections, lambda calls: XSender(calls, settings))

    class XSender:
        async def send(self, message, dispatch, following=None):
            request = ...                                      # all that can fail without the provider
            await dispatch()
            return await self._calls.run(self._client.post, request)

Give the client timeouts: Python waits at its end for threads that still run.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, Generic, ParamSpec, Self, TypeVar

from messaging.errors import NotSent

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")

CLOSING_SECONDS: Final = 2.0  # for calls on their way; a batch that is stopped has waited for them already


class Calls:
    """The blocking calls of one sender: they run in a thread of the pool, one after another."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        """Run nothing yet."""
        self._threads = threads
        self._last: Future[Any] | None = None

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a blocking call returns, or raise what it raises.

        A thread cannot be stopped: cancelled, this call ends and the other goes on unheard, as in a crash.
        The sender is lent to nobody before that one has ended.

        Raises:
            NotSent: The pool is closed; the function was not called.
        """
        try:
            self._last = self._threads.submit(function, *args, **kwargs)
        except RuntimeError:
            raise NotSent("the account's connections were closed") from None
        return await asyncio.wrap_future(self._last)

    @property
    def pending(self) -> "asyncio.Future[Any] | None":
        """What the last call has still to say, when somebody stopped listening."""
        if self._last is None or self._last.done():
            return None
        return asyncio.wrap_future(self._last)


class ThreadedPool(Generic[S]):
    """At most `connections` senders at once, each with a thread; use it with `async with`.

    One thread more answers questions, such as what the provider allows, while all senders are busy.
    """

    def __init__(self, connections: int, make_sender: Callable[[Calls], S]) -> None:
        """Start nothing: threads begin with the first calls.

        `make_sender` is called on the event loop, once for each sender that is needed; what blocks, such as
        making a client, belongs into the sender's first call.
        """
        self.connections = connections
        self._threads = ThreadPoolExecutor(connections + 1, thread_name_prefix=type(self).__name__)
        self._make_sender = make_sender
        self._questions = Calls(self._threads)
        self._all: list[Calls] = [self._questions]
        self._idle: list[tuple[Calls, S]] = []
        self._free = asyncio.Semaphore(connections)

    async def __aenter__(self) -> Self:
        """Return the pool itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Wait some seconds for calls on their way, then leave them; whoever closes clients does it after."""
        if pending := [future for calls in self._all if (future := calls.pending) is not None]:
            for future in pending:
                future.add_done_callback(_hear)
            await asyncio.wait(pending, timeout=CLOSING_SECONDS)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def ask(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a blocking call about the account returns, while senders may be busy."""
        return await self._questions.run(function, *args, **kwargs)

    @contextlib.asynccontextmanager
    async def sender(self) -> AsyncIterator[S]:
        """Borrow a sender, waiting for a free one; it is given back on exit, its client as it is."""
        await self._free.acquire()
        # The last one given back: connections beyond what the load needs then idle out at the provider.
        calls, sender = self._idle.pop() if self._idle else self._new()
        try:
            yield sender
        finally:
            if (pending := calls.pending) is None:
                self._give_back(calls, sender)
            else:
                pending.add_done_callback(_hear)
                pending.add_done_callback(lambda _: self._give_back(calls, sender))

    def _new(self) -> tuple[Calls, S]:
        calls = Calls(self._threads)
        self._all.append(calls)
        return calls, self._make_sender(calls)

    def _give_back(self, calls: Calls, sender: S) -> None:
        self._idle.append((calls, sender))
        self._free.release()


def _hear(answer: "asyncio.Future[Any]") -> None:
    """Take an answer that nobody waits for, so that asyncio does not call it lost."""
    if not answer.cancelled():
        answer.exception()
