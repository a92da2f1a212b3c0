"""A person's answer to a draft at a terminal: a process each, without Prefect."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from messaging.campaign.planning import keep_campaign
from schemas.campaign import CampaignSpec

OUTFLOW = Path(sys.executable).with_name("outflow")
FIGURES = {"campaign", "number", "state", "changed", "recipients", "said"}

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def outflow(tmp_path: Path, database_url: str) -> Run:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    (tmp_path / "prefect.py").write_text("raise AssertionError('Prefect was imported')")
    homes = {
        "OUTFLOW_HOME": str(tmp_path / "home"),
        "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
    }
    surroundings = kept | homes | {"OUTFLOW_DATABASE_URL": database_url}

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


@pytest.fixture(autouse=True)
def draft(ledger: Engine, spec: CampaignSpec) -> None:
    """A draft that is to start tomorrow."""
    with ledger.begin() as connection:
        connection.execute(text("INSERT INTO audiences (name) VALUES ('customers')"))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    keep_campaign(ledger, spec.model_copy(update={"approval": True}), tomorrow)


def said(done: subprocess.CompletedProcess) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_approved_it_is_scheduled_and_a_second_answer_is_told_so(outflow: Run):
    shown = outflow("approve", "spring-offer", "--comment", "looks fine")
    again = said(outflow("approve", "spring-offer", "--json"))
    other = outflow("reject", "spring-offer", "--comment", "no", "--json")

    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("campaign 'spring-offer' is approved, and starts at ")
    assert again.keys() == FIGURES
    assert (again["changed"], again["state"]) == (False, "scheduled")
    assert again["said"].endswith("(looks fine)")
    assert other.returncode == 1
    refused = json.loads(other.stdout)["error"]
    assert "was approved by " in refused
    assert refused.endswith("so it cannot be rejected; to stop it: outflow cancel 'spring-offer'")
    assert other.stderr == f"outflow: {refused}\n"


def test_rejected_it_is_cancelled_for_the_reason_given(outflow: Run):
    rejected = said(outflow("reject", "spring-offer", "--comment", "wrong price", "--json"))
    report = said(outflow("report", "spring-offer", "--json"))

    assert (rejected["changed"], rejected["state"]) == (True, "cancelled")
    assert rejected["said"] == "campaign 'spring-offer' is rejected: nobody will be written to"
    assert report["state"] == "cancelled"
    assert report["decisions"][-1]["said"] == "rejected: wrong price"
    assert " on " in report["decisions"][-1]["who"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["approve", "autumn"], "there is no campaign 'autumn' (campaigns: spring-offer)"),
        (["reject", "autumn", "--comment", "no"], "there is no campaign 'autumn'"),
        (["approve", "spring-offer", "--comment", "ask a@b.org"], "may not hold addresses"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_a_sentence(outflow: Run, arguments: list[str], sentence: str):
    done = outflow(*arguments, "--json")

    assert done.returncode == 1
    assert sentence in json.loads(done.stdout)["error"]
    assert len(done.stderr.splitlines()) == 1


def test_who_rejects_says_why(outflow: Run):
    done = outflow("reject", "spring-offer")

    assert done.returncode == 2
    assert "--comment" in done.stderr
