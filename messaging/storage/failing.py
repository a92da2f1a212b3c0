"""The database's errors as ours: theirs quote statements and rows, which are people's."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import psycopg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from messaging.errors import DatabaseError

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

OUTAGE_SECONDS: Final = 60.0  # a database that is away longer fails what waits for it
OUTAGE_NAP: Final = 0.5
_CANCEL_SECONDS = 5.0


def cancel_statement(connection: "Connection") -> None:
    """Break off the statement that another thread runs on this connection; it then raises there."""
    # Nothing runs, or the connection is gone or given back: the same to who asks.
    with suppress(psycopg.Error, SQLAlchemyError):
        driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
        driver.cancel_safe(timeout=_CANCEL_SECONDS)


@contextmanager
def database_errors(what: str = "the ledger did not answer") -> Iterator[None]:
    """Replace an error of the database by one that says what failed and the error's type only.

    Raises:
        DatabaseError: The replacement.
    """
    try:
        yield
    except (SQLAlchemyError, psycopg.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise DatabaseError(f"{what} ({type(cause).__name__})") from None


async def through_outage(look: Callable[[], T], patience: float = OUTAGE_SECONDS) -> T:
    """Return what a blocking look at the ledger finds; one that is away is waited for, `patience` seconds.

    Raises:
        DatabaseError: It stayed away, or refused.
    """
    clock = asyncio.get_running_loop().time
    asked_at = clock()
    while True:
        try:
            with database_errors():
                return await asyncio.to_thread(look)
        except DatabaseError:
            if clock() - asked_at > patience:
                raise
            await asyncio.sleep(OUTAGE_NAP)
