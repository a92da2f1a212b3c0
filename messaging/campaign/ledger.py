"""One batch's writer: commits marks and answers of all connections together.

Every connection that is waiting at that moment shares one transaction, which also carries the answers
since the last one. So a message's answer is committed no later than the next message's mark, and a
kill leaves at most one attempt per connection whose answer is unknown.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from sqlalchemy import Connection, Engine

from messaging.errors import CampaignStopped, DatabaseError, LeaseLost, MessagingError, Withdrawn
from messaging.storage import attempts, batches
from messaging.storage.attempts import Answer, Mark
from messaging.storage.batches import HEARTBEAT_SECONDS, Lease
from messaging.storage.failing import database_errors
from schemas.states import AttemptState

T = TypeVar("T")
_OUTAGE_SECONDS = 60.0  # a database that is away longer fails the batch
_OUTAGE_NAP = 0.5
_CLOSING_SECONDS = 15.0  # for the last round and the release


class BatchLedger:
    """Records what happens to a batch's attempts while we hold its lease."""

    def __init__(self, engine: Engine, lease: Lease) -> None:
        """Nothing is written before `async with`."""
        self._engine = engine
        self._lease = lease
        self._marks: dict[int, tuple[Mark, asyncio.Future[None]]] = {}
        self._answers: dict[int, Answer] = {}  # the last one counts
        self._doubtful: set[int] = set()  # marks whose commit is in doubt
        self._wake = asyncio.Event()
        self._closing = False
        self._failure: MessagingError | None = None
        # One thread, one connection: rounds follow each other, and the event loop goes on meanwhile.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"ledger-{lease.batch_id}")
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start writing."""
        self._writer = asyncio.create_task(self._write())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left and give the batch back.

        Raises:
            LeaseLost: Another process took the batch; answers since then are its to judge.
            DatabaseError: The last answers could not be written; they will be `unknown`.
        """
        self._closing = True
        self._wake.set()
        try:
            if self._writer is not None:
                # Bounded, so that a database that went silent does not keep us from stopping.
                await asyncio.wait([self._writer], timeout=_CLOSING_SECONDS)
                if not self._writer.done():
                    self._writer.cancel()
                    self._fail(DatabaseError("the ledger did not answer in time"))
            if self._failure is None:
                await self._run(lambda connection: batches.release(connection, self._lease))
            elif error is None:
                raise self._failure
        finally:
            self._thread.shutdown(wait=False)

    async def dispatch(self, mark: Mark) -> None:
        """Return once the attempt is committed as `dispatched`: only then may it be handed over.

        Raises:
            Withdrawn: The address has been suppressed since planning.
            CampaignStopped: The campaign is paused or cancelled.
            LeaseLost: Another process holds the batch.
            DatabaseError: The mark may not have been written; hand nothing over.
        """
        if self._failure is not None:
            raise self._failure
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._marks[mark.attempt_id] = (mark, done)
        self._wake.set()
        await done

    def record(self, answer: Answer) -> None:
        """Put an answer into the next round."""
        self._answers[answer.attempt_id] = answer
        self._wake.set()

    async def _write(self) -> None:
        try:
            await self._write_until_closed()
        except MessagingError as failure:
            self._fail(failure)
        except BaseException as failure:
            # Whoever waits for a mark must hear of it, even when the loop is being torn down.
            self._fail(DatabaseError(f"the ledger's writer was stopped ({type(failure).__name__})"))
            raise

    async def _write_until_closed(self) -> None:
        clock = asyncio.get_running_loop().time
        renewed_at = clock()
        while not (self._closing and not self._marks and not self._answers):
            remaining = renewed_at + HEARTBEAT_SECONDS - clock()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(0.0, remaining))
            self._wake.clear()
            try:
                if clock() - renewed_at >= HEARTBEAT_SECONDS:
                    await self._renew()
                    renewed_at = clock()
                await self._round()
            except DatabaseError:
                # Restarted, perhaps: marks and answers wait for it, and nothing is handed over meanwhile.
                if clock() - renewed_at > _OUTAGE_SECONDS:
                    raise
                await asyncio.sleep(_OUTAGE_NAP)
                self._wake.set()

    async def _renew(self) -> None:
        if not await self._run(lambda connection: batches.renew(connection, self._lease)):
            raise LeaseLost(f"batch {self._lease.batch_id} was taken over by another process")

    async def _round(self) -> None:
        if not self._marks and not self._answers:
            return
        waiting, self._marks = self._marks, {}
        answers, self._answers = self._answers, {}
        marks = [mark for mark, _ in waiting.values()]
        try:
            done = await self._run(
                lambda connection: attempts.commit_round(
                    connection, self._lease, list(answers.values()), marks, sorted(self._doubtful)
                )
            )
        except BaseException:
            # Not committed, or nobody told us: both go into the next round, which finds out.
            self._marks = waiting | self._marks
            self._answers = answers | self._answers
            self._doubtful |= waiting.keys()
            raise
        self._doubtful.clear()
        for mark, waiter in waiting.values():
            if waiter.cancelled():  # nobody is left to hand it over
                if mark.attempt_id in done.marked:
                    self.record(Answer(mark.attempt_id, AttemptState.QUEUED))
            elif mark.attempt_id in done.marked:
                waiter.set_result(None)
            elif done.running:
                waiter.set_exception(Withdrawn(f"attempt {mark.attempt_id} may not be sent any more"))
            else:
                waiter.set_exception(CampaignStopped(f"campaign {self._lease.campaign_id} is not running"))

    async def _run(self, work: Callable[[Connection], T]) -> T:
        def in_thread() -> T:
            with database_errors(), self._engine.begin() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._thread, in_thread)

    def _fail(self, failure: MessagingError) -> None:
        self._failure = failure
        for _, done in self._marks.values():
            if not done.done():
                done.set_exception(failure)
        self._marks.clear()
