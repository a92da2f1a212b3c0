"""The Great Expectations suite of a contract: one expectation per threshold, over a batch of one row.

The row's columns are named as the thresholds are: `max_refused_percent` bounds `refused_percent`.
"""

from typing import TYPE_CHECKING

from schemas.contract import Contract

if TYPE_CHECKING:
    import great_expectations

SAYS = {
    "min_rows": "{bound} or more rows",
    "max_drop_percent": "at most {bound} % fewer rows than the last import",
    "max_refused_percent": "at most {bound} % of rows refused for faults",
    "max_duplicate_percent": "at most {bound} % of good rows repeat an address of the file",
    "max_unknown_country_percent": "at most {bound} % of countries not known",
    "max_domain_shift_percent": "at most {bound} % of the e-mail domain mix moved since the last import",
    "min_consent_percent": "{bound} % or more of good rows have a basis of consent",
}


def bound_of(contract: Contract, threshold: str) -> float:
    """Return the value of a threshold."""
    return float(getattr(contract, threshold))


def says(contract: Contract, threshold: str) -> str:
    """Return an expectation in words."""
    return SAYS[threshold].format(bound=f"{bound_of(contract, threshold):,.10g}")


def contact_suite(contract: Contract) -> "great_expectations.ExpectationSuite":
    """Return the suite; a value that equals its bound meets it, and so does a missing one."""
    # Seconds and 200 MB: only the process that judges pays for it.
    from great_expectations import ExpectationSuite  # noqa: PLC0415
    from great_expectations.expectations.core.expect_column_values_to_be_between import (  # noqa: PLC0415
        ExpectColumnValuesToBeBetween,
    )

    expectations = []
    for threshold in SAYS:
        side, metric = threshold.split("_", 1)
        bound = bound_of(contract, threshold)
        expectations.append(
            ExpectColumnValuesToBeBetween(
                column=metric,
                min_value=bound if side == "min" else None,
                max_value=bound if side == "max" else None,
                description=says(contract, threshold),
                meta={"threshold": threshold},
            )
        )
    return ExpectationSuite(name="contacts", expectations=expectations)
