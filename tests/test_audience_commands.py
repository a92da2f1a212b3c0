"""The audience commands as a person runs them: a process each, without Prefect."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

OUTFLOW = Path(sys.executable).with_name("outflow")
GERMANY = """name: germany
members_of: [customers]
where: country = "DE" and plan in ("pro", "team")
"""

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def outflow(tmp_path: Path, database_url: str) -> Run:
    """Run a command; Prefect could not even be imported."""
    (tmp_path / "prefect.py").write_text("raise AssertionError('Prefect was imported')")
    surroundings = {
        "OUTFLOW_DATABASE_URL": database_url,
        "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
    }

    def run(*arguments: str | Path) -> subprocess.CompletedProcess:
        return subprocess.run(
            [OUTFLOW, "audience", *arguments],
            env=os.environ | surroundings,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )

    return run


@pytest.fixture
def customers(ledger: Engine) -> None:
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO contacts (email_key, email, country, consent_source, attributes) VALUES
                ('ada@example.org', 'ada@example.org', 'DE', 'form', '{"Plan": "pro"}'),
                ('bo@example.org', 'bo@example.org', 'FR', 'form', '{"Plan": "pro"}')
            """)
        )
        connection.execute(text("INSERT INTO audiences (name) VALUES ('customers')"))
        connection.execute(text("INSERT INTO audience_members SELECT 1, id FROM contacts"))


@pytest.mark.usefixtures("customers")
def test_a_filter_is_saved_counted_listed_shown_and_deleted(outflow: Run, tmp_path: Path):
    file = tmp_path / "germany.yaml"
    file.write_text(GERMANY)

    def said(*arguments: str | Path) -> dict:
        done = outflow(*arguments, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    assert said("save", file) == {
        "audience": "germany",
        "kind": "filter",
        "created": True,
        "unknown_fields": [],
    }
    counted = said("count", "germany", "--where", 'email starts with "ada"')
    assert (counted["contacts"], counted["reachable"]) == (1, 1)
    assert said("union", "copy", "germany", "customers")["members"] == 2
    assert said("difference", "abroad", "copy", "germany")["members"] == 1
    assert said("remove", "copy", "ada@example.org")["changed"] == 1
    assert [line["name"] for line in said("list")["audiences"]] == ["abroad", "copy", "customers", "germany"]
    assert said("show", "germany")["where"] == 'country = "DE" and plan in ("pro", "team")'
    assert said("delete", "germany") == {"deleted": "germany"}


@pytest.mark.usefixtures("customers")
def test_a_terminal_shows_figures_and_names_unknown_addresses(outflow: Run):
    listed, shown = outflow("list"), outflow("show", "customers")
    added = outflow("add", "customers", "ada@example.org", "nobody@example.org")

    assert "customers  list        2          2" in listed.stdout
    assert "customers: a list of 2 contacts" in shown.stdout
    assert (added.returncode, added.stderr) == (1, "")
    assert "unknown: nobody@example.org\n0 contacts joined 'customers', which has 2 now." in added.stdout


@pytest.mark.usefixtures("customers")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show", "custmers"], "there is no audience 'custmers'; did you mean 'customers'?"),
        (["count", "customers", "--where", "plan = pro"], "position 8: expected text in quotes"),
    ],
    ids=["name", "filter"],
)
def test_a_mistake_gets_a_sentence(outflow: Run, arguments: list[str], sentence: str):
    done = outflow(*arguments)

    assert done.returncode == 1
    assert done.stderr.startswith("outflow: ")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
