"""Campaigns: check, send, retry, and where they stand."""

from pathlib import Path
from typing import Annotated

import typer

from messaging.errors import InputError
from messaging.reports import console
from outflow.running import AsJson, finish, reach_prefect, run, validated

CampaignFile = Annotated[Path, typer.Argument(metavar="CAMPAIGN.yaml", help="The campaign's definition.")]
CampaignName = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's name.")]

_MOST_NAMED = 100


def check(campaign: CampaignFile, *, as_json: AsJson = False) -> None:
    """Say what sending would do, to how many, and what is wrong; send nothing."""
    from messaging.campaign.definition import load_campaign
    from messaging.campaign.planning import check_campaign
    from messaging.storage.engine import engine

    spec = load_campaign(campaign)
    preflight = check_campaign(engine(), spec)
    reach_prefect()
    from tasks.accounts import verify_account

    met = run(verify_account.fn(spec.account))
    if as_json:
        console.show_json({**preflight.model_dump(mode="json"), "met": met})
        return
    console.show_preflight(preflight)
    console.show(f"Account {spec.account}: {met}")


def send(campaign: CampaignFile, *, as_json: AsJson = False) -> None:
    """Plan a campaign and send it; sent before, only what is missing."""
    from messaging.campaign.definition import load_campaign
    from messaging.campaign.planning import check_campaign
    from messaging.storage.engine import engine
    from schemas.states import CampaignState

    spec = load_campaign(campaign)
    preflight = check_campaign(engine(), spec)
    if preflight.state is CampaignState.FINISHED:
        raise InputError(
            f"campaign {spec.name!r} was sent already, so nothing was sent now; its figures: outflow report "
            f"{spec.name!r}. To write to these people again, give the campaign a new name."
        )
    reach_prefect()
    from flows.launch_campaign import launch_campaign
    from messaging.reports.watching import with_progress

    finish(spec.name, with_progress(spec.name, launch_campaign(spec)), as_json=as_json)


def retry(
    campaign: CampaignName,
    batches: Annotated[
        list[int] | None, typer.Option("--batch", help="Only this batch; may be repeated.")
    ] = None,
    states: Annotated[
        str | None,
        typer.Option(
            "--state", help="Also send again to recipients who are: rejected, unknown (comma-separated)."
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Send what a crash, a pause or an absent server left undone; only that."""
    from messaging.campaign.finding import campaign_named
    from messaging.storage.engine import engine
    from schemas.campaign import RetryRequest
    from schemas.states import CampaignState

    chosen = [state.strip() for state in states.split(",")] if states else []
    if unfit := set(chosen) - {"rejected", "unknown"}:
        raise InputError(f"--state takes rejected and unknown, not {', '.join(sorted(unfit))}")
    request = validated(RetryRequest, {"campaign": campaign, "batches": batches or None, "states": chosen})
    found = campaign_named(engine(), campaign)
    if found.state is CampaignState.FINISHED and not chosen:
        raise InputError(
            f"nothing of campaign {campaign!r} is missing, so nothing was sent; to send again to those who "
            "were rejected: --state rejected"
        )
    reach_prefect()
    from flows.retry_campaign import retry_campaign
    from messaging.reports.watching import with_progress

    finish(campaign, with_progress(campaign, retry_campaign(request)), as_json=as_json)


def status(
    campaign: Annotated[str | None, typer.Argument(metavar="CAMPAIGN", help="Only this campaign.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show where campaigns stand."""
    from messaging.campaign.finding import campaign_named
    from messaging.reports.numbers import all_reports, campaign_report
    from messaging.storage.engine import engine

    if campaign is not None:
        report = campaign_report(engine(), campaign_named(engine(), campaign).id)
        console.show_json(console.campaign_json(report)) if as_json else console.show_status([report])
        return
    reports = all_reports(engine())
    if as_json:
        console.show_json({"campaigns": [console.campaign_json(report) for report in reports]})
    elif reports:
        console.show_status(reports)
    else:
        console.show("there is no campaign yet: outflow send CAMPAIGN.yaml")


def report_command(campaign: CampaignName, *, as_json: AsJson = False) -> None:
    """Print a campaign's report, and name the recipients whose answer never came."""
    from messaging.campaign.finding import campaign_named
    from messaging.reports.numbers import campaign_report, unknown_recipients
    from messaging.storage.engine import engine

    campaign_id = campaign_named(engine(), campaign).id
    report = campaign_report(engine(), campaign_id)
    unknown = unknown_recipients(engine(), campaign_id)
    if as_json:
        console.show_json(
            {
                **console.campaign_json(report),
                "reasons": report.reasons,
                "excluded": report.excluded,
                "unknown_recipients": unknown,
            }
        )
        return
    console.show_report(report)
    if unknown:
        more = (
            f", and {len(unknown) - _MOST_NAMED:,} more (--json names all)"
            if len(unknown) > _MOST_NAMED
            else ""
        )
        console.show(f"Unknown, never sent again by themselves: {', '.join(unknown[:_MOST_NAMED])}{more}")
