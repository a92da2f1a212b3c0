"""Schedules in the ledger: what recurs, and when next."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from messaging.storage.tables import schedules
from schemas.schedule import ScheduleSpec
from schemas.states import ScheduleState


@dataclass(frozen=True, slots=True)
class Schedule:
    """One row of `schedules`."""

    id: int
    spec: ScheduleSpec
    state: ScheduleState
    state_reason: str | None
    next_at: datetime | None
    """When its next edition is due; None: never again."""
    now: datetime
    """The ledger's clock, when this was read."""


_COLUMNS = [
    *(schedules.c[name] for name in ("id", "name", "spec", "state", "state_reason", "next_at")),
    func.clock_timestamp().label("now"),
]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that another version of Outflow has kept, and that this one cannot read."""

    id: int
    name: str
    field: str
    """The first of the definition's that does not fit."""


def _schedule(row: Row[Any]) -> Schedule | Unreadable:
    try:
        spec = ScheduleSpec.model_validate(row.spec)
    except ValidationError as error:
        return Unreadable(row.id, row.name, ".".join(map(str, error.errors()[0]["loc"])))
    return Schedule(
        id=row.id,
        spec=spec,
        state=ScheduleState(row.state),
        state_reason=row.state_reason,
        next_at=row.next_at,
        now=row.now,
    )


def add(connection: Connection, spec: ScheduleSpec, next_at: datetime) -> bool:
    """Insert a schedule, active from now on, and return whether its name was free."""
    values = {"name": spec.name, "spec": spec.model_dump(mode="json"), "next_at": next_at}
    added = insert(schedules).values(**values).on_conflict_do_nothing(index_elements=["name"])
    return connection.execute(added.returning(schedules.c.id)).one_or_none() is not None


def lock(connection: Connection, name: str) -> Schedule | Unreadable | None:
    """Hold off everyone else who would change the schedule of that name, and return it as it is now."""
    found = select(*_COLUMNS).where(schedules.c.name == name).with_for_update()
    row = connection.execute(found).one_or_none()
    return _schedule(row) if row is not None else None


def everything(connection: Connection) -> list[Schedule | Unreadable]:
    """Return all schedules, by name."""
    return [_schedule(row) for row in connection.execute(select(*_COLUMNS).order_by(schedules.c.name))]


def due(connection: Connection) -> Schedule | Unreadable | None:
    """Return a schedule whose time has come, locked; those that another process is at are passed over."""
    found = (
        select(*_COLUMNS)
        .where(schedules.c.state == ScheduleState.ACTIVE, schedules.c.next_at <= func.clock_timestamp())
        .order_by(schedules.c.next_at, schedules.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = connection.execute(found).one_or_none()
    return _schedule(row) if row is not None else None


def save(connection: Connection, schedule: Schedule) -> None:
    """Keep what was changed of a schedule that the caller has locked."""
    values = {
        "spec": schedule.spec.model_dump(mode="json"),
        "state": schedule.state,
        "state_reason": schedule.state_reason,
        "next_at": schedule.next_at,
    }
    connection.execute(update(schedules).where(schedules.c.id == schedule.id).values(**values))


def names(connection: Connection) -> list[str]:
    """Return the names of all schedules, in order."""
    return list(connection.execute(select(schedules.c.name).order_by(schedules.c.name)).scalars())


def set_aside(connection: Connection, unreadable: Unreadable, reason: str) -> None:
    """Pause a schedule that cannot be read, as it is."""
    values = {"state": ScheduleState.PAUSED, "state_reason": reason}
    connection.execute(update(schedules).where(schedules.c.id == unreadable.id).values(**values))


def remove(connection: Connection, schedule: Schedule | Unreadable) -> None:
    """Delete a schedule; the editions made of it stay."""
    connection.execute(delete(schedules).where(schedules.c.id == schedule.id))
