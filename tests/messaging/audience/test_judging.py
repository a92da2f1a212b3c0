"""One verdict per row, over whole columns: what a loop over rows says, and what is worth a look."""

import json
import random

import polars as pl
import pytest

from messaging.audience.columns import Columns
from messaging.audience.files.layout import cell, row_schema
from messaging.audience.judging import Basis, judge
from messaging.audience.staging import contacts_of
from messaging.storage.staging import CONTACT_FIELDS
from schemas.reasons import Reason, Warn
from tests.messaging.audience import row_loop

NOBODY_SAID = Basis(region="GB", consent=None, require_consent=False, file_name="list.csv")
GOOD = "ada@example.org"


def rows_of(*records: list[str | None], width: int | None = None) -> pl.DataFrame:
    """Return a chunk as a reader gives it; the first row has the number 2."""
    width = width or len(records[0])
    rows = [(number, *record, None, None) for number, record in enumerate(records, start=2)]
    return pl.DataFrame(rows, row_schema(width), orient="row")


def judged(roles: list[str], *records: list[str | None], basis: Basis = NOBODY_SAID) -> list[dict]:
    """Judge records whose columns are called like their roles."""
    places: dict[str, list[int]] = {}
    for place, role in enumerate(roles):
        places.setdefault(role, []).append(place)
    columns = Columns([f"{role} {place}" for place, role in enumerate(roles)], places)
    return judge(rows_of(*records, width=len(roles)), columns, basis).to_dicts()


def warnings(row: dict) -> set[Warn]:
    return {warn for warn in Warn if row[warn.name.lower()]}


NAMES = [
    "Ada",
    "José",
    "Jose\u0301",
    "",
    "  Søren   Ødegård ",
    "王小明",
    "=1+1",
    "A\u0434a",
    "Two\nLines",
    "Nul\0",
]
ADDRESSES = [
    "{0}@example.org",
    "{0}@Example.ORG",
    "{0}@niño.es",
    "{0}@gmial.com",
    "info@a{0}.org",
    "{0}@localhost",
]
ADDRESSES += [
    "mailto:{0}@example.org",
    "Ada <{0}@example.org>",
    "{0}@example.org; b{0}@example.org",
    "{0}@@example.org",
]
ADDRESSES += [
    "",
    "",
    "no at",
    "\ufeff{0}@example.org\xa0",
    "{0}@example.org, {0}@EXAMPLE.org",
    "a b@example.org",
]
NUMBERS = [
    "",
    "",
    "020 7946 0{:03d}",
    "+44 20 7946 0{:03d}",
    "0044 7400 123{:03d}",
    "+34 612 345 {:03d}",
    "12",
    "n/a",
]
NUMBERS += [
    "+1 212 555 0{:03d} ext. 5",
    "+999 1{:03d}",
    "07400 123{0:03d} / 07400 124{0:03d}",
    "612 345 {:03d}",
]
VALUES = {
    "country": ["ES", "Spain", "Deutschland", "", "Atlantis", "gb"],
    "time_zone": ["Europe/Madrid", "", "Mars/Crater", "europe/london"],
    "language": ["es", "de-AT", "", "Klingon", "English"],
    "consent": ["yes", "no", "", "2026-03-04", "perhaps", "I agree to the newsletter"],
    "status": ["unsubscribed", "", "active", "?"],
    "plan": ["free", "", "a  b", '"q" \\ \u2028'],
}
ROLES = ["email", "phone", "name", "first_name", "last_name", *VALUES, "email", "phone"]


def messy_record(chance: random.Random) -> list[str]:
    return [
        chance.choice(ADDRESSES).format(chance.randrange(300)),
        chance.choice(NUMBERS).format(chance.randrange(300)),
        *(chance.choice(NAMES) for _ in range(3)),
        *(chance.choice(values) for values in VALUES.values()),
        chance.choice(["", "", *ADDRESSES]).format(chance.randrange(300)),
        chance.choice(["", "", *NUMBERS]).format(chance.randrange(300)),
    ]


@pytest.mark.parametrize(
    "basis",
    [
        NOBODY_SAID,
        Basis(region=None, consent="they asked at the fair", require_consent=False, file_name="list.csv"),
        Basis(region="ES", consent=None, require_consent=True, file_name="list.csv"),
    ],
)
@pytest.mark.parametrize(
    "left_out",
    [set(), {"country", "name"}, set(VALUES) - {"plan"}, {"phone"}, {"email"}, set(ROLES) - {"email"}],
)
def test_messy_rows_are_judged_as_by_a_loop_over_rows(basis: Basis, left_out: set[str]):
    chance = random.Random(20261122)  # noqa: S311 - the same rows every time are the point
    records = [messy_record(chance) for _ in range(400)]
    roles: dict[str, list[int]] = {}
    for place, role in enumerate(ROLES):
        if role not in left_out and role != "plan":
            roles.setdefault(role, []).append(place)
    columns = Columns([f"{role} {place}" for place, role in enumerate(ROLES)], roles)

    rows = judge(rows_of(*records), columns, basis)

    expected = [row_loop.judge_row(record, columns, basis) for record in records]
    assert [reason or "" for reason in rows["reason"]] == [reason for reason, _, _ in expected]
    assert rows["reason"].null_count() > 50 or (basis.require_consent and "consent" in left_out)
    contacts = contacts_of(rows, columns, keep_cells=False)
    said = [
        {name: contact[name] for name in CONTACT_FIELDS if contact[name]}
        for contact in contacts.iter_rows(named=True)
    ]
    attributes = [json.loads(text) for text in contacts["attributes"]]
    assert said == [fields for reason, fields, _ in expected if not reason]
    assert attributes == [texts for reason, _, texts in expected if not reason]


