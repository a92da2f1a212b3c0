"""When a campaign's time comes: everywhere on Earth, once, whatever this machine's own clock shows."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from messaging.campaign import scheduling
from messaging.campaign.planning import keep_campaign
from messaging.campaign.zones import zones_for
from schemas.campaign import CampaignSpec
from schemas.times import moments_on_earth


@pytest.fixture
def local(spec: CampaignSpec) -> CampaignSpec:
    """A campaign at 01:30 of each recipient, in the night in which clocks go forward in Europe."""
    update = {"recipient_local": True, "send_at": "2027-03-28T01:30", "time_zone": "Europe/Paris"}
    return CampaignSpec.model_validate(spec.model_dump() | update)


def moments(spec: CampaignSpec) -> dict[str, datetime]:
    zones = zones_for(spec)
    return dict(zip(zones.names, zones.moments, strict=True))


def test_each_zone_has_its_own_moment_the_first_first(local: CampaignSpec):
    found = moments(local)

    assert list(found.values()) == sorted(found.values())
    assert found["Europe/London"] == datetime(2027, 3, 28, 1, 0, tzinfo=UTC)  # there is no 01:30: at 02:00
    assert found["Europe/Paris"] == datetime(2027, 3, 28, 0, 30, tzinfo=UTC)
    assert found["America/New_York"] == datetime(2027, 3, 28, 5, 30, tzinfo=UTC)
    assert found["Asia/Kolkata"] == datetime(2027, 3, 27, 20, 0, tzinfo=UTC)
    assert not {"localtime", "Factory"} & found.keys()


def test_a_time_that_comes_twice_is_taken_the_first_time(local: CampaignSpec):
    found = moments(local.model_copy(update={"send_at": "2027-10-31T01:30"}))

    assert found["Europe/London"] == datetime(2027, 10, 31, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize("send_at", ["2027-03-28T01:30", "2027-10-31T09:00", "2027-07-01T23:59"])
def test_no_zone_comes_before_the_first_on_earth_or_after_the_last(local: CampaignSpec, send_at: str):
    spec = local.model_copy(update={"send_at": send_at})
    first, last = moments_on_earth(datetime.fromisoformat(send_at))
    found = moments(spec).values()

    assert (min(found), max(found)) == (first, last)
    assert last - first == timedelta(hours=26)
    assert scheduling.due_at(spec) == first


def test_without_recipients_time_there_are_no_zones(spec: CampaignSpec):
    assert zones_for(spec) is None


def soon(local: CampaignSpec, hours: float) -> CampaignSpec:
    """Return the campaign for a time so many hours from now in UTC."""
    at = datetime.now(UTC) + timedelta(hours=hours)
    return local.model_copy(update={"send_at": f"{at:%Y-%m-%dT%H:%M}", "time_zone": "UTC"})


def test_a_campaign_is_in_time_when_only_the_first_on_earth_are_past_its_time(
    ledger: Engine, audience, local: CampaignSpec
):
    audience("ada@example.org")
    spec = soon(local, 2)
    kept = scheduling.keep(ledger, spec, "a test")

    assert kept.read_at - kept.due_at > timedelta(hours=11)
    assert scheduling.due_campaigns(ledger).to_start == {kept.id: spec.name}


def test_a_campaign_that_comes_hours_after_its_time_in_its_own_zone_is_late(
    ledger: Engine, audience, local: CampaignSpec
):
    audience("ada@example.org")
    spec = soon(local, -5)
    kept = scheduling.keep(ledger, spec, "a test")

    assert scheduling.due_campaigns(ledger).late == {kept.id: spec.name}


def test_the_deadline_of_recipients_time_counts_from_the_last_on_earth(
    ledger: Engine, audience, local: CampaignSpec
):
    audience("ada@example.org")
    spec = local.model_copy(update={"not_after": "4h"})

    kept = keep_campaign(ledger, spec, scheduling.due_at(spec))

    assert kept.due_at == datetime(2027, 3, 27, 11, 30, tzinfo=UTC)
    assert kept.deadline == datetime(2027, 3, 28, 17, 30, tzinfo=UTC)


_ELSEWHERE = """
import json, sys, time
from datetime import UTC, datetime, time as clock
from zoneinfo import ZoneInfo
from messaging.campaign.scheduling import due_at
from messaging.campaign.windows import quiet_until
from messaging.campaign.zones import zones_for
from schemas.campaign import CampaignSpec

spec = CampaignSpec.model_validate_json(sys.stdin.read())
zones = zones_for(spec)
once = due_at(spec.model_copy(update={"recipient_local": False}))
quiet = quiet_until(datetime(2027, 3, 27, 23, tzinfo=UTC), (clock(21), clock(8)), ZoneInfo("Europe/London"))
told = [time.tzname, once.isoformat(), quiet.isoformat()]
print(json.dumps([told, dict(zip(zones.names, [at.isoformat() for at in zones.moments]))]))
"""


def test_a_machine_that_lives_elsewhere_comes_to_the_same_times(local: CampaignSpec):
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE],
        input=local.model_dump_json(),
        env=os.environ | {"TZ": "Pacific/Auckland"},
        capture_output=True,
        text=True,
        check=True,
    )
    (names, once, quiet), there = json.loads(done.stdout)

    assert names == ["NZST", "NZDT"]
    assert once == datetime(2027, 3, 28, 1, 30, tzinfo=ZoneInfo("Europe/Paris")).astimezone(UTC).isoformat()
    assert quiet == "2027-03-28T07:00:00+00:00"
    assert there == {name: at.isoformat() for name, at in moments(local).items()}
