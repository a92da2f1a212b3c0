"""The commands as a person runs them: a process each, one sentence when something is wrong."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import openpyxl
import pytest
import yaml
from sqlalchemy import Engine

from deployments import environment, serving
from messaging import sandbox
from messaging.audience.importing import import_file
from messaging.reports.numbers import all_reports
from messaging.settings import Settings
from schemas.contacts import ImportOptions
from tests.fakes.scripted_smtp import ScriptedSmtp, says

OUTFLOW = Path(sys.executable).with_name("outflow")
STATES = {"queued", "dispatched", "accepted", "rejected", "unknown", "suppressed", "cancelled"}
FIGURES = STATES | {"campaign", "number", "state", "planned", "seconds"}
CONTACTS = """email,name,mobile
ada@example.org,Ada,07400 000001
ADA@example.org,Ada L,
bo@example.org,Bo,
nobody.ed@example.org,Ed,
drop.flo@example.org,Flo,
no-at.example.org,Cy,
"""
CAMPAIGN = """name: spring-offer
account: smtp-account/main
audience: customers
subject: "Hello {{ name }}"
text: "Dear {{ name }}"
"""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> dict:
        """The one object on stdout."""
        assert self.code == 0, self.err
        return json.loads(self.out)

    def failed_with(self, sentence: str) -> None:
        """Check that it failed as a command run with --json should."""
        assert "Traceback" not in self.err
        assert self.code == 1
        lines = [line for line in self.err.splitlines() if line.startswith("outflow: ")]
        assert lines == self.err.splitlines()[-1:]  # what it was doing may stand above
        assert json.loads(self.out)["error"] == lines[0].removeprefix("outflow: ")
        assert sentence in lines[0]


Run = Callable[..., Done]


@pytest.fixture(scope="session")
def surroundings(tmp_path_factory: pytest.TempPathFactory, database_url: str) -> dict[str, str]:
    """The environment of an installation that nobody has used yet."""
    with pytest.MonkeyPatch.context() as patch:
        environment.apply()
        patch.setenv("OUTFLOW_HOME", str(tmp_path_factory.mktemp("outflow-home")))
        patch.setenv("OUTFLOW_DATABASE_URL", database_url)
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect-home")))
        patch.delenv("PREFECT_API_URL", raising=False)
        return dict(os.environ)


@pytest.fixture(scope="session")
def prefect_server(surroundings: dict[str, str]) -> Iterator[str]:
    """A Prefect server as `outflow up` starts it; the commands find it by themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in surroundings.items():
                patch.setenv(name, value)
            server = serving.server(Settings(), "127.0.0.1", port, print)
            runner.run(server.__aenter__())
        yield serving.api_url("127.0.0.1", port)
        runner.run(server.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def outflow(surroundings: dict[str, str]) -> Run:
    """Run a command that needs no Prefect server, or names its own."""

    def run(*arguments: str | Path, **variables: str) -> Done:
        done = subprocess.run(
            [OUTFLOW, *arguments],
            env=surroundings | variables,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def outflow_up(outflow: Run, prefect_server: str) -> Run:
    """Run a command beside a running Prefect server."""
    assert serving.answers(prefect_server)
    return outflow


@pytest.fixture
def contacts(tmp_path: Path) -> Path:
    file = tmp_path / "people.csv"
    file.write_text(CONTACTS)
    return file


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    file = tmp_path / "campaign.yaml"
    file.write_text(CAMPAIGN)
    return file


@pytest.fixture
def customers(ledger: Engine, contacts: Path) -> None:
    options = ImportOptions(audience="customers", region="GB", consent="a form")
    import_file(ledger, options, contacts, folder=contacts.parent / "home")


@pytest.fixture
def to_readers(ledger: Engine, campaign: Path, tmp_path: Path) -> Callable[[int, str], Path]:
    """Import so many readers, and write a campaign to them that has this line too."""

    def made(n: int, line: str) -> Path:
        file = tmp_path / "readers.csv"
        file.write_text("email,name\n" + "".join(f"reader{i}@example.org,Reader {i}\n" for i in range(n)))
        options = ImportOptions(audience="customers", consent="a form")
        import_file(ledger, options, file, folder=tmp_path / "home")
        campaign.write_text(f"{CAMPAIGN}{line}\n")
        return campaign

    return made


@pytest.mark.usefixtures("ledger")
def test_the_demonstration_reaches_everyone_it_can(outflow: Run, home: Path, tmp_path: Path):
    said = outflow("demo", "--json", OUTFLOW_HOME=str(home), PREFECT_HOME=str(tmp_path)).said

    assert said["state"] == "finished"
    assert said["queued"] == said["dispatched"] == said["cancelled"] == said["suppressed"] == 0
    assert said["accepted"] + said["rejected"] + said["unknown"] == said["planned"] > 200
    assert said["accepted"] <= said["received"] <= said["accepted"] + said["unknown"]
    assert said["rejected"] > 0


@pytest.mark.usefixtures("ledger")
def test_from_an_empty_installation_to_a_report(
    outflow_up: Run, contacts: Path, campaign: Path, tmp_path: Path, surroundings: dict[str, str]
):
    outflow = outflow_up
    assert outflow("account", "list", "--json").said == {"accounts": []}
    with sandbox.running(tmp_path / "outbox") as server:
        settings = [
            "host=127.0.0.1",
            f"port={server.port}",
            "security=none",
            "sender=Shop <news@example.org>",
        ]
        added = outflow("account", "add", "smtp", "main", *settings, "--json").said
        assert added == {"account": "smtp-account/main"}

        imported = outflow(
            *(
                "import",
                contacts,
                "--audience",
                "customers",
                "--region",
                "gb",
                "--consent",
                "a form",
                "--json",
            )
        ).said
        assert {"rows", "imported", "refused", "duplicates", "seconds", "refused_file"} <= imported.keys()
        assert (imported["rows"], imported["imported"]) == (6, 4)
        assert imported["rows"] == imported["imported"] + imported["refused"] + imported["duplicates"]
        refused = Path(imported["refused_file"])
        assert surroundings["OUTFLOW_HOME"] in str(refused)
        assert (refused.stat().st_mode & 0o777, refused.parent.stat().st_mode & 0o077) == (0o600, 0)
        assert "no-at.example.org" in refused.read_text()

        checked = outflow("check", campaign, "--json").said
        assert (checked["contacts"], checked["recipients"], checked["state"]) == (4, 4, None)
        assert f":{server.port} answers" in checked["accounts"]["smtp-account/main"]
        assert {line["what"]: line["verdict"] for line in checked["lines"]}["account"] == "ok"
        page = tmp_path / "preview.html"
        shown = outflow("check", campaign, "--preview", page)
        assert (shown.code, "✓ ok      audience" in shown.out) == (0, True)
        assert "ada@example.org" in page.read_text()
        assert page.stat().st_mode & 0o777 == 0o600
        assert server.received() == 0

        launched = outflow("send", campaign, "--json")
        assert "warning: postal address: messages must show a postal address" in launched.err
        sent = launched.said
        assert sent.keys() == FIGURES
        assert (sent["campaign"], sent["state"], sent["planned"]) == ("spring-offer", "finished", 4)
        assert (sent["accepted"], sent["rejected"], sent["unknown"]) == (2, 1, 1)
        assert sent["planned"] == sum(sent[state] for state in STATES)
        assert server.received() == sent["accepted"] + sent["unknown"]
        assert outflow("report", "spring-offer", "--json").said["reasons"]["550 5.1.1"] == 1

        again = outflow("send", campaign, "--json")
        again.failed_with("was sent already, so nothing was sent now")
        outflow("retry", "spring-offer", "--json").failed_with(
            "nothing of campaign 'spring-offer' is missing"
        )
        retried = outflow("retry", "spring-offer", "--state", "rejected", "--json").said
        # A server that knows no such mailbox has bounced it: not written to again until somebody lifts that.
        assert retried | {"seconds": 0} == sent | {"seconds": 0, "rejected": 0, "suppressed": 1}
        assert outflow("suppress", "remove", "nobody.ed@example.org", "--yes", "--json").code == 0
        assert server.received() == sent["accepted"] + sent["unknown"]

    assert outflow("status", "spring-offer", "--json").said == retried
    assert outflow("status", "--json").said == {"campaigns": [retried]}
    report = outflow("report", "spring-offer", "--json").said
    assert report.keys() == FIGURES | {"reasons", "excluded", "decisions", "unknown_recipients"}
    assert report["unknown_recipients"] == ["drop.flo@example.org"]


@pytest.mark.usefixtures("customers")
def test_a_test_message_goes_to_whom_it_is_told_and_is_no_campaign(
    outflow_up: Run, campaign: Path, ledger: Engine, tmp_path: Path
):
    outflow = outflow_up
    with sandbox.running(tmp_path / "outbox") as server:
        settings = ["host=127.0.0.1", f"port={server.port}", "security=none", "sender=news@example.org"]
        assert outflow("account", "add", "smtp", "main", *settings, "--json").code == 0

        said = outflow("test", campaign, "--to", "me@example.com", "ada@example.org", "--json").said
        refused = outflow("test", campaign, "--to", "nobody.me@example.com", "--to", "me@example.com")
        campaign.write_text(f"{CAMPAIGN}test_to: [boss@example.com]\n")
        usual = outflow("test", campaign, "--json").said
        campaign.write_text(CAMPAIGN)

    assert said.keys() == {"campaign", "account", "messages", "tracking"}
    assert [(one["to"], one["ending"]) for one in said["messages"]] == [
        ("me@example.com", "accepted"),
        ("ada@example.org", "accepted"),
    ]
    assert [one["to"] for one in usual["messages"]] == ["boss@example.com"]
    assert (refused.code, "Traceback" in refused.err) == (1, False)
    lines = refused.out.splitlines()
    assert lines[0].startswith("nobody.me@example.com: rejected, 550 5.1.1")
    assert lines[1].startswith("me@example.com: accepted, 250")
    assert server.received() == 4
    assert all_reports(ledger) == []

    outflow("test", campaign, "--json").failed_with("a test goes to 1 to 20 addresses: name them after --to")
    outflow("test", campaign, "--to", "me@example.com", "--simulator", "--json").failed_with(
        "only Amazon SES has one"
    )


async def test_paused_by_another_process_a_campaign_stops_and_resumed_it_sends_the_rest(
    outflow_up: Run, to_readers: Callable[..., Path], tmp_path: Path
):
    async def outflow(*arguments: str | Path) -> Done:
        return await asyncio.to_thread(outflow_up, *arguments, "--json")

    campaign = to_readers(40, "pacing: {rate: 4/s}")
    with sandbox.running(tmp_path / "outbox") as server:
        settings = ["host=127.0.0.1", f"port={server.port}", "security=none", "sender=news@example.org"]
        assert (await outflow("account", "add", "smtp", "main", *settings)).code == 0

        sending = asyncio.create_task(outflow("send", campaign))
        while server.received() < 3 and not sending.done():  # noqa: ASYNC110 - another process sends
            await asyncio.sleep(0.05)
        paused = (await outflow("pause", "spring-offer", "--because", "a wrong price")).said
        assert (paused["state"], paused["changed"]) == ("paused", True)
        (await sending).failed_with("is paused (a wrong price, by ")
        before = server.received()
        assert 3 <= before < 40
        assert (await outflow("pace", "spring-offer", "--free")).said["changed"]

        resumed = (await outflow("resume", "spring-offer")).said
        assert (resumed["state"], resumed["accepted"]) == ("finished", 40)
        copies = [file.read_text() for file in (server.outbox / "new").iterdir()]
        assert (
            len({copy.split("X-Sandbox-Rcpt-To: ")[1].split("\n")[0] for copy in copies}) == len(copies) == 40
        )

        (await outflow("resume", "spring-offer")).failed_with("nothing of campaign 'spring-offer' is missing")


async def test_of_a_chosen_batch_only_those_in_the_chosen_state_are_sent_to_again(
    outflow_up: Run, to_readers: Callable[..., Path], tmp_path: Path
):
    async def outflow(*arguments: str | Path) -> Done:
        return await asyncio.to_thread(outflow_up, *arguments, "--json")

    campaign = to_readers(6, "batch_size: 2")
    # Of each batch of two, the first is refused.
    smtp = ScriptedSmtp({"RCPT": [says("550 5.7.1 no"), None] * 3})
    async with smtp.running():
        settings = ["host=127.0.0.1", "security=none", "sender=news@example.org", "connections=1"]
        await outflow("account", "add", "smtp", "main", f"port={smtp.port}", *settings)
        sent = (await outflow("send", campaign)).said
        assert (sent["accepted"], sent["rejected"]) == (3, 3)
    with sandbox.running(tmp_path / "outbox") as server:
        await outflow("account", "add", "smtp", "main", f"port={server.port}", *settings)
        for arguments, sentence in (
            (["--batch", "4", "--state", "rejected"], "has no batch 4: it has 1 to 3"),
            (
                ["--batch", "2", "--state", "unknown"],
                "nobody in batch 2 of campaign 'spring-offer' is unknown",
            ),
            (["--batch", "2"], "nothing of batch 2 of campaign 'spring-offer' is missing"),
        ):
            (await outflow("retry", "spring-offer", *arguments)).failed_with(sentence)
        assert server.received() == 0

        retried = (await outflow("retry", "spring-offer", "--batch", "2", "--state", "rejected")).said
        assert (retried["accepted"], retried["rejected"], server.received()) == (4, 2, 1)


async def test_an_account_lives_and_its_password_shows_nowhere(outflow_up: Run):
    smtp = ScriptedSmtp(logins={"news": "canary-Zq9"})
    ran = []

    async def outflow(*arguments: str, **variables: str) -> Done:
        ran.append(await asyncio.to_thread(outflow_up, *arguments, "--json", **variables))
        return ran[-1]

    async with smtp.running():
        settings = [f"port={smtp.port}", "host=127.0.0.1", "security=none", "sender=news@example.org"]
        login = ["username=news", "password=@env:NEWS_PASSWORD"]
        await asyncio.gather(
            outflow("account", "add", "smtp", "right", *settings, *login, NEWS_PASSWORD="canary-Zq9"),
            outflow("account", "add", "smtp", "wrong", *settings, *login, NEWS_PASSWORD="canary-Zq8"),
        )
        right, wrong = await asyncio.gather(
            outflow("account", "verify", "smtp-account/right"),
            outflow("account", "verify", "smtp-account/wrong"),
        )
        assert right.said["met"].endswith("not encrypted, logged in as news")
        wrong.failed_with("AUTH: answered 535")

        found = {
            finding["what"]: finding for finding in json.loads((await outflow("doctor")).out)["findings"]
        }
        assert ran[-1].code == 1  # something is wrong: the login, and there is no work pool
        assert {"packages", "disk", "ledger", "Prefect server", "smtp-account/right"} <= found.keys()
        assert all(finding.keys() == {"what", "severity", "text"} for finding in found.values())
        severities = [found[f"smtp-account/{name}"]["severity"] for name in ("right", "wrong")]
        assert severities == ["ok", "fail"]

        removed = await outflow("account", "remove", "smtp-account/wrong")
        assert removed.said == {"removed": "smtp-account/wrong"}
    assert not any("canary" in done.out + done.err for done in ran)
    assert smtp.stored == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty"),
        ("city,plan\nLeeds,free\n", "no column named like an e-mail address or a phone number"),
    ],
    ids=["empty", "without an address column"],
)
def test_a_file_that_cannot_be_imported_gets_a_sentence(
    outflow_up: Run, tmp_path: Path, content: str, sentence: str
):
    file = tmp_path / "bad.csv"
    file.write_text(content)

    outflow_up("import", file, "--audience", "customers", "--json").failed_with(sentence)


