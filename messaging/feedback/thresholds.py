"""When so much of a campaign comes back that it stops, before a provider stops the account.

Providers act on rates: Amazon SES reviews an account at 5 % of bounces or 0.1 % of complaints and may pause
it at 10 % or 0.5 % (developer guide, "Sending review process FAQs"); Gmail and Yahoo ask for less than 0.3 %
of complaints (sender guidelines, 2024).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from messaging.storage import campaigns, returning
from messaging.storage.returning import Returned

MOST_BOUNCES: Final = 0.05
MOST_COMPLAINTS: Final = 0.003
FEWEST_COMPLAINTS: Final = 2  # one is a person, not a rate
LATEST: Final = 200  # answers that a rate is taken over
AROUND: Final = 2000  # of messages whose bounces come late


@dataclass(frozen=True, slots=True)
class Touched:
    """A campaign of which something came back, and which attempts did."""

    campaign_id: int
    attempt_ids: tuple[int, ...] = ()


def too_many(found: Returned) -> str:
    """Return what came back too often, as a sentence for people; nothing when the rates are good.

    Of fewer answers than `LATEST` the rate is taken as if the rest were fine, so that a campaign does not
    stop for the first bounce, nor go on when so many came back that the rest cannot make up for it.
    """
    base = max(found.answered, LATEST)
    if found.bounced > MOST_BOUNCES * base:
        return _said(found.bounced, found.answered, "bounced or were refused", MOST_BOUNCES)
    if found.complained >= FEWEST_COMPLAINTS and found.complained > MOST_COMPLAINTS * base:
        return _said(found.complained, found.answered, "were reported as spam", MOST_COMPLAINTS)
    return ""


def _said(n: int, answered: int, what: str, most: float) -> str:
    return (
        f"{n:,} of {answered:,} messages {what} ({n / answered:.1%}, at most {most:.1%}): "
        "see why, mend the list or the account, then outflow resume"
    )


def check(connection: Connection, touched: Iterable[Touched], spared: Iterable[int] = ()) -> tuple[int, ...]:
    """Pause running campaigns of which too much came back; return which.

    Looks at the latest answers, and at the neighbours of what came back: at full speed a bounce comes when
    thousands of later messages have left. Only what was sent after a person last resumed the campaign counts.
    Attempts that are `spared` do not count as refused.
    """
    left_out = list(spared)
    paused = []
    for each in sorted(touched, key=lambda each: each.campaign_id):
        since = returning.since(connection, each.campaign_id)
        if since is None:
            continue
        reason = too_many(returning.latest(connection, each.campaign_id, since, LATEST, left_out))
        if not reason and each.attempt_ids:
            around = returning.around(connection, each.campaign_id, since, each.attempt_ids, AROUND)
            reason = next(filter(None, map(too_many, around)), "")
        if not reason or not returning.hold(connection, each.campaign_id):
            continue
        if campaigns.pause(connection, each.campaign_id, reason):
            paused.append(each.campaign_id)
    return tuple(paused)
