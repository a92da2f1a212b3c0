"""Limits that a person set, for an account and for provider groups; and the keys of all limits."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text


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


@dataclass(frozen=True, slots=True)
class Limit:
    """What a person set for a key."""

    rate: float | None = None
    """Messages per second."""
    per_day: int | None = None


_SET = text("""
    INSERT INTO limits (key, rate, per_day) VALUES (:key, :rate, :per_day)
    ON CONFLICT (key) DO UPDATE SET rate = excluded.rate, per_day = excluded.per_day
""")
OF_ACCOUNT: Final = "(key = :account_key OR starts_with(key, :domains))"


def of_account(account: str) -> dict[str, str]:
    """Return the parameters of `OF_ACCOUNT`."""
    return {"account_key": account_key(account), "domains": domains(account)}


def set_limit(connection: Connection, key: str, limit: Limit) -> None:
    """Set the limit of a key; one that limits nothing is removed."""
    if limit == Limit():
        connection.execute(text("DELETE FROM limits WHERE key = :key"), {"key": key})
    else:
        connection.execute(_SET, {"key": key, "rate": limit.rate, "per_day": limit.per_day})


def clear_limits(connection: Connection, account: str) -> None:
    """Remove all limits that a person set for an account."""
    connection.execute(text(f"DELETE FROM limits WHERE {OF_ACCOUNT}"), of_account(account))  # noqa: S608 - a constant


def limits_of(connection: Connection, account: str) -> tuple[Limit, dict[str, Limit]]:
    """Return an account's own limit and those of provider groups."""
    rows = connection.execute(
        text(f"SELECT key, rate, per_day FROM limits WHERE {OF_ACCOUNT} ORDER BY key"),  # noqa: S608 - a constant
        of_account(account),
    )
    found = {row.key: Limit(row.rate, row.per_day) for row in rows}
    own = found.pop(account_key(account), Limit())
    return own, {key.removeprefix(domains(account)): limit for key, limit in found.items()}


def limited_accounts(connection: Connection) -> list[str]:
    """Return the accounts that have limits, in order."""
    keys = connection.execute(text("SELECT DISTINCT split_part(key, ':', 2) FROM limits ORDER BY 1"))
    return list(keys.scalars())
