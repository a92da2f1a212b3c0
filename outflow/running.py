"""What commands share: running to the end, reaching Prefect, reading values, answering."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from messaging.errors import InputError, NotSent
from messaging.reports import console

if TYPE_CHECKING:
    from pydantic import BaseModel

    from schemas.report import CampaignReport

T = TypeVar("T")
M = TypeVar("M", bound="BaseModel")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

_STOPPED = "stopped; what is missing is sent by: outflow retry {!r}"


def reach_prefect() -> None:
    """Choose the Prefect server before the first flow is imported."""
    from deployments.serving import choose_server
    from messaging.settings import settings

    choose_server(settings().home, console.say)


def run(work: Coroutine[Any, Any, T], stopped: str = "stopped") -> T:
    """Run to the end; on Ctrl-C, SIGTERM or a closed terminal messages in flight finish first."""

    async def stoppable() -> T:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup means: go on
                loop.add_signal_handler(number, task.cancel)
        return await task

    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError:
        console.say(f"outflow: {stopped}")
        sys.exit(130)


def finish(campaign: str, work: "Coroutine[Any, Any, CampaignReport]", *, as_json: bool) -> None:
    """Await a campaign's flow and print its figures."""
    try:
        report = run(work, _STOPPED.format(campaign))
    except NotSent as error:
        raise NotSent(f"{error}. Who is left stays queued; the same command again sends to them") from None
    if as_json:
        console.show_json(console.campaign_json(report))
    else:
        console.show_report(report)


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


def answer(result: M, show: "Callable[[M], None]", *, as_json: bool) -> None:
    """Print a result, for a person or as one JSON object."""
    console.show_json(result.model_dump(mode="json")) if as_json else show(result)
