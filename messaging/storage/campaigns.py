"""Campaigns in the ledger: their definition, state and plan."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select, text, update
from sqlalchemy.dialects.postgresql import insert

from messaging.storage import decisions, falling_back
from messaging.storage.tables import campaign_files, campaigns
from schemas.campaign import CampaignSpec
from schemas.durations import seconds_of
from schemas.pacing import Pacing
from schemas.states import CampaignState, EventKind

OURSELVES = "outflow"  # who decided, when no person did


@dataclass(frozen=True, slots=True)
class Campaign:
    """One row of `campaigns`."""

    id: int
    spec: CampaignSpec
    state: CampaignState
    state_reason: str | None
    excluded: dict[str, int]
    planned_at: datetime
    finished_at: datetime | None

    @property
    def deadline(self) -> datetime | None:
        """When sending must have ended; None: there is no limit."""
        if not self.spec.not_after:
            return None
        return self.planned_at + timedelta(seconds=seconds_of(self.spec.not_after))

    @property
    def is_late(self) -> bool:
        """Whether its deadline has passed."""
        return self.deadline is not None and self.deadline <= datetime.now(UTC)


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
    for name in ("id", "spec", "state", "state_reason", "excluded", "planned_at", "finished_at")
]


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
        planned_at=row.planned_at,
        finished_at=row.finished_at,
    )


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


def add(connection: Connection, spec: CampaignSpec, audience_id: int) -> int | None:
    """Insert a running campaign and return its id, or None when the name is taken.

    Waits for a transaction that is inserting the same name, so that one of two launches plans.
    """
    return connection.execute(
        insert(campaigns)
        .values(
            name=spec.name,
            spec=spec.model_dump(mode="json"),
            audience_id=audience_id,
            state=CampaignState.RUNNING,
        )
        .on_conflict_do_nothing(index_elements=["name"])
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


def resume(connection: Connection, campaign: Campaign, spec: CampaignSpec, actor: str) -> Campaign:
    """Let a campaign that the caller has locked run on with this definition, and return it."""
    row = connection.execute(
        update(campaigns)
        .where(campaigns.c.id == campaign.id)
        .values(
            spec=spec.model_dump(mode="json"),
            state=CampaignState.RUNNING,
            state_reason=None,
            finished_at=None,
        )
        .returning(*_COLUMNS)
    ).one()
    if campaign.state is CampaignState.PAUSED:
        decisions.note(connection, campaign.id, EventKind.RESUMED, actor, "resumed")
    return _campaign(row)


def pause(connection: Connection, campaign_id: int, reason: str, actor: str = OURSELVES) -> bool:
    """Stop a running campaign and return whether it was: who is queued stays queued."""
    by = "" if actor == OURSELVES else f"by {actor}"
    paused = connection.execute(
        update(campaigns)
        .where(campaigns.c.id == campaign_id, campaigns.c.state == CampaignState.RUNNING)
        .values(state=CampaignState.PAUSED, state_reason=", ".join(filter(None, (reason, by))))
    ).rowcount
    if paused:
        said = ": ".join(filter(None, ("paused", reason)))
        decisions.note(connection, campaign_id, EventKind.PAUSED, actor, said)
    return bool(paused)


def cancel(connection: Connection, campaign_id: int, actor: str) -> None:
    """Stop a campaign for good; `settle_cancelled` then says so of its recipients."""
    connection.execute(
        update(campaigns)
        .where(campaigns.c.id == campaign_id)
        .values(
            state=CampaignState.CANCELLED, state_reason=f"by {actor}", finished_at=text("clock_timestamp()")
        )
    )
    decisions.note(connection, campaign_id, EventKind.CANCELLED, actor, "cancelled")


# Rows that a sender is at are passed over rather than waited for: it holds several, and so would we.  It
# settles what it leaves behind when it looks for more work.
_WITHDRAW = text("""
    WITH chosen AS (
        SELECT id FROM attempts WHERE campaign_id = :campaign_id AND state = 'queued'
        FOR UPDATE SKIP LOCKED
    )
    UPDATE attempts a SET state = 'cancelled', not_before = NULL FROM chosen WHERE a.id = chosen.id
""")

_GIVE_UP = text("""
    UPDATE attempts a SET state = 'unknown', answered_at = clock_timestamp(),
        reason = 'no answer: our process stopped first'
    FROM batches b
    WHERE b.id = a.batch_id AND a.campaign_id = :campaign_id AND a.state = 'dispatched'
        AND coalesce(b.lease_expires_at < clock_timestamp(), true)
""")


def settle_cancelled(connection: Connection, campaign_id: int) -> int:
    """Call the queued recipients of a cancelled campaign `cancelled` and return how many they were.

    What a process left on its way when it died becomes `unknown`: nobody will claim its batch any more.
    """
    parameters = {"campaign_id": campaign_id}
    connection.execute(_GIVE_UP, parameters)
    return connection.execute(_WITHDRAW, parameters).rowcount


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
        settle_cancelled(connection, campaign_id)
        return []
    made = []
    if campaign.state in {CampaignState.RUNNING, CampaignState.PAUSED} and not campaign.is_late:
        made = falling_back.fall_back(connection, campaign_id, campaign.spec)
    statement = text("""
        UPDATE campaigns c SET state = 'finished', state_reason = NULL, finished_at = clock_timestamp()
        WHERE c.id = :campaign_id AND c.state IN ('running', 'paused') AND NOT EXISTS (
            SELECT FROM attempts a WHERE a.campaign_id = c.id AND a.state IN ('queued', 'dispatched'))
    """)
    connection.execute(statement, {"campaign_id": campaign_id})
    return made
