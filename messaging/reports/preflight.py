"""A preflight on a terminal and as Markdown: neither names a recipient."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Final

from messaging.campaign.preflight import Examined
from messaging.campaign.previewing import Shown
from messaging.reports import console
from messaging.reports.markdown import table_cell
from schemas.preflight import Line, Verdict, worst_first

SIGNS: Final = {Verdict.REFUSE: "✗", Verdict.WARN: "!", Verdict.UNKNOWN: "?", Verdict.OK: "✓"}
_STYLES: Final = {
    Verdict.REFUSE: "bold red",
    Verdict.WARN: "yellow",
    Verdict.UNKNOWN: "cyan",
    Verdict.OK: "green",
}
_MOST_TEXT: Final = 4_000  # characters of a sample in an artifact
# Of logins and senders: whoever may read a report need not learn them.
_ADDRESS: Final = re.compile(r"[^\s@<>()«»]+@[^\s@<>(),;«»]+|\+[1-9][0-9]{6,14}\b")


def show_lines(lines: Sequence[Line]) -> None:
    """Print the lines, the worst first."""
    width = max((len(line.what) for line in lines), default=0)
    for line in worst_first(lines):
        style = _STYLES[line.verdict]
        console.out.print(f"{SIGNS[line.verdict]} {line.verdict:<8}", style=style, end="")
        console.show(f"{line.what:<{width}}  {line.said}")
        if line.do:
            console.show(f"{'':{width + 12}}→ {line.do}")


def summary(lines: Sequence[Line]) -> str:
    """Say how many lines came to what, as in 1 refuse, 2 warn, 12 ok."""
    ordered = worst_first(lines)
    return ", ".join(
        f"{len(list(each))} {verdict}" for verdict, each in groupby(ordered, lambda line: line.verdict)
    )


def without_addresses(text: str) -> str:
    """Return a text as Prefect may keep it: templates may hold addresses, and so may what accounts say."""
    return _ADDRESS.sub("«address»", text)


def preflight_markdown(examined: Examined, link: str = "") -> str:
    """Return the lines and a sample message, with the names of fields instead of anybody's values.

    `link` leads to a page with the messages; empty: there is none.
    """
    refused = any(line.verdict is Verdict.REFUSE for line in examined.lines)
    rows = [
        f"| {SIGNS[line.verdict]} {line.verdict} | {table_cell(line.what)} | {_cell(line.said)} "
        f"| {_cell(line.do)} |"
        for line in worst_first(examined.lines)
    ]
    lines = [
        f"# Preflight of {examined.campaign}: {'refused' if refused else summary(examined.lines)}",
        "",
        f"Looked at {datetime.now(UTC):%F %H:%M} UTC.",
        "",
        "| | What | Found | What to do |",
        "|---|---|---|---|",
        *rows,
    ]
    if link and not refused:
        told = "with «field» for each value; for 7 days, once the campaign is in the ledger"
        lines += ["", f"[Look at the message]({link}) ({told})."]
    for shown in examined.previews.nobody:
        lines += ["", *_sample(shown)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return table_cell(without_addresses(text)).replace("<", "&lt;")


def _sample(shown: Shown) -> list[str]:
    if shown.problem:
        return [f"## Sample over {shown.account}", "", f"It cannot be made: {_cell(shown.problem)}"]
    text = without_addresses(shown.text.replace(shown.unsubscribe_url, "«unsubscribe_url»"))[:_MOST_TEXT]
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=2) + 1)
    subject = [f"Subject: {_cell(shown.subject)}", ""] if shown.subject else []
    return [f"## Sample over {shown.account}", "", *subject, fence, text.rstrip(), fence]
