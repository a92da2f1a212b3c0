"""Recurring campaigns: add, list, pause, resume and remove schedules."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from messaging.errors import InputError
from messaging.reports import console
from outflow.running import AsJson, answer

if TYPE_CHECKING:
    from schemas.schedule import ScheduleStatus

schedule_app = typer.Typer(help="Recurring campaigns: what is sent again and again.", no_args_is_help=True)

ScheduleName = Annotated[str, typer.Argument(metavar="SCHEDULE", help="The schedule's name.")]


@schedule_app.command()
def add(
    file: Annotated[
        Path, typer.Argument(metavar="SCHEDULE.yaml", help="A campaign's definition with a schedule.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Keep a recurring campaign; added again under its name, it is changed."""
    from messaging.campaign import recurring
    from messaging.campaign.definition import load_schedule
    from messaging.storage.engine import engine

    _answer(recurring.add(engine(), load_schedule(file)), as_json=as_json)
    say_who_starts()


@schedule_app.command("list")
def list_schedules(*, as_json: AsJson = False) -> None:
    """Show the schedules and their next times."""
    from messaging.campaign import recurring
    from messaging.storage.engine import engine

    found = recurring.everything(engine())
    if as_json:
        console.show_json({"schedules": [status.model_dump(mode="json") for status in found]})
        return
    if not found:
        console.show("there is no schedule yet: outflow schedule add SCHEDULE.yaml")
    for status in found:
        _show(status)


@schedule_app.command()
def pause(
    schedule: ScheduleName,
    because: Annotated[str, typer.Option(help="Why, to be shown with the schedule.")] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Make no further editions for now; those already made are sent."""
    from messaging.campaign import controlling, recurring
    from messaging.storage.engine import engine

    _answer(recurring.pause(engine(), schedule, because, controlling.person()), as_json=as_json)


@schedule_app.command()
def resume(schedule: ScheduleName, *, as_json: AsJson = False) -> None:
    """Go on, from the next time from now."""
    from messaging.campaign import recurring
    from messaging.storage.engine import engine

    _answer(recurring.resume(engine(), schedule), as_json=as_json)


@schedule_app.command()
def remove(
    schedule: ScheduleName,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")] = False,
    as_json: AsJson = False,
) -> None:
    """Forget a schedule; the editions already made stay."""
    from messaging.campaign import recurring
    from messaging.storage.engine import engine

    question = f"Remove schedule {schedule!r}? It makes no further editions then"
    if not yes and sys.stdin.isatty() and not typer.confirm(question, err=True):
        raise InputError(f"schedule {schedule!r} was not removed")
    _answer(recurring.remove(engine(), schedule), as_json=as_json)


def say_who_starts() -> None:
    """Say on stderr that something must run for what is kept to be started, when nothing seems to."""
    from deployments.serving import running_server
    from messaging.settings import settings

    if not running_server(settings().home) and not _has_server():
        console.say("what starts it is outflow up, which does not run on this machine now")


def _has_server() -> bool:
    """Say whether a Prefect server is configured, without importing Prefect."""
    import os

    return bool(os.environ.get("PREFECT_API_URL") or os.environ.get("PREFECT_PROFILE"))


def _answer(status: "ScheduleStatus", *, as_json: bool) -> None:
    answer(status, lambda status: console.show(status.said), as_json=as_json)


def _show(status: "ScheduleStatus") -> None:
    from schemas.times import zone_named

    reason = f" ({status.reason})" if status.reason else ""
    rule = f"{status.rule} ({status.time_zone}), " if status.rule else ""
    console.show(f"{status.schedule}: {rule}{status.state}{reason}")
    if status.next:
        zone = zone_named(status.time_zone)
        shown = ", ".join(f"{moment.astimezone(zone):%F %H:%M}" for moment in status.next)
        console.show(f"  next: {shown}")
    if status.editions:
        console.show(f"  editions so far: {status.editions:,}, the last {status.last_edition!r}")
