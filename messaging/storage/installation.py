"""Which database this ledger lives in, so that a copy of it does not send what the original sends."""

from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from messaging.errors import InputError

_NOT_TOLD: Final = "not told"

# An operator may have taken away the right to ask; then the database's number within its cluster decides.
_MAY_ASK = text("SELECT has_function_privilege('pg_control_system()', 'EXECUTE')")
_SYSTEM = text("SELECT system_identifier::text FROM pg_control_system()")
_DATABASE = text("SELECT oid::bigint FROM pg_database WHERE datname = current_database()")

_NOTED = text("SELECT system_identifier, database_oid FROM installation")
_NOTE_FIRST = text("""
    INSERT INTO installation (id, system_identifier, database_oid)
    VALUES (1, :system_identifier, :database_oid) ON CONFLICT DO NOTHING
""")
_NOTE = text("""
    INSERT INTO installation (id, system_identifier, database_oid)
    VALUES (1, :system_identifier, :database_oid)
    ON CONFLICT (id) DO UPDATE SET system_identifier = excluded.system_identifier,
        database_oid = excluded.database_oid, noted_at = clock_timestamp()
""")


class _Identity(NamedTuple):
    system_identifier: str
    """Given to a PostgreSQL cluster when it was made.

    A replica that took over has it too, and must go on; so has the copy of a whole disk, which passes for the
    original."""
    database_oid: int

    def is_of(self, other: "_Identity") -> bool:
        """Say whether both may be the same database."""
        systems = {self.system_identifier, other.system_identifier} - {_NOT_TOLD}
        return len(systems) <= 1 and self.database_oid == other.database_oid


def refuse_copy(connection: Connection) -> None:
    """Refuse to send from a copy of a ledger; one that nothing was sent from yet is the original.

    Raises:
        InputError: It was restored into another database.
    """
    if (problem := problem_of(connection)) is not None:
        raise InputError(problem)
    if connection.execute(_NOTED).one_or_none() is None:
        connection.execute(_NOTE_FIRST, _here(connection)._asdict())


def problem_of(connection: Connection) -> str | None:
    """Say that this ledger is a copy, and what to do about it; None: it is the original."""
    noted = connection.execute(_NOTED).one_or_none()
    if noted is None or _Identity(*noted).is_of(_here(connection)):
        return None
    return (
        "this ledger is a copy of one in another database, which may still be sending, so nothing is sent "
        "from here; if the other one is gone for good: outflow init --restored"
    )


def note(connection: Connection) -> None:
    """Call the database that this ledger lives in now the original."""
    connection.execute(_NOTE, _here(connection)._asdict())


def _here(connection: Connection) -> _Identity:
    may_ask = connection.execute(_MAY_ASK).scalar_one()
    system = str(connection.execute(_SYSTEM).scalar_one()) if may_ask else _NOT_TOLD
    return _Identity(system, int(connection.execute(_DATABASE).scalar_one()))
