"""What a person's click on a button does: in one transaction, which is checked before it is answered."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID, uuid4

from sqlalchemy import Connection

from messaging.errors import DatabaseError
from messaging.feedback.evidence import Evidence
from messaging.feedback.recording import record
from messaging.storage import preferences
from messaging.storage.preferences import Recipient, Wishes
from messaging.web.hits import SOURCE
from schemas.states import EventKind, SuppressionReason

How = Literal["one-click", "page", "preferences"]

# Other suppressions may end, or be lifted by one of us; a wish that was taken back must not count then.
_LASTING: Final = frozenset({SuppressionReason.UNSUBSCRIBED, SuppressionReason.COMPLAINED})


def look(connection: Connection, token: UUID) -> tuple[Recipient, Wishes] | None:
    """Return whose link it is and what they want; None: nobody's, as of `preferences.find`."""
    recipient = preferences.find(connection, token)
    return (recipient, preferences.read(connection, recipient)) if recipient else None


def unsubscribe(
    connection: Connection, token: UUID, how: How, *, everywhere: bool
) -> tuple[Recipient, Wishes] | None:
    """Record that somebody wants no more, of one audience or at all; once more changes nothing.

    Raises:
        DatabaseError: It did not take effect, so nobody may be told that it did.
    """
    recipient = preferences.find(connection, token)
    if recipient is None:
        return None
    wish = _Wish(recipient, how, preferences.hold(connection, recipient))
    return recipient, wish.record(connection, everywhere=everywhere or recipient.audience_id is None)


def change(
    connection: Connection,
    token: UUID,
    shown: Mapping[int, bool],
    *,
    stopped: bool,
    nothing: bool,
) -> tuple[Recipient, Wishes] | None:
    """Make a person's choice on the preference page come true.

    Args:
        connection: In a transaction.
        token: Of the link.
        shown: Audiences that were on the page, with whether they are wanted; others stay as they are.
        stopped: Whether the page said that no message at all is wanted; only then it can be taken back.
        nothing: Whether no message at all is wanted.

    Raises:
        DatabaseError: It did not take effect.
    """
    recipient = preferences.find(connection, token)
    if recipient is None:
        return None
    wish = _Wish(recipient, "preferences", preferences.hold(connection, recipient))
    before = {each.audience_id: each.wanted for each in preferences.read(connection, recipient).audiences}
    chosen = {audience: wanted for audience, wanted in shown.items() if audience in before}
    left = {audience for audience, wanted in chosen.items() if before[audience] and not wanted}
    back = {audience for audience, wanted in chosen.items() if wanted and not before[audience]}
    if recipient.audience_id in left:
        wish.record(connection, everywhere=False)
    preferences.leave(connection, recipient, left, SOURCE)
    preferences.come_back(connection, recipient, back)
    if nothing:
        wish.record(connection, everywhere=True)
    elif stopped:
        preferences.lift(connection, recipient)
    return recipient, preferences.read(connection, recipient)


@dataclass(frozen=True, slots=True)
class _Wish:
    """That somebody wants no more."""

    recipient: Recipient
    how: How
    at: datetime

    def record(self, connection: Connection, *, everywhere: bool) -> Wishes:
        """Record it and return what holds then."""
        name = f"{self.recipient.token.hex} {'everything' if everywhere else 'this audience'}"
        # The same wish is recorded once, and again after it was taken back.
        for source_id in (name, f"{name} {uuid4().hex}"):
            is_new = record(connection, [self._evidence(source_id, everywhere=everywhere)]).recorded > 0
            wishes = preferences.read(connection, self.recipient)
            if everywhere:
                holds = wishes.suppressed is not None and (is_new or wishes.suppressed in _LASTING)
            else:
                holds = wishes.left(self.recipient.audience_id)
            if holds:
                return wishes
        raise DatabaseError("an unsubscription was recorded and did not take effect")

    def _evidence(self, source_id: str, *, everywhere: bool) -> Evidence:
        return Evidence(
            kind=EventKind.UNSUBSCRIBED,
            channel=self.recipient.channel,
            source=SOURCE,
            source_id=source_id,
            occurred_at=self.at,
            token=self.recipient.token,
            everywhere=everywhere,
            details={"how": self.how},
        )
