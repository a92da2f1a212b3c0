"""The contract of an audience, asked of a file as a whole; Great Expectations answers in its own process."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from pydantic import ValidationError

from messaging.errors import ContractError
from schemas.contact_suite import SAYS
from schemas.contacts import ImportReport
from schemas.contract import Contract, ContractResult
from schemas.reasons import Reason

# What `--on-duplicate refuse` asks for is no fault of the file.
_NO_FAULT = (Reason.DUPLICATE, Reason.KNOWN, Reason.CONFLICT)
PATIENCE = 120.0  # seconds; it takes five, and the machine may be busy


def is_asked(contract: Contract, rows: int, last_rows: int | None) -> bool:
    """Say whether a file is large enough to be judged, replaces a large one, or lacks rows."""
    return max(rows, last_rows or 0) >= contract.from_rows or rows < contract.min_rows


def metrics(
    contract: Contract, summary: Mapping[str, Any], last: Mapping[str, Any] | None
) -> dict[str, float | None]:
    """Return what the thresholds bound, None where there is nothing to measure or to compare with.

    `summary` and `last` are `Summary.as_dict()` of this file and of the audience's last import.
    """
    rows: int = summary["rows"]
    figures: dict[str, float | None] = dict.fromkeys(threshold.split("_", 1)[1] for threshold in SAYS)
    figures["rows"] = float(rows)
    judged_by_shares = rows >= contract.from_rows
    if judged_by_shares:
        reasons = summary["reasons"]
        faulty = summary["refused"] - sum(reasons.get(reason, 0) for reason in _NO_FAULT)
        good = rows - faulty
        figures["refused_percent"] = _percent(faulty, rows)
        if summary["duplicates"] is not None:
            repeated = summary["duplicates"] + reasons.get(Reason.DUPLICATE, 0)
            figures["duplicate_percent"] = _percent(repeated, good)
        figures["unknown_country_percent"] = _percent(
            summary["unknown_countries"], summary["named_countries"]
        )
        figures["consent_percent"] = _percent(summary["consented"], good)
    if last and last["rows"] >= contract.from_rows:
        figures["drop_percent"] = _percent(max(last["rows"] - rows, 0), last["rows"])
        if judged_by_shares:
            figures["domain_shift_percent"] = _shift(summary, last)
    return figures


@contextmanager
def evaluation(contract: Contract) -> Iterator["Evaluation"]:
    """Start the process that will judge, and end it with the block; it is ready after some seconds.

    Raises:
        ContractError: It cannot be started.
    """
    # -P: the folder in which a person imports must not provide modules.
    command = [sys.executable, "-P", "-m", "messaging.audience.contract_process"]
    # Its errors go to a file: a pipe that nobody reads while we are busy could fill up.
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        except OSError as error:
            raise ContractError(f"the contract could not be judged: {error.strerror}") from error
        with process:
            try:
                yield Evaluation(contract, process, errors)
            finally:
                process.kill()  # does nothing when it has ended


class Evaluation:
    """A process that holds one file's figures against a contract."""

    def __init__(self, contract: Contract, process: "subprocess.Popen[bytes]", errors: IO[bytes]) -> None:
        """See `evaluation`."""
        self._contract = contract
        self._process = process
        self._errors = errors

    def result(self, metrics: Mapping[str, float | None]) -> ContractResult:
        """Return what the contract says of these figures; ask once.

        Raises:
            ContractError: There is no verdict; calling again, with a new evaluation, is safe.
        """
        request = json.dumps({"contract": self._contract.model_dump(), "metrics": metrics}, allow_nan=False)
        try:
            answer, _ = self._process.communicate(request.encode(), timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise ContractError(f"the contract could not be judged in {PATIENCE:.0f} seconds") from None
        if self._process.returncode:
            raise ContractError(f"the contract could not be judged: {self._last_words()}")
        try:
            return ContractResult.model_validate_json(answer)
        except ValidationError:
            raise ContractError("the contract could not be judged: its process gave no verdict") from None

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        words = next((line for line in reversed(lines) if line.strip()), "no reason given")
        return f"{words.strip()[:200]} (exit code {self._process.returncode})"


def breach_sentence(report: ImportReport) -> str:
    """Say which expectations a file does not meet, and how to go on."""
    broken = [check for check in report.contract.checks if not check.holds] if report.contract else []
    found = "; ".join(f"expected {check.says}, found {check.found}" for check in broken)
    return (
        f"{report.file_name} breaks the contract of audience {report.audience!r}, so nothing was loaded: "
        f'{found}. Mend the file and import it again, or add --accept-contract-breach "why" to load it as '
        "it is; `outflow audience save` changes the thresholds"
    )


def _percent(part: int, whole: int) -> float | None:
    # One division last: a share that equals its bound comes out equal to it.
    return 100 * part / whole if whole else None


def _shift(now: Mapping[str, Any], before: Mapping[str, Any]) -> float | None:
    """Return the total variation distance of two mixes; the domains a summary does not list count as one."""
    total: int = now["with_email"]
    total_before: int = before["with_email"]
    if not total or not total_before:
        return None
    mix, mix_before = _mix(now), _mix(before)
    moved = sum(
        abs(mix.get(domain, 0) * total_before - mix_before.get(domain, 0) * total)
        for domain in mix.keys() | mix_before.keys()
    )
    return 50 * moved / (total * total_before)


def _mix(summary: Mapping[str, Any]) -> dict[str, int]:
    domains: dict[str, int] = summary["domains"]
    return {**domains, "": summary["with_email"] - sum(domains.values())}
