"""Limiting an account as a person does: the command needs no Prefect."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

OUTFLOW = Path(sys.executable).with_name("outflow")
ACCOUNT = "smtp-account/main"

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def limit(tmp_path: Path, database_url: str, ledger: Engine) -> Run:
    """Run `outflow account limit`; Prefect could not even be imported."""
    assert ledger
    (tmp_path / "prefect.py").write_text("raise AssertionError('Prefect was imported')")
    surroundings = {
        "OUTFLOW_DATABASE_URL": database_url,
        "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [OUTFLOW, "account", "limit", *arguments],
            env=os.environ | surroundings,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )

    return run


def test_limits_are_set_one_by_one_shown_lifted_and_cleared(limit: Run):
    assert limit(ACCOUNT).stdout == f"{ACCOUNT}: no limit\n"

    rates = ["--rate", "200/s", "--domain", "googlemail.com=20/s", "--domain", "t-online.de=100/m"]
    limit(ACCOUNT, *rates)
    shown = limit(ACCOUNT, "--per-day", "50000").stdout
    assert shown == f"{ACCOUNT}: 200/s, 50,000 in 24 hours, gmail.com 20/s, t-online.de 100/m\n"

    said = json.loads(limit(ACCOUNT, "--rate", "none", "--domain", "t-online.de=none", "--json").stdout)
    assert said == {"account": ACCOUNT, "rate": None, "per_day": 50000, "domains": {"gmail.com": "20/s"}}

    assert limit(ACCOUNT, "--clear", "--rate", "5/s").stdout == f"{ACCOUNT}: 5/s\n"


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
