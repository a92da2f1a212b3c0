"""Planning: a campaign's definition and an audience become attempts and batches, once."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, text

from messaging.campaign.definition import read_attachments
from messaging.campaign.finding import (
    UNSTARTED,
    campaign_named,
    campaign_numbered,
    refuse_cancelled,
    refuse_late,
    refuse_waiting,
)
from messaging.campaign.lateness import pause_late
from messaging.campaign.links import NOBODYS_KEY, Links
from messaging.campaign.rendering import mailbox
from messaging.campaign.templates import check_fields, compile_templates
from messaging.campaign.tracking import tracking_report
from messaging.campaign.whatsapp_rendering import check_for_groups
from messaging.campaign.zones import zones_for
from messaging.errors import DatabaseError, InputError
from messaging.fields import field_name
from messaging.settings import settings
from messaging.storage import audiences, batches, campaigns, decisions, plans
from messaging.storage.campaigns import Campaign, CampaignFile
from messaging.storage.plans import Legs
from messaging.storage.totals import totals_of
from schemas.accounts import channel_of
from schemas.campaign import CampaignSpec
from schemas.pacing import Pacing
from schemas.report import Plan, Preflight
from schemas.states import CampaignState, Channel, EventKind

if TYPE_CHECKING:
    from messaging.audience.verifying_domains import Resolving

_log = logging.getLogger(__name__)

# WhatsApp bans numbers that write like machines: a random pause of 10 to 25 seconds, never less than 10 in
# the mean.
_LIKE_A_PERSON = "10-25s"
_LIKE_A_PERSON_PER_SECOND = 1 / 10

# What may change between two launches of one campaign; the rest is what recipients were promised.
_CHANGEABLE = {"account", "fallback", "pacing", "batch_size", "not_after", "workers", "test_to"}
_CHANGEABLE_BEFORE = {"send_at", "time_zone", "quiet_hours"}  # the planning
_BY_CONTENT = {"attachments"}  # a path says nothing about what it leads to


def check_campaign(
    engine: Engine,
    spec: CampaignSpec,
    resolving: "Resolving | None" = None,
    files: Sequence[CampaignFile] | None = None,
) -> Preflight:
    """Say what launching would do, and refuse what could not be sent well.

    `resolving` says whom to ask about domains, when they are to be verified; None: as this machine does.
    `files` are what it attaches; None: as its paths say.

    Raises:
        InputError: No such audience, a filter that cannot be evaluated, a template that does not compile, an
            unknown merge field, a text that cannot be sent to groups, an attachment that cannot be sent, or a
            name that is taken by a campaign with other content.
        DatabaseError: The ledger cannot be written to.
    """
    return _check(engine, spec, read_attachments(spec) if files is None else list(files), resolving)


def _check(
    engine: Engine, spec: CampaignSpec, files: list[CampaignFile], resolving: "Resolving | None"
) -> Preflight:
    templates = compile_templates(spec, Links(settings().public_url, NOBODYS_KEY))
    if spec.reply_to:
        mailbox("reply_to", spec.reply_to)
    if spec.verify_domains:
        _verify_domains(engine, spec, resolving)
    with engine.begin() as connection:
        if connection.execute(text("SHOW transaction_read_only")).scalar_one() == "on":
            raise DatabaseError(
                "the ledger's database is read-only, so nothing can be sent: make it writable, or set "
                "OUTFLOW_DATABASE_URL to one that is"
            )
        audience_id = _audience_id(connection, spec)
        size, attributes = {"contacts": 0}, {}
        if audience_id is not None:
            size = audiences.size(connection, audience_id, spec.where)
            attributes = audiences.attributes(connection, audience_id)
        check_fields(templates, attributes)
        if spec.groups:
            check_for_groups(templates)
        if audience_id is not None and spec.where.strip():
            chosen = audiences.attributes(connection, audience_id, spec.where)
            attributes = dict.fromkeys(attributes, 0) | chosen  # what only others have is no misspelt field
        planned = campaigns.find(connection, spec.name)
        if planned is not None:
            _refuse_other_content(connection, planned, spec, files)
        excluded = plans.exclusions(connection, audience_id, Legs.of(spec), spec.where)
        recipients = excluded.pop(None, 0)
        if planned is not None and planned.planned_at is not None:
            recipients = totals_of(connection, planned.id).unfinished
    having = {**attributes, **{field_name(column): n for column, n in attributes.items()}, **size}
    rate = paced(spec).pacing.per_second
    return Preflight(
        campaign=spec.name,
        state=planned.state if planned else None,
        contacts=size["contacts"],
        groups=len(spec.groups),
        recipients=recipients,
        excluded={reason: n for reason, n in excluded.items() if reason is not None},
        empty_fields={
            field: size["contacts"] - having[field]
            for field in sorted((templates.fields | templates.columns) & having.keys())
            if having[field] < size["contacts"]
        },
        attachments={file.name: len(file.content) for file in files},
        tracking=tracking_report(spec, templates.tracked, settings().public_url),
        seconds_at_least=recipients / rate if rate else None,
    )


def plan_campaign(
    engine: Engine,
    spec: CampaignSpec,
    actor: str = campaigns.OURSELVES,
    resolving: "Resolving | None" = None,
) -> Plan:
    """Snapshot the audience into attempts and batches, or find the plan made before.

    Planned twice at once, a campaign has one plan. One that was kept until later starts now when the
    definition names no time any more, or it was paused. A campaign that was paused or crashed while it was
    sent runs on, with the account and pacing of this definition; a finished one stays finished.

    Raises:
        InputError: As for `check_campaign`; or the campaign was cancelled, is too late, or waits for its time
            or for approval.
    """
    files = read_attachments(spec)
    _check(engine, spec, files, resolving)
    spec = paced(spec)
    with engine.begin() as connection:
        campaign, is_new = _keep(connection, spec, files, None)
        refuse_cancelled(campaign)
        if campaign.planned_at is None:
            campaign, is_new = _start_now(connection, campaign, spec, actor), True
        elif campaign.state is not CampaignState.FINISHED:
            campaign = campaigns.resume(connection, campaign, spec, actor)
            refuse_late(campaign, totals_of(connection, campaign.id).queued)
        plan = _plan(connection, campaign, created=is_new)
    _say(plan)
    return plan


def keep_campaign(
    engine: Engine,
    spec: CampaignSpec,
    due_at: datetime,
    actor: str = campaigns.OURSELVES,
    resolving: "Resolving | None" = None,
) -> Campaign:
    """Keep a campaign that starts by itself: scheduled, or a draft until it is approved.

    Kept before and not started yet, it gets this time and definition; one that was paused is scheduled again.

    Raises:
        InputError: As for `check_campaign`; or it was started before.
    """
    files = read_attachments(spec)
    _check(engine, spec, files, resolving)
    with engine.begin() as connection:
        spec = paced(spec)
        campaign, is_new = _keep(connection, spec, files, due_at)
        if campaign.planned_at is not None or campaign.state not in UNSTARTED:
            raise InputError(
                f"campaign {spec.name!r} is {campaign.state}, so it cannot be scheduled: give it a new name "
                "to send it anew"
            )
        if is_new:
            kind = EventKind.DRAFTED if campaign.state is CampaignState.DRAFT else EventKind.SCHEDULED
            decisions.note(
                connection, campaign.id, kind, actor, f"{campaign.state} for {due_at:%F %H:%M} UTC"
            )
        elif (campaign.due_at, campaign.spec, campaign.state_reason) != (due_at, spec, None):
            campaigns.reschedule(connection, replace(campaign, spec=spec), due_at, actor)
        return campaigns.lock(connection, campaign.id)


def start_campaign(
    engine: Engine,
    campaign_id: int,
    actor: str = campaigns.OURSELVES,
    resolving: "Resolving | None" = None,
) -> Plan:
    """Snapshot the audience of a campaign that was kept into attempts and batches, once.

    Started before, it has the plan made then. One that comes too late is paused, and people are told.

    Raises:
        InputError: It was cancelled, is too late, paused or a draft, or cannot be sent any more as it was
            meant, as for `check_campaign`.
    """
    campaign_numbered(engine, campaign_id)
    with engine.begin() as connection:
        campaign = campaigns.lock(connection, campaign_id)
        late = pause_late(connection, campaign)
        files = campaigns.attachments(connection, campaign_id)
    if late is not None:
        raise InputError(f"campaign {campaign.spec.name!r} was paused: {late}")
    if campaign.planned_at is None:
        _check(engine, campaign.spec, files, resolving)
    with engine.begin() as connection:
        campaign = campaigns.lock(connection, campaign_id)
        refuse_cancelled(campaign)
        is_new = campaign.state is CampaignState.SCHEDULED
        if is_new:
            campaign = _start(connection, campaign, actor)
        elif campaign.planned_at is None:
            raise InputError(f"campaign {campaign.spec.name!r} is {campaign.state}, so it was not started")
        plan = _plan(connection, campaign, created=is_new)
    _say(plan)
    return plan


def _keep(
    connection: Connection, spec: CampaignSpec, files: list[CampaignFile], due_at: datetime | None
) -> tuple[Campaign, bool]:
    """Insert a campaign or find it, locked; say whether it is new."""
    campaign_id = campaigns.add(connection, spec, _audience_id(connection, spec), due_at)
    if campaign_id is not None:
        campaigns.attach(connection, campaign_id, files)
    found = campaigns.find(connection, spec.name)
    if found is None:
        raise InputError(f"campaign {spec.name!r} was removed while it was being planned: launch it again")
    _refuse_other_content(connection, found, spec, files)
    return campaigns.lock(connection, found.id), campaign_id is not None


def _start_now(connection: Connection, campaign: Campaign, spec: CampaignSpec, actor: str) -> Campaign:
    """Start a campaign that was kept, or is new, with this definition."""
    if campaign.state is CampaignState.DRAFT or (campaign.state is not CampaignState.PAUSED and spec.send_at):
        refuse_waiting(campaign)
    due_at = campaign.due_at if spec.send_at else None
    campaign = replace(campaign, spec=spec, due_at=due_at)
    refuse_late(campaign, 1)
    return _start(connection, campaign, actor)


def _start(connection: Connection, campaign: Campaign, actor: str) -> Campaign:
    campaigns.set_audience(connection, campaign.id, _audience_id(connection, campaign.spec))
    plans.plan(connection, campaign.id, *plans.sizes(campaign.spec), zones_for(campaign.spec))
    return campaigns.start(connection, campaign, actor)


def _say(plan: Plan) -> None:
    _log.info(
        "campaign %d %s: %d recipients in %d batches, %d members left out",
        plan.campaign_id,
        "planned" if plan.created else "was planned before",
        plan.recipients,
        len(plan.batches),
        sum(plan.excluded.values()),
    )


def _verify_domains(engine: Engine, spec: CampaignSpec, resolving: "Resolving | None") -> None:
    """Have DNS asked about the audience's domains that are not known, unless there is a plan already."""
    from messaging.audience.verifying_domains import HERE, verify_members  # noqa: PLC0415 - its DNS library

    with engine.begin() as connection:
        known = campaigns.find(connection, spec.name)
    is_planned = known is not None and known.planned_at is not None
    if not is_planned and Legs.of(spec).email is not None:
        verify_members(engine, spec.audience, spec.where, resolving or HERE)


