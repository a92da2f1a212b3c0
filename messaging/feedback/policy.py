"""What evidence does to an address: a table, and rules over all that is known of a person.

The verdict depends on what is known, never on the order in which it came: a mailbox read late, a queue that
repeats itself and a webhook before its time end in the same state. Practice: hard bounces and complaints at
once (Mailchimp, Postmark, listmonk), bounces that last over more than 14 days (the handshake rule of 2002,
Word to the Wise), refusals for our own faults never (Twilio SendGrid's blocks).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from itertools import pairwise
from typing import Final

from schemas.bounces import BounceClass, Suppress
from schemas.states import Channel, EventKind, SuppressionReason

SECOND_WITHIN: Final = timedelta(days=30)
LASTING_BOUNCES: Final = 4
LASTING_FOR: Final = timedelta(days=14)
LASTING_ENDS_AFTER: Final = timedelta(days=180)
"""After the last of the bounces that lasted: a full mailbox may have been emptied."""
BY_SOFT_BOUNCES: Final = "outflow/soft-bounces"
"""The source of suppressions that are our own conclusion, as no single report is behind them."""

RECLASSIFIED: Final = "reclassified"
"""Who lifts a suppression that rested on what is not said any more."""


class Weight(Enum):
    """How much one piece of evidence says."""

    NOTHING = auto()
    TAKEN = auto()  # the recipient's server has taken the message, though it may return it yet
    SEEN = auto()  # by a person
    PASSING = auto()  # a bounce that says something only when others follow for weeks
    WEAK = auto()  # a bounce that says enough the second time
    ENOUGH = auto()  # nobody is reached at the address
    COMPLAINT = auto()
    WISH = auto()  # no more of anything, please


_BY_KIND: Final = {
    EventKind.DELIVERED: Weight.TAKEN,
    EventKind.OPENED: Weight.SEEN,
    EventKind.CLICKED: Weight.SEEN,
    EventKind.UNSUBSCRIBED: Weight.WISH,
    EventKind.COMPLAINED: Weight.COMPLAINT,
}
_HARD: Final = {
    Suppress.AT_ONCE: Weight.ENOUGH,
    Suppress.SECOND_TIME: Weight.WEAK,
    Suppress.WHEN_IT_LASTS: Weight.PASSING,
}
_SOFT: Final = {
    Suppress.AT_ONCE: Weight.PASSING,
    Suppress.SECOND_TIME: Weight.PASSING,
    Suppress.WHEN_IT_LASTS: Weight.PASSING,
}
# Of `bounced`. A class that is not here says nothing about the recipient, whatever it is said to suppress.
_BY_CLASS: Final = {
    BounceClass.HARD: _HARD,
    BounceClass.SOFT: _SOFT,
    BounceClass.COMPLAINT: {Suppress.AT_ONCE: Weight.COMPLAINT},
}


_BOUNCES: Final = frozenset({Weight.PASSING, Weight.WEAK, Weight.ENOUGH})
_ACCUSING: Final = _BOUNCES | {Weight.COMPLAINT}
SUPPRESSING: Final = _ACCUSING | {Weight.WISH}
"""What may be enough to stop writing to somebody."""


def weight(
    kind: EventKind,
    bounce_class: BounceClass | None = None,
    suppress: Suppress | None = None,
    *,
    by_machine: bool = False,
    everywhere: bool = True,
) -> Weight:
    """Return how much one piece of evidence says about its recipient.

    A bounce that nobody has classified counts as one that may pass, a complaint without a reason as one.
    """
    if kind is EventKind.BOUNCED:
        by_suppress = _BY_CLASS.get(bounce_class or BounceClass.SOFT, {})
        return by_suppress.get(suppress or Suppress.WHEN_IT_LASTS, Weight.NOTHING)
    if kind is EventKind.COMPLAINED and suppress is Suppress.NEVER:
        return Weight.NOTHING  # "not spam", or a report on our authentication
    if (kind is EventKind.UNSUBSCRIBED and not everywhere) or by_machine:
        return Weight.NOTHING
    return _BY_KIND.get(kind, Weight.NOTHING)


@dataclass(frozen=True, slots=True)
class Address:
    """What is suppressed: an address in comparable form, or a number in E.164."""

    channel: Channel
    key: str


@dataclass(frozen=True, slots=True)
class Known:
    """One piece of evidence about a person."""

    address: Address
    attempt_id: int
    weight: Weight
    occurred_at: datetime
    source: str
    named: bool = True
    """Whether it named the message: by token, Message-ID, provider's id or campaign. Else anybody who knows
    the address could have made it up."""
    accepted: bool = True
    """Whether the address was sent something in the 30 days before that the server has accepted."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why an address must not be used."""

    reason: SuppressionReason
    source: str
    """Who told us, or `BY_SOFT_BOUNCES`."""
    expires_at: datetime | None = None

    @property
    def strength(self) -> tuple[bool, int]:
        """What is for good goes before what ends, a person's wish before a bounce."""
        return self.expires_at is None, _REASONS.index(self.reason)


