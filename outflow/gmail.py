"""Signing in at Google for an account that sends over the Gmail API."""

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from messaging.reports import console
from outflow.running import AsJson, reach_prefect, run


def login(  # noqa: PLR0913 - one parameter per option
    name: Annotated[str, typer.Argument(help="The account's name, as in news for gmail-account/news.")],
    *,
    client_secrets: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File of an OAuth client of type Desktop app, or the key of a service account; "
            "remembered in the account.",
        ),
    ] = None,
    sender: Annotated[
        str, typer.Option(help="Who the reader sees, for a new account: 'Shop <news@example.org>'.")
    ] = "",
    subject: Annotated[
        str, typer.Option(metavar="MAILBOX", help="The mailbox, when it is not the sender's address.")
    ] = "",
    no_browser: Annotated[
        bool,
        typer.Option(
            "--no-browser",
            help="The browser is on another machine: copy the address that it ends at into this terminal.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Sign in at Google and keep the login in the account, which is made when there is none."""
    reach_prefect()
    from tasks.gmail_login import Login, Terminal, log_in

    terminal = Terminal(_show_page, _ask_address) if no_browser else Terminal(_open_page)
    account, who = run(log_in(Login(name, client_secrets, sender, subject), terminal))
    if as_json:
        console.show_json({"account": account, "signed_in_as": who})
    else:
        console.show(f"{account} is signed in at Google" + (f" as {who}" if who else ""))
        console.show(f"try it: outflow account verify {account}")


def _show_page(url: str) -> None:
    console.say("Open this page in a browser, sign in, and allow what it asks for:")
    console.say(url)


def _open_page(url: str) -> None:
    _show_page(url)
    if not webbrowser.open(url):
        console.say("No browser opens on this machine: when yours is on another one, use --no-browser.")


def _ask_address() -> str:
    console.say("The browser ends at a page that it cannot show. Copy that page's address, all of it.")
    # Unseen, as it holds a code, though one that is of use only here and once.
    return str(typer.prompt("Address", hide_input=sys.stdin.isatty(), err=True))


gmail_app = typer.Typer(help="Gmail accounts.", no_args_is_help=True)
gmail_app.command("login")(login)