@pytest.mark.usefixtures("ledger", "contacts")
def test_several_files_are_an_import_each_and_a_bad_one_stops_no_other(outflow_up: Run, tmp_path: Path):
    (tmp_path / "b.csv").write_text("city\nLeeds\n")
    workbook = openpyxl.Workbook()
    workbook.active.append(["Correo electrónico", "Nombre"])
    workbook.active.append(["ada@example.org", "Ada"])
    workbook.save(tmp_path / "c.xlsx")

    done = outflow_up(
        "import", f"{tmp_path}/*.csv", tmp_path / "c.xlsx", "--audience", "customers", "--save-map", "--json"
    )

    assert done.code == 1
    said = json.loads(done.out)
    assert [file["file_name"] for file in said["files"]] == ["people.csv", "c.xlsx"]
    assert (said["rows"], said["imported"], said["without_consent"]) == (7, 5, 5)
    assert "outflow: b.csv has no column" in done.err
    assert yaml.safe_load((tmp_path / "c.columns.yaml").read_text()) == {
        "name": ["Nombre"],
        "email": ["Correo electrónico"],
    }


@pytest.mark.usefixtures("ledger")
def test_an_import_says_what_it_understood_and_what_a_repeated_one_did(outflow_up: Run, contacts: Path):
    contacts.write_bytes("Correo;Nombre;Plan\nana@example.org;Begoña Ibáñez;oro\n".encode("cp1252"))

    first = outflow_up("import", contacts, "--audience", "customers", "--consent", "a form")
    again = outflow_up("import", contacts, "--audience", "customers", "--consent", "a form")

    for words in (
        "cells separated by semicolons, cp1252",
        "email      from 'Correo' (header)",
        "attributes Plan",
    ):
        assert words in first.out
    assert "1 contacts are in audience 'customers', 1 of them new" in first.out
    assert "was imported into 'customers' before, as import 1: nothing was done" in again.out