_REASONS: Final = (
    SuppressionReason.BOUNCED,
    SuppressionReason.UNSUBSCRIBED,
    SuppressionReason.COMPLAINED,
)


def judge(
    addresses: Mapping[Address, datetime | None], known: Sequence[Known], now: datetime
) -> dict[Address, Verdict]:
    """Return which of a person's addresses must not be used, and why.

    Args:
        addresses: All of them, each with the time when its last suppression ended, by itself or by a person:
            only what came after it counts.
        known: All evidence about the person, in any order.
        now: What has expired by then is left out.
    """
    found = {}
    for address, since in addresses.items():
        counts = [
            each for each in known if (since is None or each.occurred_at > since) and _is_believed(each)
        ]
        verdict = _about_person(counts) or _about_address([k for k in counts if k.address == address])
        if verdict is not None and (verdict.expires_at is None or verdict.expires_at > now):
            found[address] = verdict
    return found


def _is_believed(known: Known) -> bool:
    return known.named or known.accepted or known.weight not in _ACCUSING


def _about_person(known: Iterable[Known]) -> Verdict | None:
    complaint = _decisive(known, Weight.COMPLAINT, Weight.COMPLAINT)
    if complaint is not None:
        return Verdict(SuppressionReason.COMPLAINED, complaint.source)
    wish = min((k for k in known if k.weight is Weight.WISH), key=_when, default=None)
    return Verdict(SuppressionReason.UNSUBSCRIBED, wish.source) if wish else None


def _about_address(known: Sequence[Known]) -> Verdict | None:
    bounce = _decisive(known, Weight.ENOUGH, Weight.WEAK)
    if bounce is not None:
        return Verdict(SuppressionReason.BOUNCED, bounce.source)
    lasted = _lasted_until(known)
    if lasted is None:
        return None
    return Verdict(SuppressionReason.BOUNCED, BY_SOFT_BOUNCES, lasted + LASTING_ENDS_AFTER)


def _decisive(known: Iterable[Known], enough: Weight, weak: Weight) -> Known | None:
    """Return the first piece that is enough, or the second of two that are weak; one counts per message.

    What did not name its message is weak, whatever it says.
    """
    first = min((k for k in known if k.weight is enough and k.named), key=_when, default=None)
    if first is not None:
        return first
    doubtful = _one_of_each_message(k for k in known if k.weight in {enough, weak})
    pairs = pairwise(doubtful)
    return next((b for a, b in pairs if b.occurred_at - a.occurred_at <= SECOND_WITHIN), None)


def _lasted_until(known: Sequence[Known]) -> datetime | None:
    """Return when the last of the bounces came that went on for long with no sign of life between."""
    bounces = _one_of_each_message(k for k in known if k.weight in _BOUNCES)
    bounced = {k.attempt_id for k in bounces}
    alive = sorted(
        k.occurred_at
        for k in known
        if k.weight is Weight.SEEN or (k.weight is Weight.TAKEN and k.attempt_id not in bounced)
    )
    lasted = None
    for run in _runs([k.occurred_at for k in bounces], alive):
        if len(run) >= LASTING_BOUNCES and run[-1] - run[0] >= LASTING_FOR:
            lasted = run[-1]
    return lasted


def _runs(bounces: Sequence[datetime], alive: Sequence[datetime]) -> list[list[datetime]]:
    """Split bounces where there was a sign of life between two; all are in order."""
    runs: list[list[datetime]] = []
    signs = iter(alive)
    sign = next(signs, None)
    last: datetime | None = None
    for bounce in bounces:
        parted = False
        while sign is not None and sign < bounce:
            parted = parted or (last is not None and sign > last)
            sign = next(signs, None)
        if last is None or parted:
            runs.append([])
        runs[-1].append(bounce)
        last = bounce
    return runs


def _one_of_each_message(known: Iterable[Known]) -> list[Known]:
    """Return the first piece about each message, in order of time."""
    first: dict[int, Known] = {}
    for each in sorted(known, key=_when):
        first.setdefault(each.attempt_id, each)
    return list(first.values())


def _when(known: Known) -> tuple[datetime, int, str]:
    return known.occurred_at, known.attempt_id, known.source
