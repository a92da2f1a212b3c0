"""When a campaign starts: at once, at its time, or when a person has approved it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Engine

from messaging.campaign.finding import UNSTARTED
from messaging.campaign.lateness import pause_late
from messaging.campaign.local_time import exists, is_ambiguous, moment_of
from messaging.campaign.planning import keep_campaign
from messaging.errors import InputError
from messaging.storage import campaigns, editions
from messaging.storage.campaigns import Campaign
from schemas.campaign import CampaignSpec
from schemas.states import CampaignState
from schemas.times import local_time, moments_on_earth, zone_named


def due_at(spec: CampaignSpec) -> datetime | None:
    """Return the moment that a campaign is to start at, in UTC; None: at once.

    At recipients' own times it starts when the first clock on Earth shows that time.
    """
    if not spec.send_at:
        return None
    local = local_time(spec.send_at)
    return (
        moments_on_earth(local)[0] if spec.recipient_local else moment_of(local, zone_named(spec.time_zone))
    )


def in_words(spec: CampaignSpec) -> list[str]:
    """Say when a campaign is sent that has a time, and what clocks do to that time; one without: nothing."""
    if not spec.send_at:
        return []
    local, zone = local_time(spec.send_at), zone_named(spec.time_zone)
    moment = moment_of(local, zone)
    shown = moment.astimezone(zone)
    when = f"it starts at {shown:%F %H:%M} {spec.time_zone}"
    if shown.tzname() != "UTC":
        when += f", which is {moment:%F %H:%M} UTC"
    if spec.recipient_local:
        first, _ = moments_on_earth(local)
        when = (
            f"each recipient gets it when their clocks show {local:%F %H:%M}: nobody before {first:%F %H:%M} "
            f"UTC, those in {spec.time_zone} at {moment:%F %H:%M} UTC"
        )
    said = [when]
    if not exists(local, zone):
        said.append(
            f"{local:%F %H:%M} does not exist there, as the clocks leap over it: the first minute after the "
            "gap was taken"
        )
    elif is_ambiguous(local, zone):
        said.append(f"{local:%F %H:%M} comes twice there, as the clocks go back: the first was taken")
    return said


def begins_later(engine: Engine, spec: CampaignSpec) -> bool:
    """Say whether launching a campaign now only keeps it.

    Raises:
        InputError: Its time is over, and it was not kept for it before.
    """
    with engine.begin() as connection:
        known = campaigns.find(connection, spec.name)
    if known is not None and (known.planned_at is not None or known.state not in UNSTARTED):
        return False
    due = due_at(spec)
    if due is not None and _chosen(spec) < datetime.now(UTC):
        if known is None or known.due_at != due:
            raise InputError(
                f"campaign {spec.name!r} was to be sent at {spec.send_at} ({spec.time_zone}), which is over: "
                "give it a later send_at, or none to send it now"
            )
        if known.state is CampaignState.PAUSED:
            return False
    return spec.approval or due is not None


def _chosen(spec: CampaignSpec) -> datetime:
    """Return when the clocks of the campaign's own zone show its time."""
    return moment_of(local_time(spec.send_at), zone_named(spec.time_zone))


def keep(engine: Engine, spec: CampaignSpec, actor: str) -> Campaign:
    """Keep a campaign until its time.

    Raises:
        InputError: As for `planning.keep_campaign`.
    """
    return keep_campaign(engine, spec, due_at(spec) or datetime.now(UTC), actor)


@dataclass(slots=True)
class Due:
    """Campaigns whose time has come, by number."""

    to_start: dict[int, str] = field(default_factory=dict)
    late: dict[int, str] = field(default_factory=dict)
    """Paused now: nobody wants them at such a time."""


def due_campaigns(engine: Engine) -> Due:
    """Return the campaigns whose time has come, the longest due first, and pause those that are too late."""
    with engine.begin() as connection:
        numbers = editions.due(connection)
    due = Due()
    for number in numbers:
        with engine.begin() as connection:
            campaign = campaigns.lock(connection, number)
            if pause_late(connection, campaign) is not None:
                due.late[number] = campaign.spec.name
            elif campaign.state is CampaignState.SCHEDULED:  # nobody else has started it meanwhile
                due.to_start[number] = campaign.spec.name
    return due
