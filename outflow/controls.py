"""Campaigns controlled: paused, resumed, cancelled, at another pace, retried, resolved."""

import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from messaging.errors import InputError
from messaging.reports import console
from outflow.running import AsJson, answer, finish, reach_prefect, validated

if TYPE_CHECKING:
    from schemas.report import Controlled

CampaignName = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's name.")]
Batches = Annotated[list[int] | None, typer.Option("--batch", help="Only this batch; may be repeated.")]
Because = Annotated[str, typer.Option(help="Why, to be shown with the campaign.")]


def retry(  # noqa: PLR0913 - an option each
    campaign: CampaignName,
    batches: Batches = None,
    states: Annotated[
        str | None,
        typer.Option(
            "--state", help="Also send again to recipients who are: rejected, unknown (comma-separated)."
        ),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(
            help="At most so many of those that --state chooses, those planned first; whoever is still "
            "queued is sent to in any case. 0: all."
        ),
    ] = 0,
    because: Because = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Send what a crash, a pause or an absent server left undone; only that."""
    chosen = [state.strip() for state in states.split(",")] if states else []
    if unfit := set(chosen) - {"rejected", "unknown"}:
        raise InputError(f"--state takes rejected and unknown, not {', '.join(sorted(unfit))}")
    _send_what_is_left(
        {"campaign": campaign, "batches": batches, "states": chosen, "limit": limit, "because": because},
        as_json=as_json,
    )


def pause(campaign: CampaignName, because: Because = "", *, as_json: AsJson = False) -> None:
    """Let nothing more of a campaign be sent for now, wherever it is being sent."""
    from messaging.campaign import controlling
    from messaging.storage.engine import engine

    _answer(controlling.pause(engine(), campaign, because, controlling.person()), as_json=as_json)


def resume(campaign: CampaignName, because: Because = "", *, as_json: AsJson = False) -> None:
    """Let a paused campaign run on, and send what is left of it."""
    _send_what_is_left({"campaign": campaign, "because": because}, as_json=as_json)


def cancel(
    campaign: CampaignName,
    because: Because = "",
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop a campaign for good: who has not been written to yet will not be."""
    from messaging.campaign import controlling
    from messaging.campaign.finding import campaign_named
    from messaging.storage.engine import engine

    campaign_named(engine(), campaign)
    question = f"Cancel campaign {campaign!r}? It can not be sent any more, under this name"
    if not yes and sys.stdin.isatty() and not typer.confirm(question, err=True):
        raise InputError(f"campaign {campaign!r} was not cancelled")
    _answer(controlling.cancel(engine(), campaign, controlling.person(), because), as_json=as_json)


def pace(  # noqa: PLR0913 - an option each
    campaign: CampaignName,
    rate: Annotated[str | None, typer.Option(help="At most so many messages: 50/s, 3000/h.")] = None,
    delay: Annotated[str | None, typer.Option(help="The same wait between any two messages: 2s.")] = None,
    human: Annotated[str | None, typer.Option(help="A random wait between messages: 10-25s.")] = None,
    because: Because = "",
    *,
    free: Annotated[bool, typer.Option("--free", help="As fast as the account takes them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give a campaign another pace, also while it is being sent."""
    from messaging.campaign import controlling
    from messaging.storage.engine import engine
    from schemas.pacing import Pacing

    named = {"rate": rate, "delay": delay, "human": human}
    chosen = {field: value for field, value in named.items() if value is not None}
    if len(chosen) + free != 1:
        raise typer.BadParameter("choose one of --rate, --delay, --human and --free")
    pacing = validated(Pacing, chosen)
    _answer(controlling.set_pace(engine(), campaign, pacing, controlling.person(), because), as_json=as_json)


class Resolution(StrEnum):
    """What a person may decide about recipients whose answer never came."""

    ACCEPTED = "accepted"
    RESEND = "resend"


def resolve(
    campaign: CampaignName,
    resolution: Annotated[
        Resolution,
        typer.Option("--as", help="accepted: they have the message; resend: send it to them again."),
    ],
    batches: Batches = None,
    because: Because = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Decide about recipients who are unknown: they may or may not have the message."""
    from messaging.campaign import controlling
    from messaging.storage.engine import engine

    if resolution is Resolution.RESEND:
        again = {"campaign": campaign, "batches": batches, "states": ["unknown"], "because": because}
        _send_what_is_left(again, as_json=as_json)
        return
    decided = controlling.accept_unknown(engine(), campaign, batches or None, controlling.person(), because)
    _answer(decided, as_json=as_json)


def _send_what_is_left(values: Mapping[str, object], *, as_json: bool) -> None:
    from messaging.campaign.retrying import check_retry
    from messaging.storage.engine import engine
    from schemas.campaign import RetryRequest

    request = validated(RetryRequest, dict(values))
    check_retry(engine(), request)
    reach_prefect()
    from flows.retry_campaign import retry_campaign
    from messaging.reports.watching import with_progress

    finish(request.campaign, with_progress(request.campaign, retry_campaign(request)), as_json=as_json)


def _answer(controlled: "Controlled", *, as_json: bool) -> None:
    answer(controlled, lambda controlled: console.show(controlled.said), as_json=as_json)
