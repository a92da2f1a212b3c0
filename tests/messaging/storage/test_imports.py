"""Refused rows go out as a file that a person can mend and import again."""

import csv
import stat
from pathlib import Path

import pytest
from sqlalchemy import Engine

from messaging.audience.importing import import_file
from messaging.errors import InputError
from messaging.storage.imports import write_refused
from schemas.contacts import ImportReport, ImportRequest


def imported(ledger: Engine, path: Path) -> ImportReport:
    return import_file(ledger, ImportRequest(file=str(path), audience="customers"))


def a_file(folder: Path, content: str) -> Path:
    path = folder / "people.csv"
    path.write_text(content, encoding="utf-8")
    return path


def test_refused_rows_are_written_in_the_shape_of_the_file(ledger: Engine, tmp_path: Path):
    source = a_file(
        tmp_path, 'Note,E-mail,A,Empty\nx,ada@example.org,,\n"a, ""b""\nc",bob,é,\n1,b@example.org,,,5,6\n'
    )
    report = imported(ledger, source)
    target = tmp_path / "refused.csv"
    target.touch(mode=0o644)

    assert write_refused(ledger, report.import_id, target) == 2

    with target.open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file)) == [
            ["row_number", "reason", "Note", "E-mail", "A", "Empty"],
            ["3", "e-mail: no @", 'a, "b"\nc', "bob", "é", ""],
            ["4", "too many cells", "1", "b@example.org", "", "", "5", "6"],
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
    report = imported(ledger, a_file(tmp_path, f'Note,E-mail\n"{cell}",bad\n'))

    write_refused(ledger, report.import_id, tmp_path / "refused.csv")

    with (tmp_path / "refused.csv").open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file))[1] == ["2", "e-mail: no @", written, "bad"]


def test_a_mended_file_of_refused_rows_can_be_imported(ledger: Engine, tmp_path: Path):
    report = imported(ledger, a_file(tmp_path, "City,E-mail\nLeeds,ada at example.org\n"))
    target = tmp_path / "refused.csv"
    write_refused(ledger, report.import_id, target)
    target.write_bytes(target.read_bytes().replace(b" at ", b"@"))

    mended = imported(ledger, target)

    assert (mended.imported, mended.refused, mended.attributes) == (1, 0, ["City"])


def test_an_import_that_is_not_there_is_refused(ledger: Engine, tmp_path: Path):
    with pytest.raises(InputError, match="no import 7"):
        write_refused(ledger, 7, tmp_path / "refused.csv")


def test_a_place_that_cannot_be_written_is_refused(ledger: Engine, tmp_path: Path):
    report = imported(ledger, a_file(tmp_path, "E-mail\nbad\n"))

    with pytest.raises(InputError, match="cannot be written"):
        write_refused(ledger, report.import_id, tmp_path / "none" / "refused.csv")
