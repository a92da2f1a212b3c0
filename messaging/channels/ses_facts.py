"""What Amazon SES says of an account, and what that account lacks."""

import asyncio
from dataclasses import dataclass
from typing import Any

from messaging.channels.base import Quota
from messaging.channels.ses_client import SesClient
from messaging.channels.ses_replies import NO_CONFIGURATION_SET, SUSPENDED
from messaging.channels.ses_settings import SesSettings
from messaging.errors import AccountError


@dataclass(frozen=True, slots=True)
class SesFacts:
    """What SES says of an account, and what it lacks."""

    region: str
    key: str
    """The end of the access key id."""
    identity: str
    """What of the sender is verified: a domain, or "the address"."""
    production: bool
    rate: float
    """Messages per second."""
    per_day: int | None
    used: int
    """Messages in the last 24 hours."""
    configuration_set: str | None
    missing: tuple[str, ...]
    """What can be done without, in words."""

    @property
    def sentence(self) -> str:
        """All of it on one line."""
        per_day = "any number" if self.per_day is None else f"{self.per_day:,}"
        parts = [
            f"{self.identity} is verified",
            "production access" if self.production else "in the sandbox",
            f"{self.rate:g} a second, {per_day} in 24 hours, {self.used:,} of them used",
            *([f"configuration set {self.configuration_set}"] if self.configuration_set else []),
        ]
        missing = f"; missing: {'; '.join(self.missing)}" if self.missing else ""
        return f"Amazon SES in {self.region}, key …{self.key}: {', '.join(parts)}{missing}"


async def verify(settings: SesSettings) -> SesFacts:
    """Ask SES what a campaign would need of the account, and send nothing.

    Raises:
        NotSent: SES cannot be reached.
        AccountError: The account cannot send; the text says what to do.
    """
    return await asyncio.to_thread(_verify, settings)


def _verify(settings: SesSettings) -> SesFacts:
    client = SesClient(settings)
    try:
        account = account_in_order(client, settings.region)
        identity = _verified_identity(client, settings)
        missing = _missing_of_configuration_set(client, settings)
    finally:
        client.close()
    quota = quota_of(account)
    if production := account.get("ProductionAccessEnabled", False):
        sandbox = []
    else:
        sandbox = ["production access, hence only verified addresses and the mailbox simulator are sent to"]
    if account.get("EnforcementStatus") == "PROBATION":
        sandbox.append("a good standing: Amazon has the account under review, see the SES console")
    return SesFacts(
        region=settings.region,
        key=client.key,
        identity=identity,
        production=production,
        rate=quota.rate or 0.0,
        per_day=quota.per_day,
        used=int(account.get("SendQuota", {}).get("SentLast24Hours", 0)),
        configuration_set=settings.configuration_set,
        missing=(*sandbox, *missing),
    )


def account_in_order(client: SesClient, region: str) -> dict[str, Any]:
    """Return what GetAccount says, when the account may send.

    Raises:
        NotSent: SES gave no answer.
        AccountError: Sending is paused or stopped, or the key may not ask.
    """
    account = client.ask("get_account") or {}
    if account.get("EnforcementStatus") == "SHUTDOWN":
        raise AccountError(f"Amazon SES: {SUSPENDED.format(region=region)}")
    if not account.get("SendingEnabled", True):
        raise AccountError(
            f"Amazon SES: sending is paused for this account in {region}: resume it in the SES console, "
            "under Account dashboard"
        )
    return account


def quota_of(account: dict[str, Any]) -> Quota:
    """Read GetAccount's SendQuota; -1 stands for any number."""
    said = account.get("SendQuota", {})
    rate, per_day = said.get("MaxSendRate"), said.get("Max24HourSend")
    return Quota(
        rate=None if rate is None or rate < 0 else float(rate),
        per_day=None if per_day is None or per_day < 0 else int(per_day),
    )


def _verified_identity(client: SesClient, settings: SesSettings) -> str:
    """Return what of the sender is verified: the address itself, its domain, or a domain above that."""
    address = settings.sender.lower()
    domain = address.rpartition("@")[2]
    labels = domain.split(".")
    names = [address, *(".".join(labels[place:]) for place in range(len(labels) - 1))]
    pending = ""
    for name in names:
        identity = client.ask("get_email_identity", EmailIdentity=name)
        if identity is not None and identity.get("VerifiedForSendingStatus"):
            return "the sender's address" if "@" in name else name
        if identity is not None:
            pending = "the sender's address" if "@" in name else name
    if pending:
        raise AccountError(
            f"Amazon SES: {pending} is not verified yet in {settings.region}: see Identities in the SES "
            "console for the records or the mail that it waits for"
        )
    raise AccountError(
        f"Amazon SES: neither the sender's address nor {domain} is an identity in {settings.region}: make "
        "one there, under Identities in the SES console, or correct the account's region"
    )


def _missing_of_configuration_set(client: SesClient, settings: SesSettings) -> list[str]:
    name = settings.configuration_set
    if name is None:
        return ["a configuration set, hence nothing is heard of bounces, complaints and deliveries by events"]
    found = client.ask("get_configuration_set", ConfigurationSetName=name)
    if found is None:
        where = {"configuration_set": name, "region": settings.region}
        raise AccountError(f"Amazon SES: {NO_CONFIGURATION_SET.format(**where)}")
    if not found.get("SendingOptions", {}).get("SendingEnabled", True):
        raise AccountError(
            f"Amazon SES: sending is paused for configuration set {name}: resume it in the console"
        )
    said = client.ask("get_configuration_set_event_destinations", ConfigurationSetName=name) or {}
    if not any(destination.get("Enabled") for destination in said.get("EventDestinations", [])):
        return [
            f"an event destination of configuration set {name}, hence nothing is heard of bounces by events"
        ]
    return []
