"""The front door: one command per thing a person does.

Commands import what they need when they run: `outflow status` must not pay for Prefect.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from deployments import environment
from messaging.errors import InputError, MessagingError, NotSent
from messaging.reports import console
from messaging.storage.failing import database_errors

if TYPE_CHECKING:
    from pydantic import BaseModel

    from schemas.audience import Changed
    from schemas.report import CampaignReport

T = TypeVar("T")
M = TypeVar("M", bound="BaseModel")

app = typer.Typer(
    help="Personalised bulk email campaigns: import contacts, check, send, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
account_app = typer.Typer(help="Accounts that send, kept as Prefect blocks.", no_args_is_help=True)
app.add_typer(account_app, name="account")
audience_app = typer.Typer(help="Audiences: lists of contacts, and filters over them.", no_args_is_help=True)
app.add_typer(audience_app, name="audience")

_MOST_NAMED = 100
_VERBOSE = {"--verbose", "-v"}
_STOPPED = "stopped; what is missing is sent by: outflow retry {!r}"

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE…",
        help="Contacts: CSV, Excel, ODS, Parquet, text; patterns such as '*.csv'; s3://bucket/file.",
    ),
]
Region = Annotated[
    str | None, typer.Option(help="Country of phone numbers without a country code, as in GB.")
]
ColumnMap = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="WHAT=COLUMN",
        help="Which column holds the email, phone, name, first_name, last_name, country, time_zone, language, "
        "consent or status; as often as needed.",
    ),
]
MappingFile = Annotated[
    Path | None,
    typer.Option("--map-file", help="A mapping kept by --save-map; FILE.columns.yaml is used anyway."),
]
Encoding = Annotated[str | None, typer.Option(help="Encoding of text files, when the detected one is wrong.")]
SheetName = Annotated[str | None, typer.Option("--sheet", help="Sheet of a workbook.")]
AudienceName = Annotated[str, typer.Argument(metavar="AUDIENCE", help="The audience's name.")]
AudienceNames = Annotated[list[str], typer.Argument(metavar="AUDIENCE…", help="Lists or filters.")]
NewList = Annotated[
    str, typer.Argument(metavar="NEW", help="The list they join; made when it does not exist.")
]
Addresses = Annotated[
    list[str],
    typer.Argument(metavar="ADDRESS…", help="E-mail addresses, or phone numbers such as +447400000001."),
]
CampaignFile = Annotated[Path, typer.Argument(metavar="CAMPAIGN.yaml", help="The campaign's definition.")]
CampaignName = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's name.")]


def main() -> None:
    """Run a command; print an error a person can act on instead of a traceback."""
    environment.apply()
    try:
        with database_errors():
            app()
    except MessagingError as error:
        _refuse(str(error))
    except Exception as error:
        if _VERBOSE & set(sys.argv):
            raise
        where = "outflow " + " ".join(["--verbose", *sys.argv[1:2], "…"])
        _refuse(f"unexpected {type(error).__name__}; to see where: {where}")


def _refuse(text: str) -> NoReturn:
    if "--json" in sys.argv:
        console.show_json({"error": text})
    console.err.print(f"outflow: {text}", style="red", markup=False)
    sys.exit(1)


@app.callback()
def _everywhere(
    *,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's log on stderr.")] = False,
) -> None:
    if not verbose:  # a failed run's traceback is kept in Prefect; here its sentence is enough
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")


@app.command()
def demo(
    recipients: Annotated[
        int | None, typer.Option(min=1, help="Generate this many contacts instead of the examples.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Run a whole campaign on this machine: sandbox SMTP server, embedded database, Prefect."""
    os.environ.pop("OUTFLOW_DATABASE_URL", None)  # its people do not belong in your own PostgreSQL
    _reach_prefect()
    from deployments.demo import run_demo
    from messaging.settings import settings

    started = time.monotonic()
    report = _run(run_demo(settings().home, recipients, console.say))
    if as_json:
        console.show_json(
            {
                **console.campaign_json(report.campaign),
                "imported": report.imported.imported,
                "refused": report.imported.refused,
                "messages_per_second": round(report.campaign.messages_per_second, 1),
                "received": report.received,
                "outbox": str(report.outbox),
            }
        )
        return
    console.show_report(report.campaign)
    console.show(
        f"The sandbox received {report.received:,} messages: {report.campaign.totals.accepted:,} accepted"
        f", and {report.received - report.campaign.totals.accepted:,} of the "
        f"{report.campaign.totals.unknown:,} unknown.\n"
        f"They lie in {report.outbox / 'new'}\n"
        f"Done in {time.monotonic() - started:.0f} s. To see the runs in the Prefect UI: {_self()} up"
    )


