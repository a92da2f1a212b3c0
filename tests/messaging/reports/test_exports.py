"""What leaves the ledger as a file: all of it, as it is, and harmless in a spreadsheet."""

import csv
import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from sqlalchemy import Engine, text

from messaging.errors import InputError
from messaging.reports.exports import write_export
from messaging.storage.exports import EXPORTS
from schemas.export import ExportKind

DOCUMENTED = Path(__file__).parents[3] / "docs" / "exports.md"
NOON = datetime(2027, 3, 20, 12, 0, 0, 250_000, tzinfo=UTC)
NAMES = ["Ada", "=HYPERLINK(1)", '"quoted", and\nbroken', None, "", "+49 151 234567", "-1", "Zoë\t漢"]

LEDGER = """
    INSERT INTO contacts (email_key, email, name, attributes) SELECT
        'n' || n || '@example.org', 'N' || n || '@example.org', (CAST(:names AS text[]))[n],
        jsonb_build_object('city', '@' || n)
        FROM generate_series(1, :count) n;
    INSERT INTO audiences (name) VALUES ('customers'), ('nobody');
    INSERT INTO audience_members (audience_id, contact_id) SELECT 1, id FROM contacts WHERE id <= 3;
    INSERT INTO campaigns (name, spec, audience_id, state)
        SELECT name, '{"account": "smtp-account/main", "fallback": ["whatsapp-cloud/shop"]}', 1, 'running'
        FROM unnest(ARRAY['spring', 'summer']) name;
    INSERT INTO batches (campaign_id, number, leg) VALUES (1, 1, 0), (1, 2, 1), (2, 1, 0);
    INSERT INTO attempts (campaign_id, batch_id, contact_id, address_key, address, state, code, status, reply,
            answered_at)
        SELECT 1, 1 + (id > 4)::int, id, email_key, email,
            (ARRAY['accepted', 'rejected', 'unknown'])[1 + id % 3],
            CASE WHEN id % 3 = 1 THEN 550 END, CASE WHEN id % 3 = 1 THEN '5.1.1' END, '-no such user', :noon
        FROM contacts;
    INSERT INTO attempts (campaign_id, batch_id, address_key, address)
        VALUES (2, 3, 'x@y.example', 'x@y.example');
    INSERT INTO events (attempt_id, kind, source, source_id, details, occurred_at) VALUES
        (1, 'bounced', 'imap-mailbox/bounces', '1', '{"class": "hard", "reason": "unknown user"}', :noon),
        (2, 'opened', 'web', '2', '{}', :noon), (9, 'complained', 'ses-queue/events', '3', '{}', :noon);
    INSERT INTO events (campaign_id, kind, source, source_id) VALUES (1, 'paused', 'person', '4');
    INSERT INTO suppressions (channel, address_key, reason, source)
        VALUES ('email', 'n1@example.org', 'bounced', 'x');
"""


@pytest.fixture
def filled(ledger: Engine) -> Engine:
    values = {"names": NAMES, "count": len(NAMES), "noon": NOON}
    with ledger.begin() as connection:
        for statement in LEDGER.split(";\n"):
            if statement.strip():
                connection.execute(text(statement), values)
    return ledger


