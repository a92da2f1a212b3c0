"""Recipients are written to at their own time, each exactly once, and never in their quiet hours."""

import asyncio
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from zoneinfo import ZoneInfo

import phonenumbers
import pytest
from phonenumbers import PhoneNumberFormat, PhoneNumberType
from phonenumbers.timezone import UNKNOWN_TIMEZONE, time_zones_for_geographical_number
from sqlalchemy import Engine, text

from messaging.campaign import working
from messaging.campaign.clock import LedgerClock
from messaging.campaign.planning import plan_campaign
from messaging.campaign.sending import send_batch
from messaging.campaign.windows import Windows, quiet_zones
from messaging.campaign.working import has_work, next_work
from messaging.campaign.zones import zones_for
from messaging.reports.markdown import holding_up
from messaging.reports.numbers import campaign_report
from messaging.storage import audiences, batches, campaigns, plans
from messaging.storage.plans import Legs
from schemas.campaign import CampaignSpec
from schemas.pacing import Pacing
from schemas.states import CampaignState

ADA, BO, CY = "ada@example.org", "bo@example.org", "cy@example.org"


@pytest.fixture
def local(spec: CampaignSpec) -> CampaignSpec:
    """A campaign at this minute of UTC, in each recipient's zone."""
    update = {"recipient_local": True, "send_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M}"}
    return CampaignSpec.model_validate(spec.model_dump() | update)


def with_hours(spec: CampaignSpec, begin: datetime, end: datetime) -> CampaignSpec:
    update = {"quiet_hours": f"{begin:%H:%M}-{end:%H:%M}"}
    return CampaignSpec.model_validate(spec.model_dump() | update)


def quiet_now(spec: CampaignSpec) -> CampaignSpec:
    """Return the campaign with quiet hours around this moment, in UTC."""
    now = datetime.now(UTC)
    return with_hours(spec, now - timedelta(hours=1), now + timedelta(hours=1))


def change(ledger: Engine, statement: str, **parameters: object) -> None:
    with ledger.begin() as connection:
        connection.execute(text(statement), parameters)


def live_in(ledger: Engine, **zones: str) -> None:
    """Give contacts their time zones, by the first part of their address."""
    for name, zone in zones.items():
        change(
            ledger,
            "UPDATE contacts SET time_zone = :zone WHERE email LIKE :address",
            zone=zone,
            address=f"{name}@%",
        )


def rows(ledger: Engine, statement: str) -> list[tuple]:
    with ledger.begin() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


PLACES = """
    SELECT a.address, b.time_zone FROM attempts a JOIN batches b ON b.id = a.batch_id ORDER BY a.address
"""


NUMBERS = """
    SELECT c.phone, b.time_zone
    FROM attempts a JOIN batches b ON b.id = a.batch_id JOIN contacts c ON c.id = a.contact_id
"""


def look(ledger: Engine, campaign_id: int) -> batches.Work:
    with ledger.begin() as connection:
        campaign = campaigns.get(connection, campaign_id)
        return batches.work(connection, campaign_id, None, 0, quiet_zones(connection, campaign))


def claimed(ledger: Engine, campaign_id: int, number: int) -> bool:
    with ledger.begin() as connection:
        return batches.claim(connection, campaign_id, number, "us") is not None


async def send_all(run) -> None:
    async for numbers in next_work(run, None):
        for number in numbers:
            await send_batch(run, number)


def received(server) -> list[str]:
    """Return whom the messages in the sandbox's mailbox are for."""
    lines = [line for file in (server.outbox / "new").iterdir() for line in file.read_text().splitlines()]
    return sorted(line.rpartition("<")[2].strip(">") for line in lines if line.startswith("To: "))


