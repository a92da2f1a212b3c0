"""An import's report as Markdown: counts and column names only, so that it may be stored by Prefect."""

from messaging.reports.contract_markdown import contract_markdown
from messaging.reports.markdown import duration, table_cell
from schemas.contacts import ImportReport


def import_markdown(report: ImportReport) -> str:
    """Return the report of one imported file."""
    lines = [f"# {table_cell(report.file_name)} into {table_cell(report.audience)}", "", _verdict(report), ""]
    lines += [
        f"Read as {table_cell(report.format)}" + (f", {report.encoding}." if report.encoding else "."),
        "",
        "| Rows | Count |",
        "|---|---:|",
        f"| **in the file** | **{report.rows:,}** |",
        f"| imported | {report.imported:,} |",
        f"| of them new to the ledger | {report.new:,} |",
        f"| repeat an address | {report.duplicates:,} |",
        f"| refused | {report.refused:,} |",
    ]
    if report.without_consent:
        lines += [
            "",
            f"**{report.without_consent:,} contacts have no consent** and are left out of campaigns.",
        ]
    lines += _counts("Refused rows", "Reason", report.reasons)
    lines += _counts("Worth a look", "Warning", {found.warning: found.rows for found in report.warnings})
    lines += ["", "## Columns", "", "| Column | Read as | Told by | In templates |", "|---|---|---|---|"]
    lines += [
        f"| {table_cell(column.column)} | {column.role} | {column.how} "
        f"| {column.field and f'`{column.field}`'} |"
        for column in report.columns
    ]
    if report.contract is not None:
        lines += ["", contract_markdown(report.contract)]
    if report.problem:
        lines += ["", f"**{table_cell(report.problem)}**"]
    if report.refused_file:
        lines += ["", f"Refused rows, to mend and import again: `{report.refused_file}`"]
    return "\n".join(lines) + "\n"


def _verdict(report: ImportReport) -> str:
    if report.repeats is not None:
        return f"**Nothing to do**: import {report.repeats} had brought this same file."
    if not report.loaded:
        return "**Not loaded**: the file breaks the audience's contract."
    return f"**{report.imported:,} of {report.rows:,}** rows imported in {duration(report.seconds)}."


def _counts(title: str, head: str, counts: dict[str, int]) -> list[str]:
    if not counts:
        return []
    rows = [f"| {table_cell(what)} | {n:,} |" for what, n in counts.items()]
    return ["", f"## {title}", "", f"| {head} | Rows |", "|---|---:|", *rows]
