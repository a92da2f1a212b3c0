"""Audiences in the ledger: who belongs to them and what is known of them.

An audience is a list, whose members are kept, or a filter, whose members are whom it chooses when asked.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    SelectBase,
    case,
    delete,
    func,
    literal,
    or_,
    select,
    union,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from messaging.errors import InputError
from messaging.storage import filters
from messaging.storage.tables import audience_members, audiences, contacts, imports
from schemas.audience import AudienceSpec, ImportLine
from schemas.contract import Contract
from schemas.states import ImportState, SubscriptionStatus

_MAX_DEPTH = 10  # filters that draw on filters
_MAX_DRAWN_ON = 100  # audiences in one statement
_MAX_SHOWN = 30
_HAVING = ("name", "email", "phone")


@dataclass(frozen=True, slots=True)
class Audience:
    """One row of `audiences`."""

    id: int
    spec: AudienceSpec


def ensure(connection: Connection, name: str) -> int:
    """Return the id of the list of that name, made when it does not exist.

    Until the transaction ends, nobody can delete it or make a filter of it.

    Raises:
        InputError: It is a filter.
    """
    _make(connection, name)
    held = select(audiences.c.id, audiences.c.spec).where(audiences.c.name == name).with_for_update(read=True)
    found = connection.execute(held).one()
    _refuse_filter(name, found.spec)
    audience_id: int = found.id
    return audience_id


def _make(connection: Connection, name: str) -> None:
    connection.execute(insert(audiences).values(name=name).on_conflict_do_nothing())


def refuse_filter(connection: Connection, name: str) -> None:
    """Refuse an audience whose members cannot be chosen by hand.

    Raises:
        InputError: It is a filter.
    """
    spec = connection.execute(select(audiences.c.spec).where(audiences.c.name == name))
    _refuse_filter(name, spec.scalar_one_or_none())


def _refuse_filter(name: str, stored: object) -> None:
    if _spec(name, stored).is_filter:
        raise InputError(
            f"audience {name!r} is a filter: its members are those whom it chooses, so nobody is put in or "
            "taken out by hand. Choose another name for the list"
        )


def contract(connection: Connection, audience_id: int) -> Contract:
    """Return what a file must be like that is imported into an audience."""
    found = select(audiences.c.name, audiences.c.spec).where(audiences.c.id == audience_id)
    row = connection.execute(found).one()
    return _spec(row.name, row.spec).contract


def find(connection: Connection, name: str) -> int | None:
    """Return the audience of that name."""
    return connection.execute(select(audiences.c.id).where(audiences.c.name == name)).scalar_one_or_none()


def named(connection: Connection, name: str) -> int:
    """Return the audience of that name.

    Raises:
        InputError: There is none; the text names those there are.
    """
    found = find(connection, name)
    return found if found is not None else _refuse_unknown(name, names(connection))


def names(connection: Connection) -> list[str]:
    """Return the names of all audiences, in order."""
    return list(connection.execute(select(audiences.c.name).order_by(audiences.c.name)).scalars())


def everyone(connection: Connection) -> dict[str, Audience]:
    """Return all audiences by name, in order."""
    rows = connection.execute(select(audiences.c.id, audiences.c.name, audiences.c.spec).order_by("name"))
    return {row.name: Audience(row.id, _spec(row.name, row.spec)) for row in rows}


def hold(connection: Connection, name: str) -> int:
    """Wait for imports into an audience and return its id; none can begin before this transaction ends.

    Raises:
        InputError: There is none of that name.
    """
    held = select(audiences.c.id).where(audiences.c.name == name).with_for_update()
    found: int | None = connection.execute(held).scalar_one_or_none()
    return found if found is not None else _refuse_unknown(name, names(connection))


def save(connection: Connection, spec: AudienceSpec) -> int:
    """Store an audience's definition and return its id, made when it does not exist.

    Raises:
        InputError: A list that has members would become a filter.
    """
    _make(connection, spec.name)
    audience_id = hold(connection, spec.name)
    has_members = select(
        select(audience_members).where(audience_members.c.audience_id == audience_id).exists()
    )
    if spec.is_filter and connection.execute(has_members).scalar_one():
        raise InputError(
            f"audience {spec.name!r} is a list with members, so it cannot become a filter: give the filter "
            f"another name, or first: outflow audience delete {spec.name!r}"
        )
    values = {"spec": spec.model_dump(mode="json")}
    connection.execute(update(audiences).where(audiences.c.id == audience_id).values(values))
    return audience_id


def remove(connection: Connection, audience_id: int) -> None:
    """Delete an audience that is held, and the record of its imports; contacts stay."""
    connection.execute(delete(audience_members).where(audience_members.c.audience_id == audience_id))
    connection.execute(delete(imports).where(imports.c.audience_id == audience_id))
    connection.execute(delete(audiences).where(audiences.c.id == audience_id))


def members(connection: Connection, audience_id: int, where: str = "") -> Select[tuple[int]]:
    """Return a query for the ids of an audience's contacts, or of those for whom `where` holds.

    Raises:
        InputError: A filter asks for what no contact has, or draws on an audience that is not there.
    """
    found = everyone(connection)
    name = next(name for name, audience in found.items() if audience.id == audience_id)
    check_drawn_on(found, name)
    query = _members(connection, found, name)
    if where.strip():
        chosen = select(contacts.c.id).where(contacts.c.id.in_(query), _condition(connection, where))
        query = chosen.correlate(None)
    return query


def _members(connection: Connection, found: Mapping[str, Audience], name: str) -> Select[tuple[int]]:
    audience = found[name]
    spec = audience.spec
    if not spec.is_filter:
        listed = select(audience_members.c.contact_id.label("id"))
        return listed.where(audience_members.c.audience_id == audience.id).correlate(None)
    chosen = select(contacts.c.id).correlate(None)  # each filter looks at contacts anew
    if spec.members_of:
        drawn_on = [_members(connection, found, other) for other in spec.members_of]
        chosen = chosen.where(contacts.c.id.in_(drawn_on[0] if len(drawn_on) == 1 else union(*drawn_on)))
    if spec.where.strip():
        try:
            chosen = chosen.where(_condition(connection, spec.where))
        except InputError as error:
            raise InputError(f"audience {name!r}: {error}") from None
    return chosen


def check_drawn_on(found: Mapping[str, Audience], name: str) -> None:
    """Check that the audiences a filter draws on are there, come to an end and are not too many.

    Raises:
        InputError: They are not; the text names them.
    """
    waiting: list[tuple[str, tuple[str, ...]]] = [(name, ())]
    drawn_on = 0
    while waiting:
        other, path = waiting.pop()
        if other in path:
            circle = " → ".join([*path[path.index(other) :], other])
            raise InputError(f"these audiences draw on each other in a circle: {circle}")
        if other not in found:
            _refuse_unknown(other, list(found))
        drawn_on += 1
        if len(path) > _MAX_DEPTH or drawn_on > _MAX_DRAWN_ON:
            raise InputError(
                f"audience {name!r} draws on more than {_MAX_DRAWN_ON} audiences, or through more than "
                f"{_MAX_DEPTH}: make a list of some of them with: outflow audience union"
            )
        waiting.extend((drawn, (*path, other)) for drawn in found[other].spec.members_of)


def contacts_with(addresses: Iterable[str]) -> Select[tuple[int]]:
    """Return a query for the ids of the contacts that have one of these e-mail addresses or numbers.

    Addresses in the form the ledger compares.
    """
    wanted = list(addresses)
    return select(contacts.c.id).where(or_(contacts.c.email_key.in_(wanted), contacts.c.phone.in_(wanted)))


def known_addresses(connection: Connection, addresses: Iterable[str]) -> set[str]:
    """Return those of these addresses that a contact has."""
    wanted = list(addresses)
    emails = select(contacts.c.email_key).where(contacts.c.email_key.in_(wanted))
    phones = select(contacts.c.phone).where(contacts.c.phone.in_(wanted))
    return set(connection.execute(union(emails, phones)).scalars())


def last_import_times(connection: Connection) -> dict[int, datetime]:
    """Return when each audience was last imported into."""
    last = select(imports.c.audience_id, func.max(imports.c.created_at).label("at"))
    last = last.where(imports.c.state == ImportState.LOADED).group_by(imports.c.audience_id)
    return {row.audience_id: row.at for row in connection.execute(last)}


def last_imports(connection: Connection, audience_id: int, count: int) -> list[ImportLine]:
    """Return the last imports into an audience, newest first."""
    columns = {"import_id": "id", "imported_at": "created_at"}
    columns |= {name: name for name in ("state", "file_name", "rows", "refused")}
    last = select(*(imports.c[column].label(name) for name, column in columns.items()))
    last = last.where(imports.c.audience_id == audience_id).order_by(imports.c.id.desc()).limit(count)
    return [ImportLine.model_validate(row) for row in connection.execute(last).mappings()]


def unknown_fields(connection: Connection, where: str) -> list[str]:
    """List what a filter asks for that no contact has."""
    asked = filters.parse(where)
    return filters.unknown_fields(asked, _columns(connection, asked))


def attributes(connection: Connection, audience_id: int, where: str = "") -> dict[str, int]:
    """Count the contacts of an audience that have each attribute, by the column's name."""
    chosen = members(connection, audience_id, where).subquery()
    column = func.jsonb_object_keys(contacts.c.attributes).label("column")
    held = select(column).join_from(chosen, contacts, contacts.c.id == chosen.c.id).subquery()
    counted = select(held.c.column, func.count().label("n")).group_by("column").order_by("column")
    return {row.column: row.n for row in connection.execute(counted)}


