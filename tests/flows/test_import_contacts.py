"""An import's run tells counts, reasons, columns and the contract, and fails with one sentence."""

import os
import time
from pathlib import Path

import pytest
from prefect.filesystems import LocalFileSystem
from sqlalchemy import Engine, text

from flows.import_contacts import import_contacts
from flows.import_new_files import import_new_files
from messaging.errors import ContractBreach, InputError
from messaging.storage.imports import find_report
from schemas.contacts import ImportRequest, WatchRequest

# Prefect leaves sockets and streams of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def contacts(tmp_path: Path) -> Path:
    file = tmp_path / "people.csv"
    file.write_text(
        "email,name,mobile\n"
        "ada@example.org,Ada,07400 000001\n"
        "ADA@example.org,Ada L,\n"
        "bo@example.org,Bo,\n"
        "no-at.example.org,Cy,\n"
        ",Di,\n"
    )
    return file


def request_of(*files: object, **options) -> ImportRequest:
    return ImportRequest(files=list(map(str, files)), **{"audience": "customers", "region": "GB"} | options)


def private(file: str) -> tuple[tuple[int, int], str]:
    """Return the modes of a file and its folder, and the content."""
    path = Path(file)
    modes = path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777
    return modes, path.read_text(encoding="utf-8-sig").strip()


def count(ledger: Engine, table: str) -> int:
    with ledger.begin() as connection:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608 - our own


async def test_good_rows_are_imported_and_the_report_adds_up(ledger: Engine, contacts: Path):
    [report] = await import_contacts(request_of(contacts))

    assert (report.rows, report.imported, report.duplicates, report.refused) == (5, 2, 1, 2)
    with ledger.begin() as connection:
        emails = connection.execute(text("SELECT email FROM contacts ORDER BY email_key")).scalars().all()
    assert [email.lower() for email in emails] == ["ada@example.org", "bo@example.org"]
    assert (count(ledger, "audience_members"), count(ledger, "refused_rows")) == (2, 2)


@pytest.mark.usefixtures("ledger")
async def test_its_artifacts_hold_counts_reasons_and_columns(contacts: Path, artifact):
    [report] = await import_contacts(request_of(contacts))

    page = await artifact(f"import-{report.import_id}")
    assert page.type == "markdown"
    assert "**2 of 5** rows imported" in page.data
    assert "| email | email | header |" in page.data
    assert f"`{report.refused_file}`" in page.data
    table = await artifact(f"import-{report.import_id}-reasons")
    assert "e-mail: no @" in table.data
    assert "no address" in table.data


async def test_refused_rows_lie_where_the_report_says(ledger: Engine, contacts: Path):
    [report] = await import_contacts(request_of(contacts))

    modes, content = private(report.refused_file)
    assert Path(report.refused_file).parent == contacts.parent / "home" / "refused"
    assert modes == (0o600, 0o700)
    assert "5,e-mail: no @,no-at.example.org,Cy," in content
    assert count(ledger, "refused_rows") == 2


async def test_imported_again_a_file_changes_nothing_and_says_so(ledger: Engine, contacts: Path):
    [first] = await import_contacts(request_of(contacts))
    [again] = await import_contacts(request_of(contacts))
    [anew] = await import_contacts(request_of(contacts, again=True))

    assert (first.repeats, again.repeats, anew.repeats) == (None, first.import_id, None)
    assert (again.imported, anew.imported, anew.new) == (2, 2, 0)
    assert (count(ledger, "contacts"), count(ledger, "audience_members")) == (2, 2)
    assert count(ledger, "imports") == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "there is no file"), ("", "is empty"), ("city,plan\nLeeds,free\n", "no column")],
    ids=["missing", "empty", "without an address column"],
)
async def test_a_file_that_cannot_be_used_fails_the_run_with_a_sentence_and_writes_nothing(
    ledger: Engine, tmp_path: Path, content: str | None, sentence: str
):
    file = tmp_path / "bad.csv"
    if content is not None:
        file.write_text(content)

    state = await import_contacts(request_of(file), return_state=True)

    assert state.is_failed()
    with pytest.raises(InputError, match=sentence):
        await state.aresult()
    assert sentence in state.message
    assert "\n" not in state.message
    assert (count(ledger, "imports"), count(ledger, "audiences")) == (0, 0)


