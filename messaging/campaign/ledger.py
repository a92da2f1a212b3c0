"""One batch's writer: commits marks and answers of all connections together.

Whatever the connections ask for while one round is on its way goes into the next, which starts as soon as
the answer is there. A connection that records the last message's answer and marks the next one gets both
into one round. So a kill leaves at most one attempt per connection whose answer is unknown.
"""

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from sqlalchemy import Engine

from messaging.errors import CampaignStopped, DatabaseError, LeaseLost, MessagingError, Withdrawn
from messaging.storage import attempts, batches
from messaging.storage.attempts import Answer, Mark, Round
from messaging.storage.batches import HEARTBEAT_SECONDS, LEASE_SECONDS, Lease
from messaging.storage.failing import OUTAGE_NAP, OUTAGE_SECONDS
from messaging.storage.prepared import Prepared
from schemas.states import AttemptState

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

_STATEMENTS: Final = {"round": attempts.ROUND, "renew": batches.RENEW, "release": batches.RELEASE}
_CLOSING_SECONDS = 15.0  # for the last round and the release


class BatchLedger:
    """Records what happens to a batch's attempts while we hold its lease."""

    def __init__(self, engine: Engine, lease: Lease) -> None:
        """Nothing is written before `async with`."""
        self.failed = asyncio.Event()
        """Set when nothing is written any more: the batch was taken over, or the database is away."""
        self._engine = engine
        self._lease = lease
        self._marks: dict[int, tuple[Mark, asyncio.Future[None]]] = {}
        self._answers: dict[int, Answer] = {}  # the last one counts
        self._doubtful: set[int] = set()  # marks whose commit is in doubt
        self._committing: list[asyncio.Future[None]] = []  # who waits for what is recorded so far
        self._renewal_is_due = False
        self._closing = False
        self._released = False
        self._failure: MessagingError | None = None
        self._connection: Prepared | None = None
        self._heard_at = 0.0  # when the database last did what we asked
        self._idle: asyncio.Future[None] | None = None  # the writer waits on it for something to do
        self._heartbeat: asyncio.TimerHandle | None = None
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start writing."""
        self._heard_at = asyncio.get_running_loop().time()
        self._writer = asyncio.create_task(self._write())
        self._beat()
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
        self._stir()
        if self._writer is not None:
            # Bounded, so that a database that went silent does not keep us from stopping.
            await asyncio.wait([self._writer], timeout=_CLOSING_SECONDS)
            if not self._writer.done():
                self._fail(DatabaseError("the ledger did not answer in time"))
                self._writer.cancel()
                await asyncio.wait([self._writer])
        if self._failure is not None and error is None:
            raise self._failure

    async def dispatch(self, mark: Mark) -> None:
        """Return once the attempt is committed as `dispatched`: only then may it be handed over.

        Raises:
            Withdrawn: The address has been suppressed since planning, or the attempt is not queued any more.
            CampaignStopped: The campaign is paused or cancelled.
            LeaseLost: Another process holds the batch.
            DatabaseError: The mark may not have been written; hand nothing over.
        """
        if self._failure is not None:
            raise self._failure
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._marks[mark.attempt_id] = (mark, done)
        self._stir()
        try:
            await done
        except asyncio.CancelledError:
            if not done.cancelled() and done.exception() is None:
                # Cancelled between the mark and our hearing of it: nobody is left to hand it over.
                self.record(Answer(mark.attempt_id, AttemptState.QUEUED))
            raise

    def record(self, answer: Answer) -> None:
        """Put an answer into the next round."""
        self._answers[answer.attempt_id] = answer
        self._stir()

    async def committed(self) -> None:
        """Return when all that was recorded so far is committed, or never will be."""
        if self._failure is None:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._committing.append(done)
            self._stir()
            await done

    def _stir(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        self._heartbeat = loop.call_later(HEARTBEAT_SECONDS, self._beat)
        if loop.time() - self._heard_at > HEARTBEAT_SECONDS + OUTAGE_SECONDS and self._connection:
            self._connection.close("the ledger did not answer in time")
        self._renewal_is_due = True
        self._stir()

    async def _write(self) -> None:
        try:
            await self._write_until_closed()
        except MessagingError as failure:
            self._fail(failure)
        except BaseException as failure:
            # Whoever waits for a mark must hear of it, even when the loop is being torn down.
            self._fail(DatabaseError(f"the ledger's writer was stopped ({type(failure).__name__})"))
            raise
        finally:
            if self._heartbeat is not None:
                self._heartbeat.cancel()
            if self._connection is not None:
                self._connection.close()

    async def _write_until_closed(self) -> None:
        clock = asyncio.get_running_loop().time
        while not self._released:
            try:
                await self._step()
            except DatabaseError:
                # Restarted, perhaps: marks and answers wait for it, and nothing is handed over meanwhile.
                if clock() - self._heard_at > OUTAGE_SECONDS:
                    raise
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None
                await asyncio.sleep(OUTAGE_NAP)

    async def _step(self) -> None:
        """Do the next thing there is to do, or wait until there is one."""
        if self._connection is None:
            await asyncio.to_thread(self._open)
        elif self._renewal_is_due:
            fence = [*batches.fence(self._lease), str(LEASE_SECONDS).encode()]
            renewed = await self._ask(self._connection, "renew", fence)
            if renewed.command_tuples != 1:
                raise self._lease_lost()
            self._renewal_is_due = False
        elif self._marks or self._answers or self._committing:
            await self._round(self._connection)
        elif self._closing:
            await self._ask(self._connection, "release", batches.fence(self._lease))
            self._released = True
        else:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    def _open(self) -> None:
        # In a thread, which cannot be stopped: whoever comes last, it or the end of the writer, closes.
        self._connection = Prepared.open(self._engine, _STATEMENTS)
        if self._failure is not None:
            self._connection.close()

    async def _ask(self, connection: Prepared, name: str, parameters: list[bytes | None]) -> "PGresult":
        result = await connection.ask(name, parameters)
        self._heard_at = asyncio.get_running_loop().time()
        return result

    async def _round(self, connection: Prepared) -> None:
        answers, self._answers = self._answers, {}
        waiting, self._marks = self._marks, {}
        committing, self._committing = self._committing, []
        for attempt_id in [i for i, (_, waiter) in waiting.items() if i in answers or waiter.cancelled()]:
            mark, waiter = waiting.pop(attempt_id)
            if not waiter.cancelled():
                self._marks[attempt_id] = (mark, waiter)  # next round: one attempt, one change a round
            elif attempt_id in self._doubtful:  # nobody is left to hand it over
                answers.setdefault(attempt_id, Answer(attempt_id, AttemptState.QUEUED))
        marks = [mark for mark, _ in waiting.values()]
        parameters = attempts.round_of(self._lease, list(answers.values()), marks, self._doubtful)
        try:
            done = attempts.round_done(await self._ask(connection, "round", parameters))
        except BaseException:
            # Not committed, or nobody told us: both go into the next round, which finds out.
            self._marks = waiting | self._marks
            self._answers = answers | self._answers
            self._committing += committing
            self._doubtful |= waiting.keys()
            raise
        if done is None:
            self._marks = waiting | self._marks
            self._committing += committing
            raise self._lease_lost()
        for waiter in committing:
            if not waiter.done():
                waiter.set_result(None)
        # Whoever was marked wakes when the writer next waits: with the next round already on its way.
        self._tell(waiting, done)

    def _tell(self, waiting: dict[int, tuple[Mark, asyncio.Future[None]]], done: Round) -> None:
        doubtful, self._doubtful = self._doubtful, set()
        for attempt_id, (_, waiter) in waiting.items():
            marked = attempt_id in done.marked
            if waiter.cancelled() if marked else attempt_id in doubtful:
                # Marked by this round or by one that we heard nothing of, and never handed over.
                self._answers.setdefault(attempt_id, Answer(attempt_id, AttemptState.QUEUED))
            if waiter.cancelled():
                continue
            if marked:
                waiter.set_result(None)
            elif done.running:
                waiter.set_exception(Withdrawn(f"attempt {attempt_id} may not be sent any more"))
            else:
                waiter.set_exception(CampaignStopped(f"campaign {self._lease.campaign_id} is not running"))

    def _lease_lost(self) -> LeaseLost:
        return LeaseLost(f"batch {self._lease.batch_id} was taken over by another process")

    def _fail(self, failure: MessagingError) -> None:
        self._failure = self._failure or failure
        self.failed.set()
        for _, waiter in self._marks.values():
            if not waiter.done():
                waiter.set_exception(self._failure)
        self._marks.clear()
        for waiter in self._committing:
            if not waiter.done():
                waiter.set_result(None)
        self._committing.clear()
