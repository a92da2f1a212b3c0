"""The export command as a person runs it: a process of its own, without Prefect."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from sqlalchemy import Engine, text

from schemas.campaign import CampaignSpec

OUTFLOW = Path(sys.executable).with_name("outflow")
GERMANY = """name: germany
members_of: [customers]
where: country = "DE"
"""

LEDGER = """
    INSERT INTO contacts (email_key, email, country)
        VALUES ('ada@example.org', 'ada@example.org', 'DE'), ('bo@example.org', 'bo@example.org', 'FR');
    INSERT INTO audiences (name) VALUES ('customers');
    INSERT INTO audience_members SELECT 1, id FROM contacts;
    INSERT INTO campaigns (name, spec, state)
        SELECT name, CAST(:spec AS jsonb), 'running' FROM unnest(ARRAY['spring', 'summer']) name;
    INSERT INTO batches (campaign_id, number) VALUES (1, 1);
    INSERT INTO attempts (campaign_id, batch_id, address_key, address)
        SELECT 1, 1, email, email FROM contacts
"""

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def outflow(tmp_path: Path, database_url: str, ledger: Engine, spec: CampaignSpec) -> Run:
    """Run a command on two customers of one campaign; Prefect could not even be imported."""
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "prefect.py").write_text("raise AssertionError('Prefect was imported')")
    with ledger.begin() as connection:
        for statement in LEDGER.split(";\n"):
            connection.execute(text(statement), {"spec": spec.model_dump_json()})
    surroundings = {
        "OUTFLOW_DATABASE_URL": database_url,
        "PYTHONPATH": f"{absent}:{os.environ.get('PYTHONPATH', '')}",
    }

    def run(*arguments: str | Path) -> subprocess.CompletedProcess:
        return subprocess.run(
            [OUTFLOW, *arguments],
            env=os.environ | surroundings,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )

    return run


def test_a_campaigns_attempts_and_an_audiences_contacts(outflow: Run, tmp_path: Path):
    (tmp_path / "germany.yaml").write_text(GERMANY)
    assert outflow("audience", "save", "germany.yaml").returncode == 0

    of_spring = outflow("export", "attempts", "spring.parquet", "--campaign", "spring")
    of_summer = outflow("export", "attempts", "summer.csv", "--campaign", "summer", "--json")
    germans = outflow("export", "contacts", "germans.csv", "--audience", "germany", "--json")

    assert of_spring.stdout.startswith("2 rows in spring.parquet."), of_spring.stderr
    assert pl.read_parquet(tmp_path / "spring.parquet")["campaign"].to_list() == ["spring"] * 2
    assert json.loads(of_summer.stdout) == {"file": "summer.csv", "rows": 0}
    assert json.loads(germans.stdout)["rows"] == 1
    assert pl.read_csv(tmp_path / "germans.csv")["email"].to_list() == ["ada@example.org"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["contacts", "c.csv", "--campaign", "spring"], "contacts are chosen by --audience"),
        (["failed", "f.csv", "--audience", "customers"], "failed are chosen by --campaign"),
        (
            ["failed", "f.csv", "--campaign", "autumn"],
            "there is no campaign 'autumn' (campaigns: summer, spring)",
        ),
        (["contacts", "c.csv", "--audience", "nobody"], "there is no audience 'nobody'"),
        (["contacts", "c.xlsx"], "c.xlsx ends in neither .csv nor .parquet"),
        (["contacts", "nowhere/c.csv"], "nowhere/c.csv cannot be written (No such file or directory)"),
    ],
)
def test_a_mistake_gets_a_sentence(outflow: Run, arguments: list[str], sentence: str):
    refused = outflow("export", *arguments)

    assert refused.returncode == 1
    assert sentence in " ".join(refused.stderr.split())
