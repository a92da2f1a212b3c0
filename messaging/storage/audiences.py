"""Audiences in the ledger: who belongs to them and what is known of them."""

from sqlalchemy import Connection, select, text
from sqlalchemy.dialects.postgresql import insert

from messaging.storage.tables import audiences


def ensure(connection: Connection, name: str) -> int:
    """Return the id of the audience, made when it does not exist."""
    # Without an UPDATE an existing row is not returned, and a SELECT first would race with others.
    connection.execute(insert(audiences).values(name=name).on_conflict_do_nothing())
    audience_id: int = connection.execute(select(audiences.c.id).where(audiences.c.name == name)).scalar_one()
    return audience_id


def find(connection: Connection, name: str) -> int | None:
    """Return the audience of that name."""
    return connection.execute(select(audiences.c.id).where(audiences.c.name == name)).scalar_one_or_none()


def names(connection: Connection) -> list[str]:
    """Return the names of all audiences, in order."""
    return list(connection.execute(select(audiences.c.name).order_by(audiences.c.name)).scalars())


def attributes(connection: Connection, audience_id: int) -> dict[str, int]:
    """Count the contacts of an audience that have each attribute, by the column's name."""
    statement = text("""
        SELECT key, count(*) AS n FROM audience_members m JOIN contacts c ON c.id = m.contact_id,
            jsonb_object_keys(c.attributes) AS key
        WHERE m.audience_id = :audience_id GROUP BY key ORDER BY key
    """)
    rows = connection.execute(statement, {"audience_id": audience_id})
    return {row.key: row.n for row in rows}


def size(connection: Connection, audience_id: int) -> dict[str, int]:
    """Count an audience's contacts, and how many have a name, an e-mail address and a phone number."""
    statement = text("""
        SELECT count(*) AS contacts, count(c.name) AS name, count(c.email) AS email, count(c.phone) AS phone
        FROM audience_members m JOIN contacts c ON c.id = m.contact_id WHERE m.audience_id = :audience_id
    """)
    row = connection.execute(statement, {"audience_id": audience_id}).one()
    return dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented way to a row's mapping