@pytest.mark.parametrize(
    ("kind", "chosen", "count"),
    [
        (ExportKind.CONTACTS, None, 8),
        (ExportKind.CONTACTS, 1, 3),
        (ExportKind.CONTACTS, 2, 0),
        (ExportKind.ATTEMPTS, None, 9),
        (ExportKind.ATTEMPTS, 1, 8),
        (ExportKind.FAILED, 1, 6),
        (ExportKind.BOUNCES, None, 2),
        (ExportKind.BOUNCES, 1, 1),
        (ExportKind.EVENTS, None, 4),
        (ExportKind.EVENTS, 1, 3),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_all_rows_and_no_others(
    filled: Engine, tmp_path: Path, kind: ExportKind, chosen: int | None, count: int, ending: str
):
    file = tmp_path / f"out.{ending}"
    file.write_text("of yesterday")

    assert write_export(filled, kind, file, chosen) == count

    frame = pl.read_csv(file) if ending == "csv" else pl.read_parquet(file)
    assert frame.columns == [column.name for column in EXPORTS[kind].columns]
    assert len(frame) == count
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_parquet_has_the_values_and_their_types(filled: Engine, tmp_path: Path):
    write_export(filled, ExportKind.CONTACTS, tmp_path / "c.parquet", None)
    write_export(filled, ExportKind.ATTEMPTS, tmp_path / "a.parquet", 1)
    write_export(filled, ExportKind.BOUNCES, tmp_path / "b.parquet", 1)

    contacts = pl.read_parquet(tmp_path / "c.parquet")
    assert contacts["name"].to_list() == NAMES
    assert contacts["suppressed"].to_list() == ["email: bounced", *[None] * 7]
    assert json.loads(contacts["attributes"][0]) == {"city": "@1"}
    attempts = pl.read_parquet(tmp_path / "a.parquet")
    assert attempts.row(0, named=True) | {"message_id": "", "provider_message_id": ""} == {
        "attempt_id": 1,
        "campaign": "spring",
        "contact_id": 1,
        "address": "N1@example.org",
        "state": "rejected",
        "batch": 1,
        "account": "smtp-account/main",
        "tries": 0,
        "dispatched_at": None,
        "answered_at": NOON,
        "message_id": "",
        "provider_message_id": "",
        "code": 550,
        "status": "5.1.1",
        "reply": "-no such user",
        "reason": None,
    }
    assert attempts["account"].to_list() == ["smtp-account/main"] * 4 + ["whatsapp-cloud/shop"] * 4
    assert attempts.schema["answered_at"] == pl.Datetime("us", "UTC")
    [bounce] = pl.read_parquet(tmp_path / "b.parquet").rows(named=True)
    assert (bounce["class"], bounce["reason"], bounce["suppressed"]) == ("hard", "unknown user", True)


def test_a_spreadsheet_runs_nothing_of_a_csv_and_phone_numbers_are_unharmed(filled: Engine, tmp_path: Path):
    write_export(filled, ExportKind.CONTACTS, tmp_path / "c.csv", None)
    write_export(filled, ExportKind.FAILED, tmp_path / "f.csv", 1)

    with (tmp_path / "c.csv").open(encoding="utf-8-sig", newline="") as file:
        contacts = list(csv.DictReader(file))
    assert [row["name"] for row in contacts] == [
        "Ada",
        "'=HYPERLINK(1)",
        '"quoted", and\nbroken',
        "",
        "",
        "+49 151 234567",
        "'-1",
        "Zoë\t漢",
    ]
    with (tmp_path / "f.csv").open(encoding="utf-8-sig", newline="") as file:
        failed = list(csv.DictReader(file))
    assert {row["reply"] for row in failed} == {"'-no such user"}
    assert datetime.fromisoformat(failed[0]["answered_at"]) == NOON


def test_what_cannot_be_written_is_said(filled: Engine, tmp_path: Path):
    with pytest.raises(InputError, match=r"neither \.csv nor \.parquet"):
        write_export(filled, ExportKind.CONTACTS, tmp_path / "contacts.xlsx", None)
    with pytest.raises(InputError, match="cannot be written"):
        write_export(filled, ExportKind.CONTACTS, tmp_path / "absent" / "contacts.csv", None)


@pytest.mark.parametrize("kind", list(ExportKind))
def test_every_column_is_documented(kind: ExportKind):
    rows = [f"| `{column.name}` | {column.type} | {column.what} |" for column in EXPORTS[kind].columns]

    assert "\n".join(rows) in DOCUMENTED.read_text(), "docs/exports.md lacks:\n" + "\n".join(rows)