def size(connection: Connection, audience_id: int, where: str = "") -> dict[str, int]:
    """Count an audience's contacts, and how many have a name, an e-mail address and a phone number."""
    return _counted(connection, audience_id, where, {name: contacts.c[name] for name in _HAVING})


def described(connection: Connection, audience_id: int) -> dict[str, int]:
    """Count as `size` does, and how many have a consent and each subscription status."""
    values = {name: contacts.c[name] for name in _HAVING} | {"consent": contacts.c.consent_source}
    by_status = {str(status): case((contacts.c.status == status, True)) for status in SubscriptionStatus}
    return _counted(connection, audience_id, "", {**values, **by_status})


def _counted(
    connection: Connection, audience_id: int, where: str, values: dict[str, ColumnElement[Any]]
) -> dict[str, int]:
    chosen = members(connection, audience_id, where).subquery()
    counts = [func.count(value).label(name) for name, value in values.items()]
    counted = select(func.count().label("contacts"), *counts)
    counted = counted.join_from(chosen, contacts, contacts.c.id == chosen.c.id)
    return dict(connection.execute(counted).mappings().one())


def add_members(connection: Connection, audience_id: int, chosen: SelectBase) -> int:
    """Make contacts members of a list and return how many were not before."""
    # In order, as imports take their locks.
    ids = chosen.subquery()
    new = select(literal(audience_id), ids.c.id).order_by(ids.c.id)
    statement = insert(audience_members).from_select(["audience_id", "contact_id"], new)
    counted = statement.on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    return connection.execute(counted).rowcount


