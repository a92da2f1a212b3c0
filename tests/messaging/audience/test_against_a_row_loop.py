"""The import says of every row what a slow, obvious loop over rows says."""

import csv
import random
from collections import defaultdict
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from messaging.audience.columns import Columns
from messaging.audience.importing import import_file
from messaging.audience.judging import Basis
from messaging.storage.staging import CONTACT_FIELDS
from messaging.storage.tables import contacts, refused_rows
from schemas.contacts import ImportOptions, ImportReport
from tests.messaging.audience.row_loop import clean, judge_row, strip

EXAMPLE = Path(__file__).parents[3] / "examples" / "contacts.csv"


def row_loop(path: Path, columns: Columns, region: str | None):
    """Return contacts by key, refusals by row number, and how many rows were no blank lines."""
    found: dict[str, dict] = {}
    numbers: dict[str, set[str]] = defaultdict(set)
    refused: dict[int, tuple[str, dict]] = {}
    rows = 0
    basis = Basis(region=region, consent="a form", require_consent=False, file_name=path.name)
    with path.open(encoding="utf-8-sig", newline="") as file:
        records = csv.reader(file)
        header = [clean(column) for column in next(records)]
        for row_number, record in enumerate(records, start=2):
            if not any(strip(cell) for cell in record):
                continue
            rows += 1
            record = [cell.replace("\0", "\ufffd") for cell in record]  # noqa: PLW2901 - PostgreSQL keeps no NUL
            cells = [*record, *[""] * len(header)][: len(header)]
            as_it_stood = dict(zip(header, cells, strict=True))
            if any(strip(cell) for cell in record[len(header) :]):
                refused[row_number] = ("too many cells", as_it_stood | {"": record[len(header) :]})
                continue
            reason, fields, attributes = judge_row(cells, columns, basis)
            if reason:
                refused[row_number] = (reason, as_it_stood)
                continue
            key = fields.get("email_key") or fields["phone"]
            numbers[key].add(fields.get("phone", ""))
            known = found.setdefault(key, {"attributes": {}})
            if "phone" in known:  # a number keeps its own type and country
                fields.pop("phone_type", None)
                fields.pop("phone_region", None)
            for field, value in fields.items():
                known.setdefault(field, value)
            for column, value in attributes.items():
                known["attributes"].setdefault(column, value)
    for key, known in found.items():
        if others := sorted(numbers[key] - {known.get("phone", ""), ""}):
            known["attributes"]["Other phones"] = "; ".join(others)
    return found, refused, rows


def stored(ledger: Engine):
    kept = [name for name in CONTACT_FIELDS if name not in {"status", "consent_at"}]
    with ledger.connect() as connection:
        people = {
            row["email_key"] or row["phone"]: {name: row[name] for name in kept if row[name]}
            | {"attributes": row["attributes"]}
            for row in connection.execute(select(contacts)).mappings()
        }
        refused = {
            row.row_number: (row.reason, row.cells) for row in connection.execute(select(refused_rows))
        }
    return people, refused


NAMES = [
    "Ada",
    "José García",
    "",
    "  Søren   Ødegård ",
    "王小明",
    "محمد",
    "🎉 👩‍💻",
    "=1+1",
    'A "B" C',
    "Doe, Jo",
]
NAMES += ["Two\nLines", "Tab\tName", "Nul\0Name", "\u200bZero\u200b", "Be\x07ll", "F\x1cs\x1c", "Nel\x85x"]
LOCALS = [
    "ada",
    "Ada",
    "ADA",
    "a.b",
    "a..b",
    ".a",
    "a.",
    "a+b",
    "o'brien",
    "ñandú",
    "n\u0303andu\u0301",
    "x" * 64,
]
LOCALS += [
    "x" * 65,
    "a b",
    'q"q',
    '"q q"',
    "a\u200bb",
    "",
    "İ",
    "a,b",
    "a(b)",
    "!#$%&'*+/=?^_`{|}~-",
    "\uff41",
    "a\0b",
]
DOMAINS = ["example.org", "EXAMPLE.Org", "sub.example.com", "niño.example.org", "NIÑO.example.org", "example"]
DOMAINS += [
    "xn--nio-8ma.example.org",
    "example.org.",
    "-a.example.org",
    "a-.example.org",
    "ab--cd.example.org",
]
DOMAINS += [
    "xn--a.example.org",
    "a_b.example.org",
    "mail.local",
    "b.test",
    "localhost",
    "1.2.3.4",
    "[1.2.3.4]",
]
DOMAINS += [
    "example.c",
    "example.c1",
    "ex ample.org",
    "example,org",
    "",
    "b" * 63 + ".org",
    "b" * 64 + ".org",
]
DOMAINS += [
    ".".join(["b" * 60] * 3) + ".example.org",
    "faß.example.org",
    "example。org",
    "b.example",
    "x.ARPA",
]
PHONES = ["", "", "020 7946 0{:03d}", "+44 20 7946 0{:03d}", "0044 20 7946 0{:03d}", "(0044) 20 7946 0{:03d}"]
PHONES += [
    "+1 212 555 0{:03d}",
    "020 7946 0{:03d} ext 5",
    "{:d}",
    "+999 {:d}",
    "abc",
    "+",
    "00",
    "-",
    "\u202a+44 20 7946 0001\u202c",
]
PHONES += [
    "4.42E+11",
    "+44 20 7946 0001 / 0002",
    "٠٢٠ ٧٩٤٦ ٠١٢٣",
    "\uff0b\uff14\uff14 20 7946 0001",
    "+44\xa020\xa07946\xa00002",
]


