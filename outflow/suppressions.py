"""Addresses that must not be used."""

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from messaging.errors import InputError
from messaging.reports import console
from outflow.running import AsJson, answer, reach_prefect, run
from schemas.states import Channel, SuppressionReason

if TYPE_CHECKING:
    from messaging.audience.suppressing import Chosen

suppress_app = typer.Typer(help="Addresses that must not be used.", no_args_is_help=True)

Addresses = Annotated[
    list[str],
    typer.Argument(metavar="ADDRESS…", help="E-mail addresses, or phone numbers such as +447400000001."),
]
OneChannel = Annotated[
    Channel | None, typer.Option(help="Only this one; else e-mail for addresses, whatsapp for numbers.")
]
ListChannel = Annotated[Channel | None, typer.Option("--channel", help="Only those of this channel.")]
ListReason = Annotated[SuppressionReason | None, typer.Option("--reason", help="Only those for this reason.")]
Since = Annotated[
    str | None, typer.Option(metavar="AGO|DATE", help="Only those added since then: 7d, 2026-10-01.")
]


@suppress_app.command("add")
def suppress_add(  # noqa: PLR0913, PLR0917 - an argument per option
    addresses: Annotated[
        list[str] | None,
        typer.Argument(metavar="ADDRESS…", help="E-mail addresses, or phone numbers such as +447400000001."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="A file with a column of addresses, as import reads: CSV, Excel, text."),
    ] = None,
    channel: OneChannel = None,
    reason: Annotated[SuppressionReason, typer.Option(help="Why.")] = SuppressionReason.MANUAL,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME|DATE", help="When it ends by itself: 90d, 2027-03-01.")
    ] = None,
    region: Annotated[
        str, typer.Option(help="Country of phone numbers without a country code, as in GB.")
    ] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Let nothing more be sent to addresses; those that cannot be read are named, and the exit code is 1."""
    from messaging.audience.suppressing import Basis, suppress_addresses, suppress_file, time_ahead
    from messaging.campaign.controlling import person
    from messaging.reports.suppressions import show_suppressed
    from messaging.reports.watching import with_import_progress
    from messaging.storage.engine import engine

    if bool(addresses) == bool(file):
        raise typer.BadParameter("name addresses or a file", param_hint="ADDRESS…|--file")
    expires_at = time_ahead(expires) if expires else None
    basis = Basis(reason, person(), expires_at, channel, region.upper())
    if file is None:
        done = suppress_addresses(engine(), addresses or [], basis)
    elif not file.is_file():
        raise InputError(f"there is no file {file}: check the path")
    else:
        reading = asyncio.to_thread(suppress_file, engine(), file, basis)
        done = run(with_import_progress(reading), "stopped; a file is taken whole or not at all")
    answer(done, show_suppressed, as_json=as_json)
    if done.refused:
        sys.exit(1)


@suppress_app.command("remove")
def suppress_remove(
    addresses: Addresses,
    channel: OneChannel = None,
    *,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Those who unsubscribed or complained have asked for messages again."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let addresses be written to again, and record who said so.

    Who unsubscribed or complained may only be written to again when they themselves have asked for it.
    """
    from messaging.audience.suppressing import WISHES, lift, standing
    from messaging.campaign.controlling import person
    from messaging.reports.suppressions import show_lifted
    from messaging.storage.engine import engine

    held = standing(engine(), addresses, channel)
    if wishes := {given: one for given, one in held.items() if one.reason in WISHES and not yes}:
        for given, one in wishes.items():
            console.say(f"{given} has {one.reason}")
        asked = (
            "an unsubscribe or a complaint may only be lifted when the person has asked for messages again"
        )
        if not sys.stdin.isatty():
            raise InputError(f"{asked}: say so with --yes. Nothing was changed")
        if not typer.confirm(f"{asked.capitalize()}. Has everyone named here?", err=True):
            raise InputError("nothing was changed")
    answer(lift(engine(), addresses, person(), channel), show_lifted, as_json=as_json)


@suppress_app.command("list")
def suppress_list(
    channel: ListChannel = None,
    reason: ListReason = None,
    since: Since = None,
    *,
    ended: Annotated[bool, typer.Option("--ended", help="Those that have ended too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List suppressed addresses, oldest first."""
    from messaging.audience.suppressing import suppressed
    from messaging.reports.suppressions import suppression_json, suppression_line
    from messaging.storage.engine import engine

    chosen = _chosen(channel, reason, since, ended=ended)
    if not as_json:
        found = 0
        for page in suppressed(engine(), chosen):
            found += len(page)
            sys.stdout.writelines(f"{suppression_line(one)}\n" for one in page)
        console.say(f"{found:,} suppressed")
        return
    between = '{"suppressions": ['
    for page in suppressed(engine(), chosen):  # as they come: a list may be long
        for one in page:
            sys.stdout.write(between + json.dumps(suppression_json(one), ensure_ascii=False))
            between = ", "
    sys.stdout.write("]}\n" if between == ", " else f"{between}]}}\n")


@suppress_app.command("export")
def suppress_export(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv|FILE.parquet", help="Where to; it is replaced.")],
    channel: ListChannel = None,
    reason: ListReason = None,
    since: Since = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Write suppressed addresses to a file, those that have ended too."""
    from messaging.audience.suppressing import export
    from messaging.storage.engine import engine

    rows = export(engine(), file, _chosen(channel, reason, since, ended=True))
    if as_json:
        console.show_json({"file": str(file), "rows": rows})
    else:
        console.show(f"{rows:,} suppressions are in {file}")


@suppress_app.command("sync")
def suppress_sync(
    account: Annotated[str, typer.Argument(help="As in ses-account/main.")], *, as_json: AsJson = False
) -> None:
    """Mirror Amazon SES's list of bounced and complained addresses and ours, both ways.

    Of ours one a second is put there, as Amazon allows; stopped, the same command does the rest.
    """
    reach_prefect()
    from tasks.suppressing import sync_suppressions

    synced = run(sync_suppressions.fn(account), "stopped; the same command does the rest")
    answer(synced, lambda shown: console.show(shown.sentence), as_json=as_json)


def _chosen(
    channel: Channel | None, reason: SuppressionReason | None, since: str | None, *, ended: bool
) -> "Chosen":
    from messaging.audience.suppressing import Chosen, time_ago

    return Chosen(channel, reason, time_ago(since) if since else None, ended)