def remove_members(connection: Connection, audience_id: int, chosen: SelectBase) -> int:
    """Take contacts out of a list and return how many were in it."""
    taken = delete(audience_members).where(
        audience_members.c.audience_id == audience_id, audience_members.c.contact_id.in_(chosen)
    )
    return connection.execute(taken).rowcount


def _condition(connection: Connection, where: str) -> ColumnElement[bool]:
    asked = filters.parse(where)
    return filters.condition(asked, _columns(connection, asked))


def _columns(connection: Connection, asked: filters.Filter) -> list[str]:
    """Return the columns that a filter's attributes may come from.

    Imports have kept their names: reading every contact's takes two seconds per million.
    """
    if not asked.attributes:
        return []
    imported = select(func.jsonb_array_elements(imports.c.columns).op("->>")("column")).distinct()
    columns = list(connection.execute(imported).scalars())
    if filters.unknown_fields(asked, columns):
        kept = select(func.jsonb_object_keys(contacts.c.attributes)).distinct()
        columns = list({*columns, *connection.execute(kept).scalars()})
    return columns


def _spec(name: str, stored: object) -> AudienceSpec:
    return AudienceSpec(name=name) if stored is None else AudienceSpec.model_validate(stored)


def _refuse_unknown(name: str, known: Sequence[str]) -> NoReturn:
    matches = difflib.get_close_matches(name, known, n=1)
    meant = f"; did you mean {matches[0]!r}?" if matches else ""
    shown = (", ".join(known[:_MAX_SHOWN]) + (", …" if len(known) > _MAX_SHOWN else "")) or "none yet"
    raise InputError(
        f"there is no audience {name!r}{meant} (audiences: {shown}); "
        f"make it with: outflow import FILE --audience {name}"
    )
