"""An import's run tells counts and reasons, and fails with one sentence."""

import json
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from flows.import_contacts import import_contacts
from messaging.errors import InputError
from schemas.contacts import ImportRequest

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


async def test_good_rows_are_imported_and_the_report_adds_up(ledger: Engine, contacts: Path):
    report = await import_contacts(ImportRequest(file=str(contacts), audience="customers", region="GB"))

    assert (report.rows, report.imported, report.duplicates, report.refused) == (5, 2, 1, 2)
    with ledger.begin() as connection:
        emails = connection.execute(text("SELECT email FROM contacts ORDER BY email_key")).scalars().all()
        members = connection.execute(text("SELECT count(*) FROM audience_members")).scalar_one()
        refused = connection.execute(text("SELECT count(*) FROM refused_rows")).scalar_one()
    assert [email.lower() for email in emails] == ["ada@example.org", "bo@example.org"]
    assert (members, refused) == (2, 2)


@pytest.mark.usefixtures("ledger")
async def test_its_table_artifact_holds_the_counts_and_each_reason(contacts: Path, artifact):
    report = await import_contacts(ImportRequest(file=str(contacts), audience="customers", region="GB"))

    table = await artifact(f"import-{report.import_id}")
    assert table.type == "table"
    assert {row["what"]: row["rows"] for row in json.loads(table.data)} == {
        "rows": 5,
        "imported": 2,
        "duplicates": 1,
        "refused: e-mail: no @": 1,
        "refused: no address": 1,
    }
    assert "2 of 5 rows imported" in table.description


async def test_imported_again_a_file_adds_nobody(ledger: Engine, contacts: Path):
    request = ImportRequest(file=str(contacts), audience="customers", region="GB")
    await import_contacts(request)
    again = await import_contacts(request)

    with ledger.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM contacts")).scalar_one() == 2
        assert connection.execute(text("SELECT count(*) FROM audience_members")).scalar_one() == 2
    assert (again.rows, again.imported, again.refused) == (5, 2, 2)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "there is no file"), ("", "is empty"), ("city,plan\nLeeds,free\n", "no column named like")],
    ids=["missing", "empty", "without an address column"],
)
async def test_a_file_that_cannot_be_used_fails_the_run_with_a_sentence_and_writes_nothing(
    ledger: Engine, tmp_path: Path, content: str | None, sentence: str
):
    file = tmp_path / "bad.csv"
    if content is not None:
        file.write_text(content)

    state = await import_contacts(ImportRequest(file=str(file), audience="customers"), return_state=True)

    assert state.is_failed()
    with pytest.raises(InputError, match=sentence):
        await state.aresult()
    assert sentence in state.message
    assert "\n" not in state.message
    with ledger.begin() as connection:
        written = "SELECT (SELECT count(*) FROM imports) + (SELECT count(*) FROM audiences)"
        assert connection.execute(text(written)).scalar_one() == 0
