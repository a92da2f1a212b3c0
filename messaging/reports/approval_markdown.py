"""What a person should know who is to approve a campaign, as Markdown: counts only, as Prefect stores it."""

import re
from collections.abc import Sequence
from datetime import datetime

from messaging.reports.markdown import moment
from schemas.approval import Draft


def approval_markdown(draft: Draft, problems: Sequence[str], preflight: str) -> str:
    """Return the brief above the form.

    `preflight` is where a preflight and a sample of the message are shown; empty: nowhere.
    """
    left_out = ", ".join(f"{n:,} {reason}" for reason, n in draft.excluded.items())
    audience = f" of audience {draft.audience}" if draft.audience else ""
    facts = {
        "Subject": _code(draft.subject) if draft.subject else "",
        "Recipients": f"**{draft.recipients:,}**{audience}{f' (left out: {left_out})' if left_out else ''}",
        "Starts": _begins(draft),
        "At the latest": _shown(draft.ends_at, draft.time_zone) if draft.ends_at else "",
        "Account": ", then ".join(draft.accounts),
        "Test messages": draft.tested or "**none has arrived**",
    }
    lines = [
        f"### Campaign {draft.name} waits for your answer",
        "",
        *[line for problem in problems for line in (f"**Problem:** {problem}", "")],
        *[f"- {name}: {said}" for name, said in facts.items() if said],  # a table would be cut, not wrapped
        "",
    ]
    if preflight:
        lines += [f"[What it looks like, and what was checked]({preflight})", ""]
    for comment in draft.comments:
        lines += [f"> {comment.said}  ", f"> {comment.who}, {moment(comment.at)}", ""]
    return "\n".join(lines)


def _begins(draft: Draft) -> str:
    shown = _shown(draft.begins_at, draft.time_zone)
    if draft.own_time:
        return f"when each recipient's clock shows {draft.own_time}, the first at {shown}, once approved"
    return f"as soon as it is approved (it was due at {shown})" if draft.is_due else f"{shown}, once approved"


def _shown(at: datetime, zone: str) -> str:
    return f"{at:%Y-%m-%d %H:%M} {zone}"


def _code(text: str) -> str:
    """Quote text that may hold backticks (CommonMark, 6.1)."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if len(fence) > 1 else ""
    return f"{fence}{pad}{text}{pad}{fence}"
