"""Addresses that must not be used."""

from typing import Annotated

import typer

from messaging.reports import console
from outflow.running import AsJson, answer, reach_prefect, run

suppress_app = typer.Typer(help="Addresses that must not be used.", no_args_is_help=True)


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
