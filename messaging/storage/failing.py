"""The database's errors as ours: theirs quote statements and rows, which are people's."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from messaging.errors import DatabaseError


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
