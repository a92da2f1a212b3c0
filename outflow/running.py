"""What commands share: running to the end, reaching Prefect, reading values, answering."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from messaging.errors import DatabaseError, InputError, NotSent
from messaging.reports import console

if TYPE_CHECKING:
    from pydantic import BaseModel

    from schemas.report import CampaignReport

T = TypeVar("T")
M = TypeVar("M", bound="BaseModel")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

# By SIGTERM, when neither: Prefect and what sends handle it themselves.
_REASONS = {signal.SIGINT: "its command was stopped by Ctrl-C", signal.SIGHUP: "its terminal was closed"}


class _Stopped(Exception):
    """A command was told to stop; says how."""


def reach_prefect() -> None:
    """Choose the Prefect server before the first flow is imported."""
    from deployments.serving import choose_server
    from messaging.settings import settings

    choose_server(settings(), console.say)


def run(work: Coroutine[Any, Any, T], stopped: str = "stopped") -> T:
    """Run to the end; on Ctrl-C, SIGTERM or a closed terminal messages in flight finish first."""
    try:
        return _run(work)
    except _Stopped:
        console.say(f"outflow: {stopped}")
        sys.exit(130)


def _run(work: Coroutine[Any, Any, T]) -> T:
    heard: list[signal.Signals] = []

    async def stoppable() -> T:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()

        def stop(number: signal.Signals) -> None:
            heard.append(number)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup means: go on
                loop.add_signal_handler(number, stop, number)
        return await task

    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError:
        number = heard[0] if heard else signal.SIGTERM
        raise _Stopped(_REASONS.get(number, "its command was told to stop")) from None


def finish(campaign: str, work: "Coroutine[Any, Any, CampaignReport]", *, as_json: bool) -> None:
    """Await a campaign's flow and print its figures; stopped meanwhile, the campaign is paused."""
    try:
        report = _run(work)
    except _Stopped as stopped:
        console.say(f"outflow: stopped; {_pause(campaign, str(stopped))}")
        sys.exit(130)
    except NotSent as error:
        raise NotSent(f"{error}. Who is left stays queued; the same command again sends to them") from None
    if as_json:
        console.show_json(console.campaign_json(report))
    else:
        console.show_report(report)


def _pause(campaign: str, because: str) -> str:
    """Pause what a person stopped, as `sweep` would have a worker go on with it; say so."""
    from messaging.campaign import controlling
    from messaging.campaign.finding import campaign_named
    from messaging.storage.engine import engine
    from messaging.storage.failing import database_errors
    from schemas.states import CampaignState

    try:
        with database_errors():
            if campaign_named(engine(), campaign).state is not CampaignState.RUNNING:
                return f"to see where it stands: outflow status {campaign!r}"
            return controlling.pause(engine(), campaign, because, controlling.person()).said
    except InputError:  # it was not planned yet, or has ended just now
        return "nothing of it is being sent"
    except DatabaseError as error:
        return (
            f"but {error}, so the campaign is not paused, and a worker may go on with it: outflow pause "
            f"{campaign!r}"
        )


def validated(model: type[M], values: dict[str, Any]) -> M:
    """Return a model of what was typed; what does not fit it is said in a sentence."""
    from pydantic import ValidationError

    from schemas.problems import first_problem

    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(first_problem(model, error)) from None


def pair(value: str, where: str) -> tuple[str, str]:
    """Split KEY=VALUE; `where` names the argument it stood in."""
    key, equals, rest = value.partition("=")
    if not equals or not key or not rest:
        raise typer.BadParameter(f"{value!r} is not KEY=VALUE", param_hint=where)
    return key, rest


def setting(key: str, value: str, secrets: Collection[str]) -> str:
    """Read one setting; secrets come from the environment or a file, never from the command line.

    Raises:
        InputError: It is a secret that was typed, or there is no such variable or file.
    """
    if value.startswith("@env:"):
        if (found := os.environ.get(value.removeprefix("@env:"))) is None:
            raise InputError(f"{key}: there is no environment variable {value.removeprefix('@env:')}")
        return found
    if value.startswith("@file:"):
        try:
            return Path(value.removeprefix("@file:")).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise InputError(f"{key}: {value.removeprefix('@file:')} cannot be read: {why}") from None
    if key in secrets:
        raise InputError(
            f"{key} is a secret, and on the command line others on this machine can read it: "
            f"write {key}=@env:VARIABLE or {key}=@file:PATH"
        )
    return value


def answer(result: M, show: "Callable[[M], None]", *, as_json: bool) -> None:
    """Print a result, for a person or as one JSON object."""
    console.show_json(result.model_dump(mode="json")) if as_json else show(result)
