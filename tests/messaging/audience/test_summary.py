"""What is counted of judged rows, chunk by chunk."""

import json
import random
from collections import Counter

import polars as pl
import pytest

from messaging.audience.summary import Summary
from schemas.contacts import Warned
from schemas.reasons import Reason, Warn

SCHEMA = {
    "row_number": pl.UInt32,
    "reason": pl.String,
    "consented": pl.Boolean,
    "country": pl.String,
    "email_key": pl.String,
    "phone_type": pl.String,
    "email_typo_hint": pl.String,
    "cell_0": pl.String,
    **{warn.name.lower(): pl.Boolean for warn in Warn},
}


def judged(*rows: dict) -> pl.DataFrame:
    """Return judged rows; what a row does not say is null, or false."""
    nothing = {name: False if kind == pl.Boolean else None for name, kind in SCHEMA.items()}
    return pl.DataFrame(
        [nothing | {"row_number": number} | row for number, row in enumerate(rows, 2)], schema=SCHEMA
    )


def summary_of(*chunks: pl.DataFrame) -> Summary:
    summary = Summary()
    for chunk in chunks:
        summary.add(chunk)
    return summary


def mailed(*domains: str) -> pl.DataFrame:
    return judged(*({"email_key": f"person{i}@{domain}"} for i, domain in enumerate(domains)))


def some_rows(number: int) -> list[dict]:
    pick = random.Random(7).choice  # noqa: S311 - rows, not secrets
    return [
        {
            "row_number": i,
            "reason": pick([None, None, None, Reason.NO_ADDRESS, Reason.EMAIL_SYNTAX]),
            "consented": pick([True, False]),
            "country": pick([None, "DE", "ES"]),
            "country_unknown": pick([False, False, True]),
            "email_key": pick([None, "a@one.example", "b@two.example", '"c@d"@two.example']),
            "phone_type": pick([None, "mobile", "fixed"]),
            "email_role": pick([True, False]),
        }
        for i in range(2, number + 2)
    ]


@pytest.mark.parametrize("chunk", [1, 7, 500])
def test_it_counts_what_a_loop_over_the_rows_counts_however_they_are_chunked(chunk: int):
    rows = some_rows(500)
    good = [row for row in rows if row["reason"] is None]
    domains = Counter(row["email_key"].rpartition("@")[2] for row in good if row["email_key"])

    counted = summary_of(*(judged(*rows[i : i + chunk]) for i in range(0, 500, chunk))).as_dict()

    assert counted["rows"] == 500
    assert counted["refused"] == 500 - len(good)
    assert counted["reasons"] == Counter(row["reason"] for row in rows if row["reason"])
    assert counted["consented"] == sum(row["consented"] for row in good)
    assert counted["named_countries"] == sum(bool(row["country"] or row["country_unknown"]) for row in good)
    assert counted["unknown_countries"] == sum(row["country_unknown"] for row in good)
    assert counted["with_email"] == domains.total()
    assert counted["domains"] == domains
    assert counted["phone_types"] == Counter(row["phone_type"] for row in good if row["phone_type"])
    [roles] = [found for found in counted["warnings"] if found["warning"] == Warn.EMAIL_ROLE]
    numbers = [row["row_number"] for row in good if row["email_role"]]
    assert (roles["rows"], roles["first_rows"]) == (len(numbers), numbers[:5])


def test_nothing_read_is_nothing_counted():
    empty = summary_of(judged())

    assert (empty.rows, empty.refused, empty.good, empty.warned()) == (0, 0, 0, [])
    assert summary_of().as_dict() == empty.as_dict()


def test_a_warning_of_a_refused_row_is_not_told():
    rows = judged({"email_role": True, "reason": Reason.NO_ADDRESS})

    assert summary_of(rows).warned() == []


def test_mistyped_domains_come_with_what_was_likely_meant():
    typo = {"email_typo": True, "email_typo_hint": "gmial.com → gmail.com"}
    other = {"email_typo": True, "email_typo_hint": "yaho.com → yahoo.com"}

    told = summary_of(judged(other, typo), judged({}, typo)).warned()

    assert told == [
        Warned(
            warning="e-mail: domain likely mistyped",
            rows=3,
            first_rows=[2, 3, 3],
            suggestions={"gmial.com → gmail.com": 2, "yaho.com → yahoo.com": 1},
        )
    ]


def test_the_most_frequent_domains_outlast_a_flood_of_rare_ones(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("messaging.audience.summary.MOST_REMEMBERED", 3)
    chunks = [
        mailed("big.example", "big.example", *(f"{chunk}-{i}.example" for i in range(20)))
        for chunk in range(5)
    ]

    counted = summary_of(*chunks).as_dict()

    assert counted["domains"]["big.example"] == 10
    assert len(counted["domains"]) == 3
    assert counted["with_email"] == 5 * 22


def test_only_fifty_domains_are_kept_and_equals_stand_by_name():
    counted = summary_of(mailed("zz.example", *(f"{i:02}.example" for i in range(60)), "zz.example"))

    domains = list(counted.as_dict()["domains"])
    assert domains == ["zz.example", *(f"{i:02}.example" for i in range(49))]


def test_what_is_kept_is_json_and_holds_no_address():
    summary = summary_of(judged(*some_rows(100)))
    summary.imported, summary.duplicates = 40, 2

    kept = json.dumps(summary.as_dict())

    assert "@" not in kept
    assert (json.loads(kept)["imported"], json.loads(kept)["duplicates"]) == (40, 2)
