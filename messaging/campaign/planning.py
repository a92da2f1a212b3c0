"""Planning: a campaign's definition and an audience become attempts and batches, once."""

import logging

from sqlalchemy import Connection, Engine, text

from messaging.campaign.definition import read_attachments
from messaging.campaign.finding import campaign_named, refuse_cancelled, refuse_late
from messaging.campaign.rendering import check_public_url, mailbox
from messaging.campaign.templates import check_fields, compile_templates
from messaging.errors import DatabaseError, InputError
from messaging.fields import field_name
from messaging.settings import settings
from messaging.storage import audiences, batches, campaigns, plans
from messaging.storage.campaigns import Campaign, CampaignFile
from messaging.storage.plans import Legs
from messaging.storage.totals import totals_of
from schemas.accounts import channel_of
from schemas.campaign import CampaignSpec
from schemas.pacing import Pacing
from schemas.report import Plan, Preflight
from schemas.states import CampaignState, Channel

_log = logging.getLogger(__name__)

# WhatsApp bans numbers that write like machines: a random pause of 10 to 25 seconds, never less than 10 in
# the mean.
_LIKE_A_PERSON = "10-25s"
_LIKE_A_PERSON_PER_SECOND = 1 / 10

# What may change between two launches of one campaign; the rest is what recipients were promised.
_CHANGEABLE = {"account", "fallback", "pacing", "batch_size", "not_after"}
_BY_CONTENT = {"attachments"}  # a path says nothing about what it leads to


def check_campaign(engine: Engine, spec: CampaignSpec) -> Preflight:
    """Say what launching would do, and refuse what could not be sent well.

    Raises:
        InputError: No such audience, a filter that cannot be evaluated, a template that does not compile, an
            unknown merge field, an attachment that cannot be sent, or a name that is taken by a campaign with
            other content.
        DatabaseError: The ledger cannot be written to.
    """
    return _check(engine, spec, read_attachments(spec))


def _check(engine: Engine, spec: CampaignSpec, files: list[CampaignFile]) -> Preflight:
    templates = compile_templates(spec)
    check_public_url(settings().public_url)
    if spec.reply_to:
        mailbox("reply_to", spec.reply_to)
    with engine.begin() as connection:
        if connection.execute(text("SHOW transaction_read_only")).scalar_one() == "on":
            raise DatabaseError(
                "the ledger's database is read-only, so nothing can be sent: make it writable, or set "
                "OUTFLOW_DATABASE_URL to one that is"
            )
        audience_id = audiences.named(connection, spec.audience)
        size = audiences.size(connection, audience_id, spec.where)
        attributes = audiences.attributes(connection, audience_id)
        check_fields(templates, attributes)
        if spec.where.strip():
            chosen = audiences.attributes(connection, audience_id, spec.where)
            attributes = dict.fromkeys(attributes, 0) | chosen  # what only others have is no misspelt field
        planned = campaigns.find(connection, spec.name)
        if planned is not None:
            _refuse_other_content(connection, planned, spec, files)
        excluded = plans.exclusions(connection, audience_id, Legs.of(spec), spec.where)
        recipients = excluded.pop(None, 0)
        if planned is not None:
            recipients = totals_of(connection, planned.id).unfinished
    having = {**attributes, **{field_name(column): n for column, n in attributes.items()}, **size}
    rate = _paced(spec).pacing.per_second
    return Preflight(
        campaign=spec.name,
        state=planned.state if planned else None,
        contacts=size["contacts"],
        recipients=recipients,
        excluded={reason: n for reason, n in excluded.items() if reason is not None},
        empty_fields={
            field: size["contacts"] - having[field]
            for field in sorted((templates.fields | templates.columns) & having.keys())
            if having[field] < size["contacts"]
        },
        attachments={file.name: len(file.content) for file in files},
        seconds_at_least=recipients / rate if rate else None,
    )


def plan_campaign(engine: Engine, spec: CampaignSpec, actor: str = campaigns.OURSELVES) -> Plan:
    """Snapshot the audience into attempts and batches, or find the plan made before.

    Planned twice at once, a campaign has one plan. A campaign that was paused or crashed runs on, with the
    account and pacing of this definition; a finished one stays finished.

    Raises:
        InputError: As for `check_campaign`; or the campaign was cancelled, or is too late.
    """
    files = read_attachments(spec)
    _check(engine, spec, files)
    spec = _paced(spec)
    with engine.begin() as connection:
        campaign_id = campaigns.add(connection, spec, audiences.named(connection, spec.audience))
        if campaign_id is not None:
            campaigns.attach(connection, campaign_id, files)
            plans.plan(connection, campaign_id, *plans.sizes(spec))
        planned = campaigns.find(connection, spec.name)
        if planned is None:
            raise InputError(
                f"campaign {spec.name!r} was removed while it was being planned: launch it again"
            )
        _refuse_other_content(connection, planned, spec, files)
        planned = campaigns.lock(connection, planned.id)
        refuse_cancelled(planned)
        if planned.state is not CampaignState.FINISHED:
            planned = campaigns.resume(connection, planned, spec, actor)
            refuse_late(planned, totals_of(connection, planned.id).queued)
        plan = _plan(connection, planned, created=campaign_id is not None)
    _log.info(
        "campaign %d %s: %d recipients in %d batches, %d members left out",
        plan.campaign_id,
        "planned" if plan.created else "was planned before",
        plan.recipients,
        len(plan.batches),
        sum(plan.excluded.values()),
    )
    return plan


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
    changed = [field for field in now.keys() - _CHANGEABLE - _BY_CONTENT if before[field] != now[field]]
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


def _paced(spec: CampaignSpec) -> CampaignSpec:
    """Have a campaign that goes over WhatsApp Web only write no faster than a person does."""
    rate = spec.pacing.per_second
    on_the_web = all(account.startswith("whatsapp-web-account/") for account in spec.accounts)
    if not on_the_web or (rate is not None and rate <= _LIKE_A_PERSON_PER_SECOND):
        return spec
    return spec.model_copy(update={"pacing": Pacing(human=_LIKE_A_PERSON, warm_up=spec.pacing.warm_up)})