def _audience_id(connection: Connection, spec: CampaignSpec) -> int | None:
    """Return the campaign's audience; None: it is for groups alone."""
    return audiences.named(connection, spec.audience) if spec.audience else None


def find_plan(engine: Engine, name: str) -> Plan:
    """Return the plan of a campaign.

    Raises:
        InputError: There is no such campaign, or it was cancelled.
    """
    campaign = campaign_named(engine, name)
    refuse_cancelled(campaign)
    with engine.begin() as connection:
        return _plan(connection, campaign, created=False)


def _plan(connection: Connection, campaign: Campaign, *, created: bool) -> Plan:
    return Plan(
        campaign_id=campaign.id,
        name=campaign.spec.name,
        accounts=[campaign.spec.accounts[leg] for leg in batches.legs(connection, campaign.id)],
        state=campaign.state,
        batches=batches.numbers(connection, campaign.id),
        recipients=totals_of(connection, campaign.id).planned,
        excluded=campaign.excluded,
        created=created,
    )


def _refuse_other_content(
    connection: Connection, planned: Campaign, spec: CampaignSpec, files: list[CampaignFile]
) -> None:
    before, now = planned.spec.model_dump(mode="json"), spec.model_dump(mode="json")
    changeable = _CHANGEABLE | (_CHANGEABLE_BEFORE if planned.planned_at is None else set())
    changed = [field for field in now.keys() - changeable - _BY_CONTENT if before[field] != now[field]]
    if _channels(planned.spec) != _channels(spec):
        changed.append("fallback")  # batches go by the places of accounts
    if campaigns.attached(connection, planned.id) != [(file.name, file.digest) for file in files]:
        changed.append("set of attachments")
    if changed:
        raise InputError(
            f"campaign {spec.name!r} was planned before with another {', '.join(sorted(changed))}: "
            "a name is sent once, so give this one a new name"
        )


def _channels(spec: CampaignSpec) -> list[Channel]:
    return [channel_of(account) for account in spec.accounts]


def paced(spec: CampaignSpec) -> CampaignSpec:
    """Have a campaign that goes over WhatsApp Web only write no faster than a person does."""
    rate = spec.pacing.per_second
    on_the_web = all(account.startswith("whatsapp-web-account/") for account in spec.accounts)
    if not on_the_web or (rate is not None and rate <= _LIKE_A_PERSON_PER_SECOND):
        return spec
    return spec.model_copy(update={"pacing": Pacing(human=_LIKE_A_PERSON, warm_up=spec.pacing.warm_up)})