async def test_a_file_that_cannot_be_used_stops_no_other(ledger: Engine, contacts: Path, tmp_path: Path):
    bad = tmp_path / "bad.csv"
    bad.write_text("city\nLeeds\n")

    with pytest.raises(InputError, match=r"^1 of 2 files failed: bad\.csv has no column"):
        await import_contacts(request_of(bad, contacts))

    assert count(ledger, "contacts") == 2


async def test_of_many_files_that_cannot_be_used_all_are_named(
    ledger: Engine, contacts: Path, tmp_path: Path
):
    bad = [tmp_path / f"bad {n}.csv" for n in range(8)]
    for file in bad:
        file.write_text("city\nLeeds\n")

    state = await import_contacts(request_of(*bad, contacts), return_state=True)

    assert "8 of 9 files failed: bad 0.csv has no column" in state.message
    assert state.message.endswith("; and bad 5.csv, bad 6.csv, bad 7.csv")
    assert count(ledger, "contacts") == 2


async def test_a_breach_of_the_contract_fails_the_run_and_a_person_may_accept_it(
    ledger: Engine, tmp_path: Path, artifact
):
    file = tmp_path / "mostly bad.csv"
    good = [f"reader.{n}@example.org" for n in range(700)]
    file.write_text("\n".join(["email", *good, *["nobody"] * 300]))

    with pytest.raises(ContractBreach, match="breaks the contract of audience 'customers'") as caught:
        await import_contacts(request_of(file))

    stopped, _ = find_report(ledger, caught.value.import_id)
    assert (stopped.loaded, stopped.imported, stopped.refused) == (False, 0, 300)
    assert (count(ledger, "contacts"), count(ledger, "refused_rows")) == (0, 300)
    modes, page = private(stopped.contract_page)
    assert (modes, page[:2]) == ((0o600, 0o700), "<!")
    assert "Contract: broken" in (await artifact(f"import-{stopped.import_id}")).data

    [loaded] = await import_contacts(request_of(file, accept_breach="the old list, checked by hand"))

    assert (loaded.loaded, loaded.imported) == (True, 700)
    assert loaded.contract.accepted_because == "the old list, checked by hand"
    assert loaded.contract.accepted_by
    assert find_report(ledger, loaded.import_id)[0] == loaded


async def test_a_folder_is_watched_for_files_that_its_audience_was_not_given(ledger: Engine, tmp_path: Path):
    folder = tmp_path / "incoming"
    folder.mkdir()
    request = WatchRequest(folder=str(folder), pattern="*.csv", audience="customers")

    def arrives(name: str, content: str) -> None:
        (folder / name).write_text(content)
        long_ago = time.time() - 60
        os.utime(folder / name, (long_ago, long_ago))

    assert await import_new_files(request) == []
    arrives("monday.csv", "email\nada@example.org\n")
    assert [report.file_name for report in await import_new_files(request)] == ["monday.csv"]
    arrives("tuesday.csv", "email\nbo@example.org\n")
    arrives("notes.txt", "ada@example.org")
    assert [report.file_name for report in await import_new_files(request)] == ["tuesday.csv"]
    assert await import_new_files(request) == []
    arrives("tuesday again.csv", "email\nbo@example.org\n")
    assert [report.repeats is not None for report in await import_new_files(request)] == [True]
    assert await import_new_files(request) == []
    assert count(ledger, "contacts") == 2


async def test_a_file_of_a_storage_block_is_imported(ledger: Engine, contacts: Path):
    await LocalFileSystem(basepath=str(contacts.parent)).asave("exports", overwrite=True)

    [report] = await import_contacts(request_of("block:local-file-system/exports/people.csv"))

    assert (report.file_name, report.imported) == ("people.csv", 2)
    assert count(ledger, "contacts") == 2
    with pytest.raises(InputError, match="there is no block local-file-system/nowhere"):
        await import_contacts(request_of("block:local-file-system/nowhere/people.csv"))


async def test_the_run_is_named_by_file_and_audience(ledger: Engine, contacts: Path):
    state = await import_contacts(request_of(contacts), return_state=True)

    from prefect.client.orchestration import get_client  # noqa: PLC0415 - with its server only

    async with get_client() as client:
        run = await client.read_flow_run(state.state_details.flow_run_id)
    assert run.name == "import-people.csv-into-customers"
    assert count(ledger, "imports") == 1