async def test_in_three_zones_each_is_sent_to_at_its_own_time(
    ledger: Engine, audience, local: CampaignSpec, server, open_run, states, monkeypatch, caplog
):
    monkeypatch.setattr(working, "LONGEST_NAP", 0.1)
    caplog.set_level(logging.INFO)
    audience(ADA, BO, CY)
    # The sign of these names is POSIX's: it was this time an hour ago in the first, and will be in the third.
    live_in(ledger, ada="Etc/GMT-1", bo="UTC", cy="Etc/GMT+1")
    plan = plan_campaign(ledger, local)

    assert plan.batches == [1, 2, 3]
    work = look(ledger, plan.campaign_id)
    assert work.due == [1, 2]
    assert not claimed(ledger, plan.campaign_id, 3)
    async with open_run(plan.campaign_id, server.port) as run:
        await send_batch(run, 1)
        await send_batch(run, 2)
        assert (await send_batch(run, 3)).claimed is False
        assert states() == {ADA: "accepted", BO: "accepted", CY: "queued"}

        waiting = look(ledger, plan.campaign_id)
        assert waiting.due == []
        assert 3000 < waiting.wait <= 3600
        assert (waiting.opening.zone, waiting.opening.is_quiet) == ("Etc/GMT+1", False)
        assert waiting.opening.at == datetime.fromisoformat(local.send_at + "+00:00") + timedelta(hours=1)
        [told] = holding_up(campaign_report(ledger, plan.campaign_id))
        assert told.startswith("Etc/GMT+1 waits for the campaign's time there, ")

        change(ledger, "UPDATE batches SET not_before = clock_timestamp() + interval '1 s' WHERE number = 3")
        await send_all(run)

    assert states() == {ADA: "accepted", BO: "accepted", CY: "accepted"}
    assert server.received() == 3
    assert campaign_report(ledger, plan.campaign_id).state is CampaignState.FINISHED
    assert "waiting for the campaign's time in Etc/GMT+1, at " in caplog.text


def test_over_a_change_of_clocks_each_zone_has_one_moment(ledger: Engine, audience, local: CampaignSpec):
    audience(ADA, BO, CY)
    live_in(ledger, ada="Europe/London", bo="America/New_York", cy="Asia/Kolkata")
    plan_campaign(ledger, local.model_copy(update={"send_at": "2027-03-28T01:30"}))

    assert rows(ledger, "SELECT number, time_zone, not_before FROM batches ORDER BY number") == [
        (1, "Asia/Kolkata", datetime(2027, 3, 27, 20, 0, tzinfo=UTC)),
        (2, "Europe/London", datetime(2027, 3, 28, 1, 0, tzinfo=UTC)),  # the clock leaps from 01:00 to 02:00
        (3, "America/New_York", datetime(2027, 3, 28, 5, 30, tzinfo=UTC)),
    ]


def test_a_zone_is_the_contacts_else_the_numbers_else_the_campaigns(
    ledger: Engine, audience, local: CampaignSpec
):
    people = {
        "by-zone": ("Asia/Tokyo", "+12125550100"),
        "by-number": (None, "+12125550100"),
        "no-such-zone": ("Mars/Olympus", "+61412345678"),
        "not-as-written": ("europe/london", ""),
        "of-this-machine": ("localtime", ""),
        "nothing": (None, ""),
        "freephone": (None, "+18005550100"),
        "no-number": (None, "0800 123"),
        "too-long": (None, "+4412345678901234567890"),
    }
    audience(*(f"{who}@example.org" for who in people), phones=[phone for _, phone in people.values()])
    live_in(ledger, **{who: zone for who, (zone, _) in people.items() if zone})
    plan_campaign(ledger, local.model_copy(update={"time_zone": "Europe/Madrid"}))

    assert {address.partition("@")[0]: zone for address, zone in rows(ledger, PLACES)} == {
        "by-zone": "Asia/Tokyo",
        "by-number": "America/New_York",
        "no-such-zone": "Australia/Sydney",
        "not-as-written": "Europe/Madrid",
        "of-this-machine": "Europe/Madrid",
        "nothing": "Europe/Madrid",
        "freephone": "Europe/Madrid",
        "no-number": "Europe/Madrid",
        "too-long": "Europe/Madrid",
    }


def examples() -> dict[str, tuple[str, ...]]:
    """Return a number of each country and kind that has a place, and the zones that phonenumbers gives."""
    found = {}
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in (PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE):
            number = phonenumbers.example_number_for_type(region, kind)
            if number is not None:
                written = phonenumbers.format_number(number, PhoneNumberFormat.E164)
                found[written] = time_zones_for_geographical_number(number)
    return found


