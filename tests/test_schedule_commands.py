"""The commands for recurring campaigns, as a person runs them: a process each, without Prefect."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

OUTFLOW = Path(sys.executable).with_name("outflow")
DEFINITION = """
name: newsletter
account: smtp-account/main
audience: customers
subject: "News for {{ name }}"
text: news.txt
time_zone: Europe/Berlin
schedule:
  rrule: FREQ=WEEKLY;BYDAY=MO
  starts_at: 2099-03-23T09:00:00
"""

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def outflow(tmp_path: Path, database_url: str) -> Run:
    """Run a command where Prefect could not even be imported."""
    (tmp_path / "prefect.py").write_text("raise AssertionError('Prefect was imported')")
    path = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    surroundings = os.environ | path | {"OUTFLOW_DATABASE_URL": database_url}
    surroundings.pop("PREFECT_API_URL", None)

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [OUTFLOW, *arguments],
            env=surroundings,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )

    return run


@pytest.fixture
def file(ledger: Engine, tmp_path: Path) -> Path:
    """The definition of a recurring campaign, and an audience for it."""
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO audiences (name) VALUES ('customers');
                INSERT INTO contacts (email_key, email, name, consent_source)
                    VALUES ('ada@b.org', 'ada@b.org', 'Ada', 'form');
                INSERT INTO audience_members (audience_id, contact_id) SELECT 1, id FROM contacts
            """)
        )
    (tmp_path / "news.txt").write_text("Dear {{ name }}")
    definition = tmp_path / "newsletter.yaml"
    definition.write_text(DEFINITION)
    return definition


def said(done: subprocess.CompletedProcess) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_added_listed_paused_resumed_and_removed(outflow: Run, file: Path):
    added = outflow("schedule", "add", str(file))
    listed = outflow("schedule", "list")
    paused = outflow("schedule", "pause", "newsletter", "--because", "holidays")
    resumed = outflow("schedule", "resume", "newsletter")
    removed = outflow("schedule", "remove", "newsletter")

    assert added.stdout == (
        "schedule 'newsletter' is added: FREQ=WEEKLY;BYDAY=MO from 2099-03-23T09:00 (Europe/Berlin); "
        "next at 2099-03-23 09:00, which is 2099-03-23 08:00 UTC\n"
    )
    assert "outflow up" in added.stderr  # nothing runs that would start it
    assert listed.stdout == (
        "newsletter: FREQ=WEEKLY;BYDAY=MO from 2099-03-23T09:00 (Europe/Berlin), active\n"
        "  next: 2099-03-23 09:00, 2099-03-30 09:00, 2099-04-06 09:00\n"
    )
    assert "is paused" in paused.stdout
    assert "goes on" in resumed.stdout
    assert removed.stdout == "schedule 'newsletter' is removed; its editions stay\n"
    assert (
        outflow("schedule", "list").stdout == "there is no schedule yet: outflow schedule add SCHEDULE.yaml\n"
    )


def test_every_command_prints_one_object(outflow: Run, file: Path):
    added = said(outflow("schedule", "add", str(file), "--json"))
    again = said(outflow("schedule", "add", str(file), "--json"))
    paused = said(outflow("schedule", "pause", "newsletter", "--json"))
    [listed] = said(outflow("schedule", "list", "--json"))["schedules"]
    resumed = said(outflow("schedule", "resume", "newsletter", "--json"))
    removed = said(outflow("schedule", "remove", "newsletter", "--yes", "--json"))

    assert added["next"] == ["2099-03-23T08:00:00Z", "2099-03-30T07:00:00Z", "2099-04-06T07:00:00Z"]
    assert [one["changed"] for one in (added, again, paused, resumed, removed)] == [
        True,
        False,
        True,
        True,
        True,
    ]
    assert (listed["state"], listed["next"]) == ("paused", [])
    assert said(outflow("schedule", "list", "--json")) == {"schedules": []}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("FREQ=WEEKLY;BYDAY=MO", "FREQ=SECONDLY"), "FREQ=SECONDLY is too often"),
        (("FREQ=WEEKLY;BYDAY=MO", "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"), "nothing would ever be sent"),
        (("text: news.txt", "send_at: 2099-01-01T09:00"), "leave send_at out, and write schedule"),
        (("rrule:", "rule:"), "did you mean 'schedule.rrule'?"),
    ],
    ids=["often", "never", "time", "misspelt"],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(
    ledger: Engine, outflow: Run, file: Path, change: tuple[str, str], problem: str
):
    file.write_text(file.read_text().replace(*change))
    done = outflow("schedule", "add", str(file), "--json")

    assert done.returncode == 1
    assert problem in json.loads(done.stdout)["error"]
    with ledger.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM schedules")).scalar_one() == 0


def test_a_recurring_campaign_is_not_sent_by_mistake(outflow: Run, file: Path):
    done = outflow("send", str(file))

    assert done.returncode == 1
    assert (
        "newsletter.yaml has a schedule: outflow schedule add newsletter.yaml keeps it"
        in done.stderr.replace("\n", " ")
    )


@pytest.mark.parametrize(
    ("at", "problem"),
    [
        ("2020-01-01T09:00", "which is over: give it a later send_at, or none to send it now"),
        ("tomorrow", "'tomorrow' is not a time: write it as in 2027-03-20T09:00"),
        ("2099-01-01T09:00Z", "names an offset: leave it out, and name the zone in time_zone"),
        ("9999-12-31T23:59", "is not from 2000 to 2200"),
    ],
)
def test_a_time_that_cannot_be_is_refused_before_anything_starts(
    outflow: Run, file: Path, at: str, problem: str
):
    file.write_text(file.read_text().split("schedule:")[0])
    done = outflow("send", str(file), "--at", at, "--json")

    assert done.returncode == 1
    assert problem in json.loads(done.stdout)["error"]


def test_a_script_whose_time_is_empty_sends_nothing_at_once(ledger: Engine, outflow: Run, file: Path):
    file.write_text(file.read_text().split("schedule:")[0])
    done = outflow("send", str(file), "--at", "", "--json")

    assert done.returncode == 2
    assert "name a time, or now" in done.stdout + done.stderr
    with ledger.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM campaigns")).scalar_one() == 0