def test_verify_says_what_an_import_would_do_and_writes_nothing(outflow: Run, contacts: Path):
    done = outflow("verify", contacts, "ada@gmial.com", "bob", "a@b@c.org", "--region", "GB", "--json")

    done.failed_with("there is no file bob")
    done = outflow("verify", contacts, "ada@gmial.com", "a@b@c.org", "--region", "GB", "--json")
    assert done.code == 1
    said = json.loads(done.out)
    assert [one["suggestion"] for one in said["addresses"]] == ["gmial.com → gmail.com", ""]
    assert said["addresses"][1]["reason"] == "e-mail: more than one @"
    [file] = said["files"]
    assert (file["rows"], file["refused"]) == (6, 1)


def test_parse_finds_people_in_pasted_text_as_csv_that_import_takes(outflow: Run, tmp_path: Path):
    text = tmp_path / "pasted.txt"
    text.write_text("Dear all, Ada Lovelace <ada@example.org> and\nBo Diddley: 020 7946 0001\n\n")

    as_csv = outflow("parse", text, "--region", "gb")
    people = outflow("parse", text, "--region", "gb", "--json").said["people"]

    assert as_csv.out.splitlines() == [
        "Name,E-mail,Phone",
        "Ada Lovelace,ada@example.org,",
        "Bo Diddley,,+442079460001",
    ]
    assert [person["line"] for person in people] == [1, 2]


