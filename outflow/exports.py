"""What leaves the ledger as a file."""

from pathlib import Path
from typing import Annotated

import typer

from messaging.errors import InputError
from messaging.reports import console
from outflow.running import AsJson
from schemas.export import ExportKind


def export(
    what: Annotated[
        ExportKind, typer.Argument(metavar="WHAT", help="contacts, attempts, failed, bounces or events.")
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As in failed.csv or attempts.parquet.")],
    *,
    campaign: Annotated[str, typer.Option(help="Of this campaign only.")] = "",
    audience: Annotated[str, typer.Option(help="Of contacts: the members of this one only.")] = "",
    as_json: AsJson = False,
) -> None:
    """Write contacts, attempts, failed recipients, bounces or events to a CSV or Parquet file."""
    from messaging.campaign.finding import campaign_named
    from messaging.reports.exports import write_export
    from messaging.storage import audiences
    from messaging.storage.engine import engine

    of_contacts = what is ExportKind.CONTACTS
    if campaign if of_contacts else audience:
        right = "--audience" if of_contacts else "--campaign"
        raise InputError(f"{what} are chosen by {right}")
    chosen = None
    if campaign:
        chosen = campaign_named(engine(), campaign).id
    elif audience:
        with engine().begin() as connection:
            chosen = audiences.named(connection, audience)
    rows = write_export(engine(), what, file, chosen)
    if as_json:
        console.show_json({"file": str(file), "rows": rows})
    else:
        console.show(f"{rows:,} rows in {file}. It holds people: only you can read it; delete it when done")
