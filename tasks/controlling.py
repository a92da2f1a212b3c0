"""Campaigns and accounts controlled while they are at work."""

import logging

from prefect import task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE

from messaging.campaign import controlling, limiting
from messaging.errors import InputError
from messaging.reports.markdown import table_cell
from messaging.storage.engine import engine
from schemas.controlling import CancelRequest, LimitRequest, PaceRequest, PauseRequest, ResolveRequest
from schemas.limits import AccountLimits
from schemas.report import Controlled
from tasks.accounts import load
from tasks.acting import actor
from tasks.guarding import guarded, in_thread

_log = logging.getLogger("messaging.control")  # the tree that Prefect forwards to the run's page


@task(task_run_name="pause-{request.campaign}", cache_policy=NO_CACHE)
async def pause(request: PauseRequest) -> Controlled:
    """Let nothing more of a campaign be sent for now."""
    who = actor()
    return await _told(
        await in_thread(lambda: controlling.pause(engine(), request.campaign, request.because, who)), who
    )


@task(task_run_name="cancel-{request.campaign}", cache_policy=NO_CACHE)
async def cancel(request: CancelRequest) -> Controlled:
    """Stop a campaign for good.

    Raises:
        InputError: It was not said that this is meant.
    """
    if not request.for_good:
        raise InputError(
            f"campaign {request.campaign!r} was not cancelled: switch on for_good to say that it is meant"
        )
    who = actor()
    return await _told(
        await in_thread(lambda: controlling.cancel(engine(), request.campaign, who, request.because)), who
    )


@task(task_run_name="pace-{request.campaign}", cache_policy=NO_CACHE)
async def set_pace(request: PaceRequest) -> Controlled:
    """Give a campaign another pace."""
    who = actor()
    return await _told(
        await in_thread(
            lambda: controlling.set_pace(engine(), request.campaign, request.pacing, who, request.because)
        ),
        who,
    )


@task(task_run_name="accept-unknown-of-{request.campaign}", cache_policy=NO_CACHE)
async def accept_unknown(request: ResolveRequest) -> Controlled:
    """Call unknown recipients of a campaign accepted."""
    who, batches = actor(), request.batches or None
    return await _told(
        await in_thread(
            lambda: controlling.accept_unknown(engine(), request.campaign, batches, who, request.because)
        ),
        who,
    )


@task(task_run_name="limit-{request.account}", cache_policy=NO_CACHE)
async def change_limits(request: LimitRequest) -> AccountLimits:
    """Change an account's limits; campaigns that run see it within seconds."""
    change = limiting.Change(
        request.rate or None, request.per_day or None, request.by_domain, clear=request.clear
    )
    with guarded():
        await load(request.account)  # there is no such account: said here rather than limited for nobody
    limits = await in_thread(lambda: limiting.change_limits(engine(), request.account, change))
    said = f"the limits of {limits.account}: {limits.sentence}"
    _log.info("%s", said)
    await acreate_markdown_artifact(f"{said}\n", key="limits", description="The account's limits now.")
    return limits


async def _told(controlled: Controlled, who: str) -> Controlled:
    """Say on the run's page what was done."""
    _log.info("%s", controlled.said)
    lines = [
        f"# Campaign {controlled.campaign}: {controlled.state}",
        "",
        f"{table_cell(controlled.said)}.",
        "",
        f"By {table_cell(who)}. All changes: `outflow status {controlled.campaign!r} --history`.",
    ]
    await acreate_markdown_artifact(
        "\n".join(lines) + "\n",
        key=f"campaign-{controlled.number}-control",
        description=f"What was done to campaign {controlled.campaign}.",
    )
    return controlled
