"""The contract: what is measured, what breaks it, and that no verdict is no pass."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from messaging.audience.contract import breach_sentence, evaluation, is_asked, metrics
from messaging.errors import ContractError
from schemas.contact_suite import SAYS, bound_of, says
from schemas.contacts import ImportReport
from schemas.contract import Check, Contract, ContractResult

CONTRACT = Contract(min_rows=1_000, min_consent_percent=90, max_refused_percent=12.5)
AT_BOUND = {name.split("_", 1)[1]: bound_of(CONTRACT, name) for name in SAYS}
BEYOND = {
    name.split("_", 1)[1]: bound_of(CONTRACT, name) + (0.001 if name.startswith("max") else -0.001)
    for name in SAYS
}
# Many batches in one process: what takes time is the import of Great Expectations.
JUDGE_EACH = """
import json, sys
from messaging.audience.contract_process import judge
from schemas.contract import Contract
contract, batches = json.load(sys.stdin)
results = [judge(Contract(**contract), batch).model_dump() for batch in batches]
print(json.dumps(results), file=sys.stderr)
"""
ASK = """
import sys
from messaging.audience.contract import evaluation
from schemas.contract import Contract
import messaging.audience.summary, messaging.reports.contract_page
with evaluation(Contract()) as asked:
    result = asked.result({METRICS})
