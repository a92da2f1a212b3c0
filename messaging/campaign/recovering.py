"""Going on without a person after a process has died: what is found in the ledger, and what becomes of it."""

import logging
from typing import Final

from sqlalchemy import Engine

from messaging.campaign.finding import campaign_numbered
from messaging.campaign.presence import pause_the_rest
from messaging.feedback import recording
from messaging.feedback.recording import Recorded
from messaging.feedback.refusals import Sent, record_refusals
from messaging.storage import alerts, batches, campaign_runs, campaigns, installation, settling
from messaging.storage.campaign_runs import Idle, Lost
from schemas.accounts import channel_of
from schemas.campaign import CampaignSpec
from schemas.states import AlertKind, CampaignState, Channel

_log = logging.getLogger(__name__)

FREE_FAILURES: Final = 3
"""Processes that may fail or vanish within an hour before the next one has to wait."""
_FIRST_WAIT: Final = 60.0  # seconds, doubled each time
_LONGEST_WAIT: Final = 900.0
LONGEST_IDLE: Final = 4 * 3600.0
"""Seconds after which a campaign without a deadline does not go on by itself: its time may be over."""


def lost_processes(engine: Engine) -> list[Lost]:
    """Return the processes that sent campaigns and are gone without a word."""
    with engine.begin() as connection:
        return campaign_runs.lost(connection)


def give_up(engine: Engine, lost: Lost, *, partly: bool = False) -> None:
    """Call a process vanished, and tell people when its campaign is still to be sent.

    `partly`: it was to send some batches only, so that the campaign does not go on by itself.
    Called twice, or at once by several, it tells them once. One that was heard of meanwhile is let be.
    """
    with engine.begin() as connection:
        campaign = campaigns.lock(connection, lost.campaign_id)
        if not campaign_runs.vanish(connection, lost.id):
            return
        said = f"campaign {campaign.spec.name!r}: the process that sent it ({lost.owner}) vanished"
        _log.warning("%s", said)
        if partly and pause_the_rest(connection, campaign.id):
            return
        if campaign.state is CampaignState.RUNNING:
            said = f"{said}; it goes on by itself"
            alerts.alert(connection, AlertKind.CRASHED, said, campaign_id=campaign.id)


def pause_cancelled(engine: Engine, campaign_id: int, flow_run: str, starts: int | None = None) -> bool:
    """Pause a campaign whose flow run a person has cancelled, and return whether it was to be sent.

    Not one that was resumed since its `starts` were so many.
    """
    with engine.begin() as connection:
        if starts not in {None, campaigns.lock(connection, campaign_id).starts}:
            return False
        return campaigns.pause(connection, campaign_id, f"flow run {flow_run} was cancelled in Prefect")


def refuse_copy(engine: Engine) -> None:
    """Refuse to start anything from the copy of a ledger.

    Raises:
        InputError: It is one.
    """
    with engine.begin() as connection:
        installation.refuse_copy(connection)


def stranded(engine: Engine) -> list[Idle]:
    """Return the running campaigns that have work and nobody at them, and whose turn it is to go on.

    One that failed again and again waits longer each time. One without a deadline that nobody was at for more
    than four hours is paused instead, and people are told. One of which nothing is left is finished.

    Raises:
        InputError: The ledger is a copy, from which nothing is sent.
    """
    refuse_copy(engine)
    with engine.begin() as connection:
        idle = campaign_runs.idle(connection)
    return [one for one in idle if _has_work(engine, one) and one.seconds >= _wait(one.failures)]


def _has_work(engine: Engine, idle: Idle) -> bool:
    with engine.begin() as connection:
        campaigns.finish(connection, idle.campaign_id)
        campaign = campaigns.lock(connection, idle.campaign_id)
        if campaign.state is not CampaignState.RUNNING or campaign_runs.is_attended(connection, campaign.id):
            return False  # somebody has paused it, or is at it, since it was found
        if campaign.deadline is None and idle.seconds > LONGEST_IDLE:
            hours = idle.seconds / 3600
            reason = f"nobody was at it for {hours:.0f} hours, so that its time may be over"
            campaigns.pause(connection, campaign.id, reason)
            return False
        return batches.work(connection, campaign.id, None).wait is not None


def _wait(failures: int) -> float:
    """Return the seconds that a campaign rests after so many failures in an hour."""
    over = failures - FREE_FAILURES
    return min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (over - 1)) if over > 0 else 0.0


def settle(engine: Engine) -> int:
    """Take the batches of campaigns that are not sent any more from the dead who hold them.

    What they left on its way becomes `unknown`: its answer will never be heard. Returns how many batches.
    """
    with engine.begin() as connection:
        found = campaign_runs.left_behind(connection)
    settled = 0
    for campaign_id in found:
        with engine.begin() as connection:
            campaigns.lock(connection, campaign_id)
            settled += campaign_runs.release(connection, campaign_id)
            settling.give_up(connection, campaign_id)
            campaigns.finish(connection, campaign_id)
    return settled


def read_refusals(engine: Engine) -> Recorded:
    """Take refusals for bounces whose sender was killed before it had; what was read before is let be."""
    with engine.begin() as connection:
        unread = campaign_runs.unread(connection)
    recorded = Recorded()
    for batch in unread:
        if _is_last_by_email(campaign_numbered(engine, batch.campaign_id).spec, batch.leg):
            with engine.begin() as connection:
                recorded += record_refusals(
                    connection,
                    Sent(
                        campaign_id=batch.campaign_id,
                        batch_id=batch.batch_id,
                        leg=batch.leg,
                        is_final=True,
                        unreachable={},
                        spared=(),
                    ),
                )
    return recorded


def _is_last_by_email(spec: CampaignSpec, leg: int) -> bool:
    later = {channel_of(account) for account in spec.accounts[leg + 1 :]}
    return Channel.EMAIL in {channel_of(spec.accounts[leg])} - later


def rematch(engine: Engine) -> Recorded:
    """Look again for the attempts of events that came before their attempt was known."""
    with engine.begin() as connection:
        return recording.rematch(connection)
