"""prefect.yaml is what there is: schedules that left it go, recurring campaigns that it defines are kept."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.schedules import Interval
from sqlalchemy import Engine

from deployments.schedules import reconcile
from flows.add_schedule import add_schedule
from flows.dispatch import dispatch
from messaging.campaign import recurring

# Prefect leaves sockets and streams of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

File = Callable[..., None]


@pytest.fixture
def file(tmp_path: Path) -> File:
    """Write a prefect.yaml of these deployments."""

    def write(*deployments: dict[str, Any]) -> None:
        (tmp_path / "prefect.yaml").write_text(yaml.safe_dump({"deployments": list(deployments)}))

    return write


async def reconciled(root: Path) -> list[str]:
    return [said async for said in reconcile(root)]


async def test_a_schedule_that_left_the_file_is_deleted_and_one_made_by_hand_stays(
    tmp_path: Path, file: File
):
    every = {"interval": 60, "slug": "every-minute"}
    entry = {"name": "dispatch", "entrypoint": "flows.dispatch:dispatch", "schedules": [every]}
    minute = Interval(timedelta(minutes=1), slug="every-minute")
    hour = Interval(timedelta(hours=1), slug="every-hour")
    deployment_id = await (await dispatch.to_deployment("dispatch", schedules=[minute, hour])).apply()
    file(entry)
    async with get_client() as client:
        by_hand = IntervalSchedule(interval=timedelta(days=1))
        await client.create_deployment_schedules(deployment_id, [(by_hand, False)])
        said = await reconciled(tmp_path)
        left = {schedule.slug for schedule in await client.read_deployment_schedules(deployment_id)}

    assert said == ["schedule every-hour of dispatch, which has left prefect.yaml, is deleted"]
    assert left == {"every-minute", None}
    assert await reconciled(tmp_path) == []


async def test_a_recurring_campaign_that_the_file_defines_is_kept_and_not_twice(
    ledger: Engine, audience, tmp_path: Path, file: File
):
    audience("ada@example.org")
    (tmp_path / "news.txt").write_text("Dear {{ name }}")
    campaign = {
        "name": "news",
        "account": "smtp-account/main",
        "audience": "customers",
        "subject": 'News for {{ name | default("you") }}',
        "text": "news.txt",
        "time_zone": "Europe/Berlin",
        "schedule": {"cron": "0 9 * * 1"},
    }
    entry = {
        "name": "news",
        "entrypoint": "flows.add_schedule:add_schedule",
        "parameters": {"campaign": campaign},
    }
    file(entry)
    await (await add_schedule.to_deployment("news", parameters={"campaign": campaign})).apply()
    [first] = await reconciled(tmp_path)
    [second] = await reconciled(tmp_path)

    assert first.startswith("schedule 'news' is added: cron 0 9 * * 1 (Europe/Berlin); next at ")
    assert second.startswith("schedule 'news' is unchanged: ")
    [status] = recurring.everything(ledger)
    assert status.next[0] > datetime.now(UTC)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"subject": "Dear {{ name }}"}, "Prefect empties {{ name }} in prefect.yaml"),
        ({"audience": "nobody"}, "nobody"),
        ({"schedule": {"cron": "* * * * *"}}, "times only 1 minutes apart"),
        ({"schedule": {}}, "one of cron, interval and rrule"),
    ],
    ids=["emptied", "audience", "often", "none"],
)
async def test_what_cannot_be_kept_is_said_and_holds_nothing_up(
    ledger: Engine, audience, tmp_path: Path, file: File, changes: dict[str, Any], said: str
):
    audience("ada@example.org")
    campaign = {
        "name": "news",
        "account": "smtp-account/main",
        "audience": "customers",
        "subject": "News",
        "text": "Dear all",
        "schedule": {"cron": "0 9 * * 1"},
    } | changes
    entry = {
        "name": "bad",
        "entrypoint": "flows.add_schedule:add_schedule",
        "parameters": {"campaign": campaign},
    }
    file(entry)
    deployment = await add_schedule.to_deployment(
        "bad", parameters={"campaign": campaign}, enforce_parameter_schema=False
    )
    await deployment.apply()
    [line] = await reconciled(tmp_path)

    assert line.startswith("the recurring campaign of bad was not kept: ")
    assert said in line
    assert recurring.everything(ledger) == []