def test_numbers_of_all_countries_are_where_phonenumbers_has_them(
    ledger: Engine, audience, local: CampaignSpec
):
    numbers = examples()
    audience(*(f"reader{n}@example.org" for n in range(len(numbers))), phones=list(numbers))
    plan_campaign(ledger, local.model_copy(update={"time_zone": "Antarctica/Troll"}))
    found = dict(rows(ledger, NUMBERS))
    now = datetime.now(UTC)

    assert len(found) == len(numbers) > 400
    for number, zones in numbers.items():
        offsets = {now.astimezone(ZoneInfo(zone)).utcoffset() for zone in zones if zone != UNKNOWN_TIMEZONE}
        if not offsets or max(offsets) - min(offsets) > timedelta(hours=6):
            assert found[number] == "Antarctica/Troll", number
        else:
            assert now.astimezone(ZoneInfo(found[number])).utcoffset() in offsets, number
            assert found[number] != "Antarctica/Troll", number


@pytest.mark.parametrize(
    ("number", "zone"),
    [
        ("+12125550100", "America/New_York"),
        ("+14165550100", "America/Toronto"),
        ("+13105550100", "America/Los_Angeles"),
        ("+61412345678", "Australia/Sydney"),  # mobile numbers of all Australia
        ("+351912345678", "Europe/Lisbon"),  # not the Azores, which have more area codes
        ("+34612345678", "Europe/Madrid"),
        ("+5511987654321", "America/Sao_Paulo"),
        ("+521234567890", "America/Mexico_City"),
        ("+64211234567", "Pacific/Auckland"),
        ("+919812345678", "Asia/Kolkata"),  # which phonenumbers calls Asia/Calcutta
    ],
)
def test_of_several_zones_that_counts_which_most_numbers_have(local: CampaignSpec, number: str, zone: str):
    zones = zones_for(local)
    place = next(
        place
        for start, place in sorted(zip(zones.starts, zones.places, strict=True), reverse=True)
        if start <= int(number[1 : 1 + zones.digits].ljust(zones.digits, "0"))
    )

    assert zones.names[place - 1] == zone


def test_batches_of_a_zone_have_the_size_asked_for(ledger: Engine, audience, local: CampaignSpec):
    audience(*(f"{city}{n}@example.org" for n in range(5) for city in ("tokyo", "paris")))
    change(
        ledger,
        """UPDATE contacts SET time_zone =
            CASE WHEN email LIKE 'tokyo%' THEN 'Asia/Tokyo' ELSE 'Europe/Paris' END""",
    )
    plan_campaign(ledger, local.model_copy(update={"batch_size": 2}))

    counted = """
        SELECT b.number, b.time_zone, count(*) FROM attempts a JOIN batches b ON b.id = a.batch_id
        GROUP BY 1, 2 ORDER BY 1
    """
    tokyo, paris = "Asia/Tokyo", "Europe/Paris"
    assert rows(ledger, counted) == [
        *((1 + n, tokyo, size) for n, size in enumerate([2, 2, 1])),
        *((4 + n, paris, size) for n, size in enumerate([2, 2, 1])),
    ]
    # Attempts of a batch lie together, in the order of their contacts.
    assert rows(ledger, "SELECT batch_id FROM attempts ORDER BY id") == [
        (n,) for n in (1, 1, 2, 2, 3, 4, 4, 5, 5, 6)
    ]


def test_without_recipients_time_no_batch_has_a_zone(ledger: Engine, audience, spec: CampaignSpec):
    audience(ADA, BO)
    live_in(ledger, ada="Asia/Tokyo", bo="Europe/Paris")
    plan_campaign(ledger, spec)

    assert rows(ledger, "SELECT number, time_zone, not_before FROM batches") == [(1, None, None)]


