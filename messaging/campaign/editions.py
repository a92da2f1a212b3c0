"""Editions: when the time of a schedule has come, the campaign of that time."""

import logging
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import takewhile

from sqlalchemy import Connection, Engine

from messaging.campaign.definition import read_attachments
from messaging.campaign.planning import paced
from messaging.campaign.recurrence import times_after
from messaging.errors import InputError
from messaging.storage import alerts, campaigns, decisions, editions, schedules
from messaging.storage.campaigns import CampaignFile, Edition
from messaging.storage.schedules import Schedule, Unreadable
from schemas.schedule import ScheduleSpec
from schemas.states import AlertKind, CampaignState, EventKind, ScheduleState

_log = logging.getLogger(__name__)

_STANDING = {
    CampaignState.DRAFT: "still waits for approval",
    CampaignState.SCHEDULED: "has not started yet",
    CampaignState.RUNNING: "is still being sent",
    CampaignState.PAUSED: "is paused, with people left to be written to",
}


@dataclass(slots=True)
class Made:
    """Names of editions."""

    editions: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def make_editions(engine: Engine) -> Made:
    """Make the editions that are due, one of each schedule at most, and note when the next ones are.

    Several processes may do so at once: each edition is made once. Of several times that nobody was there
    for, the last is taken.

    Raises:
        DatabaseError: The ledger cannot be written to; what is due is made when this is called again.
    """
    made = Made()
    while True:
        with engine.begin() as connection:
            schedule = schedules.due(connection)
            if isinstance(schedule, Unreadable):
                problem = unreadable(schedule)
                schedules.set_aside(connection, schedule, problem)
                alerts.alert(connection, AlertKind.PAUSED, f"schedule '{schedule.name}' is paused: {problem}")
                continue
            if schedule is None or schedule.next_at is None:
                return made
            _make(connection, schedule, schedule.next_at, made)


def unreadable(schedule: Unreadable) -> str:
    """Say what is wrong with a schedule that another version has kept, and what to do."""
    again = f"remove it (outflow schedule remove {schedule.name!r}) and add it again"
    return f"this version of Outflow cannot read it (its {schedule.field!r}): {again}"


def _make(connection: Connection, schedule: Schedule, first: datetime, made: Made) -> None:
    """Make the edition of a schedule that is due, and go on to its next time."""
    spec, zone = schedule.spec, schedule.spec.zone
    try:
        further = times_after(spec.schedule, zone, first)
        missed = list(takewhile(lambda moment: moment <= schedule.now, further))
        moment = missed[-1] if missed else first
        next_at = next(times_after(spec.schedule, zone, moment), None)
    except InputError as error:  # kept by a version that understood it
        schedules.save(connection, replace(schedule, state=ScheduleState.PAUSED, state_reason=str(error)))
        alerts.alert(connection, AlertKind.PAUSED, f"schedule '{spec.name}' is paused: {error}")
        return
    state = ScheduleState.ACTIVE if next_at is not None else ScheduleState.ENDED
    schedules.save(connection, replace(schedule, next_at=next_at, state=state))
    name = _edition(connection, schedule, moment, len(missed), made)
    if name is not None:
        _log.info("edition %s of schedule %s was made", name, spec.name)


def _edition(
    connection: Connection, schedule: Schedule, moment: datetime, missed: int, made: Made
) -> str | None:
    """Insert the campaign of a time, or find that there is one already."""
    files, reason = _files(schedule.spec)
    edition = Edition(schedule.id, moment)
    before = editions.unfinished(connection, schedule.id)
    added = _add(connection, schedule.spec, edition)
    if added is None:
        return None
    campaign_id, name = added
    campaigns.attach(connection, campaign_id, files)
    earlier = f"; {missed} earlier {'time was' if missed == 1 else 'times were'} missed" if missed else ""
    said = f"edition of schedule {schedule.spec.name!r} for {moment:%F %H:%M} UTC{earlier}"
    kind = EventKind.DRAFTED if schedule.spec.approval else EventKind.SCHEDULED
    decisions.note(connection, campaign_id, kind, decisions.OURSELVES, said)
    if before is not None:
        reason = f"edition {before[0]!r} {_STANDING[before[1]]}"
    if reason:
        editions.skip(connection, campaign_id, reason)
        made.skipped.append(name)
    else:
        made.editions.append(name)
    return name


def _files(spec: ScheduleSpec) -> tuple[list[CampaignFile], str]:
    """Read what the editions attach; else say why that cannot be done."""
    try:
        return read_attachments(spec), ""
    except InputError as error:
        return [], str(error)


def _add(connection: Connection, spec: ScheduleSpec, edition: Edition) -> tuple[int, str] | None:
    """Insert the campaign of a time, and return number and name; None: it was made before."""
    if editions.is_made(connection, edition.schedule_id, edition.scheduled_for):
        return None
    local = edition.scheduled_for.astimezone(spec.zone)
    usual = f"{spec.name} {local:%F %H%M}"
    for name in (usual, f"{usual} 2", f"{usual} 3"):  # taken, when the schedule was in another zone before
        campaign = paced(spec.edition(name, f"{local:%FT%H:%M}"))
        added = campaigns.add(connection, campaign, None, edition.scheduled_for, edition)
        if added is not None:
            return added, name
    said = f"an edition of schedule '{spec.name}' was skipped: there are campaigns called {usual!r} already"
    alerts.alert(connection, AlertKind.SKIPPED, said)
    return None
