"""Setting an account's limits: campaigns that run see them within seconds."""

import re
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy import Connection, Engine

from messaging.campaign.provider_groups import provider_group
from messaging.errors import InputError
from messaging.storage import limits, senders
from messaging.storage.limits import Limit, account_key, domain_key
from schemas.limits import AccountLimits, AllowedByProvider, rate_text
from schemas.pacing import rate_of

NONE: Final = "none"  # what a person writes to lift one limit
_ACCOUNT = re.compile(r"[a-z0-9-]+/[a-z0-9-]+")
_DOMAIN = re.compile(r"[^\s@./:=]+(\.[^\s@./:=]+)+")


@dataclass(frozen=True, slots=True)
class Change:
    """What a person wants changed, as typed; what is not named stays."""

    rate: str | None = None
    per_day: str | None = None
    domains: dict[str, str] = field(default_factory=dict)
    clear: bool = False


def change_limits(engine: Engine, account: str, change: Change) -> AccountLimits:
    """Change an account's limits and return all of them.

    Raises:
        InputError: Something typed is no account, rate, number or domain; nothing was changed.
    """
    if not _ACCOUNT.fullmatch(account):
        raise InputError(f"{account!r} is no account: write its type and name, as in smtp-account/main")
    rate, per_day = _rate("rate", change.rate), _number(change.per_day)
    domains = {_group(domain): _rate(domain, value) for domain, value in change.domains.items()}
    with engine.begin() as connection:
        if change.clear:
            limits.clear_limits(connection, account)
        own = limits.told(connection, account).by_person
        if change.rate is not None:
            own = replace(own, rate=rate)
        if change.per_day is not None:
            own = replace(own, per_day=per_day)
        limits.set_limit(connection, account_key(account), own)
        for group, limit in domains.items():
            limits.set_limit(connection, domain_key(account, group), Limit(rate=limit))
        return limits_of_account(connection, account)


def all_limits(engine: Engine) -> list[AccountLimits]:
    """Return the limits of each account that has any, or whose provider named one."""
    with engine.begin() as connection:
        return [limits_of_account(connection, account) for account in limits.limited_accounts(connection)]


def forget_account(engine: Engine, account: str) -> None:
    """Remove all limits of an account that is no more, what its provider allowed, and its last state."""
    with engine.begin() as connection:
        limits.forget(connection, account)
        senders.forget(connection, account)


def limits_of_account(connection: Connection, account: str) -> AccountLimits:
    """Return an account's limits, and what its provider allows."""
    told = limits.told(connection, account)
    return AccountLimits(
        account=account,
        rate=_rate_text(told.by_person.rate),
        per_day=told.by_person.per_day,
        domains={
            group: rate_text(limit.rate) for group, limit in told.domains.items() if limit.rate is not None
        },
        provider=AllowedByProvider(
            rate=_rate_text(told.by_provider.rate),
            per_day=told.by_provider.per_day,
            portfolio=told.portfolio.name if told.portfolio else None,
            portfolio_per_day=told.portfolio.per_day if told.portfolio else None,
        ),
    )


def _rate_text(rate: float | None) -> str | None:
    return None if rate is None else rate_text(rate)


def _rate(what: str, value: str | None) -> float | None:
    if value is None or value == NONE:
        return None
    try:
        return rate_of(value)
    except ValueError as error:
        raise InputError(f"{what}: {error}, or {NONE}") from None


def _number(value: str | None) -> int | None:
    if value is None or value == NONE:
        return None
    if not value.isascii() or not value.isdigit() or not 0 < int(value) <= limits.MOST_PER_DAY:
        raise InputError(
            f"per-day: {value!r} is not a number of messages: write one such as 50000, or {NONE}"
        )
    return int(value)


def _group(domain: str) -> str:
    if not _DOMAIN.fullmatch(domain):
        raise InputError(f"{domain!r} is not a domain: write DOMAIN=RATE, as in gmail.com=20/s")
    return provider_group(domain)
