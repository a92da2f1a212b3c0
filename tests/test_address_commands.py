"""The commands on addresses, as a person runs them: a process each, without Prefect."""

import csv
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from sqlalchemy import Engine, text

from tests.fakes.dns import FakeDns

OUTFLOW = Path(sys.executable).with_name("outflow")
NAMES = {"com": ["NS ns.example."], "good.example": ["MX 10 mail.example."], "null.example": ["MX 0 ."]}

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def outflow(tmp_path: Path, database_url: str) -> Run:
    """Run a command; Prefect could not even be imported."""
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "prefect.py").write_text("raise AssertionError('Prefect was imported')")
    surroundings = {
        "OUTFLOW_DATABASE_URL": database_url,
        "PYTHONPATH": f"{absent}:{os.environ.get('PYTHONPATH', '')}",
    }

    def run(*arguments: str | Path, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess:
        return subprocess.run(
            [OUTFLOW, *arguments],
            env=os.environ | surroundings,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            stdin=stdin,
            timeout=120,
        )

    return run


@pytest.fixture
def dns() -> Iterator[str]:
    with FakeDns(NAMES).running() as running:
        yield f"127.0.0.1:{running.port}"


@pytest.fixture
def typed() -> Iterator[Callable[[str], int]]:
    """Make a terminal on which this was typed."""
    ends = pty.openpty()

    def make(line: str) -> int:
        os.write(ends[0], line.encode())
        return ends[1]

    yield make
    for end in ends:
        os.close(end)


@pytest.fixture
def customers(ledger: Engine) -> None:
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO contacts (email_key, email) VALUES
                    ('ada@good.example', 'ada@good.example'), ('bo@null.example', 'bo@null.example'),
                    ('info@good.example', 'info@good.example');
                INSERT INTO audiences (name) VALUES ('customers');
                INSERT INTO audience_members SELECT 1, id FROM contacts
            """)
        )


def said(done: subprocess.CompletedProcess, code: int = 0) -> dict:
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.mark.usefixtures("customers")
def test_an_audience_is_verified_without_prefect(outflow: Run, dns: str, tmp_path: Path):
    told = outflow("verify", "customers", "--dns", dns, "--csv", "not-good.csv")
    [found] = said(outflow("verify", "customers", "--dns", dns, "--json"))["audiences"]

    assert told.returncode == 0, told.stderr
    assert "customers: 3 addresses of 3 contacts; DNS was asked about 2 domains" in told.stdout
    assert [line.rstrip().split(maxsplit=2) for line in told.stdout.splitlines()[2:5]] == [
        ["1", "good"],
        ["1", "bad", "takes no mail"],
        ["1", "risky", "e-mail: a role, not a person"],
    ]
    rows = list(csv.DictReader((tmp_path / "not-good.csv").read_text("utf-8-sig").splitlines()))
    assert [row["address"] for row in rows] == ["bo@null.example", "info@good.example"]
    assert found["verdicts"] == {"good": 1, "risky": 1, "unknown": 0, "bad": 1}
    assert found["domains_asked"] == 0  # the first run asked


@pytest.mark.usefixtures("customers")
def test_a_file_goes_before_an_audience_of_its_name(outflow: Run, dns: str, tmp_path: Path):
    (tmp_path / "customers").write_text("email\nada@example.org\nbo@example.org\n")

    file = outflow("verify", "customers", "--json")
    audience = outflow("verify", "--audience", "customers", "--dns", dns, "--json")

    assert [one["rows"] for one in said(file)["files"]] == [2]
    assert "customers is a file here and an audience; for the audience: --audience customers" in file.stderr
    assert [one["contacts"] for one in said(audience)["audiences"]] == [3]


@pytest.mark.usefixtures("customers")
def test_a_folder_of_its_name_hides_no_audience(outflow: Run, dns: str, tmp_path: Path):
    (tmp_path / "customers").mkdir()

    assert said(outflow("verify", "customers", "--dns", dns, "--json"))["audiences"][0]["contacts"] == 3


def test_addresses_are_held_against_dns_when_asked_to(outflow: Run, dns: str):
    addresses = ["ada@good.example", "bo@null.example", "cy@gone.example", "d@e@f"]

    asked = outflow("verify", *addresses, "--domains", "--dns", dns, "--json")
    told = outflow("verify", "bo@null.example", "--domains", "--dns", dns)
    unasked = outflow("verify", "bo@null.example", "--json")

    assert [one["domain"] for one in said(asked, 1)["addresses"]] == [
        "takes mail",
        "takes no mail",
        "no such domain",
        None,
    ]
    assert told.stdout == "bo@null.example: good, bo@null.example; its domain: takes no mail\n"
    assert said(unasked)["addresses"][0]["domain"] is None


@pytest.mark.usefixtures("customers")
@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["verify"], 2, "name an audience, a file or an address"),
        (
            ["verify", "custmers"],
            1,
            "there is no file custmers: check the path; and there is no audience 'custmers'",
        ),
        (["verify", "a@b.org", "--csv", "x.csv"], 2, "addresses of one audience"),
        (["verify", "customers", "--domains"], 2, "of an audience DNS is always asked"),
        (["verify", "customers", "--dns", "nowhere"], 1, "write its IP address"),
        (["verify", "customers", "--csv", "x.xlsx"], 1, "ends in .csv or .parquet"),
        (["suppress", "add"], 2, "name addresses or a file"),
        (["suppress", "add", "a@b.org", "--file", "x.csv"], 2, "name addresses or a file"),
        (["suppress", "add", "--file", "x.csv"], 1, "there is no file x.csv"),
        (["suppress", "add", "a@b.org", "--expires", "soon"], 1, "neither a length of time"),
        (["suppress", "add", "a@b.org", "--reason", "why"], 2, "'why' is not one of"),
        (["suppress", "add", "07400000001", "--region", "XX"], 1, "XX is not a country code"),
        (["suppress", "remove", "bob"], 1, "number 1 of what was typed is no address"),
        (["suppress", "list", "--since", "then"], 1, "neither a length of time"),
        (["suppress", "export", "x.xlsx"], 1, "ends in .csv or .parquet"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_a_sentence(outflow: Run, arguments: list[str], code: int, sentence: str):
    done = outflow(*arguments)

    assert (done.returncode, done.stdout) == (code, "")
    # A terminal of 80 columns breaks lines of usage errors, between borders.
    assert sentence in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("ledger")
def test_suppressions_are_added_listed_exported_and_lifted(outflow: Run, tmp_path: Path):
    added = said(
        outflow("suppress", "add", "Ada@Example.org", "+44 7400 000001", "--expires", "90d", "--json")
    )
    bad = outflow("suppress", "add", "bo@example.org", "bob", "--reason", "bounced")
    listed = said(outflow("suppress", "list", "--json"))["suppressions"]
    numbers = outflow("suppress", "list", "--channel", "whatsapp", "--since", "1d")
    exported = outflow("suppress", "export", "all.parquet")
    lifted = outflow("suppress", "remove", "ada@example.org", "cy@example.org")

    assert (added["added"], added["known"], added["refused"]) == (2, 0, [])
    assert (bad.returncode, "refused: bob: e-mail: no @" in bad.stdout) == (1, True)
    assert [(one["channel"], one["address"], one["reason"]) for one in listed] == [
        ("email", "ada@example.org", "manual"),
        ("whatsapp", "+447400000001", "manual"),
        ("email", "bo@example.org", "bounced"),
    ]
    assert " on " in listed[0]["source"]
    [line] = numbers.stdout.splitlines()
    assert line.startswith("whatsapp  +447400000001  manual ")
    assert "1 suppressed" in numbers.stderr
    assert (exported.stdout, pl.read_parquet(tmp_path / "all.parquet").height) == (
        "3 suppressions are in all.parquet\n",
        3,
    )
    assert lifted.stdout == "not suppressed: cy@example.org\n1 suppressions are lifted.\n"
    [ended] = [
        one
        for one in said(outflow("suppress", "list", "--ended", "--json"))["suppressions"]
        if one["lifted_by"]
    ]
    assert (ended["address"], " on " in ended["lifted_by"]) == ("ada@example.org", True)


@pytest.mark.usefixtures("ledger")
def test_no_suppressions_are_an_empty_list(outflow: Run):
    assert said(outflow("suppress", "list", "--json")) == {"suppressions": []}
    assert outflow("suppress", "list").stdout == ""


@pytest.mark.usefixtures("ledger")
def test_a_file_is_taken_with_its_bad_rows_named(outflow: Run, tmp_path: Path):
    (tmp_path / "out.csv").write_text("Name;E-Mail\nAda;ada@example.org\nBo;bo\n")

    done = outflow("suppress", "add", "--file", "out.csv", "--reason", "unsubscribed")

    assert done.returncode == 1
    assert done.stdout.startswith(
        "refused: row 3: e-mail: no @\n1 addresses are suppressed now, 0 were before"
    )


@pytest.mark.parametrize("reason", ["unsubscribed", "complained"])
@pytest.mark.usefixtures("ledger")
def test_a_wish_is_lifted_only_when_the_person_has_asked(outflow: Run, typed, reason: str):
    outflow("suppress", "add", "ada@example.org", "--reason", reason)

    unasked = outflow("suppress", "remove", "ada@example.org")
    no = outflow("suppress", "remove", "ada@example.org", stdin=typed("n\n"))
    kept = said(outflow("suppress", "list", "--json"))["suppressions"]
    yes = outflow("suppress", "remove", "ada@example.org", stdin=typed("y\n"))

    assert (unasked.returncode, no.returncode, len(kept)) == (1, 1, 1)
    assert "may only be lifted when the person has asked for messages again" in unasked.stderr
    assert f"ada@example.org has {reason}" in no.stderr
    assert (yes.returncode, yes.stdout.strip(" ")) == (0, "1 suppressions are lifted.\n")


@pytest.mark.usefixtures("ledger")
def test_with_yes_nothing_is_asked(outflow: Run):
    outflow("suppress", "add", "ada@example.org", "--reason", "complained")

    assert said(outflow("suppress", "remove", "ada@example.org", "--yes", "--json"))["lifted"] == 1
