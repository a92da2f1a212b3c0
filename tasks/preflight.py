"""Campaigns looked at before they are sent: nothing is, when anything refuses them."""

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from prefect import task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE

from blocks.account import SendingAccount
from messaging.audience.verifying_domains import HERE, Resolving
from messaging.campaign import preflight, preview_links
from messaging.campaign.finding import campaign_numbered
from messaging.campaign.preflight import Examined
from messaging.campaign.preflight_domain import judge_sender
from messaging.campaign.preflight_spam import judge_spam
from messaging.campaign.previewing import From
from messaging.campaign.rendering import mailbox
from messaging.errors import DatabaseError, MessagingError
from messaging.reports.preflight import preflight_markdown, without_addresses
from messaging.settings import settings
from messaging.storage import campaigns
from messaging.storage.campaigns import CampaignFile
from messaging.storage.engine import engine
from messaging.storage.link_keys import newest_key
from schemas.accounts import channel_of
from schemas.campaign import CampaignSpec
from schemas.preflight import Line, Verdict
from schemas.states import Channel
from tasks.accounts import load_account
from tasks.guarding import guarded, in_thread

_log = logging.getLogger("messaging.preflight")  # the tree that Prefect forwards to the run's page


@task(task_run_name="preflight-{campaign.name}", cache_policy=NO_CACHE)
async def preflight_campaign(campaign: CampaignSpec) -> None:
    """Look at a campaign whose templates are read, and keep what was found as an artifact.

    Raises:
        InputError: Something refuses it; of several things, all are named.
        AccountError: An account cannot be used as it is.
        NotSent: An account's server cannot be reached.
    """
    with guarded():
        checked = await in_thread(preflight.check, engine(), campaign)
        await _conclude(await examine(campaign, checked))


@task(task_run_name="preflight-campaign-{campaign_id}", cache_policy=NO_CACHE)
async def preflight_kept(campaign_id: int) -> None:
    """Look at a campaign that was kept until its time; of a planned one, only at its accounts.

    Raises:
        InputError: Something refuses it; of several things, all are named.
        AccountError: An account cannot be used as it is.
        NotSent: An account's server cannot be reached.
    """
    with guarded():
        kept = await in_thread(campaign_numbered, engine(), campaign_id)
        spec = kept.spec
        if kept.planned_at is not None:
            met = await asyncio.gather(*map(_meet, spec.accounts))
            verified = await asyncio.gather(*map(_verified, met))
            if errors := [each.error for each in verified if each.error is not None]:
                raise preflight.together(errors)
            return
        files = await in_thread(_files, campaign_id)
        checked = await in_thread(preflight.check, engine(), spec, files)
        await _conclude(await examine(spec, checked, files=files))


async def examine(
    spec: CampaignSpec,
    checked: Examined,
    *,
    files: Sequence[CampaignFile] | None = None,
    resolving: Resolving = HERE,
) -> Examined:
    """Add to what was checked the accounts, the domain, the messages and the time.

    Args:
        spec: The campaign, with its templates' contents.
        checked: What `preflight.check` has found.
        files: What it attaches; None: as its paths say.
        resolving: Whom to ask about domains.

    Raises:
        DatabaseError: The ledger went away.
    """
    met = await asyncio.gather(*map(_meet, spec.accounts))
    senders = [one.sender for one in met]
    domains = {one.domains: None for one in met if one.domains is not None}
    verified, (examined, spam), dns = await asyncio.gather(
        asyncio.gather(*map(_verified, met)),
        _examined(spec, checked, senders, files),
        asyncio.gather(*(judge_sender(*pair, resolving) for pair in domains)),
    )
    facts = {one.reference: one.facts for one in verified if one.error is None}
    lines = [
        Line(what="account", verdict=Verdict.OK, said=f"{account}: {said}") for account, said in facts.items()
    ]
    lines += [line for each in dns for line in each]
    errors = [one.error for one in verified if one.error is not None]
    return replace(examined.refused(errors, "account").with_lines([*lines, *spam]), accounts=facts)


@dataclass(frozen=True, slots=True)
class _Met:
    """An account, as far as it is known."""

    reference: str
    account: SendingAccount | None = None
    facts: str = ""
    error: MessagingError | None = None

    @property
    def sender(self) -> From:
        """Who writes; nobody yet, if there is no such account."""
        if self.account is None:
            return From(self.reference)
        return From(self.reference, self.account.sender_header, self.account.bounce_address)

    @property
    def domains(self) -> tuple[str, str] | None:
        """Where an email comes from and where bounces go; None: it is no account for emails, or not there."""
        if self.account is None or channel_of(self.reference) is not Channel.EMAIL:
            return None
        domain = _domain(self.account.sender_header)
        bounces = self.account.bounce_address
        return domain, _domain(bounces) if bounces else domain


def _domain(sender: str) -> str:
    return mailbox("the account's sender", sender)[1].rpartition("@")[2].lower()


async def _meet(reference: str) -> _Met:
    try:
        return _Met(reference, await load_account(reference))
    except DatabaseError:
        raise
    except MessagingError as error:
        return _Met(reference, error=error)


async def _verified(met: _Met) -> _Met:
    """Connect and log in; send nothing."""
    if met.account is None:
        return met
    try:
        facts = await met.account.verify()
    except DatabaseError:
        raise
    except MessagingError as error:
        return replace(met, error=error)
    return replace(met, facts=facts)


async def _examined(
    spec: CampaignSpec, checked: Examined, senders: Sequence[From], files: Sequence[CampaignFile] | None
) -> tuple[Examined, list[Line]]:
    """Return what the ledger and the messages show, and the score of one of them."""
    examined = await in_thread(preflight.examine, engine(), spec, checked, senders, files)
    every = (*examined.previews.people, *examined.previews.nobody)
    emails = (one for one in every if one.content and channel_of(one.account) is Channel.EMAIL)
    email = next(emails, None)
    return examined, [] if email is None else [await judge_spam(email.content)]


async def _conclude(examined: Examined) -> None:
    """Keep what was found, and raise what refuses the campaign."""
    link = await in_thread(_link, examined.campaign)
    await acreate_markdown_artifact(
        preflight_markdown(examined, link),
        key=f"campaign-preflight-{_slug(examined.campaign)}",
        description=f"What a preflight found of campaign {examined.campaign}.",
    )
    for line in examined.lines:
        if line.verdict is Verdict.WARN:
            _log.warning("%s: %s", line.what, without_addresses(line.said))
    if examined.error is not None:
        raise examined.error


def _link(campaign: str) -> str:
    with engine().begin() as connection:
        key = newest_key(connection)
    return preview_links.link(key, campaign, settings().public_url)


def _files(campaign_id: int) -> list[CampaignFile]:
    with engine().begin() as connection:
        return campaigns.attachments(connection, campaign_id)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
