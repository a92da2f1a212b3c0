"""Figures on a terminal, and as the JSON that commands print."""

import json
from collections import Counter
from typing import Any

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from messaging.reports.markdown import campaign_markdown, duration
from schemas.contacts import ImportReport, Verification, VerifiedAddress, Warned
from schemas.report import CampaignReport, Preflight

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """Tell the person at the terminal what is going on, apart from the result."""
    err.print(line, style="dim", markup=False)


def show(line: str) -> None:
    """Print a line of the result."""
    out.print(line, markup=False)


def show_json(value: dict[str, Any]) -> None:
    """Print the one object that stdout is for."""
    print(json.dumps(value, ensure_ascii=False, default=str))  # noqa: T201 - not through rich, which may wrap it


def campaign_json(report: CampaignReport) -> dict[str, Any]:
    """Return a campaign's figures under the keys that every command uses."""
    return {
        "campaign": report.campaign,
        "number": report.campaign_id,
        "state": report.state,
        **({"paused_because": report.paused_because} if report.paused_because else {}),
        **report.totals.model_dump(),
        "seconds": round(report.seconds, 3),
    }


def show_report(report: CampaignReport) -> None:
    """Print a campaign's report."""
    out.print(Markdown(campaign_markdown(report)))


def show_status(reports: list[CampaignReport]) -> None:
    """Print one line per campaign."""
    counts = [report.totals.model_dump() for report in reports]
    # Only what there is to tell: ten columns do not fit a terminal.
    usual = ["planned", "accepted", "rejected", "unknown"]
    others = [state for state in counts[0] if state not in usual and any(count[state] for count in counts)]
    columns = usual + others
    table = Table(box=None, pad_edge=False)
    table.add_column("no", justify="right")
    for heading in ["campaign", "state"]:
        table.add_column(heading, no_wrap=True, overflow="fold")
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for report, count in zip(reports, counts, strict=True):
        number = str(report.campaign_id)
        table.add_row(number, report.campaign, report.state, *(f"{count[column]:,}" for column in columns))
    out.print(table)
    for report in reports:
        if report.paused_because:
            show(f"{report.campaign} is paused: {report.paused_because}")


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
    _show_counts("Refused rows", report.reasons)
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


def imports_json(reports: list[ImportReport]) -> dict[str, Any]:
    """Return the figures of imported files: those of all, and each file's own."""
    total = {
        key: sum(getattr(report, key) for report in reports)
        for key in ("rows", "imported", "new", "refused", "duplicates", "without_consent", "seconds")
    }
    reasons: Counter[str] = Counter()
    for report in reports:
        reasons.update(report.reasons)
    refused_files = [report.refused_file for report in reports if report.refused_file]
    return {
        **total,
        "reasons": dict(reasons.most_common()),
        "refused_file": refused_files[0] if refused_files else None,
        "files": [report.model_dump(mode="json") for report in reports],
    }


def show_verification(found: Verification) -> None:
    """Print what an import would say of a file."""
    _show_understood(found, found.notes)
    show(f"{found.rows - found.refused:,} of {found.rows:,} rows would be taken, {found.refused:,} refused.")
    _show_counts("Refused rows", found.reasons)
    _show_warnings(found.warnings)


def show_addresses(addresses: list[VerifiedAddress]) -> None:
    """Print a line per address."""
    for address in addresses:
        verdict = f"refused, {address.reason}" if address.reason else f"good, {address.email}"
        show(f"{address.given}: {verdict}{address.suggestion and f'; mistyped? {address.suggestion}'}")


def show_error(error: Exception) -> None:
    """Print what went wrong, on stderr."""
    err.print(f"outflow: {error}", style="red", markup=False)


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


def show_preflight(preflight: Preflight) -> None:
    """Print what launching a campaign would do."""
    if preflight.state is None:
        show(
            f"Campaign {preflight.campaign!r} would be sent to {preflight.recipients:,} "
            f"of {preflight.contacts:,} contacts."
        )
    else:
        show(
            f"Campaign {preflight.campaign!r} was launched before and is {preflight.state}: "
            f"{preflight.recipients:,} recipients are left to be sent to."
        )
    _show_counts("Left out", preflight.excluded)
    _show_counts("Contacts without a value for a merge field", preflight.empty_fields)
    if preflight.seconds_at_least is not None:
        show(f"At its pace it takes at least {duration(preflight.seconds_at_least)}.")


def _show_counts(title: str, counts: dict[str, int]) -> None:
    if counts:
        show(f"{title}:")
        for what, n in counts.items():
            show(f"  {n:>9,}  {what}")
