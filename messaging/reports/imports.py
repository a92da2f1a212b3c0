"""Imports and verifications on a terminal, and as the JSON that commands print."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from messaging.reports.console import show, show_counts
from schemas.contacts import ImportReport, Verification, VerifiedAddress, Warned


def show_import(report: ImportReport, notes: list[str]) -> None:
    """Print what an import understood and did."""
    if report.repeats is not None:
        show(
            f"{report.file_name} was imported into {report.audience!r} before, as import {report.repeats}: "
            "nothing was done. To import it anew: --again"
        )
        return
    _show_understood(report, notes)
    if report.loaded:
        show(
            f"{report.imported:,} contacts are in audience {report.audience!r}, {report.new:,} of them new: "
            f"{report.rows:,} rows, {report.duplicates:,} merged as duplicates, {report.refused:,} refused "
            f"({report.seconds:.1f} s)."
        )
    show_counts("Refused rows", report.reasons)
    _show_warnings(report.warnings)
    if report.without_consent:
        show(
            f"{report.without_consent:,} of them have no recorded consent and are left out of campaigns: "
            'import the file again with --consent "why they may be written to" --again'
        )
    if report.refused_file:
        show(f"Refused rows, to mend and import again: {report.refused_file}")
    if report.contract_page:
        show(f"What the contract says of the file: {report.contract_page}")


def imports_json(reports: list[ImportReport], errors: Sequence[Exception]) -> dict[str, Any]:
    """Return the figures of imported files, those of all and each file's own, and what went wrong."""
    said = {"error": "; ".join(map(str, errors))} if errors else {}
    if not reports:
        return said
    total = {
        key: sum(getattr(report, key) for report in reports)
        for key in ("rows", "imported", "new", "refused", "duplicates", "without_consent", "seconds")
    }
    reasons: Counter[str] = Counter()
    for report in reports:
        reasons.update(report.reasons)
    refused_files = [report.refused_file for report in reports if report.refused_file]
    return {
        **said,
        **total,
        "reasons": dict(reasons.most_common()),
        "refused_file": refused_files[0] if refused_files else None,
        "files": [report.model_dump(mode="json") for report in reports],
    }


def show_verification(found: Verification) -> None:
    """Print what an import would say of a file."""
    _show_understood(found, found.notes)
    show(f"{found.rows - found.refused:,} of {found.rows:,} rows would be taken, {found.refused:,} refused.")
    show_counts("Refused rows", found.reasons)
    _show_warnings(found.warnings)


def show_addresses(addresses: list[VerifiedAddress]) -> None:
    """Print a line per address."""
    for address in addresses:
        verdict = f"refused, {address.reason}" if address.reason else f"good, {address.email}"
        if address.domain is not None:
            verdict += f"; its domain: {address.domain}"
        show(f"{address.given}: {verdict}{address.suggestion and f'; mistyped? {address.suggestion}'}")


def _show_understood(file: ImportReport | Verification, notes: list[str]) -> None:
    show(f"{file.file_name}: {file.format}{file.encoding and f', {file.encoding}'}.")
    for note in notes:
        show(f"  {note}")
    used = [column for column in file.columns if column.role not in {"attribute", "empty"}]
    for column in used:
        show(f"  {column.role:10} from {column.column!r} ({column.how})")
    attributes = [column.column for column in file.columns if column.role == "attribute"]
    show(f"  attributes {', '.join(attributes) or 'none'}")


def _show_warnings(warnings: list[Warned]) -> None:
    if warnings:
        show("Taken, and worth a look:")
    for found in warnings:
        rows = ", ".join(map(str, found.first_rows)) + (", …" if found.rows > len(found.first_rows) else "")
        show(f"  {found.rows:>9,}  {found.warning} (row {rows})")
        for suggestion, n in found.suggestions.items():
            show(f"  {n:>9,}    {suggestion}")
