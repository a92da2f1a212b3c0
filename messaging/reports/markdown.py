"""A campaign's report as Markdown: counts only, so that it may be stored by Prefect."""

from datetime import UTC, datetime

from schemas.report import AccountTotals, CampaignReport, Decision, Opening, Slowdown
from schemas.states import CampaignState

_MEANINGS = {
    "accepted": "the server took the message",
    "rejected": "the server refused for good, or the message could not be made",
    "unknown": "the connection died before the answer; never sent again by itself",
    "suppressed": "unsubscribed, bounced or complained before its turn",
    "cancelled": "cancelled before its turn",
    "queued": "still to be sent",
    "dispatched": "on its way, no answer yet",
}

_STATUSES = {  # RFC 3463, section 3, and RFC 7505 for 5.1.10
    "5.1.0": "bad address",
    "5.1.1": "no such mailbox",
    "5.1.2": "no such domain",
    "5.1.3": "bad address syntax",
    "5.1.6": "the mailbox has moved",
    "5.1.10": "the domain takes no mail",
    "5.2.0": "trouble with the mailbox",
    "5.2.1": "the mailbox is disabled",
    "5.2.2": "the mailbox is full",
    "5.2.3": "the message is too long for the mailbox",
    "5.3.4": "the message is too big for the server",
    "5.4.1": "the recipient's server does not answer",
    "5.4.4": "no route to the recipient's server",
    "5.7.0": "refused for security reasons",
    "5.7.1": "refused by the server's policy",
    "4.2.1": "not now: the mailbox takes no mail",
    "4.2.2": "not now: the mailbox is full",
    "4.7.1": "not now: refused by the server's policy",
}


def campaign_markdown(report: CampaignReport) -> str:
    """Return the report of one campaign."""
    success = report.success_percent
    lines = [
        f"# Campaign {report.campaign}: {report.state}",
        "",
        *([f"**Paused because** {report.paused_because}", ""] if report.paused_because else []),
        *([f"It {waits}.", ""] if (waits := waiting_for(report)) else []),
        *[line for told in holding_up(report) for line in (told, "")],
        f"**{report.totals.accepted:,} of {report.totals.planned:,}** recipients accepted"
        + (f" ({success:.1f} % of those answered)" if success is not None else "")
        + f", {duration(report.seconds)}, {report.messages_per_second:,.0f} messages per second, "
        f"{report.batches:,} {'batch' if report.batches == 1 else 'batches'}.",
        "",
        "| Recipients | Count | Meaning |",
        "|---|---:|---|",
        f"| **planned** | **{report.totals.planned:,}** | all recipients of the plan |",
    ]
    counts = report.totals.model_dump()
    lines += [f"| {state} | {counts[state]:,} | {meaning} |" for state, meaning in _MEANINGS.items()]
    lines += _accounts(report.accounts)
    reasons = {_in_words(reason): n for reason, n in report.reasons.items()}
    lines += _table("Why not accepted", "Reason", reasons)
    lines += _table("Left out when planning", "Reason", report.excluded)
    lines += _decisions(report.decisions)
    if report.totals.unknown:
        name = _quoted(report.campaign)
        told = f"`outflow report {name}` names them, `outflow resolve {name}` decides about them."
        lines += ["", f"**{report.totals.unknown:,} unknown:** {told}"]
    if report.totals.queued and report.state not in {CampaignState.FINISHED, CampaignState.CANCELLED}:
        command = "resume" if report.state is CampaignState.PAUSED else "retry"
        told = f"`outflow {command} {_quoted(report.campaign)}` sends only what is missing."
        lines += ["", f"**Not done:** {told}"]
    return "\n".join(lines) + "\n"