def test_who_falls_back_stays_in_their_time_zone(ledger: Engine, audience, local: CampaignSpec):
    audience(ADA, BO, CY)
    live_in(ledger, ada="Asia/Tokyo", bo="Europe/Paris", cy="Asia/Tokyo")
    plan = plan_campaign(ledger, local.model_copy(update={"fallback": ["smtp-account/relay"]}))
    before = rows(ledger, "SELECT time_zone, not_before FROM batches ORDER BY number")
    live_in(ledger, ada="America/New_York")
    change(
        ledger,
        """UPDATE attempts SET state = CASE WHEN address = :cy THEN 'accepted' ELSE 'rejected' END,
            unreachable = address <> :cy, code = 550, answered_at = now(), dispatched_at = now()""",
        cy=CY,
    )
    with ledger.begin() as connection:
        made = campaigns.finish(connection, plan.campaign_id)

    assert made == [3, 4]
    assert rows(ledger, "SELECT time_zone, not_before FROM batches WHERE leg = 1 ORDER BY number") == before
    assert dict(rows(ledger, PLACES)) == {ADA: "Asia/Tokyo", BO: "Europe/Paris", CY: "Asia/Tokyo"}


def test_recipients_are_counted_by_zone_without_planning(ledger: Engine, audience, local: CampaignSpec):
    audience(ADA, BO, CY, "di@example.org")
    audience("gone@example.org", status="unsubscribed")
    live_in(ledger, ada="Asia/Tokyo", bo="Europe/Paris", cy="Asia/Tokyo", gone="Asia/Tokyo")
    spec = local.model_copy(update={"time_zone": "Europe/London", "send_at": "2027-01-05T09:00"})
    with ledger.begin() as connection:
        found = plans.zones_of(
            connection, audiences.named(connection, spec.audience), Legs.of(spec), zones_for(spec)
        )

    assert [(one.zone, one.at.hour, one.recipients) for one in found] == [
        ("Asia/Tokyo", 0, 2),
        ("Europe/Paris", 8, 1),
        ("Europe/London", 9, 1),
    ]


async def test_in_quiet_hours_nothing_is_sent_and_everyone_stays_queued(
    ledger: Engine, audience, spec: CampaignSpec, server, open_run, states
):
    audience(ADA, BO)
    plan = plan_campaign(ledger, quiet_now(spec))

    work = look(ledger, plan.campaign_id)
    assert work.due == []
    assert 3000 < work.wait <= 3600
    assert (work.opening.zone, work.opening.is_quiet) == (None, True)
    async with open_run(plan.campaign_id, server.port) as run:
        report = await send_batch(run, 1)  # as one that waited for its turn while they began

    assert (report.claimed, report.answers) == (True, 0)
    assert set(states().values()) == {"queued"}
    assert server.received() == 0
    [told] = holding_up(campaign_report(ledger, plan.campaign_id))
    assert told.startswith("quiet hours until ")
    assert rows(ledger, "SELECT lease_owner FROM batches") == [(None,)]


def test_quiet_hours_are_each_recipients_own(ledger: Engine, audience, local: CampaignSpec):
    audience(ADA, BO, CY)
    live_in(ledger, ada="Etc/GMT-3", bo="UTC", cy="Etc/GMT-1")
    plan = plan_campaign(ledger, quiet_now(local))

    # Three hours east of UTC it was quiet two hours ago; one hour east it was until a moment ago, or is.
    work = look(ledger, plan.campaign_id)
    assert rows(ledger, "SELECT time_zone FROM batches ORDER BY number") == [
        ("Etc/GMT-3",),
        ("Etc/GMT-1",),
        ("UTC",),
    ]
    assert 1 in work.due
    assert 3 not in work.due
    report = campaign_report(ledger, plan.campaign_id)
    assert "UTC" in [one.zone for one in report.openings]
    assert all(one.is_quiet for one in report.openings)


@dataclass(frozen=True)
class Elsewhen(Windows):
    """Windows at another time than now."""

    later: timedelta = timedelta()

    def closes_at(self, now: datetime, zone: str | None) -> datetime | None:
        found = Windows.closes_at(self, now + self.later, zone)
        return found and found - self.later


