"""Accounts that send."""

import os
from pathlib import Path
from typing import Annotated

import typer

from messaging.errors import InputError
from messaging.reports import console
from outflow.running import AsJson, pair, reach_prefect, run

account_app = typer.Typer(help="Accounts that send, kept as Prefect blocks.", no_args_is_help=True)


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
    reach_prefect()
    from tasks.accounts import add_account

    reference = run(add_account(kind, name, settings))
    console.show_json({"account": reference}) if as_json else console.show(f"{reference} is saved")


@account_app.command("list")
def account_list(*, as_json: AsJson = False) -> None:
    """List the accounts."""
    reach_prefect()
    from tasks.accounts import list_accounts

    references = run(list_accounts())
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
    reach_prefect()
    from tasks.accounts import verify_account

    met = run(verify_account.fn(account))
    console.show_json({"account": account, "met": met}) if as_json else console.show(met)


@account_app.command("remove")
def account_remove(
    account: Annotated[str, typer.Argument(help="As in smtp-account/main.")], *, as_json: AsJson = False
) -> None:
    """Delete an account."""
    reach_prefect()
    from tasks.accounts import remove_account

    run(remove_account(account))
    console.show_json({"removed": account}) if as_json else console.show(f"{account} is removed")


def _setting(value: str) -> tuple[str, str]:
    """Read one KEY=VALUE of an account; secrets come from the environment or a file, never from here."""
    key, rest = pair(value, "KEY=VALUE")
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
