"""The ledger as the web app reaches it: never on the event loop, never for longer than a visitor waits."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DataError, IntegrityError

from messaging.errors import DatabaseError
from messaging.storage.failing import database_errors

T = TypeVar("T")

SECONDS: Final = 8.0  # that one piece of work may take; proxies in front give up after 30 or 60
_THREADS: Final = 8
_MOST_WAITING: Final = 200


class WorkRefused(DatabaseError):
    """The ledger is there and does not take this: the same again would be refused again."""

    retryable = False


_PATIENCE = text("SELECT set_config('statement_timeout', :ms, true), set_config('lock_timeout', :ms, true)")


class Ledger:
    """Runs work in transactions, in a few threads of its own."""

    def __init__(self, engine: Engine) -> None:
        """Take the engine of a migrated database; nothing connects yet."""
        self._engine = engine
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="web-ledger")
        self._waiting = 0

    async def transaction(self, work: Callable[[Connection], T], seconds: float = SECONDS) -> T:
        """Return what the work returns, after its transaction was committed.

        Raises:
            DatabaseError: The ledger is away, too slow, or too many wait for it. The work may have been
                committed nevertheless, so it must bear being repeated.
        """
        if self._waiting >= _MOST_WAITING:
            raise DatabaseError("the ledger is too busy")
        self._waiting += 1
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(
                loop.run_in_executor(self._threads, self._in_transaction, work, seconds), seconds
            )
        except TimeoutError:
            raise DatabaseError(f"the ledger did not answer within {seconds:.0f} seconds") from None
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let go of the threads; work that hangs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _in_transaction(self, work: Callable[[Connection], T], seconds: float) -> T:
        with database_errors(), self._engine.begin() as connection:
            connection.execute(_PATIENCE, {"ms": str(int(seconds * 1000))})
            try:
                return work(connection)
            except (DataError, IntegrityError) as error:
                raise WorkRefused(f"the ledger refused it ({type(error.orig).__name__})") from None
