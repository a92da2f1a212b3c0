"""Recipients whose messages a person looks at before a campaign is sent: those most likely to look wrong."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, literal, not_, or_, select, true

from messaging.storage.samples import Sample
from messaging.storage.tables import contacts
from schemas.states import SubscriptionStatus

_COLUMNS: Final = ("email_key", "email", "phone", "name", "attributes", "status")
_OWN: Final = ("name", "email", "phone")  # fields that are columns of their own


def telling(
    connection: Connection,
    members: Select[tuple[int]],
    fields: Mapping[str, Collection[str]],
    *,
    by_email: bool,
) -> dict[str, Sample]:
    """Return the first of these contacts, the one of the longest name and the one who lacks most, by why.

    Only those with an address of the kind asked for; who is several of them counts for the first.

    Args:
        connection: Of the ledger.
        members: A query for the ids of contacts.
        fields: Merge fields of the templates, and the columns of files that each is read from.
        by_email: Whether those with an e-mail address are asked for, or those with a phone number.
    """
    chosen = and_(
        contacts.c.id.in_(members),
        contacts.c.status == SubscriptionStatus.SUBSCRIBED,
        (contacts.c.email if by_email else contacts.c.phone).is_not(None),
    )
    lacking = _lacking(fields)
    wanted = {
        "the first of the audience": (true(), contacts.c.id),
        "the longest name": (contacts.c.name.is_not(None), func.length(contacts.c.name).desc()),
        "most values missing": (lacking > 0, lacking.desc()),
    }
    found: dict[str, Sample] = {}
    seen: set[int] = set()
    columns = [contacts.c[name] for name in _COLUMNS]
    for why, (condition, order) in wanted.items():
        asked = select(contacts.c.id, *columns).where(chosen, condition).order_by(order, contacts.c.id)
        row = connection.execute(asked.limit(1)).one_or_none()
        if row is not None and row.id not in seen:
            seen.add(row.id)
            found[why] = Sample(*row[1:])
    return found


def _lacking(fields: Mapping[str, Collection[str]]) -> ColumnElement[Any]:
    """Count the fields that a contact has no value for."""
    lacking: ColumnElement[Any] = literal(0)
    for field, columns in fields.items():
        if field in _OWN:
            lacking += case((contacts.c[field].is_(None), 1), else_=0)
        elif columns:
            has = or_(*(func.btrim(contacts.c.attributes[column].astext) != "" for column in columns))
            lacking += case((not_(func.coalesce(has, False)), 1), else_=0)
    return lacking
