"""Campaigns in the ledger: their definition, state and plan."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from messaging.storage import alerts, decisions, falling_back, settling
from messaging.storage.tables import campaign_files, campaigns
from schemas.campaign import CampaignSpec
from schemas.durations import seconds_of
from schemas.pacing import Pacing
from schemas.states import AlertKind, CampaignState, EventKind
from schemas.times import local_time, moments_on_earth

OURSELVES = decisions.OURSELVES


@dataclass(frozen=True, slots=True)
class Campaign:
    """One row of `campaigns`."""

    id: int
    spec: CampaignSpec
    state: CampaignState
    state_reason: str | None
    excluded: dict[str, int]
    due_at: datetime | None
    """When it is to start; None: it was launched at once."""
    schedule_id: int | None
    """Of the schedule that it is an edition of."""
    starts: int
    """Runs that were started for it by themselves."""
    planned_at: datetime | None
    finished_at: datetime | None
    read_at: datetime
    """What the ledger's clock showed when this was read: all processes go by one clock."""

    @property
    def deadline(self) -> datetime | None:
        """When sending must have ended; None: there is no limit.

        At recipients' own times it counts from when the last clock on Earth shows that time.
        """
        begins_at = self.due_at or self.planned_at
        if self.spec.recipient_local:
            _, begins_at = moments_on_earth(local_time(self.spec.send_at))
        if not self.spec.not_after or begins_at is None:
            return None
        return begins_at + timedelta(seconds=seconds_of(self.spec.not_after))

    @property
    def is_late(self) -> bool:
        """Whether its deadline has passed."""
        return self.deadline is not None and self.deadline <= self.read_at

    @property
    def is_due(self) -> bool:
        """Whether its time to start has come."""
        return self.due_at is None or self.due_at <= self.read_at


_PAUSABLE = (CampaignState.RUNNING, CampaignState.SCHEDULED)


class CampaignFile(NamedTuple):
    """A file that every message of a campaign carries."""

    name: str
    content_type: str
    content: bytes

    @property
    def digest(self) -> str:
        """The content's SHA-256, in hexadecimal digits."""
        return sha256(self.content).hexdigest()


_COLUMNS = [
    campaigns.c[name]
    for name in (
        "id",
        "spec",
        "state",
        "state_reason",
        "excluded",
        "due_at",
        "schedule_id",
        "starts",
        "planned_at",
        "finished_at",
    )
] + [func.clock_timestamp().label("read_at")]


def find(connection: Connection, name: str) -> Campaign | None:
    """Return the campaign of that name."""
    row = connection.execute(select(*_COLUMNS).where(campaigns.c.name == name)).one_or_none()
    return _campaign(row) if row is not None else None


def get(connection: Connection, campaign_id: int) -> Campaign | None:
    """Return the campaign with that id."""
    row = connection.execute(select(*_COLUMNS).where(campaigns.c.id == campaign_id)).one_or_none()
    return _campaign(row) if row is not None else None


def _campaign(row: Row[Any]) -> Campaign:
    return Campaign(
        id=row.id,
        spec=CampaignSpec.model_validate(row.spec),
        state=CampaignState(row.state),
        state_reason=row.state_reason,
        excluded=row.excluded,
        due_at=row.due_at,
        schedule_id=row.schedule_id,
        starts=row.starts,
        planned_at=row.planned_at,
        finished_at=row.finished_at,
        read_at=row.read_at,
    )


def with_digest(connection: Connection, digest: bytes) -> Campaign | None:
    """Return the campaign whose name has a SHA-256 that begins so."""
    name_digest = func.substring(func.sha256(func.convert_to(campaigns.c.name, "UTF8")), 1, len(digest))
    row = connection.execute(select(*_COLUMNS).where(name_digest == digest)).one_or_none()
    return _campaign(row) if row is not None else None


def names(connection: Connection) -> list[str]:
    """Return all campaign names, newest first."""
    return list(connection.execute(select(campaigns.c.name).order_by(campaigns.c.id.desc())).scalars())


def names_of_audience(connection: Connection, audience_id: int) -> list[str]:
    """Return the names of the campaigns sent to an audience, newest first."""
    found = select(campaigns.c.name).where(campaigns.c.audience_id == audience_id)
    return list(connection.execute(found.order_by(campaigns.c.id.desc())).scalars())


def ids(connection: Connection) -> list[int]:
    """Return all campaign ids, newest first."""
    return list(connection.execute(select(campaigns.c.id).order_by(campaigns.c.id.desc())).scalars())


@dataclass(frozen=True, slots=True)
class Edition:
    """Which time of which schedule a campaign is for."""

    schedule_id: int
    scheduled_for: datetime