def test_a_row_that_cannot_be_read_is_refused_for_that_alone():
    rows = rows_of([GOOD, "yes"], [GOOD, "yes"]).with_columns(
        flaw=pl.Series([Reason.TOO_MANY_CELLS, None], dtype=pl.String)
    )

    verdicts = judge(rows, Columns(["E-mail", "Opt-in"], {"email": [0], "consent": [1]}), NOBODY_SAID)

    assert verdicts["reason"].to_list() == ["too many cells", None]
    assert verdicts["email"].to_list() == [None, GOOD]
    assert verdicts["cell_0"].to_list() == [GOOD, GOOD]
    assert verdicts["consented"].to_list() == [False, True]


def test_a_chunk_without_rows_is_judged():
    assert judged(["email", "phone", "country", "consent"]) == []


def test_the_address_counts_and_the_phone_only_where_none_is_given():
    rows = judged(
        ["email", "phone"],
        [GOOD, "12"],
        ["ada@localhost", "+44 20 7946 0001"],
        ["", "12"],
        ["", "+44 20 7946 0001"],
        ["", None],
    )

    assert [row["reason"] for row in rows] == [
        None,
        Reason.EMAIL_RESERVED_DOMAIN,
        Reason.PHONE_TOO_SHORT,
        None,
        Reason.NO_ADDRESS,
    ]
    assert rows[0]["kept_1"] == "12"
    assert warnings(rows[0]) == {Warn.PHONE_DROPPED}


def test_of_several_columns_the_first_good_cell_is_taken_and_the_others_are_kept():
    home, work = "ada@example.org", "ada@work.example.org"
    rows = judged(
        ["email", "email"],
        [home, work],
        ["ada@localhost", work],
        ["", work],
        [home, "Ada@example.org"],
        ["ada@localhost", "ada@"],
        [home, "later"],
    )

    assert [row["email"] for row in rows] == [home, work, work, home, None, home]
    assert [row["reason"] for row in rows] == [None] * 4 + [Reason.EMAIL_RESERVED_DOMAIN, None]
    assert [row["kept_0"] for row in rows[:4]] == [None, "ada@localhost", None, None]
    assert [row["kept_1"] for row in (*rows[:4], rows[5])] == [work, None, None, None, "later"]


def test_numbers_are_read_in_the_country_of_their_row():
    rows = judged(
        ["phone", "country"],
        ["612 345 678", "Spain"],
        ["07400 123456", ""],
        ["07400 123456", "Atlantis"],
        ["+34 612 345 678", "GB"],
    )

    assert [row["phone"] for row in rows] == [
        "+34612345678",
        "+447400123456",
        "+447400123456",
        "+34612345678",
    ]
    assert [row["country"] for row in rows] == ["ES", None, None, "GB"]
    assert [row["phone_region"] for row in rows] == ["ES", "GB", "GB", "ES"]
    assert [warnings(row) for row in rows] == [set(), set(), {Warn.COUNTRY_UNKNOWN}, set()]


def test_without_a_country_column_a_number_with_its_country_code_names_the_country():
    rows = judged(
        ["phone"], ["+34 612 345 678"], ["0034 612 345 678"], ["(+34) 612 345 678"], ["07400 123456"]
    )

    assert [row["country"] for row in rows] == ["ES", "ES", "ES", None]


def test_a_number_tells_the_time_zone_only_where_the_row_does_not():
    rows = judged(
        ["phone", "time_zone"],
        ["+34 612 345 678", "Europe/London"],
        ["+49 30 901820", ""],
        ["+49 30 901820", "Mars/Crater"],
    )

    assert [row["time_zone"] for row in rows] == ["Europe/London", "Europe/Berlin", "Europe/Berlin"]
    assert [warnings(row) for row in rows] == [set(), set(), {Warn.TIME_ZONE_UNKNOWN}]


def test_a_name_is_joined_from_its_halves_where_there_is_no_whole_one():
    rows = judged(
        ["email", "name", "first_name", "last_name"],
        [GOOD, "Countess", "Ada", "Lovelace"],
        [GOOD, "", " Ada ", "Lovelace"],
        [GOOD, None, "", "Lovelace"],
        [GOOD, None, "", None],
    )

    assert [row["name"] for row in rows] == ["Countess", "Ada Lovelace", "Lovelace", None]