@pytest.mark.usefixtures("customers")
def test_sending_through_an_account_that_is_not_there_gets_a_sentence_and_plans_nothing(
    outflow_up: Run, campaign: Path, ledger: Engine
):
    campaign.write_text(CAMPAIGN.replace("smtp-account/main", "smtp-account/nowhere"))

    done = outflow_up("send", campaign, "--json")
    done.failed_with(
        "there is no account 'smtp-account/nowhere'; make it with: outflow account add smtp nowhere"
    )
    assert all_reports(ledger) == []


@pytest.mark.usefixtures("customers")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["import", "nowhere.csv", "--audience", "a"], "there is no file nowhere.csv"),
        (["import", "people.csv", "--audience", "a", "--region", "Britain"], "region"),
        (["check", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["check", "misspelt.yaml"], "surname"),
        (["send", "misspelt.yaml"], "surname"),
        (["report", "spring-offer"], "there is no campaign 'spring-offer' (campaigns: none yet)"),
        (
            ["retry", "spring-offer", "--state", "accepted"],
            "--state takes rejected and unknown, not accepted",
        ),
        (["account", "add", "smtp", "main", "host=h", "password=canary"], "write password=@env:VARIABLE"),
        (["account", "add", "smtp", "main", "password=@env:NOT_THERE"], "no environment variable NOT_THERE"),
        (["account", "add", "smtp", "main", "password=@file:nowhere"], "nowhere cannot be read"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else None,
)
def test_a_mistake_gets_a_sentence_before_prefect_is_started(
    outflow: Run, campaign: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
):
    campaign.with_name("misspelt.yaml").write_text(CAMPAIGN.replace("{{ name }}", "{{ surname }}"))
    monkeypatch.chdir(campaign.parent)
    # Without a server it would start a temporary one, and say so on stderr.
    done = outflow(*arguments, "--json")

    done.failed_with(sentence)
    assert len(done.err.splitlines()) == 1
    assert "canary" not in done.out + done.err


def test_a_database_that_is_not_there_gets_a_sentence_without_its_password(outflow: Run):
    done = outflow("status", "--json", OUTFLOW_DATABASE_URL="postgresql://u:canary@127.0.0.1:1/x")

    done.failed_with("the database of OUTFLOW_DATABASE_URL cannot be reached")
    assert "Connection refused" in done.err
    assert "canary" not in done.out + done.err


def test_a_prefect_server_that_does_not_answer_gets_a_sentence(outflow: Run):
    done = outflow("account", "list", "--json", PREFECT_API_URL="http://127.0.0.1:1/api")

    done.failed_with("the Prefect server at http://127.0.0.1:1/api does not answer: start it (outflow up)")


@pytest.mark.parametrize(
    "arguments",
    [
        ["sned"],
        ["import", "people.csv"],
        ["account", "add", "smtp", "main", "host"],
        ["demo", "--recipients", "0"],
    ],
    ids=" ".join,
)
def test_wrong_use_exits_with_2(outflow: Run, arguments: list[str]):
    done = outflow(*arguments)

    assert done.code == 2
    assert "Traceback" not in done.err
    assert "Usage: outflow" in done.err
