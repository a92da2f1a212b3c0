"""Prepared statements on a connection of their own, asked from the event loop without a thread.

For a statement that is asked thousands of times a second: the loop watches libpq's socket, so that an
answer wakes whoever waits for it and nobody else (`benchmarks/ledger.py` has the figures).
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self, cast

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus
from sqlalchemy import Connection, Engine, text

from messaging.errors import DatabaseError
from messaging.storage.failing import database_errors

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

# Plans of index look-ups in the index's order, whatever the statistics say.  These statements find few rows
# by keys that are known to be indexed; from stale statistics the planner has been seen to scan a table for
# them, or to sort a batch for each of its pages.
_INDEXED: Final = (
    "enable_seqscan = off",
    "enable_bitmapscan = off",
    "enable_sort = off",
    "enable_hashjoin = off",
    "enable_mergejoin = off",
    "jit = off",
)
# One plan for all parameters, because to plan these statements takes longer than to run them.
_SETTINGS: Final = ("client_encoding = 'UTF8'", "plan_cache_mode = force_generic_plan", *_INDEXED)
_CLOSED: Final = "the connection to the ledger was closed"
_DONE: Final = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)


_BY_INDEX: Final = text("".join(f"SET LOCAL {line};" for line in _INDEXED))
_AS_USUAL: Final = text("".join(f"SET LOCAL {line.split()[0]} TO DEFAULT;" for line in _INDEXED))


@contextmanager
def by_index(connection: Connection) -> Iterator[None]:
    """Have the same plans in a transaction of an ordinary connection."""
    connection.execute(_BY_INDEX)
    yield
    connection.execute(_AS_USUAL)  # after an error there is nothing left to run


class Prepared:
    """A connection that runs prepared statements, one at a time and each its own transaction."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        """Take over a connection; the loop that first asks watches it."""
        self._connection = connection
        self._pg: PGconn = connection.pgconn
        self._socket = self._pg.socket
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answer: asyncio.Future[PGresult] | None = None
        self._result: PGresult | None = None
        self._unsent = False

    @classmethod
    def open(cls, engine: Engine, statements: Mapping[str, str]) -> Self:
        """Take a connection out of the engine's pool for good and prepare the statements; blocks.

        Raises:
            DatabaseError: The database is not there, or does not take the statements.
        """
        with database_errors():
            pooled = engine.raw_connection()
            connection = cast("psycopg.Connection[Any]", pooled.driver_connection)
            pooled.detach()
            try:
                connection.pgconn.nonblocking = 0
                _check(connection.pgconn.exec_("".join(f"SET {line};" for line in _SETTINGS).encode()))
                for name, statement in statements.items():
                    _check(connection.pgconn.prepare(name.encode(), statement.encode()))
                connection.pgconn.nonblocking = 1
            except BaseException:
                connection.close()
                raise
        return cls(connection)

    def ask(self, name: str, parameters: Sequence[bytes | None]) -> "asyncio.Future[PGresult]":
        """Send a prepared statement, parameters and values in PostgreSQL's text form; its result comes later.

        Awaited, it raises `DatabaseError` when the statement failed, or nobody told us whether it did; then
        the connection is closed.
        """
        answer: asyncio.Future[PGresult] = asyncio.get_running_loop().create_future()
        if self._connection.closed:
            answer.set_exception(DatabaseError(_CLOSED))
            return answer
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._socket, self._read)
        self._answer = answer
        try:
            self._pg.send_query_prepared(name.encode(), parameters)
            self._flush()
        except psycopg.Error as error:
            self._break_off(error)
        return answer

    def close(self, why: str = _CLOSED) -> None:
        """Close the connection; who waits for an answer gets an error that says why."""
        if self._loop is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._loop = None
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(DatabaseError(why))
        self._connection.close()

    def _flush(self) -> None:
        if self._loop is None:
            return
        try:
            unsent = self._pg.flush()
        except psycopg.Error as error:
            self._break_off(error)
            return
        if unsent:  # more than the socket takes at once
            self._loop.add_writer(self._socket, self._flush)
        elif self._unsent:
            self._loop.remove_writer(self._socket)
        self._unsent = bool(unsent)

    def _read(self) -> None:
        try:
            self._pg.consume_input()
            while not self._pg.is_busy():
                result = self._pg.get_result()
                if result is None:
                    self._end()
                    return
                self._result = result
        except psycopg.Error as error:
            self._break_off(error)

    def _end(self) -> None:
        result, self._result = self._result, None
        if result is None or self._answer is None:
            return  # a word from the server that nobody asked for
        _check(result)
        answer, self._answer = self._answer, None
        if not answer.done():
            answer.set_result(result)

    def _break_off(self, error: psycopg.Error) -> None:
        # The type only: the server's words can quote a row, hence a person.
        self.close(f"the ledger did not answer ({type(error).__name__})")


def _check(result: "PGresult") -> None:
    if result.status not in _DONE:
        state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
        try:
            raise psycopg.errors.lookup(state)
        except KeyError:
            raise psycopg.OperationalError from None


def text_array(values: Sequence[str | None]) -> bytes:
    """Write strings as PostgreSQL's array of text, None as NULL.

    NUL, which PostgreSQL cannot store, and halves of surrogate pairs are replaced: one odd reply must not
    keep the others from being recorded.
    """
    words = [
        "NULL" if value is None else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for value in values
    ]
    return ("{" + ",".join(words) + "}").replace("\0", "\ufffd").encode("utf-8", "replace")


def array(values: Sequence[float | None]) -> bytes:
    """Write numbers or booleans as PostgreSQL's array, None as NULL."""
    return ("{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}").encode()
