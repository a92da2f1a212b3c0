"""Limits that a person set, quotas that a provider named, and the keys of both; the smaller one counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

MOST_PER_DAY: Final = 2_000_000_000  # what the ledger can count
_PORTFOLIO: Final = "portfolio:"  # begins the keys that people are counted under


def account_key(account: str) -> str:
    """Return the key of what all messages of an account count against."""
    return f"account:{account}"


def domain_key(account: str, group: str) -> str:
    """Return the key of an account's messages to one provider group."""
    return f"{domains(account)}{group}"


def campaign_key(campaign_id: int) -> str:
    """Return the key of a campaign's messages."""
    return f"campaign:{campaign_id}"


def domains(account: str) -> str:
    """Return what the keys of an account's provider groups begin with."""
    return f"domain:{account}:"


def _portfolios(account: str) -> str:
    return f"portfolio:{account}:"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many messages of a key; None for any number."""

    rate: float | None = None
    """Messages per second."""
    per_day: int | None = None
    """Messages in any 24 hours."""


@dataclass(frozen=True, slots=True)
class Portfolio:
    """Accounts of one owner, whose recipients a provider counts together."""

    name: str
    per_day: int
    """Different people in any 24 hours."""


@dataclass(frozen=True, slots=True)
class Told:
    """What was said about an account's limits, and by whom."""

    by_person: Limit
    by_provider: Limit
    domains: dict[str, Limit]
    portfolio: Portfolio | None


_SET = text("""
    INSERT INTO limits (key, rate, per_day) VALUES (:key, :rate, :per_day)
    ON CONFLICT (key) DO UPDATE SET rate = excluded.rate, per_day = excluded.per_day
""")
_SET_QUOTA = text("""
    INSERT INTO limits (key, quota_rate, quota_per_day) VALUES (:key, :rate, :per_day)
    ON CONFLICT (key) DO UPDATE SET quota_rate = excluded.quota_rate, quota_per_day = excluded.quota_per_day
""")
OF_ACCOUNT: Final = "(key = :account_key OR starts_with(key, :domains) OR starts_with(key, :portfolios))"
_CLEAR = text(f"UPDATE limits SET rate = NULL, per_day = NULL WHERE {OF_ACCOUNT}")  # noqa: S608 - a constant
_LEAVE_PORTFOLIOS = text("DELETE FROM limits WHERE starts_with(key, :portfolios) AND key <> :kept")
_TIDY = text("""
    DELETE FROM limits
    WHERE rate IS NULL AND per_day IS NULL AND quota_rate IS NULL AND quota_per_day IS NULL
""")
# Of nulls, `least` takes no notice.
HOLDING: Final = f"""
    SELECT key, least(rate, quota_rate) AS rate, least(per_day, quota_per_day) AS per_day FROM limits
    WHERE {OF_ACCOUNT}
"""  # noqa: S608 - a constant
_HOLDING = text(HOLDING)
_TOLD = text(f"SELECT * FROM limits WHERE {OF_ACCOUNT} ORDER BY key")  # noqa: S608 - a constant


def of_account(account: str) -> dict[str, str]:
    """Return the parameters of `OF_ACCOUNT`."""
    return {
        "account_key": account_key(account),
        "domains": domains(account),
        "portfolios": _portfolios(account),
    }


def set_limit(connection: Connection, key: str, limit: Limit) -> None:
    """Set what a person wants of a key; what its provider allows stays."""
    connection.execute(_SET, {"key": key, "rate": limit.rate, "per_day": limit.per_day})
    connection.execute(_TIDY)


def clear_limits(connection: Connection, account: str) -> None:
    """Remove all limits that a person set for an account; what its provider allows stays."""
    connection.execute(_CLEAR, of_account(account))
    connection.execute(_TIDY)


def set_quota(connection: Connection, account: str, quota: Limit, portfolio: Portfolio | None) -> None:
    """Keep what a provider says now that it allows an account; what a person set stays.

    Of a rate of nothing no notice is taken: permits cannot be dealt by it, and its provider will say no.
    """
    values = {"rate": quota.rate or None, "per_day": _at_most(quota.per_day)}
    connection.execute(_SET_QUOTA, values | {"key": account_key(account)})
    kept = f"{_portfolios(account)}{portfolio.name}" if portfolio else ""
    connection.execute(_LEAVE_PORTFOLIOS, {"portfolios": _portfolios(account), "kept": kept})
    if portfolio is not None:
        values = {"rate": None, "per_day": _at_most(portfolio.per_day)}
        connection.execute(_SET_QUOTA, values | {"key": kept})
    connection.execute(_TIDY)


def _at_most(per_day: int | None) -> int | None:
    return None if per_day is None else min(per_day, MOST_PER_DAY)


def forget(connection: Connection, account: str) -> None:
    """Remove everything said about an account's limits."""
    connection.execute(text(f"DELETE FROM limits WHERE {OF_ACCOUNT}"), of_account(account))  # noqa: S608 - a constant


def limits_of(connection: Connection, account: str) -> dict[str, Limit]:
    """Return the limits that hold for an account, by key: the smaller of a person's and the provider's."""
    rows = connection.execute(_HOLDING, of_account(account))
    return {row.key: Limit(row.rate, row.per_day) for row in rows}


def daily_caps(limits: Mapping[str, Limit], account: str) -> dict[str, int]:
    """Return an account's daily caps by the key that is counted under, always in the same order."""
    named = _portfolios(account)
    return {
        f"{_PORTFOLIO}{key.removeprefix(named)}" if key.startswith(named) else key: limits[key].per_day or 0
        for key in sorted(limits)
        if limits[key].per_day is not None
    }


def counts_people(key: str) -> bool:
    """Say whether a daily cap counts different people, as a portfolio's does, or messages."""
    return key.startswith(_PORTFOLIO)


def told(connection: Connection, account: str) -> Told:
    """Return what a person set for an account and what its provider allows."""
    rows = {row.key: row for row in connection.execute(_TOLD, of_account(account))}
    own = rows.pop(account_key(account), None)
    of_domains, named = domains(account), _portfolios(account)
    in_portfolios = [
        Portfolio(key.removeprefix(named), row.quota_per_day)
        for key, row in rows.items()
        if key.startswith(named)
    ]
    return Told(
        by_person=Limit(own.rate, own.per_day) if own else Limit(),
        by_provider=Limit(own.quota_rate, own.quota_per_day) if own else Limit(),
        domains={
            key.removeprefix(of_domains): Limit(row.rate, row.per_day)
            for key, row in rows.items()
            if key.startswith(of_domains)
        },
        portfolio=next(iter(in_portfolios), None),
    )


def limited_accounts(connection: Connection) -> list[str]:
    """Return the accounts that have limits or quotas, in order."""
    keys = connection.execute(text("SELECT DISTINCT split_part(key, ':', 2) FROM limits ORDER BY 1"))
    return list(keys.scalars())
