"""Campaigns: check, send, retry, control, and where they stand."""

import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from messaging.errors import InputError
from messaging.reports import console
from outflow.running import AsJson, answer, finish, reach_prefect, run, validated

if TYPE_CHECKING:
    from schemas.campaign import RetryRequest
    from schemas.report import Controlled

CampaignFile = Annotated[Path, typer.Argument(metavar="CAMPAIGN.yaml", help="The campaign's definition.")]
CampaignName = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's name.")]
Batches = Annotated[list[int] | None, typer.Option("--batch", help="Only this batch; may be repeated.")]

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

    met = {account: run(verify_account.fn(account)) for account in spec.accounts}
    if as_json:
        console.show_json({**preflight.model_dump(mode="json"), "accounts": met})
        return
    console.show_preflight(preflight)
    for account, facts in met.items():
        console.show(f"Account {account}: {facts}")


def send_test(  # noqa: PLR0913 - an argument per option
    campaign: CampaignFile,
    more: Annotated[list[str] | None, typer.Argument(metavar="ADDRESS…", hidden=True)] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS…",
            help="Whom the message goes to: e-mail addresses, or phone numbers as +447400000001.",
        ),
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="Which of the campaign's accounts; without it, the first.")
    ] = None,
    *,
    simulator: Annotated[
        bool, typer.Option("--simulator", help="Also to the addresses of Amazon SES's mailbox simulator.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send a campaign's message to named people now, as a test."""
    from messaging.campaign.definition import load_campaign
    from messaging.campaign.testing import Ending, prepare
    from messaging.storage.engine import engine

    spec = load_campaign(campaign)
    trial = prepare(engine(), spec, account, [*(to or []), *(more or [])], simulator=simulator)
    reach_prefect()
    from tasks.testing import send_tests

    tried = run(send_tests(trial))
    if as_json:
        messages = [asdict(one) for one in tried]
        console.show_json({"campaign": spec.name, "account": trial.account, "messages": messages})
    else:
        for one in tried:
            console.show(f"{one.to}: {one.ending}" + (f", {one.said}" if one.said else ""))
    if any(one.ending is not Ending.ACCEPTED for one in tried):
        sys.exit(1)


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
    batches: Batches = None,
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
    from schemas.campaign import RetryRequest

    chosen = [state.strip() for state in states.split(",")] if states else []
    if unfit := set(chosen) - {"rejected", "unknown"}:
        raise InputError(f"--state takes rejected and unknown, not {', '.join(sorted(unfit))}")
    request = validated(RetryRequest, {"campaign": campaign, "batches": batches or None, "states": chosen})
    _send_what_is_left(request, as_json=as_json)


def pause(
    campaign: CampaignName,
    because: Annotated[str, typer.Option(help="Why, to be shown with the campaign.")] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Let nothing more of a campaign be sent for now, wherever it is being sent."""
    from messaging.campaign import controlling
    from messaging.storage.engine import engine

    _answer(controlling.pause(engine(), campaign, because, controlling.person()), as_json=as_json)


def resume(campaign: CampaignName, *, as_json: AsJson = False) -> None:
    """Let a paused campaign run on, and send what is left of it."""
    from schemas.campaign import RetryRequest

    _send_what_is_left(RetryRequest(campaign=campaign), as_json=as_json)


def cancel(
    campaign: CampaignName,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop a campaign for good: who has not been written to yet will not be."""
    from messaging.campaign import controlling
    from messaging.campaign.finding import campaign_named
    from messaging.storage.engine import engine

    campaign_named(engine(), campaign)
    question = f"Cancel campaign {campaign!r}? It can not be sent any more, under this name"
    if not yes and sys.stdin.isatty() and not typer.confirm(question, err=True):
        raise InputError(f"campaign {campaign!r} was not cancelled")
    _answer(controlling.cancel(engine(), campaign, controlling.person()), as_json=as_json)


def pace(  # noqa: PLR0913 - an option each
    campaign: CampaignName,
    rate: Annotated[str | None, typer.Option(help="At most so many messages: 50/s, 3000/h.")] = None,
    delay: Annotated[str | None, typer.Option(help="The same wait between any two messages: 2s.")] = None,
    human: Annotated[str | None, typer.Option(help="A random wait between messages: 10-25s.")] = None,
    *,
    free: Annotated[bool, typer.Option("--free", help="As fast as the account takes them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give a campaign another pace, also while it is being sent."""
    from messaging.campaign import controlling
    from messaging.storage.engine import engine
    from schemas.pacing import Pacing

    named = {"rate": rate, "delay": delay, "human": human}
    chosen = {field: value for field, value in named.items() if value is not None}
    if len(chosen) + free != 1:
        raise typer.BadParameter("choose one of --rate, --delay, --human and --free")
    pacing = validated(Pacing, chosen)
    _answer(controlling.set_pace(engine(), campaign, pacing, controlling.person()), as_json=as_json)


class Resolution(StrEnum):
    """What a person may decide about recipients whose answer never came."""

    ACCEPTED = "accepted"
    RESEND = "resend"


def resolve(
    campaign: CampaignName,
    resolution: Annotated[
        Resolution,
        typer.Option("--as", help="accepted: they have the message; resend: send it to them again."),
    ],
    batches: Batches = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Decide about recipients who are unknown: they may or may not have the message."""
    from messaging.campaign import controlling
    from messaging.storage.engine import engine
    from schemas.campaign import RetryRequest

    if resolution is Resolution.RESEND:
        request = {"campaign": campaign, "batches": batches or None, "states": ["unknown"]}
        _send_what_is_left(validated(RetryRequest, request), as_json=as_json)
        return
    decided = controlling.accept_unknown(engine(), campaign, batches or None, controlling.person())
    _answer(decided, as_json=as_json)


def _send_what_is_left(request: "RetryRequest", *, as_json: bool) -> None:
    from messaging.campaign.retrying import check_retry
    from messaging.storage.engine import engine

    check_retry(engine(), request)
    reach_prefect()
    from flows.retry_campaign import retry_campaign
    from messaging.reports.watching import with_progress

    finish(request.campaign, with_progress(request.campaign, retry_campaign(request)), as_json=as_json)


def _answer(controlled: "Controlled", *, as_json: bool) -> None:
    answer(controlled, lambda controlled: console.show(controlled.said), as_json=as_json)


def status(
    campaign: Annotated[str | None, typer.Argument(metavar="CAMPAIGN", help="Only this campaign.")] = None,
    *,
    accounts: Annotated[
        bool, typer.Option("--accounts", help="How the accounts are, instead of campaigns.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show where campaigns stand, or how the accounts are."""
    if accounts:
        if campaign is not None:
            raise typer.BadParameter("choose a campaign or --accounts", param_hint="CAMPAIGN")
        _account_statuses(as_json=as_json)
        return
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


def _account_statuses(*, as_json: bool) -> None:
    reach_prefect()
    from messaging.reports.accounts import account_statuses, show_accounts
    from messaging.storage.engine import engine
    from tasks.accounts import list_accounts

    statuses = account_statuses(engine(), run(list_accounts()))
    if as_json:
        console.show_json({"accounts": [status.model_dump(mode="json") for status in statuses]})
    else:
        show_accounts(statuses)


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
                "decisions": [one.model_dump(mode="json") for one in report.decisions],
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