@app.command()
def init(*, as_json: AsJson = False) -> None:
    """Make what must exist: database schema, block types, work pool, deployments. Safe to repeat."""
    _reach_prefect()
    from deployments.bootstrap import bootstrap

    async def steps() -> list[str]:
        done = []
        async for step in bootstrap():
            console.say(step)
            done.append(step)
        return done

    done = _run(steps())
    if as_json:
        console.show_json({"done": done})


@app.command()
def up(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of Prefect's UI and API.")] = 4200,
) -> None:
    """Run the Prefect server and a worker in the foreground, until Ctrl-C."""
    from deployments import serving
    from messaging.settings import settings

    async def serve() -> None:
        console.say("starting the Prefect server (a first start takes some 15 seconds)")
        async with serving.server(settings().home, host, port) as api_url:
            os.environ["PREFECT_API_URL"] = api_url
            from deployments.bootstrap import WORK_POOL, bootstrap

            async for step in bootstrap():
                console.say(step)
            async with serving.worker(WORK_POOL) as worker:
                console.show(
                    f"Prefect UI  http://{host}:{port}\n"
                    f"Prefect API {api_url}  (outflow finds it by itself; for prefect: "
                    f"export PREFECT_API_URL={api_url})\n"
                    "A worker is running. Ctrl-C stops all."
                )
                await worker.wait()
                raise MessagingError("the worker stopped by itself: `outflow --verbose up` shows why")

    _run(serve())


@account_app.command("add")
def account_add(
    kind: Annotated[str, typer.Argument(help="Kind of account: smtp.")],
    name: Annotated[str, typer.Argument(help="Name to give it, as in main.")],
    values: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE…",
            help="Its settings, as in host=smtp.example.org sender=news@example.org "
            "username=news password=@env:SMTP_PASSWORD (or @file:PATH).",
        ),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Make an account, or replace the one of that name."""
    settings = dict(_setting(value) for value in values)
    _reach_prefect()
    from tasks.accounts import add_account

    reference = _run(add_account(kind, name, settings))
    console.show_json({"account": reference}) if as_json else console.show(f"{reference} is saved")


@account_app.command("list")
def account_list(*, as_json: AsJson = False) -> None:
    """List the accounts."""
    _reach_prefect()
    from tasks.accounts import list_accounts

    references = _run(list_accounts())
    if as_json:
        console.show_json({"accounts": references})
    else:
        console.show(
            "\n".join(references) or "there is no account yet: outflow account add smtp main host=… sender=…"
        )


@account_app.command("verify")
def account_verify(
    account: Annotated[str, typer.Argument(help="As in smtp-account/main.")], *, as_json: AsJson = False
) -> None:
    """Connect and log in with an account; send nothing."""
    _reach_prefect()
    from tasks.accounts import verify_account

    met = _run(verify_account.fn(account))
    console.show_json({"account": account, "met": met}) if as_json else console.show(met)


@account_app.command("remove")
def account_remove(
    account: Annotated[str, typer.Argument(help="As in smtp-account/main.")], *, as_json: AsJson = False
) -> None:
    """Delete an account."""
    _reach_prefect()
    from tasks.accounts import remove_account

    _run(remove_account(account))
    console.show_json({"removed": account}) if as_json else console.show(f"{account} is removed")


@audience_app.command("list")
def audience_list(*, as_json: AsJson = False) -> None:
    """List the audiences with their sizes."""
    from messaging.audience.lists import list_audiences
    from messaging.reports.audiences import show_audiences
    from messaging.storage.engine import engine

    lines = list_audiences(engine())
    if as_json:
        console.show_json({"audiences": [line.model_dump(mode="json") for line in lines]})
    elif lines:
        show_audiences(lines)
    else:
        console.show("there is no audience yet: outflow import FILE --audience NAME")


@audience_app.command("show")
def audience_show(audience: AudienceName, *, as_json: AsJson = False) -> None:
    """Show an audience's definition, its figures, its columns and its last imports."""
    from messaging.audience.lists import show_audience
    from messaging.reports.audiences import show_details
    from messaging.storage.engine import engine

    _answer(show_audience(engine(), audience), show_details, as_json=as_json)


