"""The import says of every row what a slow, obvious loop over rows says."""

import csv
import random
import unicodedata
from pathlib import Path

import email_validator
import phonenumbers
import pytest
from sqlalchemy import Engine, select

from messaging.audience.importing import import_file
from messaging.storage.tables import contacts, refused_rows
from schemas.contacts import ImportRequest

EXAMPLE = Path(__file__).parents[3] / "examples" / "contacts.csv"
NAME, EMAIL, PHONE = "Full Name", "E-mail", "Mobile"
ZERO_WIDTH = "\xad\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
ZERO_WIDTH += "\u2060\u2066\u2067\u2068\u2069\ufeff"


def is_space(character: str) -> bool:
    return unicodedata.category(character) in {"Zs", "Zl", "Zp"} or character in "\t\n\v\f\r\x85"


def is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"


def strip(text: str) -> str:
    def invisible(c: str) -> bool:
        return is_space(c) or is_control(c) or c in ZERO_WIDTH

    while text and invisible(text[0]):
        text = text[1:]
    while text and invisible(text[-1]):
        text = text[:-1]
    return text


def clean(text: str) -> str:
    visible = "".join(" " if is_space(c) else c for c in text if is_space(c) or not is_control(c))
    while "  " in visible:
        visible = visible.replace("  ", " ")
    return strip(visible)


def judge_email(address: str) -> tuple[str, str, str]:
    address = unicodedata.normalize("NFC", address)
    if address.count("@") != 1:
        return "", "", "e-mail: more than one @" if "@" in address else "e-mail: no @"
    local, domain = address.split("@")
    if len(local) > 64 or len(address.encode()) > 254:
        return "", "", "e-mail: too long"
    try:
        found = email_validator.validate_email(address, check_deliverability=False, strict=True)
    except email_validator.EmailNotValidError:
        if domain.lower().split(".")[-1] in {"arpa", "invalid", "local", "localhost", "onion", "test"}:
            return "", "", "e-mail: reserved domain"
        try:
            email_validator.validate_email("x@" + domain, check_deliverability=False, strict=True)
        except email_validator.EmailNotValidError:
            return "", "", "e-mail: bad domain"
        return "", "", "e-mail: syntax"
    return f"{local}@{found.ascii_domain}", f"{local.lower()}@{found.ascii_domain}", ""


def judge_phone(text: str, region: str | None) -> tuple[str, str, str]:
    """Return the number, the reason against it, and what E.164 does not say."""
    digits = text.lstrip(" ([{-./")
    if digits.startswith("00"):
        text = "+" + digits[2:]
    signs = [c for c in text if c in "+\uff0b" or c.isdecimal()]
    international = bool(signs) and signs[0] in "+\uff0b"
    try:
        number = phonenumbers.parse(text, None if international else region)
    except phonenumbers.NumberParseException as error:
        if error.error_type == phonenumbers.NumberParseException.INVALID_COUNTRY_CODE:
            which = "unknown country code" if international else "no country code; give --region"
            return "", f"phone: {which}", text
        too_long = error.error_type == phonenumbers.NumberParseException.TOO_LONG
        return "", "phone: impossible for its country" if too_long else "phone: not a number", text
    if not phonenumbers.is_valid_number(number):
        return "", "phone: impossible for its country", text
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return e164, "", text if number.extension else ""


def row_loop(path: Path, region: str | None):
    """Return contacts by key, refusals by row number, and how many rows were no blank lines."""
    found: dict[str, dict] = {}
    refused: dict[int, tuple[str, dict]] = {}
    rows = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        records = csv.reader(file)
        header = [clean(column) for column in next(records)]
        for row_number, record in enumerate(records, start=2):
            if not any(strip(cell) for cell in record):
                continue
            rows += 1
            cells = dict(zip(header, [*record, *[""] * len(header)], strict=False))
            as_it_stood = {column: cell.replace("\0", "\ufffd") for column, cell in cells.items()}
            if any(strip(cell) for cell in record[len(header) :]):
                extra = [cell.replace("\0", "\ufffd") for cell in record[len(header) :]]
                refused[row_number] = ("too many cells", as_it_stood | {"": extra})
                continue
            address, number = strip(cells[EMAIL]), clean(cells[PHONE])
            email, email_key, reason = judge_email(address) if address else ("", "", "")
            phone, phone_reason, more = judge_phone(number, region) if number else ("", "", "")
            if not address:
                reason = phone_reason if number else "no address"
            if reason:
                refused[row_number] = (reason, as_it_stood)
                continue
            values = {"email_key": email_key, "email": email, "phone": phone, "name": clean(cells[NAME])}
            attributes = {
                column: clean(cells[column]) for column in header if column not in (NAME, EMAIL, PHONE)
            }
            attributes[PHONE] = number if more else ""
            known = found.setdefault(email_key or phone, {"attributes": {}})
            for column, value in values.items():
                known[column] = known.get(column) or value
            for column, value in attributes.items():
                if value:
                    known["attributes"].setdefault(column, value)
    return found, refused, rows


def stored(ledger: Engine):
    with ledger.connect() as connection:
        people = {
            row.email_key or row.phone: {
                "email_key": row.email_key or "",
                "email": row.email or "",
                "phone": row.phone or "",
                "name": row.name or "",
                "attributes": row.attributes,
            }
            for row in connection.execute(select(contacts))
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
        for _ in range(1500):
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


def test_the_example_is_read_as_by_a_row_loop(ledger: Engine):
    expected, refused, rows = row_loop(EXAMPLE, "GB")

    report = import_file(ledger, ImportRequest(file=str(EXAMPLE), audience="customers", region="GB"))

    assert stored(ledger) == (expected, refused)
    assert (report.rows, report.imported, report.refused) == (rows, len(expected), len(refused))


@pytest.mark.parametrize("region", ["GB", None])
def test_a_messy_file_is_read_as_by_a_row_loop(ledger: Engine, messy_file: Path, region: str | None):
    expected, refused, rows = row_loop(messy_file, region)
    assert len(expected) > 300
    assert len({reason for reason, _ in refused.values()}) >= 10

    report = import_file(ledger, ImportRequest(file=str(messy_file), audience="messy", region=region))

    people, kept_apart = stored(ledger)
    assert kept_apart == refused
    assert people == expected
    assert report.rows == rows == report.imported + report.duplicates + report.refused
    assert sum(report.reasons.values()) == report.refused
