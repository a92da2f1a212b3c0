"""The database's errors as ours: theirs quote statements and rows, which are people's."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import psycopg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from messaging.errors import DatabaseError

if TYPE_CHECKING:
    from sqlalchemy import Connection

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
