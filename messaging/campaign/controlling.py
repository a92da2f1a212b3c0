"""Control of a campaign from another process while it is sent: flags in the ledger, read between messages.

The statement that marks an attempt `dispatched` refuses it when the campaign is not running, so what is
decided here holds from the next message of each connection on.
"""

import getpass
import os
import platform

from sqlalchemy import Engine

from messaging.campaign.finding import campaign_named, refuse_missing_batches
from messaging.errors import InputError
from messaging.storage import campaigns, decisions, resolving, settling
from messaging.storage.campaigns import Campaign
from messaging.storage.totals import totals_of
from schemas.controlling import reason_of
from schemas.pacing import Pacing
from schemas.report import Controlled
from schemas.states import CampaignState, EventKind

_ENDED = {CampaignState.FINISHED, CampaignState.CANCELLED}


def person() -> str:
    """Name who runs this process, to be recorded with what they decide."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have a number only
        name = f"user {os.getuid()}"
    return f"{name} on {platform.node()}"


def pause(engine: Engine, name: str, because: str, actor: str) -> Controlled:
    """Let nothing more of a campaign be sent for now; who is queued stays queued.

    Raises:
        InputError: There is no such campaign, it has ended, or the reason cannot be shown.
    """
    said = one_line(because)
    campaign = campaign_named(engine, name)
    with engine.begin() as connection:
        campaigns.finish(connection, campaign.id)  # perhaps its last answer has come
        campaign = campaigns.lock(connection, campaign.id)
        _refuse_ended(campaign, "pause")
        paused = campaigns.pause(connection, campaign.id, said, actor)
        totals = totals_of(connection, campaign.id)
    if not paused and campaign.state is CampaignState.DRAFT:
        said = f"campaign {name!r} is a draft: nothing is sent before it is approved"
        return _done(campaign, campaign.state, said)
    if not paused:
        because = f" ({campaign.state_reason})" if campaign.state_reason else ""
        return _done(campaign, campaign.state, f"campaign {name!r} is paused already{because}")
    if campaign.planned_at is None:
        sentence = (
            f"campaign {name!r} is paused and will not start; to let it: outflow resume {_quoted(name)}"
        )
        return _done(campaign, CampaignState.PAUSED, sentence, changed=True)
    sentence = (
        f"campaign {name!r} is paused with {_recipients(totals.queued)} still to be sent to"
        f"{_on_their_way(totals.dispatched)}; to go on: outflow resume {_quoted(name)}"
    )
    return _done(campaign, CampaignState.PAUSED, sentence, changed=True)


def cancel(engine: Engine, name: str, actor: str, because: str = "") -> Controlled:
    """Stop a campaign for good: who is queued is not written to.

    Called again, it settles what a process that died meanwhile has left.

    Raises:
        InputError: There is no such campaign, it is finished, or the reason cannot be shown.
    """
    said = one_line(because)
    campaign = campaign_named(engine, name)
    with engine.begin() as connection:
        campaign = campaigns.lock(connection, campaign.id)
        if campaign.state is CampaignState.FINISHED:
            raise InputError(f"campaign {name!r} is finished: there is nothing left to cancel")
        changed = campaign.state is not CampaignState.CANCELLED
        if changed:
            campaigns.cancel(connection, campaign.id, actor, said)
    # Committed first, so that senders stop now: with many recipients what follows takes seconds.
    with engine.begin() as connection:
        withdrawn = settling.settle_cancelled(connection, campaign.id)
        totals = totals_of(connection, campaign.id)
    if campaign.planned_at is None:
        sentence = (
            f"campaign {name!r} {'is cancelled' if changed else 'was cancelled before'}: it was not sent"
        )
        return _done(campaign, CampaignState.CANCELLED, sentence, changed=changed)
    sentence = (
        f"campaign {name!r} {'is cancelled' if changed else 'was cancelled before'}: "
        f"{_recipients(totals.cancelled)} will not be written to{_on_their_way(totals.dispatched)}"
    )
    return _done(campaign, CampaignState.CANCELLED, sentence, changed=changed, recipients=withdrawn)


def set_pace(engine: Engine, name: str, pacing: Pacing, actor: str, because: str = "") -> Controlled:
    """Give a running or paused campaign another pace; whoever sends it follows within seconds.

    A warm-up stays: it guards the sender's name, whatever the pace.

    Raises:
        InputError: There is no such campaign, it has ended, or the reason cannot be shown.
    """
    why = _because(because)
    campaign = campaign_named(engine, name)
    with engine.begin() as connection:
        campaign = campaigns.lock(connection, campaign.id)
        _refuse_ended(campaign, "pace")
        pacing = pacing.model_copy(update={"warm_up": campaign.spec.pacing.warm_up})
        words = _in_words(pacing)
        changed = campaign.spec.pacing != pacing
        if changed:
            campaigns.set_pacing(connection, campaign, pacing, actor, f"pace: {words}{why}")
    sentence = f"the pace of campaign {name!r} is {'now' if changed else 'already'}: {words}"
    return _done(campaign, campaign.state, sentence, changed=changed)


def accept_unknown(
    engine: Engine, name: str, numbers: list[int] | None, actor: str, because: str = ""
) -> Controlled:
    """Call the unknown recipients of a campaign accepted: a person has found out that they have the message.

    Raises:
        InputError: There is no such campaign or batch, or the reason cannot be shown.
    """
    why = _because(because)
    campaign = campaign_named(engine, name)
    where = f" in batch {', '.join(map(str, numbers))}" if numbers else ""
    with engine.begin() as connection:
        campaign = campaigns.lock(connection, campaign.id)
        refuse_missing_batches(connection, campaign, numbers)
        accepted = resolving.accept_unknown(connection, campaign.id, numbers, actor)
        if accepted:
            said = f"called accepted: {accepted:,} unknown{where}{why}"
            decisions.note(connection, campaign.id, EventKind.RESOLVED, actor, said)
            campaigns.finish(connection, campaign.id)
            campaign = campaigns.lock(connection, campaign.id)
    if not accepted:
        return _done(campaign, campaign.state, f"nobody{where} of campaign {name!r} is unknown")
    sentence = (
        f"{_recipients(accepted)}{where} of campaign {name!r} {'is' if accepted == 1 else 'are'} accepted now"
    )
    return _done(campaign, campaign.state, sentence, changed=True, recipients=accepted)


def _done(
    campaign: Campaign, state: CampaignState, said: str, *, changed: bool = False, recipients: int = 0
) -> Controlled:
    return Controlled(
        campaign=campaign.spec.name,
        number=campaign.id,
        state=state,
        changed=changed,
        recipients=recipients,
        said=said,
    )


def _refuse_ended(campaign: Campaign, what: str) -> None:
    if campaign.state in _ENDED:
        raise InputError(
            f"campaign {campaign.spec.name!r} is {campaign.state}: there is nothing left to {what}"
        )


def one_line(because: str) -> str:
    """Return a person's reason on one line, fit to be shown in Prefect.

    Raises:
        InputError: It holds an address, or is too long.
    """
    try:
        return reason_of(because)
    except ValueError as error:
        raise InputError(str(error)) from None


def _because(because: str) -> str:
    """Return a person's reason as it follows what they did."""
    said = one_line(because)
    return f": {said}" if said else ""


def _recipients(n: int) -> str:
    return "1 recipient" if n == 1 else f"{n:,} recipients"


def _on_their_way(n: int) -> str:
    return f", {n:,} on the way will get an answer first" if n else ""


def _in_words(pacing: Pacing) -> str:
    if pacing.rate:
        words = f"at most {pacing.rate}"
    elif pacing.delay:
        words = f"{pacing.delay} after each message"
    elif pacing.human:
        words = f"{pacing.human} after each message"
    else:
        words = "as fast as the account takes it"
    if pacing.warm_up.start:
        words += (
            f"; warm-up from {pacing.warm_up.start:,} a day, growing {pacing.warm_up.growth:g} times a day"
        )
    return words


def _quoted(name: str) -> str:
    return f"'{name}'" if " " in name else name
