"""The page of a contract's result: what it says, and that it loads nothing and names nobody."""

import re
from html import unescape

import pytest

from messaging.reports.contract_page import contract_html
from schemas.contact_suite import SAYS, bound_of, says
from schemas.contacts import ImportReport, Warned
from schemas.contract import Check, Contract, ContractResult

FIGURES = {"min_rows": 48_213.0, "max_refused_percent": 37.42, "min_consent_percent": 100.0}


def result(*, holds: bool, **accepted: str) -> ContractResult:
    checks = [
        Check(
            name=name,
            says=says(Contract(), name),
            observed=FIGURES.get(name),
            bound=bound_of(Contract(), name),
            holds=holds or name != "max_refused_percent",
        )
        for name in SAYS
    ]
    return ContractResult(holds=holds, checks=checks, **accepted)


def report(**values: object) -> ImportReport:
    usual = {
        "import_id": 12,
        "audience": "customers",
        "file_name": "people.csv",
        "format": "CSV",
        "loaded": False,
        "rows": 48_213,
        "imported": 0,
        "refused": 18_041,
        "duplicates": 5_210,
        "reasons": {"e-mail: no @": 18_000, "no address": 41},
        "warnings": [
            Warned(
                warning="e-mail: domain likely mistyped",
                rows=212,
                first_rows=[12, 44],
                suggestions={"gmial.com → gmail.com": 180},
            )
        ],
        "columns": [],
        "contract": result(holds=False),
        "seconds": 1.0,
    }
    return ImportReport(**usual | values)


def mix(**domains: int) -> dict:
    named = {name.replace("_", "."): rows for name, rows in domains.items()}
    return {"domains": named, "with_email": sum(domains.values())}


def words(page: str) -> str:
    """Return what a person reads, without the tags."""
    body = page.partition("<body>")[2]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({}, "The contract is broken; nothing was loaded"),
        (
            {"loaded": True, "contract": result(holds=False)},
            "The contract is broken; the file was loaded all the same",
        ),
        ({"loaded": True, "contract": result(holds=True)}, "The contract is kept; the file was loaded"),
    ],
)
def test_it_begins_with_the_verdict(values: dict, verdict: str):
    assert words(contract_html(report(**values), mix())).startswith(verdict)


def test_who_accepted_a_breach_and_why_stands_under_the_verdict():
    accepted = result(holds=False, accepted_by="maria", accepted_because="a new supplier")

    text = words(contract_html(report(contract=accepted, loaded=True), mix()))

    assert "people.csv for the audience customers Accepted by maria : “ a new supplier ”" in text


def test_it_shows_every_check_and_why_rows_were_refused_or_are_worth_a_look():
    text = words(contract_html(report(), mix()))

    assert "at most 20 % of rows refused for faults 37.4 % ✗ broken" in text
    assert "0 % or more of good rows have a basis of consent 100 % ✓ holds" in text
    assert "at most 50 % fewer rows than the last import not measured ✓ holds" in text
    assert "e-mail: no @ 18,000 37.3 %" in text
    assert "e-mail: domain likely mistyped gmial.com → gmail.com: 180 rows 12, 44, … 212" in text


def test_only_who_can_still_act_is_told_how():
    assert '--accept-contract-breach "why"' in words(contract_html(report(), mix()))
    assert "--accept-contract-breach" not in contract_html(report(loaded=True), mix())


def test_the_domain_mix_stands_beside_the_last_one():
    now = mix(big_example=70, new_example=20, few_example=10)

    text = words(contract_html(report(), now, mix(big_example=50, other_example=50)))

    rows = text.partition("Last import ")[2]
    assert rows.startswith("big.example 70.0 % 50.0 % new.example 20.0 % \N{EN DASH} few.example 10.0 %")
    assert "Last import" not in contract_html(report(), now)
    assert "E-mail domains" not in contract_html(report(), mix())


def test_a_domain_of_a_few_rows_may_be_one_person_and_is_not_named():
    page = contract_html(report(), mix(big_example=95, ada_lovelace_example=4))

    assert "lovelace" not in page
    assert "all others 4.0 %" in words(page)


def test_it_loads_nothing():
    page = contract_html(report(), mix(big_example=95), mix(big_example=95))

    assert not re.search(r"(?i)https?:|//|<script|<link|<img|<iframe|@import|url\(|\b(?:src|href)\s*=", page)
    assert "default-src 'none'" in page


def test_names_and_words_of_strangers_stay_text():
    hostile = "<script>alert('1')</script>"
    accepted = result(holds=False, accepted_by=hostile, accepted_because=hostile)
    warned = Warned(warning=hostile, rows=1, first_rows=[2], suggestions={hostile: 1})

    page = contract_html(
        report(
            file_name=hostile, audience=hostile, contract=accepted, reasons={hostile: 1}, warnings=[warned]
        ),
        {"domains": {hostile: 9}, "with_email": 9},
    )

    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;") == 9  # the title holds one too
