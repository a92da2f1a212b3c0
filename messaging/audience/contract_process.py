"""The process that holds a file's figures against a contract: a request on stdin, the result on stdout."""

import json
import os
import sys
from collections.abc import Mapping

from messaging.errors import ContractError
from schemas.contact_suite import SAYS, bound_of, contact_suite, says
from schemas.contract import Check, Contract, ContractResult


def judge(contract: Contract, metrics: Mapping[str, float | None]) -> ContractResult:
    """Validate the figures, as a batch of one row, with the contract's suite.

    Raises:
        ContractError: An expectation was not judged; the others say nothing without it.
    """
    import great_expectations as gx  # noqa: PLC0415 - see `contact_suite`
    import pandas as pd  # type: ignore[import-untyped]  # noqa: PLC0415 - the same
    from great_expectations.data_context.types.base import ProgressBarsConfig  # noqa: PLC0415 - the same

    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(enable=False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    frame = pd.DataFrame([metrics], dtype="float64")
    batch = context.data_sources.pandas_default.read_dataframe(frame)
    outcomes = {
        outcome.expectation_config.meta["threshold"]: outcome
        for outcome in batch.validate(contact_suite(contract), result_format="SUMMARY").results
        # An expectation that raised has counted no row; it is no breach.
        if outcome.result.get("element_count") == 1 and outcome.expectation_config
    }
    checks = []
    for threshold in SAYS:
        if threshold not in outcomes:
            raise ContractError(f"{threshold} was not judged")
        checks.append(
            Check(
                name=threshold,
                says=says(contract, threshold),
                observed=metrics[threshold.split("_", 1)[1]],
                bound=bound_of(contract, threshold),
                holds=bool(outcomes[threshold].success),
            )
        )
    return ContractResult(holds=all(check.holds for check in checks), checks=checks)


def main() -> None:
    """Import first, then wait for the request: who started us is busy meanwhile."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    answer = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no answer
    import great_expectations  # noqa: F401, PLC0415

    request = json.load(sys.stdin)
    result = judge(Contract.model_validate(request["contract"]), request["metrics"])
    with os.fdopen(answer, "w", encoding="utf-8") as stdout:
        stdout.write(result.model_dump_json())


if __name__ == "__main__":
    main()
    os._exit(0)  # tidying up takes the libraries another second, and the verdict waits for it
