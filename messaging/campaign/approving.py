"""A person's answer to a draft: taken once, whichever way it comes, and told to whoever answers later."""

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Engine

from messaging.campaign.controlling import one_line
from messaging.campaign.finding import campaign_numbered
from messaging.campaign.testing import Ending, Trial, Tried, prepare
from messaging.errors import InputError
from messaging.storage import alerts, approvals, audiences, campaigns, plans
from messaging.storage.campaigns import Campaign
from messaging.storage.plans import Legs
from schemas.approval import Draft
from schemas.report import Controlled, Decision
from schemas.states import AlertKind, CampaignState
from schemas.times import local_time, zone_named

CHANGED: Final = "it was launched again with another time or definition, so it is asked about anew"
_ARRIVED: Final = frozenset({Ending.ACCEPTED, Ending.UNKNOWN})


def approve(engine: Engine, campaign_id: int, comment: str, actor: str) -> Controlled:
    """Let a draft start at its time; when that is over and nothing says until when, now.

    Approved before, it stays as it was.

    Raises:
        InputError: There is no such campaign; it needs no approval, was rejected or cancelled, is paused, or
            its time is over; or the comment cannot be shown.
    """
    comment = one_line(comment)
    campaign_numbered(engine, campaign_id)
    with engine.begin() as connection:
        campaign = campaigns.lock(connection, campaign_id)
        before = approvals.settled(connection, campaign_id)
        if before is not None and before.said.startswith(approvals.APPROVED):
            return _done(campaign, campaign.state, _told(campaign, before))
        _refuse_answered(campaign, before, "approved")
        if campaign.is_late:
            raise InputError(_too_late(campaign))
        if campaign.state is not CampaignState.DRAFT:
            raise InputError(f"{_standing(campaign)}, so it cannot be approved")
        due_at = _due_at(campaign)
        approvals.approve(connection, campaign, due_at, actor, comment)
    begins = "is due now" if due_at <= campaign.read_at else f"starts at {due_at:%F %H:%M} UTC"
    said = f"campaign {campaign.spec.name!r} is approved, and {begins}"
    return _done(campaign, CampaignState.SCHEDULED, said, changed=True)


def reject(engine: Engine, campaign_id: int, comment: str, actor: str) -> Controlled:
    """Cancel a draft; rejected before, it stays as it was.

    Raises:
        InputError: There is no such campaign; it needs no approval, or was approved or cancelled; or the
            comment cannot be shown.
    """
    comment = one_line(comment)
    campaign_numbered(engine, campaign_id)
    with engine.begin() as connection:
        campaign = campaigns.lock(connection, campaign_id)
        before = approvals.settled(connection, campaign_id)
        if before is not None and before.said.startswith(approvals.REJECTED):
            return _done(campaign, campaign.state, _told(campaign, before))
        _refuse_answered(campaign, before, "rejected")
        approvals.reject(connection, campaign, actor, comment)
    said = f"campaign {campaign.spec.name!r} is rejected: nobody will be written to"
    return _done(campaign, CampaignState.CANCELLED, said, changed=True)


def comment_on(engine: Engine, campaign_id: int, comment: str, actor: str, key: str) -> None:
    """Keep what somebody says to a draft without deciding, once for each `key`.

    Raises:
        InputError: The comment cannot be shown.
    """
    said = one_line(comment)
    if said:
        with engine.begin() as connection:
            approvals.comment(connection, campaign_id, actor, key, said)


def to_ask(engine: Engine) -> dict[int, str]:
    """Return the drafts that people are to be asked about, by number; of those too late they are told, once.

    A late one stays a draft: with a later time it is asked about again, and not sent unasked.
    """
    found = {}
    with engine.begin() as connection:
        for number in approvals.drafts(connection):
            campaign = campaigns.lock(connection, number)
            if campaign.state is not CampaignState.DRAFT:  # somebody has answered just now
                continue
            if not campaign.is_late:
                found[number] = campaign.spec.name
            elif approvals.late(connection, campaign):
                said = f"{_too_late(campaign)}. Nobody was written to"
                alerts.alert(connection, AlertKind.LATE, said, campaign_id=number)
    return found


def ask(engine: Engine, campaign_id: int, key: str, link: str) -> bool:
    """Tell people that a campaign waits for their approval, once for each `key`; say whether it does.

    `link` leads to where they can answer.
    """
    with engine.begin() as connection:
        campaign = campaigns.lock(connection, campaign_id)
        if campaign.state is not CampaignState.DRAFT or campaign.is_late:
            return False  # decided while it was tried
        if approvals.asked(connection, campaign_id, key):
            said = f"campaign {campaign.spec.name!r} waits for approval"
            alerts.alert(connection, AlertKind.APPROVAL, said, campaign_id=campaign_id, link=link)
    return True


def outcome(engine: Engine, campaign_id: int) -> str | None:
    """Say what became of a campaign that was to be approved; None: it still waits, and not in vain.

    Raises:
        InputError: There is no such campaign.
    """
    campaign = campaign_numbered(engine, campaign_id)
    if campaign.state is CampaignState.DRAFT:
        return _too_late(campaign) if campaign.is_late else None
    with engine.begin() as connection:
        before = approvals.settled(connection, campaign_id)
    return _told(campaign, before) if before is not None else _standing(campaign)