print({"great_expectations", "pandas"} & sys.modules.keys() or result.model_dump_json())
"""


def summary(rows: int = 10_000, refused: int = 0, domains: dict[str, int] | None = None, **counts) -> dict:
    return {
        "rows": rows,
        "refused": refused,
        "reasons": {"no address": refused},
        "duplicates": 0,
        "consented": 0,
        "named_countries": 0,
        "unknown_countries": 0,
        "domains": domains or {},
        "with_email": sum((domains or {}).values()),
    } | counts


def measured(now: dict, last: dict | None = None, **thresholds) -> dict[str, float]:
    """Return the figures that could be measured."""
    figures = metrics(Contract(**thresholds), now, last)
    assert set(figures) == set(AT_BOUND)
    return {name: figure for name, figure in figures.items() if figure is not None}


@pytest.fixture(scope="module")
def verdicts() -> dict[str, ContractResult]:
    """What Great Expectations says of each figure alone beyond its bound, and of some whole batches."""
    batches = {name: AT_BOUND | {name: BEYOND[name]} for name in AT_BOUND}
    batches |= {"at bound": AT_BOUND, "not measured": dict.fromkeys(AT_BOUND)}
    done = subprocess.run(
        [sys.executable, "-c", JUDGE_EACH],
        input=json.dumps([CONTRACT.model_dump(), list(batches.values())]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stderr.splitlines()[-1])
    return {name: ContractResult(**result) for name, result in zip(batches, results, strict=True)}


def judging_process() -> psutil.Process:
    children = psutil.Process().children()
    [child] = [child for child in children if "messaging.audience.contract_process" in child.cmdline()]
    return child


def test_every_threshold_has_an_expectation():
    assert set(SAYS) == Contract.model_fields.keys() - {"from_rows"}


@pytest.mark.parametrize("threshold", SAYS)
def test_a_figure_beyond_its_bound_breaks_the_contract_and_only_its_own_check(verdicts, threshold: str):
    result = verdicts[threshold.split("_", 1)[1]]

    assert not result.holds
    assert [check.name for check in result.checks if not check.holds] == [threshold]


def test_figures_equal_to_their_bounds_hold(verdicts):
    result = verdicts["at bound"]

    assert result.holds
    assert {check.name: check.observed for check in result.checks} == {
        check.name: check.bound for check in result.checks
    }


def test_what_was_not_measured_holds(verdicts):
    assert verdicts["not measured"].holds
    assert {check.observed for check in verdicts["not measured"].checks} == {None}


def test_an_evaluation_answers_and_this_process_pays_for_no_pandas():
    figures = measured(summary(10_000, 2_001), summary(15_000))
    metrics_text = json.dumps(dict.fromkeys(AT_BOUND) | figures).replace("null", "None")

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ASK.replace("{METRICS}", metrics_text)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
    result = ContractResult.model_validate_json(done.stdout)
    assert [(check.says, check.found) for check in result.checks if not check.holds] == [
        ("at most 20 % of rows refused for faults", "20.01 %")
    ]


def test_an_expectation_that_cannot_be_judged_is_an_error_not_a_pass():
    with (
        evaluation(Contract()) as asked,
        pytest.raises(ContractError, match="max_drop_percent was not judged"),
    ):
        asked.result({"rows": 1_000.0})


def test_a_killed_process_is_an_error_not_a_pass():
    with evaluation(Contract()) as asked:
        judging_process().kill()

        with pytest.raises(ContractError, match="could not be judged"):
            asked.result(AT_BOUND)


@pytest.mark.parametrize("script", ["exit 0", "echo '{}'", "echo verdict; exit 0", "echo broken >&2; exit 3"])
def test_a_process_without_a_verdict_is_an_error_not_a_pass(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str
):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))

    with evaluation(Contract()) as asked, pytest.raises(ContractError, match="could not be judged"):
        asked.result(AT_BOUND)


def test_a_process_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    with pytest.raises(ContractError, match="No such file"), evaluation(Contract()):
        pass


def test_patience_ends_and_so_does_the_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("messaging.audience.contract.PATIENCE", 0.05)
    with evaluation(Contract()) as asked:
        process = judging_process()
        with pytest.raises(ContractError, match="in 0 seconds"):
            asked.result(AT_BOUND)

    assert not process.is_running()


def test_no_process_outlives_an_import_that_fails():
    with pytest.raises(ZeroDivisionError), evaluation(Contract()):
        process = judging_process()
        raise ZeroDivisionError

    assert not process.is_running()


@pytest.mark.parametrize(
    ("rows", "last_rows", "asked"),
    [
        (1_000, None, True),
        (999, None, False),
        (999, 999, False),
        (3, 1_000, True),  # it may be a collapse
        (1, 0, False),
        (0, None, True),  # it has not the one row that is asked of every file
    ],
)
def test_a_file_is_judged_when_it_is_large_or_follows_a_large_one(rows, last_rows, asked):
    assert is_asked(Contract(), rows, last_rows) is asked


def test_shares_are_of_what_they_speak_of():
    now = summary(
        2_000, 400, duplicates=80, consented=1_200, named_countries=500, unknown_countries=25
    )  # so 1,600 good rows

    assert measured(now) == {
        "rows": 2_000,
        "refused_percent": 20,
        "duplicate_percent": 5,
        "consent_percent": 75,
        "unknown_country_percent": 5,
    }


def test_rows_that_were_refused_as_asked_are_no_fault_of_the_file():
    asked_for = {"already a contact": 1_000, "duplicate in file": 100, "conflict with another contact": 10}

    figures = measured(summary(2_000, 1_510, reasons={"no address": 400, **asked_for}))

    assert (figures["refused_percent"], figures["duplicate_percent"]) == (20, 6.25)


def test_a_share_that_equals_its_bound_is_measured_as_equal():
    for part, whole in [(7, 1_000), (29, 10_000), (333, 9_000), (1_001, 143_000)]:
        assert measured(summary(whole, part))["refused_percent"] == float(f"{100 * part / whole:.12g}")


def test_a_smaller_file_is_compared_with_the_last_and_a_larger_one_is_no_drop():
    assert measured(summary(6_000), summary(10_000))["drop_percent"] == 40
    assert measured(summary(20_000), summary(10_000))["drop_percent"] == 0
    assert "drop_percent" not in measured(summary(6_000), None)


def test_a_small_file_after_a_large_one_is_judged_by_its_rows_only():
    figures = measured(summary(10, 9, {"a.example": 1}), summary(1_000, 0, {"b.example": 1_000}))

    assert figures == {"rows": 10, "drop_percent": 99}


def test_a_small_last_import_is_nothing_to_compare_with():
    figures = measured(summary(domains={"a.example": 10_000}), summary(999, 0, {"b.example": 999}))

    assert figures.keys() & {"drop_percent", "domain_shift_percent"} == set()


@pytest.mark.parametrize(
    ("now", "before", "shift"),
    [
        ({"a.example": 300, "b.example": 100}, {"a.example": 3, "b.example": 1}, 0),
        ({"a.example": 300}, {"b.example": 5}, 100),
        ({"a.example": 300, "b.example": 100}, {"a.example": 1, "b.example": 3}, 50),
        ({"a.example": 3, "b.example": 1}, {"a.example": 3, "c.example": 1}, 25),
    ],
)
def test_the_domain_mix_moves_by_its_total_variation(now, before, shift):
    assert measured(summary(domains=now), summary(domains=before))["domain_shift_percent"] == shift
    assert measured(summary(domains=before), summary(domains=now))["domain_shift_percent"] == shift


def test_domains_that_a_summary_does_not_list_count_as_one():
    now = summary(domains={"a.example": 60}, with_email=100)
    before = summary(domains={"a.example": 50}, with_email=100)

    assert measured(now, before)["domain_shift_percent"] == 10


def test_without_addresses_on_both_sides_there_is_no_mix_to_compare():
    assert "domain_shift_percent" not in measured(summary(domains={"a.example": 1}), summary())
    assert "domain_shift_percent" not in measured(summary(), summary(domains={"a.example": 1}))


@pytest.mark.parametrize(
    ("name", "observed", "bound", "words"),
    [
        ("max_refused_percent", 37.4249, 20, "37.4 %"),
        ("max_refused_percent", 20.0004, 20, "20.0004 %"),  # not the 20 % that would hold
        ("max_refused_percent", 19.999, 20, "19.999 %"),
        ("max_refused_percent", 20.0, 20, "20 %"),
        ("min_rows", 1.0, 1_000, "1 row"),
        ("min_rows", 1_234_567.0, 1, "1,234,567 rows"),
        ("max_drop_percent", None, 50, "not measured"),
    ],
)
def test_what_was_found_is_said_as_exactly_as_it_takes(name, observed, bound, words):
    assert Check(name=name, says="", observed=observed, bound=bound, holds=True).found == words


def test_a_breach_says_what_was_expected_what_was_found_and_how_to_go_on():
    found = {"max_refused_percent": 37.5, "min_rows": 48_000.0}
    checks = [
        Check(
            name=name,
            says=says(Contract(), name),
            observed=found.get(name),
            bound=1,
            holds=name != "max_refused_percent",
        )
        for name in SAYS
    ]
    report = ImportReport(
        import_id=1,
        audience="customers",
        file_name="people.csv",
        format="CSV",
        loaded=False,
        rows=48_000,
        imported=0,
        refused=18_000,
        duplicates=0,
        reasons={},
        columns=[],
        contract=ContractResult(holds=False, checks=checks),
        seconds=1,
    )

    assert breach_sentence(report) == (
        "people.csv breaks the contract of audience 'customers', so nothing was loaded: expected at most "
        "20 % of rows refused for faults, found 37.5 %. Mend the file and import it again, or add "
        '--accept-contract-breach "why" to load it as it is; `outflow audience save` changes the thresholds'
    )
