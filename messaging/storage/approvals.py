"""Approvals in the ledger: what was asked, tried, said and decided about a draft, each once."""

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Row, text

from messaging.storage import decisions
from messaging.storage.campaigns import OURSELVES, Campaign
from schemas.report import Decision
from schemas.states import EventKind

APPROVED: Final = "approved"
REJECTED: Final = "rejected"
_COMMENTED: Final = "comment: "
_TESTED: Final = "test messages: "


def approve(connection: Connection, campaign: Campaign, due_at: datetime, actor: str, comment: str) -> None:
    """Let a draft that the caller has locked start at a time, and note who approved it."""
    statement = text("UPDATE campaigns SET state = 'scheduled', due_at = :due_at WHERE id = :id")
    connection.execute(statement, {"id": campaign.id, "due_at": due_at})
    decisions.note(connection, campaign.id, EventKind.APPROVED, actor, _with(APPROVED, comment))


def reject(connection: Connection, campaign: Campaign, actor: str, comment: str) -> None:
    """Cancel a campaign that the caller has locked and that was never planned, and note who rejected it."""
    said = _with(REJECTED, comment)
    statement = text("""
        UPDATE campaigns SET state = 'cancelled', state_reason = :reason, finished_at = clock_timestamp()
        WHERE id = :id
    """)
    connection.execute(statement, {"id": campaign.id, "reason": f"{said}, by {actor}"})
    decisions.note(connection, campaign.id, EventKind.CANCELLED, actor, said)


def settled(connection: Connection, campaign_id: int) -> Decision | None:
    """Return the last decision whether a campaign is sent at all: approved, rejected or cancelled."""
    statement = text("""
        SELECT occurred_at AS at, source AS who, details ->> 'said' AS said FROM events
        WHERE campaign_id = :campaign_id AND kind IN ('approved', 'cancelled') ORDER BY id DESC LIMIT 1
    """)
    found = connection.execute(statement, {"campaign_id": campaign_id}).one_or_none()
    return _decision(found) if found is not None else None


def comment(connection: Connection, campaign_id: int, actor: str, key: str, said: str) -> None:
    """Note what somebody has said to a draft, once for each `key`."""
    _note_once(connection, campaign_id, actor, key, f"{_COMMENTED}{said}")


def comments(connection: Connection, campaign_id: int) -> list[Decision]:
    """Return what people have said to a draft, oldest first."""
    statement = text("""
        SELECT occurred_at AS at, source AS who, substr(details ->> 'said', :start) AS said FROM events
        WHERE campaign_id = :campaign_id AND kind = 'drafted' AND starts_with(details ->> 'said', :mark)
        ORDER BY id
    """)
    parameters = {"campaign_id": campaign_id, "mark": _COMMENTED, "start": len(_COMMENTED) + 1}
    return [_decision(row) for row in connection.execute(statement, parameters)]


def drafts(connection: Connection) -> list[int]:
    """Return the campaigns that wait for approval, the first due first."""
    statement = text("SELECT id FROM campaigns WHERE state = 'draft' ORDER BY due_at, id")
    return list(connection.execute(statement).scalars())


def asked(connection: Connection, campaign_id: int, key: str) -> bool:
    """Note that people are asked for approval, once for each `key`; say whether it is new."""
    return _note_once(connection, campaign_id, OURSELVES, f"{key}-asked", "waits for approval")


def is_changed(connection: Connection, campaign_id: int, key: str = "") -> bool:
    """Say whether a draft has been given another time or definition since people were asked about it.

    That is by the question of this `key`; without one, by the last.
    """
    statement = text("""
        SELECT max(id) FILTER (WHERE kind = 'scheduled')
            > max(id) FILTER (WHERE kind = 'drafted' AND source = :source AND source_id LIKE '%-asked'
                AND (:key = '' OR source_id = :key || '-asked'))
        FROM events WHERE campaign_id = :campaign_id
    """)
    parameters = {"campaign_id": campaign_id, "source": OURSELVES, "key": key}
    return bool(connection.execute(statement, parameters).scalar_one())


def late(connection: Connection, campaign: Campaign) -> bool:
    """Note that nobody has approved a campaign in time, once for each time; say whether it is new."""
    key = f"campaign-{campaign.id}-late-{campaign.deadline}"
    return _note_once(connection, campaign.id, OURSELVES, key, "nobody has approved it in time")


def remember_test(connection: Connection, campaign_id: int, said: str) -> None:
    """Note what became of a campaign's test messages; the first note stays."""
    _note_once(connection, campaign_id, OURSELVES, _test(campaign_id), f"{_TESTED}{said}")


def tested(connection: Connection, campaign_id: int) -> str:
    """Return what became of a campaign's test messages; empty: none was sent."""
    statement = text("""
        SELECT substr(details ->> 'said', :start) FROM events
        WHERE source = :source AND source_id = :source_id
    """)
    parameters = {"source": OURSELVES, "source_id": _test(campaign_id), "start": len(_TESTED) + 1}
    return connection.execute(statement, parameters).scalar_one_or_none() or ""


def _test(campaign_id: int) -> str:
    return f"campaign-{campaign_id}-tested"


def _note_once(connection: Connection, campaign_id: int, actor: str, key: str, said: str) -> bool:
    statement = text("""
        INSERT INTO events (campaign_id, kind, source, source_id, occurred_at, details)
        SELECT id, 'drafted', :actor, :key, clock_timestamp(),
            jsonb_build_object('said', CAST(:said AS text), 'state', state)
        FROM campaigns WHERE id = :campaign_id
        ON CONFLICT (source, source_id) DO NOTHING
    """)
    parameters = {"campaign_id": campaign_id, "actor": actor, "key": key, "said": said}
    return connection.execute(statement, parameters).rowcount > 0


def _decision(row: Row[tuple[datetime, str, str]]) -> Decision:
    return Decision(at=row.at, who=row.who, said=row.said)


def _with(decided: str, comment: str) -> str:
    return f"{decided}: {comment}" if comment else decided