async def test_quiet_hours_that_begin_within_a_batch_end_it_between_two_messages(
    ledger: Engine, audience, spec: CampaignSpec, server, open_run, states, monkeypatch
):
    monkeypatch.setattr(working, "LONGEST_NAP", 0.1)
    addresses = [f"reader{n}@example.org" for n in range(60)]
    audience(*addresses)
    in_six_hours = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=6)
    paced = spec.model_copy(update={"pacing": Pacing(rate="20/s")})
    plan = plan_campaign(ledger, with_hours(paced, in_six_hours, in_six_hours + timedelta(hours=1)))
    async with open_run(plan.campaign_id, server.port) as run:
        windows = run.windows
        later = in_six_hours - timedelta(seconds=1) - datetime.now(UTC)
        run.windows = Elsewhen(windows.zone, windows.hours, later)
        report = await send_batch(run, 1)

        assert report.answers < 60
        assert report.totals.queued == 60 - report.answers
        assert report.totals.dispatched == report.totals.unknown == 0
        assert server.received() == report.answers
        assert (await send_batch(run, 1)).answers == 0  # they have begun

        run.windows = windows
        await send_all(run)

    assert set(states().values()) == {"accepted"}
    assert received(server) == sorted(addresses)


async def test_a_deadline_goes_by_the_ledgers_clock(ledger: Engine, audience, spec: CampaignSpec, open_run):
    audience(ADA)
    plan = plan_campaign(ledger, spec.model_copy(update={"not_after": "1h"}))
    async with open_run(plan.campaign_id, 1) as run:
        assert not run.is_over
        assert 3000 < run.seconds_left() <= 3600
        run.clock = LedgerClock()
        run.clock.observe(monotonic(), (datetime.now(UTC) + timedelta(hours=2)).timestamp(), monotonic())
        assert run.is_over


async def test_whoever_waits_for_quiet_hours_opens_no_account_and_says_so(
    ledger: Engine, audience, spec: CampaignSpec, monkeypatch, caplog
):
    monkeypatch.setattr(working, "LONGEST_NAP", 0.05)
    caplog.set_level(logging.INFO)
    audience(ADA)
    plan = plan_campaign(ledger, quiet_now(spec))
    waiting = asyncio.create_task(has_work(ledger, plan.campaign_id, 0, None))
    async with asyncio.timeout(60):
        while "waiting for the end of quiet hours, at " not in caplog.text:  # noqa: ASYNC110 - a log
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)  # for some looks more
    assert not waiting.done()
    change(ledger, "UPDATE campaigns SET spec = jsonb_set(spec, '{quiet_hours}', '\"\"')")

    assert await waiting
    assert caplog.text.count("waiting for the end of quiet hours, at ") == 1


_PLANNING = """
import sys
from messaging.campaign.planning import plan_campaign
from messaging.storage.engine import open_engine
from schemas.campaign import CampaignSpec

plan_campaign(open_engine(sys.argv[1]), CampaignSpec.model_validate_json(sys.stdin.read()))
"""


def test_planned_on_a_machine_that_lives_elsewhere_the_times_are_the_same(
    ledger: Engine, database_url: str, audience, local: CampaignSpec
):
    audience(ADA, BO)
    live_in(ledger, ada="Europe/London", bo="America/New_York")
    spec = local.model_copy(update={"send_at": "2027-03-28T01:30", "time_zone": "Asia/Tokyo"})
    subprocess.run(
        [sys.executable, "-c", _PLANNING, database_url],
        input=spec.model_dump_json(),
        env=os.environ | {"TZ": "Pacific/Auckland", "PGTZ": "America/Caracas"},
        text=True,
        check=True,
    )

    assert rows(ledger, "SELECT time_zone, not_before FROM batches ORDER BY number") == [
        ("Europe/London", datetime(2027, 3, 28, 1, 0, tzinfo=UTC)),
        ("America/New_York", datetime(2027, 3, 28, 5, 30, tzinfo=UTC)),
    ]


def test_several_zones_that_wait_are_told_in_one_line(ledger: Engine, audience, local: CampaignSpec):
    audience(ADA, BO)
    live_in(ledger, ada="Etc/GMT+2", bo="Etc/GMT+3")
    plan = plan_campaign(ledger, local)

    report = campaign_report(ledger, plan.campaign_id)
    assert [one.zone for one in report.openings] == ["Etc/GMT+2", "Etc/GMT+3"]
    [told] = holding_up(report)
    assert told.startswith("2 time zones wait: Etc/GMT+2 goes on first, ")
