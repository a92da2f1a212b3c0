"""The daily cap of a portfolio: different people in any 24 hours, each reserved before they are written to.

Meta counts whom a business writes to outside of service windows, in moving 24 hours and over all numbers of
its portfolio: https://developers.facebook.com/documentation/business-messaging/whatsapp/messaging-limits
So each is counted once, in the minute of the last message, and whoever is counted costs nothing of the cap.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, text

from messaging.storage import caps

# A window counts as open only if it stays so until the message is with Meta: the time that a reservation is
# good for, and as much again for the way there.
_WINDOW_SECONDS: Final = 2 * caps.RESERVED_SECONDS


@dataclass(frozen=True, slots=True)
class Reach:
    """Somebody who may be written to now."""

    minute: float | None
    """Where they are counted, seconds since 1970; None: nowhere, their service window is open."""
    before: float | None
    """Where they were counted before this reservation, if they were."""
    until: float
    """Used later, it would count for the wrong day."""


@dataclass(slots=True)
class Answer:
    """Who of those asked for may be written to; the others are to be asked for again."""

    allowed: dict[str, Reach] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    """Whom the cap has no room for."""


# A row that the cap has forgotten is as none.
_ASKED = text("""
    SELECT asked.phone, extract(epoch FROM r.minute)::float8 AS minute, w.phone IS NOT NULL AS in_window
    FROM unnest(CAST(:phones AS text[])) WITH ORDINALITY AS asked (phone, place)
    LEFT JOIN reached_people r
        ON r.key = :key AND r.phone = asked.phone AND r.minute >= to_timestamp(:since)
    LEFT JOIN service_windows w
        ON w.account = :account AND w.phone = asked.phone AND w.closes_at > to_timestamp(:open_at)
    ORDER BY asked.place
""")
_COUNT = text("""
    INSERT INTO reached_people (key, phone, minute, owner)
    SELECT :key, phone, to_timestamp(:minute), :owner
    FROM unnest(CAST(:phones AS text[])) AS counted (phone)
    ON CONFLICT (key, phone) DO UPDATE SET minute = excluded.minute, owner = excluded.owner
""")
# Whoever was reserved by somebody else meanwhile stays counted: they may have been written to.
_MINE: Final = """
    unnest(CAST(:phones AS text[]), CAST(:minutes AS float8[]), CAST(:earlier AS float8[]))
        AS mine (phone, minute, before)
    WHERE r.key = :key AND r.phone = mine.phone AND r.owner = :owner
        AND r.minute = to_timestamp(mine.minute)
"""
_RESTORE = text(f"""
    UPDATE reached_people r SET minute = to_timestamp(mine.before)
    FROM {_MINE} AND mine.before >= CAST(:since AS float8) RETURNING mine.phone
""")  # noqa: S608 - a constant
_UNCOUNT = text(f"DELETE FROM reached_people r USING {_MINE} RETURNING mine.phone")  # noqa: S608 - a constant
_FORGET = text("""
    DELETE FROM reached_people WHERE key = :key AND minute < clock_timestamp() - interval '3 days'
""")


def reserve(  # noqa: PLR0913, PLR0917 - all of it belongs to one question
    connection: Connection, key: str, cap: int, account: str, owner: str, phones: Sequence[str], most: int
) -> Answer:
    """Reserve up to `most` of these people, in order, of a cap of different people in any 24 hours.

    Those whom an account may write to within their service window are not counted, and those who are counted
    already take nothing of the cap: both are allowed also when it is used up. `phones` are in E.164.
    """
    now, _ = caps.lock_day(connection, key)
    since = caps.since_of_day(now)
    left = cap - caps.used_of_day(connection, key, now)
    new = min(most, caps.part(left))
    minute, until = now - now % 60, now + caps.RESERVED_SECONDS
    answer = Answer()
    parameters = {"key": key, "account": account, "phones": list(phones), "since": since}
    for row in connection.execute(_ASKED, parameters | {"open_at": now + _WINDOW_SECONDS}):
        if row.minute is None and not row.in_window and left <= 0:
            answer.refused.add(row.phone)
        elif len(answer.allowed) == most:
            continue
        elif row.in_window:
            answer.allowed[row.phone] = Reach(None, None, until)
        elif row.minute is not None or new > 0:
            new -= row.minute is None
            answer.allowed[row.phone] = Reach(minute, row.minute, until)
    counted = {phone: reach for phone, reach in answer.allowed.items() if reach.minute is not None}
    if counted:
        values = {"key": key, "phones": list(counted), "minute": minute, "owner": owner}
        connection.execute(_COUNT, values)
        changes = Counter({minute: len(counted)})
        changes.subtract(reach.before for reach in counted.values() if reach.before is not None)
        caps.add(connection, key, changes)
    return answer


def give_back(connection: Connection, key: str, owner: str, unused: Mapping[str, Reach]) -> None:
    """Count people whom we reserved and did not write to as before."""
    counted = {phone: reach for phone, reach in unused.items() if reach.minute is not None}
    if not counted:
        return
    now, _ = caps.lock_day(connection, key)
    changes: Counter[float] = Counter()
    asked = {"key": key, "owner": owner, "since": caps.since_of_day(now)}
    restored = set(connection.execute(_RESTORE, asked | _columns(counted)).scalars())
    for phone in restored:
        changes[counted[phone].before or 0.0] += 1
    left = {phone: reach for phone, reach in counted.items() if phone not in restored}
    uncounted = set(connection.execute(_UNCOUNT, asked | _columns(left)).scalars())
    for phone in restored | uncounted:
        changes[counted[phone].minute or 0.0] -= 1
    caps.add(connection, key, changes)


def _columns(reaches: Mapping[str, Reach]) -> dict[str, list[Any]]:
    return {
        "phones": list(reaches),
        "minutes": [reach.minute for reach in reaches.values()],
        "earlier": [reach.before for reach in reaches.values()],
    }


def forget(connection: Connection, key: str) -> None:
    """Forget whom no cap counts any more."""
    connection.execute(_FORGET, {"key": key})
