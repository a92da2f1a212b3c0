"""Campaigns planned, and planned again."""

from pathlib import Path

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE

from messaging.campaign import definition, planning, retrying
from messaging.campaign.controlling import person
from messaging.storage.engine import engine
from schemas.campaign import CampaignSpec, RetryRequest
from schemas.report import Plan
from tasks.guarding import in_thread


@task(task_run_name="resolve-templates-of-{campaign.name}", cache_policy=NO_CACHE)
async def resolve_templates(campaign: CampaignSpec) -> CampaignSpec:
    """Read the templates that the campaign names by path, from this worker's working directory."""
    return await in_thread(definition.resolve_templates, campaign, Path.cwd())


@task(task_run_name="plan-{campaign.name}", cache_policy=NO_CACHE)
async def plan_campaign(campaign: CampaignSpec) -> Plan:
    """Snapshot the audience into attempts and batches, once."""
    actor = _actor()
    return await in_thread(lambda: planning.plan_campaign(engine(), campaign, actor))


@task(task_run_name="find-plan-of-{name}", cache_policy=NO_CACHE)
async def find_plan(name: str) -> Plan:
    """Return the plan of a campaign that was planned before."""
    return await in_thread(lambda: planning.find_plan(engine(), name))


@task(task_run_name="requeue-{request.campaign}", cache_policy=NO_CACHE)
async def requeue(request: RetryRequest) -> int:
    """Put the chosen recipients of a campaign back into the queue and return how many."""
    actor = _actor()
    return await in_thread(lambda: retrying.requeue(engine(), request, actor))


def _actor() -> str:
    """Name who decided, for the ledger: a run may have been started by a person elsewhere, or a schedule."""
    return f"{person()}, flow run {runtime.flow_run.name}"
