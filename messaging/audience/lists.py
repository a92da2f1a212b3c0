"""Audiences as people keep them: lists filled by hand or from others, filters saved from files."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import Connection, Engine, SelectBase, except_, union

from messaging.errors import InputError
from messaging.storage import audiences, campaigns, filters, plans
from messaging.yaml_file import read_yaml
from schemas.audience import AudienceDetails, AudienceLine, AudienceSpec, Changed, Counted, Kind, Saved
from schemas.problems import first_problem
from schemas.states import SubscriptionStatus

_MAX_FILE_SIZE = 100_000  # characters
_LAST_IMPORTS = 5
_MOST_NAMED = 5


def load_audience(path: Path) -> AudienceSpec:
    """Read an audience's definition from a file.

    Raises:
        InputError: The file, a field or the filter cannot be used; the text says which and why.
    """
    values = read_yaml(path, _MAX_FILE_SIZE)
    try:
        spec = AudienceSpec.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{path.name}: {first_problem(AudienceSpec, error)}") from None
    if spec.where.strip():
        try:
            filters.parse(spec.where)
        except InputError as error:
            raise InputError(f"{path.name}: where: {error}") from None
    return spec


def save_audience(engine: Engine, spec: AudienceSpec) -> Saved:
    """Store an audience's definition; the audience is made when it does not exist.

    Raises:
        InputError: It draws on an audience that is not there or on itself, or would hide a list's members.
    """
    with engine.begin() as connection:
        before = audiences.find(connection, spec.name)
        audiences.save(connection, spec)
        audiences.check_drawn_on(audiences.everyone(connection), spec.name)
        unknown = audiences.unknown_fields(connection, spec.where) if spec.where.strip() else []
    return Saved(audience=spec.name, kind=_kind(spec), created=before is None, unknown_fields=unknown)


def list_audiences(engine: Engine) -> list[AudienceLine]:
    """Return every audience with its size now."""
    with engine.begin() as connection:
        last_imports = audiences.last_import_times(connection)
        return [
            _line(connection, audience, last_imports.get(audience.id))
            for audience in audiences.everyone(connection).values()
        ]


def _line(connection: Connection, audience: audiences.Audience, last_import: datetime | None) -> AudienceLine:
    line = AudienceLine(
        name=audience.spec.name,
        kind=_kind(audience.spec),
        members=None,
        reachable=None,
        last_import=last_import,
    )
    try:
        counts = plans.exclusions(connection, audience.id, plans.BY_EMAIL)
    except InputError as error:
        return line.model_copy(update={"problem": str(error)})
    return line.model_copy(update={"members": sum(counts.values()), "reachable": counts.get(None, 0)})


def show_audience(engine: Engine, name: str) -> AudienceDetails:
    """Return all that is counted of one audience.

    Raises:
        InputError: There is none of that name, or its filter cannot be evaluated.
    """
    with engine.begin() as connection:
        audience_id = audiences.named(connection, name)
        spec = audiences.everyone(connection)[name].spec
        counts = audiences.described(connection, audience_id)
        excluded = plans.exclusions(connection, audience_id, plans.BY_EMAIL)
        return AudienceDetails(
            name=name,
            kind=_kind(spec),
            description=spec.description,
            members_of=spec.members_of,
            where=spec.where,
            contract=spec.contract.model_dump(exclude_defaults=True),
            members=counts["contacts"],
            having={field: counts[field] for field in ("name", "email", "phone", "consent")},
            statuses={status: counts[status] for status in SubscriptionStatus},
            reachable=excluded.pop(None, 0),
            excluded={reason: n for reason, n in excluded.items() if reason is not None},
            columns=audiences.attributes(connection, audience_id),
            imports=audiences.last_imports(connection, audience_id, _LAST_IMPORTS),
        )


def count_members(engine: Engine, name: str, where: str = "") -> Counted:
    """Count an audience's members, or those for whom `where` holds.

    Raises:
        InputError: There is no such audience, or the filter cannot be evaluated.
    """
    with engine.begin() as connection:
        audience_id = audiences.named(connection, name)
        counts = plans.exclusions(connection, audience_id, plans.BY_EMAIL, where)
    return Counted(audience=name, where=where, contacts=sum(counts.values()), reachable=counts.get(None, 0))


def add_to_list(engine: Engine, name: str, addresses: Collection[str]) -> Changed:
    """Make contacts of the ledger members of a list; addresses of nobody are returned.

    Raises:
        InputError: There is no such audience, or it is a filter.
    """
    return _change(engine, name, addresses, audiences.add_members)


def remove_from_list(engine: Engine, name: str, addresses: Collection[str]) -> Changed:
    """Take contacts out of a list; they stay in the ledger. Addresses of nobody are returned.

    Raises:
        InputError: There is no such audience, or it is a filter.
    """
    return _change(engine, name, addresses, audiences.remove_members)


def unite(engine: Engine, name: str, others: Sequence[str]) -> Changed:
    """Put everybody who is now in any of the others into a list, made if need be.

    Raises:
        InputError: One of the others is not there or cannot be evaluated, or `name` is a filter.
    """
    with engine.begin() as connection:
        chosen = [audiences.members(connection, audiences.named(connection, other)) for other in others]
        audience_id = audiences.ensure(connection, name)
        changed = audiences.add_members(connection, audience_id, union(*chosen))
        return _changed(connection, name, audience_id, changed)


def subtract(engine: Engine, name: str, first: str, others: Sequence[str]) -> Changed:
    """Put everybody who is now in the first and in none of the others into a list, made if need be.

    Raises:
        InputError: As for `unite`; or the list is among them, from which nobody would be taken.
    """
    if name in {first, *others}:
        raise InputError(
            f"the difference is put into {name!r}, which cannot be one of its parts: nobody would be taken "
            "out of it. Choose another name"
        )
    with engine.begin() as connection:
        chosen = [
            audiences.members(connection, audiences.named(connection, other)) for other in (first, *others)
        ]
        audience_id = audiences.ensure(connection, name)
        changed = audiences.add_members(connection, audience_id, except_(*chosen))
        return _changed(connection, name, audience_id, changed)


def delete_audience(engine: Engine, name: str) -> None:
    """Delete an audience and the record of its imports; contacts stay.

    Raises:
        InputError: There is none of that name, or a campaign or a filter needs it.
    """
    with engine.begin() as connection:
        audience_id = audiences.hold(connection, name)
        if used := campaigns.names_of_audience(connection, audience_id):
            raise InputError(
                f"audience {name!r} stays: it is in the record of {_some('campaign', used)}, which says whom "
                "it was sent to"
            )
        found = audiences.everyone(connection)
        if drawing := [other for other, audience in found.items() if name in audience.spec.members_of]:
            raise InputError(f"audience {name!r} stays: {_some('filter', drawing)} draws on it")
        audiences.remove(connection, audience_id)


def _change(
    engine: Engine,
    name: str,
    addresses: Collection[str],
    change: Callable[[Connection, int, SelectBase], int],
) -> Changed:
    with engine.begin() as connection:
        audiences.named(connection, name)  # a misspelt name makes no list
        audience_id = audiences.ensure(connection, name)
        keys = _keys(addresses)
        changed = change(connection, audience_id, audiences.contacts_with(keys.values()))
        return _changed(connection, name, audience_id, changed, _unknown(connection, keys))


def _keys(addresses: Collection[str]) -> dict[str, str]:
    return {address: _key(address) for address in addresses}


def _unknown(connection: Connection, keys: Mapping[str, str]) -> list[str]:
    known = audiences.known_addresses(connection, keys.values())
    return [address for address, key in keys.items() if key not in known]


def _key(address: str) -> str:
    """Bring an address into the form that imports keep."""
    from messaging.audience.emails import judge_email  # noqa: PLC0415 - Polars: only who names addresses pays
    from messaging.audience.phones import judge_phone  # noqa: PLC0415 - the same

    bare = address.strip()
    return judge_email(bare).email_key or judge_phone(bare, None).phone or bare


def _changed(
    connection: Connection, name: str, audience_id: int, changed: int, unknown: Sequence[str] = ()
) -> Changed:
    members = audiences.size(connection, audience_id)["contacts"]
    return Changed(audience=name, changed=changed, members=members, unknown=list(unknown))


def _kind(spec: AudienceSpec) -> Kind:
    return "filter" if spec.is_filter else "list"


def _some(what: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{what} {', '.join(map(repr, names[:_MOST_NAMED]))}{more}"
