"""How accounts are, for people and machines: no recipient, no secret."""

from collections.abc import Iterable
from typing import Any

from rich.table import Table
from sqlalchemy import Engine

from messaging.campaign.limiting import limits_of_account
from messaging.reports.console import out, show
from messaging.reports.markdown import moment
from messaging.storage import caps, senders, throttles
from messaging.storage.limits import account_key, limits_of
from schemas.account_status import AccountStatus

_NUMBERS = {"last 24 h"}


def account_statuses(engine: Engine, accounts: Iterable[str]) -> list[AccountStatus]:
    """Return how these accounts are; one that was never used is among them."""
    with engine.begin() as connection:
        known = senders.statuses(connection)
        now = throttles.now_of(connection)
        found = []
        for account in accounts:
            status = known.get(account)
            key = account_key(account)
            own = limits_of(connection, account).get(key)
            found.append(
                AccountStatus(
                    account=account,
                    state=status.state if status else None,
                    reason=status.reason if status else None,
                    paused_until=status.paused_until if status else None,
                    identity=status.identity if status else "",
                    seen_at=status.seen_at if status else None,
                    limits=limits_of_account(connection, account),
                    used=caps.used_of_day(connection, key, now),
                    per_day=own.per_day if own else None,
                )
            )
    return found


def account_rows(statuses: Iterable[AccountStatus]) -> list[dict[str, Any]]:
    """Return a row of text for each account, by heading."""
    return [
        {
            "account": status.account,
            "state": state_text(status),
            "identity": status.identity,
            "limits": status.limits.sentence,
            "last 24 h": f"{status.used:,}"
            + (f" of {status.per_day:,}" if status.per_day is not None else ""),
            "last seen": moment(status.seen_at) if status.seen_at else "",
        }
        for status in statuses
    ]


def state_text(status: AccountStatus) -> str:
    """Say how an account is, as in paused until 14:05 UTC because 454 4.7.0."""
    if status.state is None:
        return "not used yet"
    until = f" until {moment(status.paused_until)}" if status.paused_until else ""
    because = f" because {status.reason}" if status.reason else ""
    return f"{status.state}{until}{because}"


def show_accounts(statuses: list[AccountStatus]) -> None:
    """Print a line per account."""
    if not statuses:
        show("there is no account yet: outflow account add --help tells how to make one")
        return
    rows = account_rows(statuses)
    table = Table(box=None, pad_edge=False)
    for heading in rows[0]:
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left", overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    out.print(table)
