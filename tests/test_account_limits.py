"""Limiting an account as a person does: the command needs no Prefect."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine

from messaging.storage import limits
from messaging.storage.limits import Limit
from schemas.accounts import KINDS, SECRETS

OUTFLOW = Path(sys.executable).with_name("outflow")
ACCOUNT = "smtp-account/main"

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def outflow_account(tmp_path: Path, database_url: str, ledger: Engine) -> Run:
    """Run `outflow account`; Prefect could not even be imported."""
    assert ledger
    (tmp_path / "prefect.py").write_text("raise AssertionError('Prefect was imported')")
    surroundings = {
        "OUTFLOW_DATABASE_URL": database_url,
        "OUTFLOW_HOME": str(tmp_path),  # where no server has ever run
        "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [OUTFLOW, "account", *arguments],
            env=os.environ | surroundings,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )

    return run


@pytest.fixture
def limit(outflow_account: Run) -> Run:
    return partial(outflow_account, "limit")


def test_limits_are_set_one_by_one_shown_lifted_and_cleared(limit: Run):
    assert limit(ACCOUNT).stdout == f"{ACCOUNT}: no limit\n"

    rates = ["--rate", "200/s", "--domain", "googlemail.com=20/s", "--domain", "t-online.de=100/m"]
    limit(ACCOUNT, *rates)
    shown = limit(ACCOUNT, "--per-day", "50000").stdout
    assert shown == f"{ACCOUNT}: 200/s, 50,000 in 24 hours, gmail.com 20/s, t-online.de 100/m\n"

    said = json.loads(limit(ACCOUNT, "--rate", "none", "--domain", "t-online.de=none", "--json").stdout)
    nothing = {"rate": None, "per_day": None, "portfolio": None, "portfolio_per_day": None}
    assert said == {
        "account": ACCOUNT,
        "rate": None,
        "per_day": 50000,
        "domains": {"gmail.com": "20/s"},
        "runs": None,
        "provider": nothing,
    }

    assert limit(ACCOUNT, "--clear", "--rate", "5/s").stdout == f"{ACCOUNT}: 5/s\n"


def test_what_the_provider_allows_is_shown_and_stays_when_a_person_clears(limit: Run, ledger: Engine):
    with ledger.begin() as connection:
        limits.set_quota(connection, ACCOUNT, Limit(14.0, 50_000), None)

    allowed = "(the provider allows 14/s and 50,000 a day)"
    assert limit(ACCOUNT, "--rate", "200/s").stdout == f"{ACCOUNT}: 200/s {allowed}\n"
    assert limit(ACCOUNT, "--clear").stdout == f"{ACCOUNT}: no limit {allowed}\n"
    said = json.loads(limit(ACCOUNT, "--json").stdout)
    assert (said["rate"], said["provider"]["rate"], said["provider"]["per_day"]) == (None, "14/s", 50_000)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["main"], "'main' is no account: write its type and name, as in smtp-account/main"),
        ([ACCOUNT, "--rate", "fast"], "rate: 'fast' is not a rate: write a number, a slash"),
        ([ACCOUNT, "--per-day", "0"], "per-day: '0' is not a number of messages: write one such as 50000"),
        (
            [ACCOUNT, "--domain", "gmail=5/s"],
            "'gmail' is not a domain: write DOMAIN=RATE, as in gmail.com=20/s",
        ),
        ([ACCOUNT, "--runs", "0"], "runs: '0' is not a number of runs: write one such as 1, or none"),
        ([ACCOUNT, "--domain", "gmail.com=5"], "gmail.com: '5' is not a rate"),
    ],
)
def test_what_is_no_limit_gets_a_sentence_and_changes_nothing(
    limit: Run, arguments: list[str], sentence: str
):
    done = limit(*arguments, "--json")

    assert done.returncode == 1
    assert sentence in json.loads(done.stdout)["error"]
    assert limit(ACCOUNT).stdout == f"{ACCOUNT}: no limit\n"


@pytest.mark.parametrize("secret", sorted(SECRETS))
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(outflow_account: Run, secret: str):
    done = outflow_account("add", "smtp", "main", "host=h", f"{secret}=canary-Zq9", "--json")

    assert done.returncode == 1
    assert f"write {secret}=@env:VARIABLE or {secret}=@file:PATH" in json.loads(done.stdout)["error"]
    assert "canary" not in done.stdout + done.stderr


def test_the_kinds_of_accounts_are_told_without_prefect(outflow_account: Run):
    shown = outflow_account("add", "--help").stdout

    assert all(kind in shown for kind in KINDS)
