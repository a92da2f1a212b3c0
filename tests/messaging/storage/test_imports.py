"""What an import left is found again, and its refused rows go out for a person to mend."""

import csv
import io
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from messaging.errors import InputError
from messaging.storage import audiences, imports
from messaging.storage.imports import EXTRA_CELLS, write_refused
from messaging.storage.staging import Staging
from schemas.contacts import ImportReport, ReadColumn, Warned
from schemas.contract import Check, ContractResult

CONTRACT = ContractResult(
    holds=False,
    checks=[Check(name="min_rows", says="at least 9 rows", observed=3, bound=9, holds=False)],
    accepted_by="ops",
    accepted_because="a short week",
)


def an_import(
    ledger: Engine,
    *refused: tuple[int, str, dict[str, Any]],
    header: tuple[str, ...] = ("Note", "E-mail"),
    summary: dict[str, Any] | None = None,
    asked: dict[str, Any] | None = None,
    **changes: Any,
) -> ImportReport:
    """Record an import of three rows and its refused ones: row number, reason, cells."""
    recorded = {name: changes.pop(name, "") for name in ("sha256", "source")}
    report = ImportReport.model_validate(
        {
            "import_id": 0,
            "audience": "customers",
            "file_name": "people.csv",
            "format": "CSV, cells separated by ,",
            "encoding": "utf-8",
            "loaded": True,
            "rows": 3,
            "imported": 1,
            "new": 1,
            "refused": len(refused),
            "duplicates": 1,
            "reasons": {reason: 1 for _, reason, _ in refused},
            "warnings": [Warned(warning="e-mail: mended", rows=1, first_rows=[2])],
            "columns": [ReadColumn(column=column, role="attribute", how="header") for column in header],
            "without_consent": 1,
            "contract": CONTRACT,
            "seconds": 1.5,
        }
        | changes
    )
    with ledger.begin() as connection:
        connection.execute(
            text("INSERT INTO audiences (name) VALUES (:name) ON CONFLICT DO NOTHING"),
            {"name": report.audience},
        )
        audience_id = audiences.named(connection, report.audience)
        import_id = imports.add_import(
            connection, audience_id=audience_id, file_name=report.file_name, request=asked or {}, **recorded
        )
        report = report.model_copy(update={"import_id": import_id})
        staging = Staging(connection, keep_cells=False)
        rows = io.StringIO()
        csv.writer(rows).writerows([number, reason, json.dumps(cells)] for number, reason, cells in refused)
        staging.add_refused(rows.getvalue().encode())
        staging.keep_refused(import_id)
        imports.finish(connection, report, summary or {}, ["a note"])
    return report


def test_the_same_bytes_asked_the_same_are_found_with_what_was_reported(ledger: Engine):
    asked = {"region": "GB", "columns": {"email": ["E-mail"]}}
    report = an_import(ledger, (3, "e-mail: no @", {}), sha256="abc", asked=asked)
    an_import(ledger, sha256="abc", asked=asked, audience="others")

    with ledger.begin() as connection:
        customers, others = (audiences.named(connection, name) for name in ("customers", "others"))
        assert imports.find_same(connection, customers, "abc", asked) == report
        assert imports.find_same(connection, customers, "abc", {**asked, "region": "ES"}) is None
        assert imports.find_same(connection, customers, "xyz", asked) is None
        found = imports.find_same(connection, others, "abc", asked)
    assert found is not None
    assert found.import_id != report.import_id


def test_what_the_contract_stopped_was_not_imported(ledger: Engine):
    an_import(ledger, sha256="abc", summary={"rows": 9})
    an_import(ledger, sha256="def", summary={"rows": 3}, loaded=False)

    with ledger.begin() as connection:
        customers = audiences.named(connection, "customers")
        assert imports.find_same(connection, customers, "def", {}) is None
        assert imports.last_summary(connection, customers) == {"rows": 9}


def test_a_report_is_found_by_its_number_with_its_notes(ledger: Engine):
    report = an_import(ledger, loaded=False, contract=None, refused_file="refused.csv")

    assert imports.find_report(ledger, report.import_id) == (report, ["a note"])
    with pytest.raises(InputError, match="no import 7"):
        imports.find_report(ledger, 7)


def test_an_import_is_held_against_the_last_one_of_its_audience(ledger: Engine):
    for audience, rows in (("customers", 1), ("customers", 2), ("others", 3)):
        an_import(ledger, audience=audience, summary={"rows": rows, "domains": {"example.org": rows}})

    with ledger.begin() as connection:
        customers = audiences.named(connection, "customers")
        assert imports.last_summary(connection, customers) == {"rows": 2, "domains": {"example.org": 2}}
        assert imports.last_summary(connection, 99) is None


def test_files_that_were_given_to_an_audience_are_known(ledger: Engine):
    an_import(ledger, source="/incoming/a.csv#1")
    an_import(ledger, source="/incoming/b.csv#1", loaded=False)
    an_import(ledger)
    an_import(ledger, source="/incoming/c.csv#1", audience="others")

    with ledger.begin() as connection:
        known = imports.known_sources(connection, audiences.named(connection, "customers"))
    assert known == {"/incoming/a.csv#1", "/incoming/b.csv#1"}


def test_refused_rows_are_written_in_the_shape_of_the_file(ledger: Engine, tmp_path: Path):
    report = an_import(
        ledger,
        (12, "e-mail: no @", {"Note": 'a, "b"\nc', "E-mail": "bob", "A": "é"}),
        (4, "too many cells", {"Note": "1", "E-mail": "b@example.org", "A": "", EXTRA_CELLS: ["5", "6"]}),
        header=("Note", "E-mail", "A"),
    )
    target = tmp_path / "refused.csv"
    target.touch(mode=0o644)

    assert write_refused(ledger, report.import_id, target) == 2

    with target.open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file)) == [
            ["row_number", "reason", "Note", "E-mail", "A"],
            ["4", "too many cells", "1", "b@example.org", "", "5", "6"],
            ["12", "e-mail: no @", 'a, "b"\nc', "bob", "é"],
        ]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+SUM(A1)", "'+SUM(A1)"),
        ("-1+1", "'-1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("+49 151 234-567/8 (9).0", "+49 151 234-567/8 (9).0"),
        ("+49 151\n=1", "'+49 151\n=1"),
        ("plain = text", "plain = text"),
    ],
)
def test_no_cell_is_a_formula(ledger: Engine, tmp_path: Path, cell: str, written: str):
    report = an_import(ledger, (2, "e-mail: no @", {cell: cell, "E-mail": "bad"}), header=(cell, "E-mail"))

    write_refused(ledger, report.import_id, tmp_path / "refused.csv")

    with (tmp_path / "refused.csv").open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file)) == [
            ["row_number", "reason", written, "E-mail"],
            ["2", "e-mail: no @", written, "bad"],
        ]


def test_an_import_that_is_not_there_is_refused(ledger: Engine, tmp_path: Path):
    with pytest.raises(InputError, match="no import 7"):
        write_refused(ledger, 7, tmp_path / "refused.csv")


def test_a_place_that_cannot_be_written_is_refused(ledger: Engine, tmp_path: Path):
    report = an_import(ledger, (2, "e-mail: no @", {"Note": "", "E-mail": "bad"}))

    with pytest.raises(InputError, match="cannot be written"):
        write_refused(ledger, report.import_id, tmp_path / "none" / "refused.csv")
