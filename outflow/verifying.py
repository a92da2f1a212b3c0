"""Verify: what is known of addresses before they are written to."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from messaging.errors import InputError
from messaging.reports import console
from outflow.contacts import ColumnMap, Encoding, MappingFile, Region, SheetName, reading
from outflow.running import AsJson, reach_prefect, run, validated

if TYPE_CHECKING:
    from messaging.audience.verifying_audience import NumberCheck
    from messaging.audience.verifying_domains import Resolving
    from schemas.verifying import AudienceVerification

_STOPPED = "stopped; what DNS said so far is kept, and the same command does the rest"


def verify(  # noqa: PLR0913, PLR0917 - one argument per option
    subjects: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="AUDIENCE|FILE|ADDRESS…",
            help="Audiences, files as for import, or e-mail addresses. A file goes before an audience of its "
            "name.",
        ),
    ] = None,
    region: Region = None,
    columns: ColumnMap = None,
    mapping_file: MappingFile = None,
    encoding: Encoding = None,
    sheet: SheetName = None,
    audiences: Annotated[
        list[str] | None, typer.Option("--audience", help="An audience, whatever files there are.")
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv", metavar="FILE.csv", help="Where to write an audience's addresses that are not good."
        ),
    ] = None,
    whatsapp: Annotated[
        str | None,
        typer.Option(
            metavar="ACCOUNT",
            help="Judge an audience's phone numbers too: have WhatsApp asked over this account, as "
            "whatsapp-web-account/main, whether they are registered, 200 new ones at most.",
        ),
    ] = None,
    dns: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The DNS server to ask: 9.9.9.9, 127.0.0.1:5353.")
    ] = "",
    *,
    domains: Annotated[
        bool,
        typer.Option(
            "--domains", help="Of addresses given here, ask DNS too whether their domain takes mail."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Judge addresses before they are written to; nothing is sent.

    Of an audience: which addresses are good, risky, bad or unknown, by their syntax, DNS, and what came back
    before. Of a file: what an import would take and refuse. Of an address: its syntax.
    """
    from messaging.audience.sources import fetched
    from messaging.audience.verifying import verify_addresses, verify_file, with_domains
    from messaging.audience.verifying_domains import resolving_by
    from messaging.reports.imports import show_addresses, show_verification
    from messaging.reports.verifications import show_verified
    from schemas.contacts import ImportOptions

    resolving = resolving_by(dns)
    given, files, named = _sorted_out(subjects or [])
    named += audiences or []
    _refuse_wrong_use(given, files, named, {"--domains": domains, "--csv": csv, "--whatsapp": whatsapp})
    addresses = verify_addresses(given)
    if domains:
        addresses = run(with_domains(addresses, resolving))
    verified = []
    for file in files:
        read = reading(file, region, columns, mapping_file, encoding, sheet)
        options = validated(ImportOptions, {"audience": "-"} | read)
        with fetched(file) as path:
            verified.append(verify_file(path, options))
    judged = run(_verify_audiences(named, resolving, csv, whatsapp), _STOPPED) if named else []
    if as_json:
        console.show_json(
            {
                "addresses": [one.model_dump(mode="json") for one in addresses],
                "files": [one.model_dump(mode="json") for one in verified],
                "audiences": [one.model_dump(mode="json") for one in judged],
            }
        )
    else:
        show_addresses(addresses)
        for one in verified:
            show_verification(one)
        for found in judged:
            show_verified(found)
    if any(one.refused for one in verified) or any(one.is_bad for one in addresses):
        sys.exit(1)


def _refuse_wrong_use(
    addresses: list[str], files: list[str], audiences: list[str], options: dict[str, object]
) -> None:
    if not (addresses or files or audiences):
        raise typer.BadParameter("name an audience, a file or an address")
    fits = {"--domains": bool(addresses), "--csv": len(audiences) == 1, "--whatsapp": bool(audiences)}
    sentences = {
        "--domains": "it is for addresses: of an audience DNS is always asked, of a file never",
        "--csv": "it takes the addresses of one audience",
        "--whatsapp": "it is for the numbers of an audience",
    }
    for option, given in options.items():
        if given and not fits[option]:
            raise typer.BadParameter(sentences[option], param_hint=option)


def _sorted_out(subjects: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Tell addresses, files and audiences apart; the ledger is asked about what is neither of the others."""
    from messaging.audience.sources import find_files

    addresses, files, audiences = [], [], []
    for subject in subjects:
        if "@" in subject and not Path(subject).exists():
            addresses.append(subject)
            continue
        try:
            found = find_files([subject])
        except InputError as error:
            _find_audience(subject, str(error))
            audiences.append(subject)
            continue
        could_be_both = "/" not in subject and not Path(subject).suffix
        if could_be_both and _is_audience(subject):
            if Path(subject).is_dir():
                audiences.append(subject)
                continue
            console.say(f"{subject} is a file here and an audience; for the audience: --audience {subject}")
        files += found
    return addresses, list(dict.fromkeys(files)), audiences


def _is_audience(name: str) -> bool:
    from messaging.storage import audiences
    from messaging.storage.engine import engine

    with engine().begin() as connection:
        return audiences.find(connection, name) is not None


def _find_audience(name: str, otherwise: str) -> None:
    """Check that there is an audience of that name."""
    from messaging.storage import audiences
    from messaging.storage.engine import engine

    with engine().begin() as connection:
        try:
            audiences.named(connection, name)
        except InputError as error:
            raise InputError(f"{otherwise}; and {error}") from None


async def _verify_audiences(
    names: list[str], resolving: "Resolving", csv: Path | None, whatsapp: str | None
) -> "list[AudienceVerification]":
    from messaging.audience.verifying_audience import verify_audience
    from messaging.reports.verifications import with_steps
    from messaging.storage.engine import engine

    async with _number_check(whatsapp) as numbers:
        judging = [
            partial(verify_audience, engine(), name, resolving, csv=csv, numbers=numbers) for name in names
        ]
        return [await with_steps(judge) for judge in judging]


@asynccontextmanager
async def _number_check(account: str | None) -> AsyncIterator["NumberCheck | None"]:
    """Open the account that WhatsApp is asked over, if any."""
    if account is None:
        yield None
        return
    reach_prefect()
    from blocks.whatsapp_web_account import WhatsAppWebAccount
    from messaging.audience.verifying_audience import NumberCheck
    from messaging.audience.verifying_numbers import ask_whatsapp
    from tasks.accounts import load_account

    block = await load_account(account)
    if not isinstance(block, WhatsAppWebAccount):
        raise InputError(f"{account} cannot tell who is on WhatsApp: name a whatsapp-web-account")
    async with block.open() as pool:
        yield NumberCheck(partial(ask_whatsapp, pool), block.check_days)