def add(
    connection: Connection,
    spec: CampaignSpec,
    audience_id: int | None,
    due_at: datetime | None = None,
    edition: Edition | None = None,
) -> int | None:
    """Insert a campaign that is not planned yet and return its id, or None when its name or edition is taken.

    It is scheduled, or a draft when it is to be approved. Without an audience it is for groups of WhatsApp
    alone. None for `due_at`: it starts at once.

    Waits for a transaction that is inserting the same name, so that one of two launches plans.
    """
    return connection.execute(
        insert(campaigns)
        .values(
            name=spec.name,
            spec=spec.model_dump(mode="json"),
            audience_id=audience_id,
            state=CampaignState.DRAFT if spec.approval else CampaignState.SCHEDULED,
            due_at=due_at,
            **(asdict(edition) if edition else {}),
        )
        .on_conflict_do_nothing()
        .returning(campaigns.c.id)
    ).scalar_one_or_none()


def attach(connection: Connection, campaign_id: int, files: Sequence[CampaignFile]) -> None:
    """Keep the contents of the files that a campaign attaches."""
    if not files:
        return
    connection.execute(
        insert(campaign_files),
        [
            {
                "campaign_id": campaign_id,
                "position": position,
                "name": file.name,
                "content_type": file.content_type,
                "content": file.content,
                "sha256": file.digest,
            }
            for position, file in enumerate(files, 1)
        ],
    )


def attachments(connection: Connection, campaign_id: int) -> list[CampaignFile]:
    """Return the files that a campaign attaches, in order."""
    kept = campaign_files.c
    found = (
        select(kept.name, kept.content_type, kept.content)
        .where(kept.campaign_id == campaign_id)
        .order_by(kept.position)
    )
    return [CampaignFile(*row) for row in connection.execute(found)]


def attached(connection: Connection, campaign_id: int) -> list[tuple[str, str]]:
    """Return name and SHA-256 of the files that a campaign attaches, in order."""
    kept = campaign_files.c
    found = select(kept.name, kept.sha256).where(kept.campaign_id == campaign_id).order_by(kept.position)
    return [(row.name, row.sha256) for row in connection.execute(found)]


def lock(connection: Connection, campaign_id: int) -> Campaign:
    """Hold off everyone else who would change a campaign's state, and return it as it is now.

    A statement of its own: what follows in the transaction then sees what others committed before.
    """
    statement = select(*_COLUMNS).where(campaigns.c.id == campaign_id).with_for_update()
    return _campaign(connection.execute(statement).one())


def set_audience(connection: Connection, campaign_id: int, audience_id: int | None) -> None:
    """Say which audience a campaign is sent to; None: to groups alone."""
    connection.execute(update(campaigns).where(campaigns.c.id == campaign_id).values(audience_id=audience_id))


def start(connection: Connection, campaign: Campaign, actor: str) -> Campaign:
    """Call a campaign that the caller has locked, and plans, running, and return it."""
    row = connection.execute(
        update(campaigns)
        .where(campaigns.c.id == campaign.id)
        .values(
            spec=campaign.spec.model_dump(mode="json"),
            state=CampaignState.RUNNING,
            state_reason=None,
            starts=_starts_anew(campaign),
            due_at=campaign.due_at,
            planned_at=text("clock_timestamp()"),
        )
        .returning(*_COLUMNS)
    ).one()
    decisions.note(connection, campaign.id, EventKind.STARTED, actor, "started")
    return _campaign(row)


def _starts_anew(campaign: Campaign) -> int:
    """Count one more for what had stopped: the runs that were started for it before say nothing any more."""
    return campaign.starts + (campaign.state in {CampaignState.PAUSED, CampaignState.FINISHED})


def raise_starts(connection: Connection, campaign_id: int, seen: int) -> int:
    """Count another run for a campaign, unless somebody has since `seen`, and return the count."""
    raised = (
        update(campaigns)
        .where(campaigns.c.id == campaign_id, campaigns.c.starts == seen)
        .values(starts=campaigns.c.starts + 1)
    )
    connection.execute(raised)
    starts = select(campaigns.c.starts).where(campaigns.c.id == campaign_id)
    return int(connection.execute(starts).scalar_one())


def reschedule(
    connection: Connection, campaign: Campaign, due_at: datetime, actor: str, because: str = ""
) -> None:
    """Give a campaign that the caller has locked, and that is not planned yet, a time to start.

    A draft stays one; one that was paused is scheduled again.
    """
    is_paused = campaign.state is CampaignState.PAUSED
    connection.execute(
        update(campaigns)
        .where(campaigns.c.id == campaign.id)
        .values(
            spec=campaign.spec.model_dump(mode="json"),
            due_at=due_at,
            state=CampaignState.SCHEDULED if is_paused else campaign.state,
            state_reason=None,
            starts=_starts_anew(campaign),
        )
    )
    kind = EventKind.RESUMED if is_paused else EventKind.SCHEDULED
    why = f": {because}" if because else ""
    decisions.note(
        connection, campaign.id, kind, actor, f"scheduled for {due_at.astimezone(UTC):%F %H:%M} UTC{why}"
    )


