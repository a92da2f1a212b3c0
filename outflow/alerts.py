"""Where people are told what happens."""

from typing import TYPE_CHECKING, Annotated

import typer

from messaging.reports import console
from outflow.running import AsJson, answer, pair, reach_prefect, run, setting

if TYPE_CHECKING:
    from schemas.alerts import AlertTargetShown

alerts_app = typer.Typer(
    help="Where people are told that a campaign is finished, paused or late, or an account cannot go on.",
    no_args_is_help=True,
)
_Name = Annotated[str, typer.Argument(help="Name of the target, as in ops.")]


@alerts_app.command("add")
def alerts_add(
    name: Annotated[str, typer.Argument(help="Name to give it, as in ops.")],
    values: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE…",
            help="Where they go: url=@env:VARIABLE or url=@file:PATH, an address as Apprise writes it, as in "
            "jsons://example.org/hook or mailtos://user:password@example.org?to=ops@example.org; or "
            "account=smtp-account/main to=ops@example.org. kinds=paused,late leaves the others out.",
        ),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Make a target of alerts, or replace the one of that name."""
    typed = dict(pair(value, "KEY=VALUE") for value in values)
    settings = {key: setting(key, value, {"url"}) for key, value in typed.items()}
    reach_prefect()
    from tasks.alerting import add_alert_target

    added = run(add_alert_target(name, settings))
    answer(
        added,
        lambda shown: console.show(f"{shown.sentence}; try it: outflow alerts test {name}"),
        as_json=as_json,
    )


@alerts_app.command("list")
def alerts_list(*, as_json: AsJson = False) -> None:
    """List the targets of alerts."""
    reach_prefect()
    from tasks.alerting import list_alert_targets

    targets: list[AlertTargetShown] = run(list_alert_targets())
    if as_json:
        console.show_json({"targets": [target.model_dump(mode="json") for target in targets]})
        return
    for target in targets:
        console.show(target.sentence)
    if not targets:
        console.show("alerts go to the log only: outflow alerts add NAME url=@env:VARIABLE")


@alerts_app.command("test")
def alerts_test(name: _Name, *, as_json: AsJson = False) -> None:
    """Send a target a message that says it is a test."""
    reach_prefect()
    from tasks.alerting import try_alert_target

    run(try_alert_target(name))
    console.show_json({"tested": name}) if as_json else console.show(f"{name} has taken the test")


@alerts_app.command("remove")
def alerts_remove(name: _Name, *, as_json: AsJson = False) -> None:
    """Delete a target of alerts."""
    reach_prefect()
    from tasks.alerting import remove_alert_target

    run(remove_alert_target(name))
    console.show_json({"removed": name}) if as_json else console.show(f"{name} is removed")
