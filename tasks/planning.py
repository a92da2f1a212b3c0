"""Campaigns planned, and planned again."""

from pathlib import Path
from typing import NamedTuple

from prefect import task
from prefect.cache_policies import NO_CACHE

from messaging.campaign import definition, planning, retrying, scheduling
from messaging.storage.engine import engine
from schemas.campaign import CampaignSpec, RetryRequest
from schemas.report import Plan
from tasks.acting import actor
from tasks.guarding import in_thread


@task(task_run_name="resolve-templates-of-{campaign.name}", cache_policy=NO_CACHE)
async def resolve_templates(campaign: CampaignSpec) -> CampaignSpec:
    """Read the templates that the campaign names by path, from this worker's working directory."""
    return await in_thread(definition.resolve_templates, campaign, Path.cwd())


@task(task_run_name="plan-{campaign.name}", cache_policy=NO_CACHE)
async def plan_campaign(campaign: CampaignSpec) -> Plan:
    """Snapshot the audience into attempts and batches, once."""
    who = actor()
    return await in_thread(lambda: planning.plan_campaign(engine(), campaign, who))


async def begins_later(campaign: CampaignSpec) -> bool:
    """Say whether a campaign is kept for now: until its time, or until it is approved."""
    return await in_thread(lambda: scheduling.begins_later(engine(), campaign))


@task(task_run_name="keep-{campaign.name}", cache_policy=NO_CACHE)
async def keep_campaign(campaign: CampaignSpec) -> int:
    """Keep a campaign until its time, and return its number."""
    who = actor()
    return await in_thread(lambda: scheduling.keep(engine(), campaign, who).id)


@task(task_run_name="plan-campaign-{campaign_id}", cache_policy=NO_CACHE)
async def start_plan(campaign_id: int) -> Plan:
    """Snapshot the audience of a campaign that was kept, once."""
    who = actor()
    return await in_thread(lambda: planning.start_campaign(engine(), campaign_id, who))


@task(task_run_name="find-plan-of-{name}", cache_policy=NO_CACHE)
async def find_plan(name: str) -> Plan:
    """Return the plan of a campaign that was planned before."""
    return await in_thread(lambda: planning.find_plan(engine(), name))


class Unsent(NamedTuple):
    """A campaign that was not planned yet."""

    campaign_id: int
    is_due: bool


async def resume_unsent(request: RetryRequest) -> Unsent | None:
    """Schedule a campaign again that was paused before it was planned; None: it is planned."""
    who = actor()
    found = await in_thread(lambda: retrying.resume_unsent(engine(), request, who))
    return Unsent(found.id, found.is_due) if found is not None else None


@task(task_run_name="requeue-{request.campaign}", cache_policy=NO_CACHE)
async def requeue(request: RetryRequest) -> int:
    """Put the chosen recipients of a campaign back into the queue and return how many."""
    who = actor()
    return await in_thread(lambda: retrying.requeue(engine(), request, who))
