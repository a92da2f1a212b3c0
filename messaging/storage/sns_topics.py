"""Topics of Amazon SNS that ask to post to us; only what an operator has confirmed is listened to."""

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

from schemas.topics import Topic

MOST_WAITING: Final = 100
"""Requests kept that nobody has confirmed: anybody's topic may ask."""

# A request that comes twice is not asked again.
_ASK = text("""
    INSERT INTO sns_topics (topic, subscribe_url) VALUES (:topic, :url)
    ON CONFLICT (topic) DO UPDATE SET subscribe_url = excluded.subscribe_url, asked_at = clock_timestamp()
    WHERE sns_topics.subscribe_url <> excluded.subscribe_url
""")
_FORGET = text("""
    DELETE FROM sns_topics WHERE topic IN (
        SELECT topic FROM sns_topics WHERE confirmed_at IS NULL ORDER BY asked_at DESC, topic OFFSET :most)
""")
_IS_CONFIRMED = text(
    "SELECT EXISTS (SELECT FROM sns_topics WHERE topic = :topic AND confirmed_at IS NOT NULL)"
)
_LIST = text("SELECT topic, asked_at, confirmed_at FROM sns_topics ORDER BY topic")
_REQUEST = text("SELECT subscribe_url, confirmed_at FROM sns_topics WHERE topic = :topic FOR UPDATE")
_CONFIRM = text("UPDATE sns_topics SET confirmed_at = clock_timestamp() WHERE topic = :topic")
_TAKE_BACK = text("UPDATE sns_topics SET confirmed_at = :before WHERE topic = :topic")


def ask(connection: Connection, topic: str, subscribe_url: str) -> None:
    """Keep a topic's request to post to us; the oldest are dropped when too many wait."""
    connection.execute(_ASK, {"topic": topic, "url": subscribe_url})
    connection.execute(_FORGET, {"most": MOST_WAITING})


def is_confirmed(connection: Connection, topic: str) -> bool:
    """Say whether an operator has confirmed a topic."""
    return bool(connection.execute(_IS_CONFIRMED, {"topic": topic}).scalar_one())


def list_topics(connection: Connection) -> list[Topic]:
    """Return all topics by name."""
    return [Topic.model_validate(dict(row)) for row in connection.execute(_LIST).mappings()]


def confirm(connection: Connection, topic: str) -> tuple[str, datetime | None] | None:
    """Listen to a topic from now on; return its request and when it was confirmed before, None: unknown."""
    row = connection.execute(_REQUEST, {"topic": topic}).one_or_none()
    if row is None:
        return None
    connection.execute(_CONFIRM, {"topic": topic})
    return row.subscribe_url, row.confirmed_at


def take_back(connection: Connection, topic: str, before: datetime | None) -> None:
    """Undo a confirmation that Amazon did not take."""
    connection.execute(_TAKE_BACK, {"topic": topic, "before": before})
