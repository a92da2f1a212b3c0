"""What a contract said of a file, as Markdown: counts only, so that it may be stored by Prefect."""

import re

from schemas.contract import ContractResult

_MARKUP = re.compile(r"[\\`*_\[\]<>|#&~]")


def contract_markdown(result: ContractResult) -> str:
    """Return a section: the verdict and a table of its checks."""
    lines = [f"## Contract: {'kept' if result.holds else 'broken'}", ""]
    if result.accepted_by:
        by, because = _plain(result.accepted_by), _plain(result.accepted_because or "")
        lines += [f"Loaded all the same: **{by}** gave as the reason “{because}”.", ""]
    lines += ["| Expected | Found | Verdict |", "|---|---|---|"]
    lines += [
        f"| {check.says} | {check.found} | {'holds' if check.holds else '**broken**'} |"
        for check in result.checks
    ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Return a person's words so that Markdown takes none of them for its own."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))
