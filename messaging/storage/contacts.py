"""Contacts and the audiences they belong to."""

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    DateTime,
    MetaData,
    Table,
    Text,
    and_,
    case,
    func,
    literal,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, insert

from messaging.storage.imports import copy_csv
from messaging.storage.tables import audience_members, contacts

_staged = Table(
    "staged_contacts",
    MetaData(),  # one transaction's own: no migration knows it
    Column("email_key", Text),
    Column("email", Text),
    Column("phone", Text),
    Column("name", Text),
    Column("attributes", JSONB),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)


def add_contacts(
    connection: Connection, csv: bytes, *, audience_id: int, import_id: int, consent: str | None
) -> None:
    """Merge contacts into the ledger and make them members of the audience.

    `csv` has no header, the columns of `staged_contacts`, and each address once. What the ledger knows
    wins; what it lacks is filled in. The subscription status never changes here: an import is no consent.
    """
    _staged.create(connection)
    copy_csv(connection, "COPY staged_contacts FROM STDIN WITH (FORMAT csv, ENCODING 'UTF8')", csv)
    connection.execute(text("ANALYZE staged_contacts (email_key, phone)"))
    # E-mail first, phones second, each in order: all imports take row locks in this one order, so two at
    # once wait for each other and never for a circle.
    by_email = _staged.c.email_key.is_not(None)
    by_phone = _staged.c.email_key.is_(None)
    _upsert(connection, "email_key", by_email, None, consent)
    _upsert(connection, "phone", by_phone, contacts.c.email_key.is_(None), consent)
    known_by_email = and_(by_email, contacts.c.email_key == _staged.c.email_key)
    known_by_phone = and_(by_phone, contacts.c.email_key.is_(None), contacts.c.phone == _staged.c.phone)
    for known in (known_by_email, known_by_phone):
        _add_members(connection, known, audience_id, import_id)


def _upsert(
    connection: Connection,
    key: str,
    these: ColumnElement[bool],
    index_where: ColumnElement[bool] | None,
    consent: str | None,
) -> None:
    """Insert the staged contacts identified by `key`, or fill in what the ledger lacks about them."""
    given = select(
        *(_staged.c[name] for name in ("email_key", "email", "phone", "name")),
        func.jsonb_strip_nulls(_staged.c.attributes),  # an empty cell leaves no key
        literal(consent, Text),
        func.now() if consent else literal(None, DateTime(timezone=True)),
    )
    statement = insert(contacts).from_select(
        ["email_key", "email", "phone", "name", "attributes", "consent_source", "consent_at"],
        given.where(these).order_by(_staged.c[key]),
    )
    new, old = statement.excluded, contacts.c
    all_attributes = new.attributes.concat(old.attributes)  # the right side wins
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[key],
            index_where=index_where,
            set_={
                "phone": func.coalesce(old.phone, new.phone),
                "name": func.coalesce(old.name, new.name),
                "attributes": all_attributes,
                "consent_source": func.coalesce(old.consent_source, new.consent_source),
                "consent_at": case(
                    (old.consent_source.is_(None), func.coalesce(old.consent_at, new.consent_at)),
                    else_=old.consent_at,
                ),
                "updated_at": func.now(),
            },
            # A contact about whom nothing is new is not written at all.
            where=or_(
                and_(old.phone.is_(None), new.phone.is_not(None)),
                and_(old.name.is_(None), new.name.is_not(None)),
                all_attributes.is_distinct_from(old.attributes),
                and_(old.consent_source.is_(None), new.consent_source.is_not(None)),
            ),
        )
    )


def _add_members(
    connection: Connection, known: ColumnElement[bool], audience_id: int, import_id: int
) -> None:
    members = (
        select(literal(audience_id), contacts.c.id, literal(import_id))
        .join_from(_staged, contacts, known)
        .order_by(contacts.c.id)
    )
    connection.execute(
        insert(audience_members)
        .from_select(["audience_id", "contact_id", "import_id"], members)
        .on_conflict_do_nothing()
    )
