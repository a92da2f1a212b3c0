"""Campaigns: check, send, and where they stand."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from messaging.errors import InputError
from messaging.reports import console
from outflow.running import AsJson, answer, finish, reach_prefect, run, validated
from schemas.preflight import worst_first

if TYPE_CHECKING:
    from messaging.campaign.preflight import Examined
    from schemas.campaign import CampaignSpec
    from schemas.report import CampaignReport

CampaignFile = Annotated[Path, typer.Argument(metavar="CAMPAIGN.yaml", help="The campaign's definition.")]
CampaignName = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's name.")]

_MOST_NAMED = 100


def check(
    campaign: CampaignFile,
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html", help="Also write messages of some recipients to this page, to look at."
        ),
    ] = None,
    dns: Annotated[
        str, typer.Option(metavar="SERVER", help="The DNS server to ask, as in 9.9.9.9; else this machine's.")
    ] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Say what sending would do, to how many, until when, and what is wrong; send nothing."""
    from messaging.audience.verifying_domains import resolving_by
    from messaging.campaign import preflight
    from messaging.campaign.definition import load_campaign
    from messaging.storage.engine import engine

    resolving = resolving_by(dns)
    spec = load_campaign(campaign)
    examined = preflight.check(engine(), spec)
    if examined.error is None:
        reach_prefect()
        from tasks.preflight import examine

        examined = run(examine(spec, examined, resolving=resolving))
    if preview is not None:
        _write_preview(examined, preview)
    _show_preflight(examined, as_json=as_json)


def _write_preview(examined: "Examined", path: Path) -> None:
    from messaging.private_file import open_private
    from messaging.reports.preview_page import preview_page

    try:
        with open_private(path) as file:
            file.write(preview_page(examined.campaign, examined.previews.people, examined.lines))
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    console.say(f"{path} holds messages of real people: open it in a browser, and delete it then")


def _show_preflight(examined: "Examined", *, as_json: bool) -> None:
    from messaging.reports.preflight import show_lines

    if as_json:
        found = examined.found.model_dump(mode="json") if examined.found is not None else {}
        console.show_json(
            {
                "campaign": examined.campaign,
                **found,
                "accounts": examined.accounts,
                "lines": [line.model_dump(mode="json") for line in worst_first(examined.lines)],
                **({"error": str(examined.error)} if examined.error is not None else {}),
            }
        )
    else:
        show_lines(examined.lines)
    if examined.error is not None:
        console.show_error(examined.error)
        sys.exit(1)


def send_test(  # noqa: PLR0913 - an argument per option
    campaign: CampaignFile,
    more: Annotated[list[str] | None, typer.Argument(metavar="ADDRESS…", hidden=True)] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS…",
            help="Whom the message goes to: e-mail addresses, or phone numbers as +447400000001. Without it, "
            "those of the campaign's test_to.",
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
    named = [*(to or []), *(more or [])]
    addresses = named if named or simulator else spec.test_to
    trial = prepare(engine(), spec, account, addresses, simulator=simulator)
    reach_prefect()
    from tasks.testing import send_tests

    tried = run(send_tests(trial))
    if as_json:
        messages = [asdict(one) for one in tried]
        tracking = trial.tracking and trial.tracking.model_dump(mode="json")
        console.show_json(
            {"campaign": spec.name, "account": trial.account, "messages": messages, "tracking": tracking}
        )
    else:
        if trial.tracking is not None:
            console.show_tracking(trial.tracking)
        for one in tried:
            console.show(f"{one.to}: {one.ending}" + (f", {one.said}" if one.said else ""))
    if any(one.ending is not Ending.ACCEPTED for one in tried):
        sys.exit(1)


def send(
    campaign: CampaignFile,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="When to start, as local time of the campaign's time_zone: 2027-03-20T09:00; or now.",
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Plan a campaign and send it, or keep it until its time; sent before, only what is missing."""
    from messaging.campaign import scheduling
    from messaging.campaign.definition import load_campaign
    from messaging.campaign.planning import check_campaign
    from messaging.storage.engine import engine
    from schemas.campaign import CampaignSpec
    from schemas.states import CampaignState

    spec = load_campaign(campaign)
    if at is not None:
        if not at.strip():  # of a script whose variable is empty: it must not send now
            raise typer.BadParameter("name a time, or now", param_hint="--at")
        send_at = "" if at.strip() == "now" else at
        spec = validated(CampaignSpec, {**spec.model_dump(), "send_at": send_at})
    is_kept = scheduling.begins_later(engine(), spec)
    preflight = check_campaign(engine(), spec)
    if preflight.state is CampaignState.FINISHED:
        raise InputError(
            f"campaign {spec.name!r} was sent already, so nothing was sent now; its figures: outflow report "
            f"{spec.name!r}. To write to these people again, give the campaign a new name."
        )
    reach_prefect()
    from flows.launch_campaign import launch_campaign
    from messaging.reports.watching import with_progress

    console.say_warnings("messaging.preflight")

    if is_kept:
        _show_kept(spec, run(launch_campaign(spec)), as_json=as_json)
    else:
        finish(spec.name, with_progress(spec.name, launch_campaign(spec)), as_json=as_json)


def _show_kept(spec: "CampaignSpec", report: "CampaignReport", *, as_json: bool) -> None:
    from messaging.campaign import scheduling
    from outflow.schedules import say_who_starts

    said = [f"campaign {spec.name!r} is kept as number {report.campaign_id}", *scheduling.in_words(spec)]
    if spec.approval:
        said.append(f"nothing is sent before it is approved: outflow approve {spec.name!r}")
    if as_json:
        due_at = scheduling.due_at(spec)
        due = {"due_at": due_at.isoformat() if due_at else None, "said": "; ".join(said)}
        console.show_json({**console.campaign_json(report), **due})
    else:
        console.show("; ".join(said))
    say_who_starts()


def status(
    campaign: Annotated[str | None, typer.Argument(metavar="CAMPAIGN", help="Only this campaign.")] = None,
    *,
    history: Annotated[
        bool, typer.Option("--history", help="Every change of the campaign: when, by whom, and why.")
    ] = False,
    accounts: Annotated[
        bool, typer.Option("--accounts", help="How the accounts are, instead of campaigns.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show where campaigns stand, what became of one, or how the accounts are."""
    if history:
        if campaign is None or accounts:
            raise typer.BadParameter("--history is of one campaign: name it", param_hint="CAMPAIGN")
        _history(campaign, as_json=as_json)
        return
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


def _history(campaign: str, *, as_json: bool) -> None:
    from messaging.campaign.finding import campaign_named
    from messaging.reports.histories import campaign_history, show_history
    from messaging.storage.engine import engine

    answer(campaign_history(engine(), campaign_named(engine(), campaign).id), show_history, as_json=as_json)


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
