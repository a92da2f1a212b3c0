"""A person's answer to a campaign that waits for approval."""

from typing import TYPE_CHECKING, Annotated

import typer

from messaging.reports import console
from outflow.running import AsJson, answer

if TYPE_CHECKING:
    from schemas.report import Controlled

_CampaignName = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's name.")]


def approve(
    campaign: _CampaignName,
    comment: Annotated[str, typer.Option(help="Kept with the decision.")] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Let a campaign that waits for approval be sent at its time, or now when that is over."""
    from messaging.campaign import approving
    from messaging.campaign.controlling import person
    from messaging.campaign.finding import campaign_named
    from messaging.storage.engine import engine

    number = campaign_named(engine(), campaign).id
    _show(approving.approve(engine(), number, comment, person()), as_json=as_json)


def reject(
    campaign: _CampaignName,
    comment: Annotated[str, typer.Option(help="Why: kept with the decision, as the campaign's reason.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Cancel a campaign that waits for approval: nobody is written to."""
    from messaging.campaign import approving
    from messaging.campaign.controlling import person
    from messaging.campaign.finding import campaign_named
    from messaging.storage.engine import engine

    number = campaign_named(engine(), campaign).id
    _show(approving.reject(engine(), number, comment, person()), as_json=as_json)


def _show(decided: "Controlled", *, as_json: bool) -> None:
    answer(decided, lambda decided: console.show(decided.said), as_json=as_json)
