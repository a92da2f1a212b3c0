"""A queue of Amazon SES's events, read into the ledger.

A message is deleted after what it says is committed: a crash between the two brings it again, and the ledger
keeps each piece of evidence once. What cannot be read is left where it is: SQS moves it to the dead-letter
queue when it was received often enough.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from sqlalchemy import Engine
from sqlalchemy.exc import DataError, IntegrityError

from messaging.errors import MessagingError, NotSent
from messaging.feedback.queue_buffer import Buffer, Message, Pace
from messaging.feedback.queue_receivers import Receivers
from messaging.feedback.recording import Recorded, record, rematch
from messaging.feedback.sqs import AT_ONCE, QueueSettings, SqsQueue
from messaging.storage import feedback_runs
from messaging.storage.failing import database_errors
from schemas.feedback import FeedbackReport

__all__ = ["Pace", "QueueReader", "QueueSettings"]

_log = logging.getLogger(__name__)
_running: list["QueueReader"] = []


def running() -> list["QueueReader"]:
    """Return the readings that run in this process now, the oldest first."""
    return list(_running)


class QueueReader:
    """One reading of a queue: until it is empty, or the pace's limits are reached."""

    def __init__(self, engine: Engine, source: str, settings: QueueSettings, pace: Pace) -> None:
        """Read nothing yet; `source` is the queue's name in the ledger, as in ses-queue/events."""
        self._engine = engine
        self._source = source
        self._settings = settings
        self._pace = pace
        self._buffer = Buffer(pace)
        self._receivers: Receivers | None = None
        self._found = Recorded()
        self._refused = 0
        self._left = 0
        self._problem = ""

    def stop(self) -> None:
        """End soon, called by another thread: what is being recorded is finished, the rest comes again."""
        self._buffer.stop()

    def read(self) -> FeedbackReport:
        """Record what the queue holds, and note the run; it blocks.

        Raises:
            NotSent: SQS gave no answer.
            AccountError: The queue cannot be read; the text says what to do.
            DatabaseError: The ledger went away. In each case what was read before is recorded, and calling
                again is safe.
        """
        with database_errors(), self._engine.begin() as connection:
            run_id = feedback_runs.begin(connection, self._source)
        _running.append(self)
        try:
            self._read()
        except Exception as error:
            self._problem = str(error) if isinstance(error, MessagingError) else type(error).__name__
            raise
        finally:
            _running.remove(self)
            with database_errors(), self._engine.begin() as connection:
                feedback_runs.finish(connection, run_id, self.report)
        return self.report

    @property
    def report(self) -> FeedbackReport:
        """What was found so far."""
        receivers, found = self._receivers, self._found
        return FeedbackReport(
            source=self._source,
            seen=receivers.seen if receivers else 0,
            recorded=found.recorded,
            repeated=found.repeated,
            unmatched=found.unmatched,
            suppressed=found.suppressed,
            set_aside=(receivers.set_aside if receivers else 0) + self._refused,
            kinds={str(kind): n for kind, n in sorted(found.kinds.items())},
            paused=sorted(set(found.paused)),
            problem=self._problem,
        )

    def _read(self) -> None:
        queue = SqsQueue(self._settings)
        threads = max(1, self._settings.connections // 2)
        receivers = Receivers(queue, self._source, self._pace, self._buffer, threads)
        self._receivers = receivers
        try:
            with ThreadPoolExecutor(threads, thread_name_prefix=f"deletes {self._source}") as deleting:
                receivers.start()
                deletes: list[Future[int]] = []
                while messages := self._buffer.take():
                    recorded = self._record(messages)
                    self._left += sum(future.result() for future in deletes)  # of those before
                    deletes = _delete(deleting, queue, [message.handle for message in recorded])
                self._left += sum(future.result() for future in deletes)
            if receivers.failure is not None:
                raise receivers.failure
            self._rematch()
        finally:
            self._buffer.stop()
            queue.close()
            self._tell(receivers)

    def _record(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Record what messages say in one transaction; return those that may be deleted.

        What the database refuses is found by halves and stays in the queue, like what cannot be read.
        """
        evidence = [one for message in messages for one in message.evidence]
        with database_errors():
            try:
                with self._engine.begin() as connection:
                    found = record(connection, evidence) if evidence else Recorded()
            except (DataError, IntegrityError):
                if len(messages) == 1:
                    self._refused += 1
                    return ()
                middle = len(messages) // 2
                return [*self._record(messages[:middle]), *self._record(messages[middle:])]
        self._found += found
        return messages

    def _rematch(self) -> None:
        """Try events again that came before their message's answer was recorded."""
        with database_errors(), self._engine.begin() as connection:
            found = rematch(connection)
        self._found += Recorded(suppressed=found.suppressed, paused=found.paused)

    def _tell(self, receivers: Receivers) -> None:
        if receivers.new_reasons or self._refused:
            reasons = ", ".join(f"{reason}: {n}" for reason, n in receivers.new_reasons.most_common(5))
            _log.warning(
                "%s: messages could not be read and stay for the dead-letter queue (%s)",
                self._source,
                reasons or f"refused by the ledger: {self._refused}",
            )
        if self._left:
            _log.warning(
                "%s: %s messages could not be deleted; they come again and are kept once",
                self._source,
                self._left,
            )


def _delete(deleting: ThreadPoolExecutor, queue: SqsQueue, handles: Sequence[str]) -> list[Future[int]]:
    tens = [handles[start : start + AT_ONCE] for start in range(0, len(handles), AT_ONCE)]
    return [deleting.submit(_deleted, queue, ten) for ten in tens]


def _deleted(queue: SqsQueue, handles: Sequence[str]) -> int:
    """Delete up to ten messages, trying twice; return how many are left."""
    for _ in range(2):
        try:
            handles = queue.delete(handles)
        except NotSent:
            continue
        if not handles:
            return 0
    return len(handles)
