"""Alerts in the ledger: what people are told of, kept until it has reached them.

Written in the transaction that changes what they are about, so that none is lost and none is false.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from messaging.storage.totals import totals_of
from schemas.states import AlertKind

MOST_AT_ONCE: Final = 100
GIVE_UP_DAYS: Final = 3  # as mail servers do: RFC 5321, 4.5.4.1, asks for four to five days for a letter
_MENDED_SECONDS: Final = 600.0  # in order for so long, an account was mended
_REMINDER_SECONDS: Final = 86_400.0  # a standstill that lasts is told again, when it is met
_LOCK_SPACE: Final = 7_305_804  # any number: the class of our advisory locks, one for each account


@dataclass(frozen=True, slots=True)
class Alert:
    """What people are to be told."""

    id: int
    kind: AlertKind
    campaign_id: int | None
    campaign: str
    """Its name; empty: it is about no campaign."""
    account: str
    """As in smtp-account/main; empty: it is about none."""
    said: str
    link: str
    raised_at: datetime
    tries: int
    """Times that telling it has failed."""
    told: frozenset[str]
    """Names of the targets that took it."""


class Undelivered(NamedTuple):
    """How many alerts have not reached everyone."""

    waiting: int
    """Tried in vain, and tried again."""
    given_up: int
    """In the last 30 days."""


def alert(  # noqa: PLR0913 - what an alert consists of
    connection: Connection,
    kind: AlertKind,
    said: str,
    *,
    campaign_id: int | None = None,
    account: str = "",
    link: str = "",
) -> None:
    """Tell people something; `said` names no recipient, `link` leads to where they can act."""
    statement = text("""
        INSERT INTO alerts (kind, campaign_id, account, said, link)
        VALUES (:kind, :campaign_id, nullif(:account, ''), :said, nullif(:link, ''))
    """)
    parameters = {"kind": kind, "campaign_id": campaign_id, "account": account, "said": said, "link": link}
    connection.execute(statement, parameters)


def campaign_paused(connection: Connection, campaign_id: int, name: str, said: str, *, late: bool) -> None:
    """Tell people that a campaign was paused by ourselves: why, who is left, and how to go on."""
    left = totals_of(connection, campaign_id).queued
    how = "a later not_after, sent again, reaches them" if late else f"to go on: outflow resume '{name}'"
    paused = f"campaign '{name}' (number {campaign_id}) is {said}. {left:,} are still to be written to; {how}"
    alert(connection, AlertKind.PAUSED, paused, campaign_id=campaign_id)


def campaign_finished(connection: Connection, campaign_id: int, name: str) -> None:
    """Tell people that a campaign is finished, with its figures."""
    totals = totals_of(connection, campaign_id)
    counts = [f"{totals.accepted:,} accepted", f"{totals.rejected:,} rejected"]
    counts += [f"{totals.suppressed:,} suppressed"] * bool(totals.suppressed)
    if totals.unknown:
        counts.append(f"{totals.unknown:,} unknown, who may or may not have it: outflow resolve '{name}'")
    finished = f"campaign '{name}' (number {campaign_id}) is finished: {', '.join(counts)}"
    alert(connection, AlertKind.FINISHED, finished, campaign_id=campaign_id)


def account_stands_still(connection: Connection, account: str, said: str, in_order: float) -> bool:
    """Tell people that an account cannot go on, once per standstill, and return whether this was the first.

    `in_order` is for how many seconds the caller has seen it work before. Several processes meet the same
    standstill, and so does whoever starts a campaign before the account is mended: ten minutes in order since
    people were told say that it was. One that lasts is told again after a day.
    """
    connection.execute(
        text("SELECT pg_advisory_xact_lock(:space, hashtext(:account))"),
        {"space": _LOCK_SPACE, "account": account},
    )
    known = text("""
        SELECT EXISTS (SELECT FROM alerts WHERE kind = :kind AND account = :account
            AND raised_at > clock_timestamp() - make_interval(secs => :seconds))
    """)
    seconds = _MENDED_SECONDS if in_order >= _MENDED_SECONDS else _REMINDER_SECONDS
    parameters = {"kind": AlertKind.ACCOUNT_PAUSED, "account": account, "seconds": seconds}
    if connection.execute(known, parameters).scalar_one():
        return False
    alert(connection, AlertKind.ACCOUNT_PAUSED, said, account=account)
    return True


# Waits double: a minute after it was raised, then 3, 7, 15 minutes … after it.  Rows are held until their
# targets have answered, so that of two processes only one tells.
_IS_DUE = """
    a.told_at IS NULL AND (a.tries = 0
        OR (a.raised_at > clock_timestamp() - make_interval(days => :days)
            AND a.raised_at <= clock_timestamp() - make_interval(mins => CAST(power(2, a.tries) AS int) - 1)))
"""
_ANY = text(f"SELECT EXISTS (SELECT FROM alerts a WHERE {_IS_DUE})")  # noqa: S608 - a constant
_UNTOLD = text(f"""
    SELECT a.id, a.kind, a.campaign_id, coalesce(c.name, '') AS campaign, coalesce(a.account, '') AS account,
        a.said, coalesce(a.link, '') AS link, a.raised_at, a.tries, a.told
    FROM alerts a LEFT JOIN campaigns c ON c.id = a.campaign_id
    WHERE {_IS_DUE} ORDER BY a.tries > 0, a.id LIMIT :most FOR UPDATE OF a SKIP LOCKED
""")  # noqa: S608 - a constant


def is_due(connection: Connection) -> bool:
    """Say whether there is something to tell now."""
    return bool(connection.execute(_ANY, {"days": GIVE_UP_DAYS}).scalar_one())


def untold(connection: Connection) -> list[Alert]:
    """Return what is to be told now, new ones first, and keep other processes off it until the commit.

    At most `MOST_AT_ONCE`. What could not be told for `GIVE_UP_DAYS` is not tried again.
    """
    rows = connection.execute(_UNTOLD, {"days": GIVE_UP_DAYS, "most": MOST_AT_ONCE}).mappings()
    return [Alert(**{**row, "kind": AlertKind(row["kind"]), "told": frozenset(row["told"])}) for row in rows]


def told(connection: Connection, alert_id: int, by: Collection[str], *, everyone: bool) -> None:
    """Note which targets took an alert, and whether those are all."""
    statement = text("""
        UPDATE alerts SET told = to_jsonb(CAST(:by AS text[])),
            told_at = CASE WHEN :everyone THEN clock_timestamp() END,
            tries = tries + CASE WHEN :everyone THEN 0 ELSE 1 END
        WHERE id = :id
    """)
    connection.execute(statement, {"id": alert_id, "by": sorted(by), "everyone": everyone})


def undelivered(connection: Connection) -> Undelivered:
    """Count the alerts that targets did not take."""
    statement = text("""
        SELECT count(*) FILTER (WHERE age <= make_interval(days => :days)) AS waiting,
            count(*) FILTER (
                WHERE age > make_interval(days => :days) AND age < interval '30 days') AS given_up
        FROM (SELECT clock_timestamp() - raised_at AS age FROM alerts WHERE told_at IS NULL AND tries > 0) a
    """)
    row = connection.execute(statement, {"days": GIVE_UP_DAYS}).one()
    return Undelivered(row.waiting, row.given_up)