def messy_row(chance: random.Random) -> list[str]:
    address = f"{chance.choice(LOCALS)}@{chance.choice(DOMAINS)}"
    if chance.random() < 0.5:
        address = f"person{chance.randrange(500)}@{chance.choice(DOMAINS[:5])}"
    if chance.random() < 0.2:
        address = chance.choice(
            ["", "", "no at", "a@b@c.org", f" {address}\xa0", f"\ufeff{address}", f"<{address}>"]
        )
    phone = chance.choice(PHONES).format(chance.randrange(200))
    note = chance.choice(
        ["", "", 'said "hi"', "a\nb", "a\r\nb", "x\0y", " padded ", "\xa0", "naïve 😀", "a,b"]
    )
    return [chance.choice(NAMES), address, phone, note, "", chance.choice(["free", "gold", ""])]


@pytest.fixture(params=["regular", "irregular"])
def messy_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Irregular: rows longer than the header, and quotes inside cells, which Polars does not read."""
    chance = random.Random(20261122)  # noqa: S311 - the same file every time is the point
    path = tmp_path / "messy.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, lineterminator=chance.choice(["\n", "\r\n"]))
        writer.writerow([" Full Name", "E-mail", "Mobile ", "Notes", "Empty", "City, Plan"])
        for _ in range(990):
            row = messy_row(chance)
            shape = chance.random()
            if shape < 0.02:
                file.write("\n")
            elif shape < 0.04:
                writer.writerow(["", " ", "", "", "", "\xa0"])
            elif shape < 0.08:
                writer.writerow(row[: chance.randrange(1, 6)])
            elif shape < 0.10 and request.param == "irregular":
                writer.writerow([*row, *chance.choice([[""], ["", "x\0"], ["x", "y"]])])
            elif shape < 0.12 and request.param == "irregular":
                file.write('Stray,stray@example.org,,6" pipe,,"a"b\n')
            else:
                writer.writerow(row)
    return path


@pytest.fixture
def load(ledger: Engine, tmp_path: Path):
    def load(path: Path, region: str | None):
        options = ImportOptions(audience="customers", region=region, consent="a form")
        return import_file(ledger, options, path, folder=tmp_path / "home")

    return load


def columns_of(report: ImportReport) -> Columns:
    """Return the columns as the import understood them: the loop judges rows, not headers."""
    header = [column.column for column in report.columns]
    roles = {role: [header.index(name) for name in names] for role, names in report.mapping.items()}
    return Columns(header, roles)


def test_the_example_is_read_as_by_a_row_loop(ledger: Engine, load):
    report = load(EXAMPLE, "GB")

    expected, refused, rows = row_loop(EXAMPLE, columns_of(report), "GB")
    assert stored(ledger) == (expected, refused)
    assert (report.rows, report.imported, report.refused) == (rows, len(expected), len(refused))


@pytest.mark.parametrize("region", ["GB", None])
def test_a_messy_file_is_read_as_by_a_row_loop(ledger: Engine, load, messy_file: Path, region: str | None):
    report = load(messy_file, region)

    assert report.mapping == {"name": ["Full Name"], "email": ["E-mail"], "phone": ["Mobile"]}
    expected, refused, rows = row_loop(messy_file, columns_of(report), region)
    assert len(expected) > 300
    assert len({reason for reason, _ in refused.values()}) >= 10
    people, kept_apart = stored(ledger)
    assert kept_apart == refused
    assert people == expected
    assert report.rows == rows == report.imported + report.duplicates + report.refused
    assert sum(report.reasons.values()) == report.refused
