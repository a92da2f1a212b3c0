"""Schedules: recurring campaigns added, changed, paused, resumed, removed and listed."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice

from sqlalchemy import Connection, Engine

from messaging.campaign.controlling import one_line
from messaging.campaign.editions import unreadable
from messaging.campaign.planning import check_campaign
from messaging.campaign.recurrence import check_rule, times_after
from messaging.errors import InputError
from messaging.storage import editions, schedules
from messaging.storage.schedules import Schedule, Unreadable
from schemas.schedule import ScheduleSpec, ScheduleStatus
from schemas.states import ScheduleState

_SHOWN = 3


def add(engine: Engine, spec: ScheduleSpec) -> ScheduleStatus:
    """Keep a schedule, or change the one of that name: the editions made so far stay.

    With the rule it had it goes on where it was, also when a time of it has just passed; with another, it
    goes on from now. One that was paused stays paused.

    Raises:
        InputError: A rule without a time, or with times too close together; or a campaign that could not be
            sent, as for `planning.check_campaign`.
    """
    next_at = check_rule(spec.schedule, spec.zone, datetime.now(UTC))
    _check_edition(engine, spec, next_at)
    with engine.begin() as connection:
        did = "is added" if schedules.add(connection, spec, next_at) else "is unchanged"
        schedule = _locked(connection, spec.name)
        if schedule.spec != spec:
            schedule, did = _changed(schedule, spec, next_at), "is changed"
            schedules.save(connection, schedule)
        return _status(connection, schedule, did, changed=did != "is unchanged")


def pause(engine: Engine, name: str, because: str, actor: str) -> ScheduleStatus:
    """Let a schedule make no further editions for now; those it has made are sent.

    Raises:
        InputError: There is no such schedule, it has ended, or the reason cannot be shown.
    """
    because = one_line(because)
    with engine.begin() as connection:
        schedule = _locked(connection, name)
        if schedule.state is ScheduleState.ENDED:
            raise InputError(f"schedule {name!r} has ended: there is nothing to pause")
        changed = schedule.state is ScheduleState.ACTIVE
        if changed:
            reason = ", ".join(filter(None, (because, f"by {actor}")))
            schedules.save(connection, replace(schedule, state=ScheduleState.PAUSED, state_reason=reason))
        did = "is paused" if changed else "is paused already"
        return _status(connection, _locked(connection, name), did, changed=changed)


def resume(engine: Engine, name: str) -> ScheduleStatus:
    """Let a paused schedule go on, from its next time from now; what it missed is not made up for.

    Raises:
        InputError: There is no such schedule, it has ended, or its rule has no further time.
    """
    with engine.begin() as connection:
        schedule = _locked(connection, name)
        if schedule.state is ScheduleState.ENDED:
            raise InputError(f"schedule {name!r} has ended: change its rule and add it again")
        changed = schedule.state is ScheduleState.PAUSED
        if changed:
            next_at = check_rule(schedule.spec.schedule, schedule.spec.zone, schedule.now)
            again = replace(schedule, state=ScheduleState.ACTIVE, state_reason=None, next_at=next_at)
            schedules.save(connection, again)
        did = "goes on" if changed else "is active already"
        return _status(connection, _locked(connection, name), did, changed=changed)


def remove(engine: Engine, name: str) -> ScheduleStatus:
    """Forget a schedule; the editions it has made stay.

    Raises:
        InputError: There is no such schedule.
    """
    with engine.begin() as connection:
        schedule = _found(connection, name)
        status = _standing(connection, schedule)
        schedules.remove(connection, schedule)
    said = f"schedule {name!r} is removed; its editions stay"
    return status.model_copy(update={"next": [], "changed": True, "said": said})


def everything(engine: Engine) -> list[ScheduleStatus]:
    """Return how each schedule stands, by name."""
    with engine.begin() as connection:
        return [_standing(connection, schedule) for schedule in schedules.everything(connection)]


def _check_edition(engine: Engine, spec: ScheduleSpec, next_at: datetime) -> None:
    local = next_at.astimezone(spec.zone)
    campaign = spec.edition(f"{spec.name} {local:%F %H%M}", f"{local:%FT%H:%M}")
    check_campaign(engine, campaign.model_copy(update={"verify_domains": False}))  # asked for each edition


def _changed(known: Schedule, spec: ScheduleSpec, next_at: datetime) -> Schedule:
    if (known.spec.schedule, known.spec.zone) == (spec.schedule, spec.zone):
        return replace(known, spec=spec)
    state = ScheduleState.PAUSED if known.state is ScheduleState.PAUSED else ScheduleState.ACTIVE
    return replace(known, spec=spec, next_at=next_at, state=state)


def _found(connection: Connection, name: str) -> Schedule | Unreadable:
    found = schedules.lock(connection, name)
    if found is None:
        known = ", ".join(schedules.names(connection)) or "none yet"
        raise InputError(f"there is no schedule {name!r} (schedules: {known})")
    return found


def _locked(connection: Connection, name: str) -> Schedule:
    found = _found(connection, name)
    if isinstance(found, Unreadable):
        raise InputError(f"schedule {name!r}: {unreadable(found)}")
    return found


def _standing(connection: Connection, schedule: Schedule | Unreadable) -> ScheduleStatus:
    if isinstance(schedule, Schedule):
        return _status(connection, schedule)
    many, last = editions.count(connection, schedule.id)
    return ScheduleStatus(
        schedule=schedule.name,
        state=ScheduleState.PAUSED,  # it makes no editions, whether that was found out or not
        reason=unreadable(schedule),
        rule="",
        time_zone="",
        next=[],
        editions=many,
        last_edition=last,
    )


def _status(
    connection: Connection, schedule: Schedule, did: str = "", *, changed: bool = False
) -> ScheduleStatus:
    spec, coming = schedule.spec, []
    if schedule.state is ScheduleState.ACTIVE and schedule.next_at is not None:
        further = times_after(spec.schedule, spec.zone, schedule.next_at)
        coming = [schedule.next_at, *islice(further, _SHOWN - 1)]
    many, last = editions.count(connection, schedule.id)
    return ScheduleStatus(
        schedule=spec.name,
        state=schedule.state,
        reason=schedule.state_reason or "",
        rule=str(spec.schedule),
        time_zone=spec.time_zone,
        next=[moment.astimezone(UTC) for moment in coming],
        editions=many,
        last_edition=last,
        changed=changed,
        said=_said(spec, schedule.state, coming, did) if did else "",
    )


def _said(spec: ScheduleSpec, state: ScheduleState, coming: list[datetime], did: str) -> str:
    said = f"schedule {spec.name!r} {did}: {spec.schedule} ({spec.time_zone})"
    if coming:
        local = coming[0].astimezone(spec.zone)
        in_utc = "" if local.tzname() == "UTC" else f", which is {coming[0].astimezone(UTC):%F %H:%M} UTC"
        return f"{said}; next at {local:%F %H:%M}{in_utc}"
    return f"{said}; it is {state}, so nothing comes next"
