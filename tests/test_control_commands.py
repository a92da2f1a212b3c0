"""The commands that control a campaign, as a person runs them: a process each, without Prefect."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from messaging.campaign.planning import keep_campaign, plan_campaign
from messaging.storage import campaigns, throttles
from messaging.storage.limits import domain_key
from messaging.storage.throttles import Asked
from schemas.campaign import CampaignSpec
from schemas.pacing import Pacing

OUTFLOW = Path(sys.executable).with_name("outflow")
FIGURES = {"campaign", "number", "state", "changed", "recipients", "said"}

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def surroundings(tmp_path: Path, database_url: str) -> dict[str, str]:
    """An environment in which Prefect could not even be imported."""
    (tmp_path / "prefect.py").write_text("raise AssertionError('Prefect was imported')")
    path = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    return os.environ | path | {"OUTFLOW_DATABASE_URL": database_url}


@pytest.fixture
def outflow(surroundings: dict[str, str]) -> Run:
    def run(*arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess:
        return subprocess.run(
            [OUTFLOW, *arguments],
            env=surroundings,
            capture_output=True,
            text=True,
            check=False,
            stdin=stdin,
            timeout=120,
        )

    return run


@pytest.fixture(autouse=True)
def planned(ledger: Engine, spec: CampaignSpec) -> None:
    """A running campaign with two recipients, of whom the first is unknown."""
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO audiences (name) VALUES ('customers');
                INSERT INTO contacts (email_key, email, name, consent_source)
                    VALUES ('ada@b.org', 'ada@b.org', 'Ada', 'form'), ('bo@b.org', 'bo@b.org', 'Bo', 'form');
                INSERT INTO audience_members (audience_id, contact_id) SELECT 1, id FROM contacts
            """)
        )
    plan_campaign(ledger, spec)
    with ledger.begin() as connection:
        connection.execute(text("UPDATE attempts SET state = 'unknown', answered_at = now() WHERE id = 1"))


@pytest.fixture
def terminal() -> Iterator[Callable[[str], int]]:
    """Make a terminal on which this was typed."""
    ends = pty.openpty()

    def typed(line: str) -> int:
        os.write(ends[0], line.encode())
        return ends[1]

    yield typed
    for end in ends:
        os.close(end)


def said(done: subprocess.CompletedProcess) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_command_says_in_one_sentence_what_it_did(outflow: Run, ledger: Engine):
    paced = outflow("pace", "spring-offer", "--rate", "50/s")
    paused = outflow("pause", "spring-offer", "--because", "a wrong price")
    resolved = outflow("resolve", "spring-offer", "--as", "accepted")
    cancelled = outflow("cancel", "spring-offer")

    assert paced.stdout == "the pace of campaign 'spring-offer' is now: at most 50/s\n"
    assert paused.stdout == (
        "campaign 'spring-offer' is paused with 1 recipient still to be sent to; "
        "to go on: outflow resume spring-offer\n"
    )
    assert resolved.stdout == "1 recipient of campaign 'spring-offer' is accepted now\n"
    assert cancelled.stdout == "campaign 'spring-offer' is cancelled: 1 recipient will not be written to\n"
    with ledger.begin() as connection:
        campaign = campaigns.find(connection, "spring-offer")
    assert campaign.spec.pacing == Pacing(rate="50/s")
    report = said(outflow("report", "spring-offer", "--json"))
    assert (report["accepted"], report["cancelled"]) == (1, 1)
    assert [decision["said"].split()[0] for decision in report["decisions"]] == [
        "pace:",
        "paused:",
        "called",
        "cancelled",
    ]
    assert {" on " in decision["who"] for decision in report["decisions"]} == {True}


def test_repeated_every_command_succeeds_and_changes_nothing(outflow: Run):
    for arguments in (
        ["pace", "spring-offer", "--human", "10-25s"],
        ["pause", "spring-offer"],
        ["resolve", "spring-offer", "--as", "accepted", "--batch", "1"],
        ["cancel", "spring-offer", "--yes"],
    ):
        first, second = (said(outflow(*arguments, "--json")) for _ in range(2))
        assert first.keys() == FIGURES
        assert (first["changed"], second["changed"], second["recipients"]) == (True, False, 0)
        assert first["state"] == second["state"]


@pytest.mark.parametrize(("typed", "state"), [("y\n", "cancelled"), ("\n", "running")])
def test_at_a_terminal_a_cancel_asks_first(outflow: Run, terminal, typed: str, state: str):
    done = outflow("cancel", "spring-offer", stdin=terminal(typed))

    assert "Cancel campaign 'spring-offer'?" in done.stderr
    assert said(outflow("status", "spring-offer", "--json"))["state"] == state
    assert done.returncode == (0 if state == "cancelled" else 1)