def is_changed(engine: Engine, campaign_id: int, key: str = "") -> bool:
    """Say whether a draft is another than people were asked about: by the question of a key, or the last."""
    with engine.begin() as connection:
        return approvals.is_changed(connection, campaign_id, key)


def why_moot(engine: Engine, campaign_id: int) -> str | None:
    """Say why a question that people were asked about a campaign is none any more; None: it stands.

    Raises:
        InputError: There is no such campaign.
    """
    return outcome(engine, campaign_id) or (CHANGED if is_changed(engine, campaign_id) else None)


def draft_of(engine: Engine, campaign_id: int) -> Draft:
    """Return what a person should know who is to approve a campaign; of an unfit audience, no figures.

    Raises:
        InputError: There is no such campaign.
    """
    campaign = campaign_numbered(engine, campaign_id)
    spec, zone = campaign.spec, zone_named(campaign.spec.time_zone)
    due_at = campaign.due_at or campaign.read_at
    excluded: dict[str | None, int] = {}
    # A preflight says what is wrong with the audience; people must be asked nevertheless.
    with contextlib.suppress(InputError), engine.begin() as connection:
        audience_id = audiences.named(connection, spec.audience) if spec.audience else None
        excluded = plans.exclusions(connection, audience_id, Legs.of(spec), spec.where)
    recipients = excluded.pop(None, 0)
    with engine.begin() as connection:
        tested = approvals.tested(connection, campaign_id)
        comments = approvals.comments(connection, campaign_id)
    return Draft(
        name=spec.name,
        accounts=spec.accounts,
        audience=spec.audience,
        subject=spec.subject,
        recipients=recipients,
        excluded={reason: n for reason, n in excluded.items() if reason is not None},
        begins_at=due_at.astimezone(zone),
        time_zone=spec.time_zone,
        own_time=f"{local_time(spec.send_at):%F %H:%M}" if spec.recipient_local else "",
        is_due=due_at <= campaign.read_at,
        ends_at=campaign.deadline.astimezone(zone) if campaign.deadline else None,
        tested=tested,
        comments=comments,
    )


def tested(engine: Engine, campaign_id: int) -> str:
    """Say what became of a campaign's test messages; empty: none was sent."""
    with engine.begin() as connection:
        return approvals.tested(connection, campaign_id)


def prepare_test(engine: Engine, campaign_id: int) -> Trial | None:
    """Prepare the test messages of a kept campaign, over its first account; None: it names nobody.

    Raises:
        InputError: As for `testing.prepare`.
    """
    campaign = campaign_numbered(engine, campaign_id)
    if not campaign.spec.test_to:
        return None
    with engine.begin() as connection:
        files = campaigns.attachments(connection, campaign_id)
    return prepare(engine, campaign.spec, None, campaign.spec.test_to, files=files)


def remember_test(engine: Engine, campaign_id: int, tried: Sequence[Tried]) -> str:
    """Say what became of test messages, in counts; that one arrived is remembered."""
    counts = {ending: sum(one.ending is ending for one in tried) for ending in Ending}
    said = ", ".join(f"{n} {ending}" for ending, n in counts.items() if n)
    if any(one.ending in _ARRIVED for one in tried):
        with engine.begin() as connection:
            approvals.remember_test(connection, campaign_id, said)
    return said


def _due_at(campaign: Campaign) -> datetime:
    """Return when an approved campaign starts.

    Without a `not_after` the time of an approval that took long counts from the approval: it was not late by
    any fault of ours. With one it stays, as the end is counted from it.
    """
    now = campaign.read_at
    if campaign.due_at is None or (campaign.due_at < now and not campaign.spec.not_after):
        return now
    return campaign.due_at


def _refuse_answered(campaign: Campaign, before: Decision | None, what: str) -> None:
    if before is not None:
        instead = (
            f"; to stop it: outflow cancel {campaign.spec.name!r}"
            if before.said.startswith(approvals.APPROVED)
            else ""
        )
        raise InputError(f"{_told(campaign, before)}, so it cannot be {what}{instead}")
    if not campaign.spec.approval or campaign.planned_at is not None:
        raise InputError(f"{_standing(campaign)} and waits for no approval")


def _too_late(campaign: Campaign) -> str:
    until = campaign.deadline.astimezone(UTC) if campaign.deadline else None
    return (
        f"campaign {campaign.spec.name!r} was to be sent by {until:%F %H:%M} UTC (not_after: "
        f"{campaign.spec.not_after}), so approval comes too late: to have it sent still, send its file "
        "with a later time"
    )


def _told(campaign: Campaign, before: Decision) -> str:
    decided, _, comment = before.said.partition(": ")
    why = f" ({comment})" if comment else ""
    at = before.at.astimezone(UTC)
    return f"campaign {campaign.spec.name!r} was {decided} by {before.who} at {at:%F %H:%M} UTC{why}"


def _standing(campaign: Campaign) -> str:
    reason = f" ({campaign.state_reason})" if campaign.state_reason else ""
    return f"campaign {campaign.spec.name!r} is {campaign.state}{reason}"


def _done(campaign: Campaign, state: CampaignState, said: str, *, changed: bool = False) -> Controlled:
    return Controlled(
        campaign=campaign.spec.name,
        number=campaign.id,
        state=state,
        changed=changed,
        recipients=0,
        said=said,
    )