@audience_app.command("count")
def audience_count(
    audience: AudienceName,
    where: Annotated[
        str,
        typer.Option(help='Only members for whom this holds: country = "DE" and plan in ("pro", "team").'),
    ] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Count an audience's members, to try a filter before it is used."""
    from messaging.audience.lists import count_members
    from messaging.reports.audiences import show_count
    from messaging.storage.engine import engine

    _answer(count_members(engine(), audience, where), show_count, as_json=as_json)


@audience_app.command("save")
def audience_save(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="The audience's definition.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Store an audience's definition: a filter, or a list's description and contract."""
    from messaging.audience.lists import load_audience, save_audience
    from messaging.reports.audiences import show_saved
    from messaging.storage.engine import engine

    spec = load_audience(file)
    _answer(save_audience(engine(), spec), show_saved, as_json=as_json)


@audience_app.command("add")
def audience_add(audience: AudienceName, addresses: Addresses, *, as_json: AsJson = False) -> None:
    """Put known contacts into a list; addresses of nobody are named, and the exit code is then 1."""
    from messaging.audience.lists import add_to_list
    from messaging.storage.engine import engine

    _answer_change(add_to_list(engine(), audience, addresses), "joined", as_json=as_json)


@audience_app.command("remove")
def audience_remove(audience: AudienceName, addresses: Addresses, *, as_json: AsJson = False) -> None:
    """Take contacts out of a list; they stay in the ledger."""
    from messaging.audience.lists import remove_from_list
    from messaging.storage.engine import engine

    _answer_change(remove_from_list(engine(), audience, addresses), "left", as_json=as_json)


@audience_app.command("union")
def audience_union(new: NewList, audiences: AudienceNames, *, as_json: AsJson = False) -> None:
    """Put everybody who is now in any of these audiences into a list."""
    from messaging.audience.lists import unite
    from messaging.storage.engine import engine

    _answer_change(unite(engine(), _list_name(new), audiences), "joined", as_json=as_json)


@audience_app.command("difference")
def audience_difference(
    new: NewList, audience: AudienceName, others: AudienceNames, *, as_json: AsJson = False
) -> None:
    """Put everybody who is now in the first audience and in none of the others into a list."""
    from messaging.audience.lists import subtract
    from messaging.storage.engine import engine

    _answer_change(subtract(engine(), _list_name(new), audience, others), "joined", as_json=as_json)


@audience_app.command("delete")
def audience_delete(audience: AudienceName, *, as_json: AsJson = False) -> None:
    """Delete an audience and the record of its imports; its contacts stay in the ledger."""
    from messaging.audience.lists import delete_audience
    from messaging.storage.engine import engine

    delete_audience(engine(), audience)
    if as_json:
        console.show_json({"deleted": audience})
    else:
        console.show(f"{audience!r} is deleted; its contacts stay in the ledger")


def _list_name(name: str) -> str:
    from schemas.audience import AudienceSpec

    return _validated(AudienceSpec, {"name": name}).name


def _answer(result: M, show: "Callable[[M], None]", *, as_json: bool) -> None:
    console.show_json(result.model_dump(mode="json")) if as_json else show(result)


def _answer_change(changed: "Changed", verb: str, *, as_json: bool) -> None:
    from messaging.reports.audiences import show_changed

    _answer(changed, lambda changed: show_changed(changed, verb), as_json=as_json)
    if changed.unknown:
        sys.exit(1)


@app.command("import")
def import_command(  # noqa: PLR0913 - one argument per option
    files: Files,
    audience: Annotated[str, typer.Option(help="Audience they join; made when it does not exist.")],
    region: Region = None,
    columns: ColumnMap = None,
    mapping_file: MappingFile = None,
    encoding: Encoding = None,
    sheet: SheetName = None,
    consent: Annotated[
        str | None,
        typer.Option(help="Why these people may be written to; kept with each contact that has none yet."),
    ] = None,
    on_duplicate: Annotated[
        str,
        typer.Option(
            metavar="fill|update|keep|refuse",
            help="fill: what is known stays, what is missing is added. update: the later row wins. "
            "keep: known contacts stay as they are. refuse: the row is refused.",
        ),
    ] = "fill",
    accept_breach: Annotated[
        str | None,
        typer.Option(
            "--accept-contract-breach", metavar="WHY", help="Load a file that breaks the audience's contract."
        ),
    ] = None,
    *,
    require_consent: Annotated[
        bool, typer.Option("--require-consent", help="Refuse rows whose consent column does not say yes.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Import anew what was imported before.")] = False,
    save_map: Annotated[
        bool, typer.Option("--save-map", help="Keep the mapping beside each file; later imports use it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take every good row of files into an audience; keep every bad one with its reason."""
    from messaging.audience.sources import find_files
    from schemas.contacts import ImportRequest

    asked = {
        "audience": audience,
        "consent": consent,
        "on_duplicate": on_duplicate,
        "accept_breach": accept_breach,
        "require_consent": require_consent,
        "again": again,
    }
    requests = [  # before Prefect is started, which takes seconds
        _validated(
            ImportRequest,
            asked | {"files": [file]} | _reading(file, region, columns, mapping_file, encoding, sheet),
        )
        for file in find_files(files)
    ]
    _reach_prefect()
    from deployments.importing import import_each
    from messaging.audience.mapping_file import mapping_beside, save_mapping
    from messaging.reports.watching import with_import_progress

    imported = _run(with_import_progress(import_each(requests)), "stopped; nothing was written of the file")
    if as_json:
        console.show_json(console.imports_json([one.report for one in imported if one.report]))
    for one in imported:
        if one.report and not as_json:
            console.show_import(one.report, one.notes)
        if one.report and save_map:
            beside = mapping_beside(Path(one.file))
            save_mapping(beside, one.report.mapping)
            console.say(f"the mapping is kept in {beside}")
        if one.error:
            console.show_error(one.error)
    if any(one.error for one in imported):
        sys.exit(1)


@app.command()
def verify(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE|ADDRESS…", help="Files as for import, or e-mail addresses.")
    ],
    region: Region = None,
    columns: ColumnMap = None,
    mapping_file: MappingFile = None,
    encoding: Encoding = None,
    sheet: SheetName = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Say what an import would take and refuse, and why; nothing is written. No server is asked."""
    from messaging.audience.sources import find_files
    from messaging.audience.verifying import verify_addresses, verify_file
    from schemas.contacts import ImportOptions

    given = [file for file in files if "@" in file and not Path(file).exists()]
    addresses = verify_addresses(given) if given else []
    verified = []
    for file in find_files([file for file in files if file not in given]):
        read = _reading(file, region, columns, mapping_file, encoding, sheet)
        verified.append(verify_file(Path(file), _validated(ImportOptions, {"audience": "-"} | read)))
    if as_json:
        console.show_json(
            {
                "addresses": [one.model_dump(mode="json") for one in addresses],
                "files": [one.model_dump(mode="json") for one in verified],
            }
        )
    else:
        console.show_addresses(addresses)
        for one in verified:
            console.show_verification(one)
    if any(one.refused for one in verified) or any(one.reason for one in addresses):
        sys.exit(1)


@app.command()
def parse(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Text; without it, stdin.")] = None,
    region: Region = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Find the names, addresses and numbers in pasted text, as CSV that `outflow import` takes."""
    from messaging.audience.parsing import parse_people, people_csv

    if file is None and sys.stdin.isatty():
        console.say("paste the text, then Ctrl-D")
    try:
        text = sys.stdin.read() if file is None else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the text cannot be read ({type(error).__name__}): it must be UTF-8") from None
    people = parse_people(text, region.upper() if region else None)
    if as_json:
        console.show_json({"people": [person.model_dump(mode="json") for person in people]})
    else:
        print(people_csv(people), end="")  # noqa: T201 - data for a file, not prose for a person
        console.say(f"{len(people):,} found")


@app.command()
def check(campaign: CampaignFile, *, as_json: AsJson = False) -> None:
    """Say what sending would do, to how many, and what is wrong; send nothing."""
    from messaging.campaign.definition import load_campaign
    from messaging.campaign.planning import check_campaign
    from messaging.storage.engine import engine

    spec = load_campaign(campaign)
    preflight = check_campaign(engine(), spec)
    _reach_prefect()
    from tasks.accounts import verify_account

    met = _run(verify_account.fn(spec.account))
    if as_json:
        console.show_json({**preflight.model_dump(mode="json"), "met": met})
        return
    console.show_preflight(preflight)
    console.show(f"Account {spec.account}: {met}")


@app.command()
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
    _reach_prefect()
    from flows.launch_campaign import launch_campaign
    from messaging.reports.watching import with_progress

    _finish(spec.name, with_progress(spec.name, launch_campaign(spec)), as_json=as_json)


@app.command()
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
    request = _validated(RetryRequest, {"campaign": campaign, "batches": batches or None, "states": chosen})
    found = campaign_named(engine(), campaign)
    if found.state is CampaignState.FINISHED and not chosen:
        raise InputError(
            f"nothing of campaign {campaign!r} is missing, so nothing was sent; to send again to those who "
            "were rejected: --state rejected"
        )
    _reach_prefect()
    from flows.retry_campaign import retry_campaign
    from messaging.reports.watching import with_progress

    _finish(campaign, with_progress(campaign, retry_campaign(request)), as_json=as_json)


@app.command()
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


@app.command("report")
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


@app.command()
def doctor(*, as_json: AsJson = False) -> None:
    """Say what is wrong with this installation, and what to do about it."""
    _reach_prefect()
    from deployments.diagnosing import Finding, Severity, diagnose

    async def look() -> list[Finding]:
        findings = []
        async for finding in diagnose():
            if not as_json:
                console.show(f"{finding.severity:4} {finding.what}: {finding.text}")
            findings.append(finding)
        return findings

    findings = _run(look())
    if as_json:
        console.show_json({"findings": [finding.model_dump(mode="json") for finding in findings]})
    if any(finding.severity is Severity.FAIL for finding in findings):
        sys.exit(1)


def _reach_prefect() -> None:
    """Choose the Prefect server before the first flow is imported."""
    from deployments.serving import choose_server
    from messaging.settings import settings

    choose_server(settings().home, console.say)


def _run(work: Coroutine[Any, Any, T], stopped: str = "stopped") -> T:
    """Run to the end; on Ctrl-C, SIGTERM or a closed terminal messages in flight finish first."""

    async def stoppable() -> T:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup means: go on
                loop.add_signal_handler(number, task.cancel)
        return await task

    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError:
        console.say(f"outflow: {stopped}")
        sys.exit(130)


def _validated(model: type[M], values: dict[str, Any]) -> M:
    from pydantic import ValidationError

    from schemas.problems import first_problem

    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(first_problem(model, error)) from None


def _pair(value: str, where: str) -> tuple[str, str]:
    key, equals, rest = value.partition("=")
    if not equals or not key or not rest:
        raise typer.BadParameter(f"{value!r} is not KEY=VALUE", param_hint=where)
    return key, rest


def _reading(  # noqa: PLR0913, PLR0917 - the options that two commands share
    file: str,
    region: str | None,
    columns: list[str] | None,
    mapping_file: Path | None,
    encoding: str | None,
    sheet: str | None,
) -> dict[str, Any]:
    """Return how a file is to be read, with the mapping that lies beside it or was named."""
    from messaging.audience.mapping_file import load_mapping, mapping_beside

    mapping: dict[str, list[str]] = {}
    beside = mapping_beside(Path(file))
    if mapping_file is not None or beside.is_file():
        mapping = load_mapping(mapping_file or beside)
        console.say(f"columns are read as {mapping_file or beside} says")
    given: dict[str, list[str]] = {}
    for value in columns or []:
        role, column = _pair(value, "--map")
        given.setdefault(role, []).append(column)
    return {
        "region": region.upper() if region else "",
        "columns": mapping | given,
        "encoding": encoding,
        "sheet": sheet,
    }


def _setting(value: str) -> tuple[str, str]:
    """Read one KEY=VALUE of an account; secrets come from the environment or a file, never from here."""
    key, rest = _pair(value, "KEY=VALUE")
    if rest.startswith("@env:"):
        if (found := os.environ.get(rest.removeprefix("@env:"))) is None:
            raise InputError(f"{key}: there is no environment variable {rest.removeprefix('@env:')}")
        return key, found
    if rest.startswith("@file:"):
        try:
            return key, Path(rest.removeprefix("@file:")).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InputError(
                f"{key}: {rest.removeprefix('@file:')} cannot be read: {error.strerror}"
            ) from None
    if key == "password":
        raise InputError(
            "a password on the command line can be read by others on this machine: "
            "write password=@env:VARIABLE or password=@file:PATH"
        )
    return key, rest


def _finish(campaign: str, work: "Coroutine[Any, Any, CampaignReport]", *, as_json: bool) -> None:
    """Await a campaign's flow and print its figures."""
    try:
        report = _run(work, _STOPPED.format(campaign))
    except NotSent as error:
        raise NotSent(f"{error}. Who is left stays queued; the same command again sends to them") from None
    if as_json:
        console.show_json(console.campaign_json(report))
    else:
        console.show_report(report)


def _self() -> str:
    return sys.argv[0] if Path(sys.argv[0]).parent.name == "bin" else "outflow"


if __name__ == "__main__":
    main()