def test_consent_is_what_the_row_says_else_what_the_operator_says():
    records = [
        [GOOD, "yes"],
        [GOOD, "no"],
        [GOOD, ""],
        [GOOD, "I agree to the newsletter"],
        [GOOD, "2026-03-04"],
    ]
    fair = Basis(region=None, consent="they asked at the fair", require_consent=False, file_name="list.csv")

    alone = judged(["email", "consent"], *records)
    with_basis = judged(["email", "consent"], *records, basis=fair)

    assert [row["consented"] for row in alone] == [True, False, False, True, True]
    assert [row["consented"] for row in with_basis] == [True, False, True, True, True]
    assert alone[0]["consent_source"] == "column 'consent 1' of list.csv"
    assert [row["consent_source"] for row in with_basis] == [fair.consent, None, *[fair.consent] * 3]
    assert alone[3]["consent_text"] == "I agree to the newsletter"
    assert alone[4]["consent_at"].startswith("2026-03-04")


def test_rows_without_consent_are_refused_where_it_is_required():
    required = Basis(region=None, consent=None, require_consent=True, file_name="list.csv")

    rows = judged(
        ["email", "consent"], [GOOD, "yes"], [GOOD, "no"], [GOOD, ""], ["ada@", "no"], basis=required
    )

    assert [row["reason"] for row in rows] == [
        None,
        None,
        Reason.CONSENT_MISSING,
        Reason.EMAIL_BAD_DOMAIN,
    ]
    assert [row["status"] for row in rows][:3] == [None, "unsubscribed", None]


@pytest.mark.parametrize(
    ("roles", "record", "warn"),
    [
        (["email"], ["mailto:ada@example.org"], Warn.EMAIL_MENDED),
        (["email"], ["ada@example.org; bob@example.org"], Warn.EMAIL_SEVERAL),
        (["email"], ["info@example.org"], Warn.EMAIL_ROLE),
        (["email"], ["ada@mailinator.com"], Warn.EMAIL_DISPOSABLE),
        (["email"], ["ada@gnail.com"], Warn.EMAIL_TYPO),
        (["email"], ["ada@\u0430pple.org"], Warn.EMAIL_MIXED_SCRIPTS),
        (["email", "phone"], [GOOD, "12"], Warn.PHONE_DROPPED),
        (["email", "phone"], [GOOD, "+999 1234567"], Warn.PHONE_DROPPED),
        (["phone"], ["07400 123456 / 07400 123457"], Warn.PHONE_SEVERAL),
        (["email", "name"], [GOOD, "=1+1"], Warn.NAME_FORMULA),
        (["email", "name"], [GOOD, "\u0410da"], Warn.NAME_MIXED_SCRIPTS),
        (["email", "country"], [GOOD, "Atlantis"], Warn.COUNTRY_UNKNOWN),
        (["email", "time_zone"], [GOOD, "Mars/Crater"], Warn.TIME_ZONE_UNKNOWN),
        (["email", "language"], [GOOD, "Klingonese"], Warn.LANGUAGE_UNKNOWN),
    ],
)
def test_what_is_worth_a_look_is_noted_of_contacts_only(roles: list[str], record: list[str], warn: Warn):
    required = Basis(region="GB", consent=None, require_consent=True, file_name="list.csv")

    taken, untouched = judged(
        roles, record, [GOOD, *["" for _ in roles[1:]]] if roles[0] == "email" else [GOOD]
    )
    refused = judged(roles, record, basis=required)[0]

    assert taken["reason"] is None
    assert warnings(taken) == {warn}
    assert warnings(untouched) == set()
    assert (refused["reason"], warnings(refused)) == (Reason.CONSENT_MISSING, set())


def test_a_number_that_needs_a_country_is_told_apart():
    nowhere = Basis(region=None, consent=None, require_consent=False, file_name="list.csv")

    [row] = judged(["email", "phone"], [GOOD, "07400 123456"], basis=nowhere)

    assert warnings(row) == {Warn.PHONE_WITHOUT_COUNTRY}
    assert row["kept_1"] == "07400 123456"


def test_the_likely_domain_is_said():
    rows = judged(["email"], ["ada@gnail.com"], [GOOD])

    assert [row["email_typo_hint"] for row in rows] == ["gnail.com → gmail.com", None]


def test_nothing_is_added_but_what_the_others_read():
    rows = rows_of([GOOD, "x"])

    verdicts = judge(rows, Columns(["E-mail", "Plan"], {"email": [0]}), NOBODY_SAID)

    added = {"reason", *CONTACT_FIELDS, *(warn.name.lower() for warn in Warn), "email_typo_hint", "consented"}
    assert set(verdicts.columns) == {"row_number", cell(0), cell(1), "extra", "kept_0", *added}