def resume(
    connection: Connection, campaign: Campaign, spec: CampaignSpec, actor: str, because: str = ""
) -> Campaign:
    """Let a campaign that the caller has locked run on with this definition, and return it."""
    row = connection.execute(
        update(campaigns)
        .where(campaigns.c.id == campaign.id)
        .values(
            spec=spec.model_dump(mode="json"),
            state=CampaignState.RUNNING,
            state_reason=None,
            starts=_starts_anew(campaign),
            finished_at=None,
        )
        .returning(*_COLUMNS)
    ).one()
    if campaign.state is CampaignState.PAUSED:
        said = ": ".join(filter(None, ("resumed", because)))
        decisions.note(connection, campaign.id, EventKind.RESUMED, actor, said)
    elif campaign.state is CampaignState.FINISHED:
        decisions.note(connection, campaign.id, EventKind.STARTED, actor, "running again")
    return _campaign(row)


def pause(connection: Connection, campaign_id: int, reason: str, actor: str = OURSELVES) -> bool:
    """Stop a campaign that is running or scheduled and return whether it was: who is queued stays queued."""
    by = "" if actor == OURSELVES else f"by {actor}"
    paused = connection.execute(
        update(campaigns)
        .where(campaigns.c.id == campaign_id, campaigns.c.state.in_(_PAUSABLE))
        .values(state=CampaignState.PAUSED, state_reason=", ".join(filter(None, (reason, by))))
    ).rowcount
    if paused:
        said = ": ".join(filter(None, ("paused", reason)))
        decisions.note(connection, campaign_id, EventKind.PAUSED, actor, said)
        if actor == OURSELVES:  # a person who paused it knows
            campaign = lock(connection, campaign_id)
            alerts.campaign_paused(connection, campaign_id, campaign.spec.name, said, late=campaign.is_late)
    return bool(paused)


def pause_unsent(connection: Connection, campaign: Campaign, kind: AlertKind, reason: str) -> None:
    """Pause a scheduled campaign that the caller has locked, and tell people why nobody was written to."""
    statement = update(campaigns).where(campaigns.c.id == campaign.id)
    connection.execute(statement.values(state=CampaignState.PAUSED, state_reason=reason))
    decisions.note(connection, campaign.id, EventKind.PAUSED, OURSELVES, f"paused: {reason}")
    name = campaign.spec.name
    how = f"to send it still: outflow resume '{name}'; to give it up: outflow cancel '{name}'"
    if campaign.is_late:
        more = "with a later not_after and no send_at" if campaign.schedule_id is None else "under a new name"
        how = f"its not_after is over; to send it still, send it again {more}"
    said = f"campaign '{name}' (number {campaign.id}) is paused: {reason}. Nobody was written to; {how}"
    alerts.alert(connection, kind, said, campaign_id=campaign.id)


def cancel(connection: Connection, campaign_id: int, actor: str, because: str = "") -> None:
    """Stop a campaign for good; `settling.settle_cancelled` then says so of its recipients."""
    reason = ", ".join(filter(None, (because, f"by {actor}")))
    connection.execute(
        update(campaigns)
        .where(campaigns.c.id == campaign_id)
        .values(state=CampaignState.CANCELLED, state_reason=reason, finished_at=text("clock_timestamp()"))
    )
    said = ": ".join(filter(None, ("cancelled", because)))
    decisions.note(connection, campaign_id, EventKind.CANCELLED, actor, said)


def set_pacing(connection: Connection, campaign: Campaign, pacing: Pacing, actor: str, said: str) -> None:
    """Give a campaign that the caller has locked another pace, which whoever sends it will see."""
    spec = campaign.spec.model_copy(update={"pacing": pacing})
    connection.execute(
        update(campaigns).where(campaigns.c.id == campaign.id).values(spec=spec.model_dump(mode="json"))
    )
    decisions.note(connection, campaign.id, EventKind.PACED, actor, said)


def finish(connection: Connection, campaign_id: int) -> list[int]:
    """Call a campaign finished when nothing is queued or dispatched; settle a cancelled one.

    First, unless it is too late, whoever could not be reached over one account is queued for the next;
    returns the numbers of the batches made for them.
    """
    campaign = lock(connection, campaign_id)
    if campaign.state is CampaignState.CANCELLED:
        settling.settle_cancelled(connection, campaign_id)
        return []
    made = []
    if campaign.state in {CampaignState.RUNNING, CampaignState.PAUSED} and not campaign.is_late:
        made = falling_back.fall_back(connection, campaign_id, campaign.spec)
    statement = text("""
        UPDATE campaigns c SET state = 'finished', state_reason = NULL, finished_at = clock_timestamp()
        WHERE c.id = :campaign_id AND c.state IN ('running', 'paused') AND c.planned_at IS NOT NULL
            AND NOT EXISTS (
                SELECT FROM attempts a WHERE a.campaign_id = c.id AND a.state IN ('queued', 'dispatched'))
    """)
    if connection.execute(statement, {"campaign_id": campaign_id}).rowcount:
        decisions.note(connection, campaign_id, EventKind.FINISHED, OURSELVES, "finished")
        alerts.campaign_finished(connection, campaign_id, campaign.spec.name)
    return made
