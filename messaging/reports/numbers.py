"""A campaign's figures, all from the ledger."""

from sqlalchemy import Connection, Engine

from messaging.campaign.finding import campaign_numbered
from messaging.campaign.windows import quiet_zones
from messaging.storage import batches, campaigns, decisions, throttles, totals
from messaging.storage.campaigns import Campaign
from schemas.report import BatchTotals, CampaignReport, Opening, Slowdown
from schemas.states import AttemptState, CampaignState
from schemas.times import zone_named

MOST_DECISIONS = 20
_ORDER = (CampaignState.RUNNING, CampaignState.PAUSED, CampaignState.DRAFT, CampaignState.SCHEDULED)


def campaign_report(engine: Engine, campaign_id: int) -> CampaignReport:
    """Return one campaign's figures in one snapshot.

    Raises:
        InputError: There is no such campaign.
    """
    campaign = campaign_numbered(engine, campaign_id)
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        figures = totals.figures(connection, campaign_id)
        return CampaignReport(
            campaign_id=campaign.id,
            campaign=campaign.spec.name,
            state=campaign.state,
            totals=figures.totals,
            batches=totals.batch_count(connection, campaign_id),
            accounts=totals.by_account(connection, campaign_id, campaign.spec.accounts)
            if campaign.spec.fallback
            else [],
            excluded=campaign.excluded,
            reasons=figures.reasons,
            due_at=campaign.due_at and campaign.due_at.astimezone(zone_named(campaign.spec.time_zone)),
            started_at=figures.started_at,
            finished_at=campaign.finished_at,
            seconds=figures.seconds,
            paused_because=campaign.state_reason if campaign.state is CampaignState.PAUSED else None,
            deferred=figures.deferred,
            next_turn_at=figures.next_turn_at,
            openings=_openings(connection, campaign),
            slowdowns=_slowdowns(connection, campaign),
            decisions=decisions.last(connection, campaign_id, MOST_DECISIONS),
        )


def _openings(connection: Connection, campaign: Campaign) -> list[Opening]:
    if campaign.state is not CampaignState.RUNNING:
        return []
    waits = campaign.spec.recipient_local or campaign.spec.quiet_hours
    found = batches.openings(connection, campaign.id, quiet_zones(connection, campaign)) if waits else []
    return [Opening(at=one.at, zone=one.zone or "", is_quiet=one.is_quiet) for one in found]


def _slowdowns(connection: Connection, campaign: Campaign) -> list[Slowdown]:
    if campaign.state not in {CampaignState.RUNNING, CampaignState.PAUSED}:
        return []  # of no interest to who looks at a campaign that has ended
    found: list[Slowdown] = []
    for account in campaign.spec.accounts:
        told = throttles.current(connection, account, campaign.id)
        found += [
            slowdown for slowdown in told if slowdown not in found
        ]  # the campaign's own is told of each
    return found


def batch_totals(engine: Engine, campaign_id: int) -> list[BatchTotals]:
    """Return the figures of each of a campaign's batches."""
    with engine.begin() as connection:
        return totals.by_batch(connection, campaign_id)


def all_reports(engine: Engine) -> list[CampaignReport]:
    """Return the figures of every campaign: what runs, what waits for a person, what will be, what is over.

    Those that are scheduled by their time, all others newest first.
    """
    with engine.begin() as connection:
        ids = campaigns.ids(connection)
    return sorted((campaign_report(engine, campaign_id) for campaign_id in ids), key=_place)


def _place(report: CampaignReport) -> tuple[int, float, int]:
    place = _ORDER.index(report.state) if report.state in _ORDER else len(_ORDER)
    is_to_come = report.state is CampaignState.SCHEDULED and report.due_at is not None
    return place, report.due_at.timestamp() if is_to_come and report.due_at else 0.0, -report.campaign_id


def unknown_recipients(engine: Engine, campaign_id: int) -> list[str]:
    """Return the addresses whose answer never came: for the person who must decide about them."""
    with engine.begin() as connection:
        return totals.recipients_in(connection, campaign_id, AttemptState.UNKNOWN)