def waiting_for(report: CampaignReport) -> str:
    """Say what a campaign that is not planned yet waits for; nothing, if it is."""
    is_to_come = report.due_at is not None and report.due_at > datetime.now(UTC)
    due = f"{report.due_at:%a %Y-%m-%d %H:%M %Z}" if report.due_at is not None else ""
    if report.state is CampaignState.DRAFT:
        when = f", and starts at {due} then" if is_to_come else ""
        return f"waits for approval{when}: outflow approve {_quoted(report.campaign)}"
    if report.state is CampaignState.SCHEDULED:
        return f"starts at {due}" if is_to_come else "is about to start"
    return ""


def holding_up(report: CampaignReport) -> list[str]:
    """Say what keeps a campaign from going at its full pace: limits that are tighter for now, and waits."""
    lines = [_opening(report.openings)] if report.openings else []
    lines += [slowed(slowdown) for slowdown in report.slowdowns]
    if report.deferred and report.next_turn_at is not None:
        who = "1 recipient waits" if report.deferred == 1 else f"{report.deferred:,} recipients wait"
        lines.append(f'{who} after a "not now"; the next turn is at {moment(report.next_turn_at)}')
    return lines


def _opening(openings: list[Opening]) -> str:
    first = openings[0]
    if not first.zone:
        return f"quiet hours until {moment(first.at)}"
    what = "the end of quiet hours" if first.is_quiet else "the campaign's time"
    if len(openings) == 1:
        return f"{first.zone} waits for {what} there, {moment(first.at)}"
    return f"{len(openings)} time zones wait: {first.zone} goes on first, {moment(first.at)}, at {what} there"


def slowed(slowdown: Slowdown) -> str:
    """Say that a limit is tighter for now, since when it is not, and why."""
    if slowdown.per_second is None:
        what = f"{slowdown.what} stands still"
    elif slowdown.per_second >= 1:
        what = f"{slowdown.what} slowed to {slowdown.per_second:.3g}/s"
    else:
        what = f"{slowdown.what} slowed to {slowdown.per_second * 60:.3g}/m"
    until = f" until {moment(slowdown.until)}" if slowdown.until is not None else ""
    because = f" because {slowdown.reason}" if slowdown.reason else ""
    return f"{what}{until}{because}"


def moment(at: datetime) -> str:
    """Return a time as a person would say it: without the date when that is today's."""
    at = at.astimezone(UTC)
    day = "" if at.date() == datetime.now(UTC).date() else f"{at:%Y-%m-%d} "
    return f"{day}{at:%H:%M} UTC"


def _in_words(reason: str) -> str:
    status = reason.rpartition(" ")[2]
    return f"{reason}: {_STATUSES[status]}" if status in _STATUSES else reason


def _table(title: str, head: str, counts: dict[str, int]) -> list[str]:
    if not counts:
        return []
    rows = [f"| {table_cell(reason)} | {n:,} |" for reason, n in counts.items()]
    return ["", f"## {title}", "", f"| {head} | Count |", "|---|---:|", *rows]


def _accounts(accounts: list[AccountTotals]) -> list[str]:
    if not accounts:
        return []
    rows = [
        f"| {one.account} | {one.totals.planned:,} | {one.totals.accepted:,} | {one.totals.rejected:,} "
        f"| {one.totals.unknown:,} | {one.totals.unfinished:,} | {one.fell_back:,} |"
        for one in accounts
    ]
    head = "| Account | Recipients | Accepted | Rejected | Unknown | Left | Fell back |"
    told = "Who fell back could not be reached over that account, and is counted where they were tried next."
    return ["", "## By account", "", head, "|---|---:|---:|---:|---:|---:|---:|", *rows, "", told]


def _decisions(decisions: list[Decision]) -> list[str]:
    if not decisions:
        return []
    rows = [f"| {moment(one.at)} | {table_cell(one.who)} | {table_cell(one.said)} |" for one in decisions]
    return ["", "## Decisions", "", "| When | Who | What |", "|---|---|---|", *rows]


def table_cell(text: str) -> str:
    """Escape text for a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def _quoted(name: str) -> str:
    return f"'{name}'" if " " in name else name


def duration(seconds: float) -> str:
    """Return a time as a person would say it."""
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} seconds"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
