"""Accounts that send."""

from typing import Annotated

import typer

from messaging.reports import console
from outflow.account_runs import limit_runs, number_of_runs, runs_at_once
from outflow.running import AsJson, answer, pair, reach_prefect, run, setting
from schemas.accounts import KINDS, SECRETS
from schemas.limits import AccountLimits

account_app = typer.Typer(help="Accounts that send, kept as Prefect blocks.", no_args_is_help=True)


@account_app.command("add")
def account_add(
    kind: Annotated[str, typer.Argument(help=f"Kind of account: {', '.join(KINDS)}.")],
    name: Annotated[str, typer.Argument(help="Name to give it, as in main.")],
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE…",
            help="Its settings, as in host=smtp.example.org sender=news@example.org username=news. "
            "Secrets are read from a variable or a file: password=@env:SMTP_PASSWORD, token=@file:PATH.",
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Make an account, or replace the one of that name."""
    typed = dict(pair(value, "KEY=VALUE") for value in values or [])
    settings = {key: setting(key, value, SECRETS) for key, value in typed.items()}
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
    from messaging.campaign.limiting import all_limits
    from messaging.storage.engine import engine

    known = {limits.account: limits for limits in all_limits(engine())}
    for reference in references:
        if (runs := runs_at_once(reference)) is not None:
            before = known.get(reference) or AccountLimits(account=reference)
            known[reference] = before.model_copy(update={"runs": runs})
    limited = {
        account: limits for account, limits in known.items() if limits.set_by_person or account in references
    }
    if as_json:
        shown = {"limits": [limits.model_dump() for limits in limited.values()]} if limited else {}
        console.show_json({"accounts": references} | shown)
        return
    for reference in references:
        limits = limited.pop(reference, None)
        console.show(f"{reference}  ({limits.sentence})" if limits else reference)
    for limits in limited.values():
        console.show(f"{limits.account} does not exist, but has limits: {limits.sentence}")
    if not references:
        console.show("there is no account yet: outflow account add smtp main host=… sender=…")


@account_app.command("limit")
def account_limit(  # noqa: PLR0913 - one option per limit
    account: Annotated[str, typer.Argument(help="As in smtp-account/main.")],
    *,
    rate: Annotated[
        str | None, typer.Option(metavar="RATE", help="Messages at most, as in 200/s; none lifts it.")
    ] = None,
    per_day: Annotated[
        str | None, typer.Option(metavar="N", help="Messages at most in any 24 hours; none lifts it.")
    ] = None,
    domain: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DOMAIN=RATE",
            help="Messages at most to one provider, as in gmail.com=20/s, which counts googlemail.com too.",
        ),
    ] = None,
    runs: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="Flow runs at most that use it at once, the others wait; none lifts it."
        ),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Lift all limits that are not named here.")] = False,
    as_json: AsJson = False,
) -> None:
    """Limit an account, for all its campaigns together; those that run see it within seconds.

    Without an option the limits are shown.
    """
    from messaging.campaign.limiting import Change, change_limits
    from messaging.storage.engine import engine

    domains = dict(pair(value, "--domain") for value in domain or [])
    most = number_of_runs(runs) if runs is not None else None
    limits = change_limits(engine(), account, Change(rate, per_day, domains, clear))
    if runs is not None:
        limit_runs(account, most)
    elif clear and runs_at_once(account) is not None:
        limit_runs(account, None)
    shown = most if runs is not None else runs_at_once(account)
    limits = limits.model_copy(update={"runs": shown})
    answer(limits, lambda shown: console.show(f"{shown.account}: {shown.sentence}"), as_json=as_json)


@account_app.command("verify")
def account_verify(
    account: Annotated[str, typer.Argument(help="As in smtp-account/main.")], *, as_json: AsJson = False
) -> None:
    """Connect and log in with an account, say what was met, send nothing."""
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
    from messaging.campaign.limiting import forget_account
    from messaging.storage.engine import engine

    forget_account(engine(), account)
    limit_runs(account, None)
    console.show_json({"removed": account}) if as_json else console.show(f"{account} is removed")