def test_at_a_terminal_yes_asks_nothing(outflow: Run, terminal):
    done = outflow("cancel", "spring-offer", "--yes", stdin=terminal("n\n"))

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["pause", "autumn"], "there is no campaign 'autumn' (campaigns: spring-offer)"),
        (["cancel", "autumn", "--yes"], "there is no campaign 'autumn'"),
        (["pause", "spring-offer", "--because", "a@b.org"], "may not hold addresses"),
        (["pace", "spring-offer", "--rate", "fast"], "rate: 'fast' is not a rate"),
        (["resolve", "spring-offer", "--as", "resend", "--batch", "7"], "has no batch 7: it has 1 to 1"),
        (["retry", "spring-offer", "--limit", "5"], "limit is of those sent to again: choose states too"),
        (["resume", "spring-offer", "--because", "a@b.org"], "may not hold addresses"),
        (["status", "autumn", "--history"], "there is no campaign 'autumn'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_a_sentence_before_prefect_is_started(
    outflow: Run, arguments: list[str], sentence: str
):
    done = outflow(*arguments, "--json")

    assert done.returncode == 1
    assert sentence in json.loads(done.stdout)["error"]
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "state"),
    [
        (["resume"], "finished"),
        (["resume"], "cancelled"),
        (["retry", "--state", "rejected"], "cancelled"),
        (["resolve", "--as", "resend"], "finished"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_what_has_ended_gets_a_sentence(outflow: Run, ledger: Engine, arguments: list[str], state: str):
    with ledger.begin() as connection:
        connection.execute(text("UPDATE attempts SET state = 'accepted'"))
        connection.execute(text("UPDATE campaigns SET state = :state"), {"state": state})

    done = outflow(arguments[0], "spring-offer", *arguments[1:])

    assert done.returncode == 1
    assert "campaign 'spring-offer'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["pace", "spring-offer"],
        ["pace", "spring-offer", "--rate", "5/s", "--free"],
        ["resolve", "spring-offer", "--as", "rejected"],
        ["status", "--history"],
    ],
    ids=" ".join,
)
def test_wrong_use_exits_with_2(outflow: Run, arguments: list[str]):
    done = outflow(*arguments)

    assert done.returncode == 2
    assert "Usage: outflow" in done.stderr


def test_every_change_is_told_with_when_who_and_why(outflow: Run):
    outflow("pause", "spring-offer", "--because", "a wrong price")
    outflow("pace", "spring-offer", "--rate", "50/s", "--because", "the relay is slow")
    outflow("cancel", "spring-offer", "--because", "sold [out]")

    told = said(outflow("status", "spring-offer", "--history", "--json"))
    shown = outflow("status", "spring-offer", "--history").stdout

    assert (told["campaign"], told["number"], told["state"]) == ("spring-offer", 1, "cancelled")
    assert [(change["state"], change["said"]) for change in told["changes"]] == [
        ("running", "started"),
        ("paused", "paused: a wrong price"),
        ("paused", "pace: at most 50/s: the relay is slow"),
        ("cancelled", "cancelled: sold [out]"),
    ]
    assert {" on " in change["who"] for change in told["changes"][1:]} == {True}
    times = [datetime.fromisoformat(change["at"]) for change in told["changes"]]
    assert times == sorted(times)
    assert {at.tzinfo is None for at in times} == {False}
    assert "Campaign 'spring-offer' is cancelled." in shown
    lines = [line for line in shown.splitlines() if re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+ ", line)]
    assert len(lines) == 4
    assert "  paused     paused: a wrong price  (by " in lines[1]
    assert "  cancelled  cancelled: sold [out]  (by " in lines[3]


def test_what_waits_says_for_what_and_what_is_to_come_says_when(
    outflow: Run, ledger: Engine, spec: CampaignSpec
):
    due_at = datetime(2031, 7, 1, 8, tzinfo=UTC)
    london = spec.model_copy(update={"time_zone": "Europe/London"})
    keep_campaign(ledger, london.model_copy(update={"name": "summer"}), due_at)
    keep_campaign(ledger, london.model_copy(update={"name": "big one", "approval": True}), due_at)

    shown = outflow("status").stdout
    figures = said(outflow("status", "summer", "--json"))

    assert "summer starts at Tue 2031-07-01 09:00 BST" in shown
    assert "big one waits for approval, and starts at Tue 2031-07-01 09:00 BST then: outflow approve" in shown
    assert (figures["state"], datetime.fromisoformat(figures["due_at"])) == ("scheduled", due_at)


def test_what_slows_a_campaign_down_and_who_waits_is_said_until_when_and_why(outflow: Run, ledger: Engine):
    asked = Asked(observed=24.0, pause=None, reason="421 4.7.28")
    with ledger.begin() as connection:
        connection.execute(text("UPDATE attempts SET not_before = now() + interval '1 h' WHERE id = 2"))
        throttles.slow(connection, domain_key("smtp-account/main", "gmail.com"), None, asked)

    figures = said(outflow("status", "spring-offer", "--json"))
    told = outflow("status").stdout

    assert (figures["deferred"], "next_turn_at" in figures) == (1, True)
    [slowdown] = figures["slowdowns"]
    assert (slowdown["what"], int(slowdown["per_second"])) == ("gmail.com", 12)  # and it recovers
    assert 'spring-offer: 1 recipient waits after a "not now"; the next turn is at' in told
    assert "spring-offer: gmail.com slowed to 12" in told
    assert "because 421 4.7.28" in told
