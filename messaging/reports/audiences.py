"""Audiences on a terminal."""

from datetime import datetime

from rich.table import Table
from rich.text import Text

from messaging.reports.console import out, show, show_counts
from schemas.audience import AudienceDetails, AudienceLine, Changed, Counted, Saved
from schemas.states import ImportState


def show_audiences(lines: list[AudienceLine]) -> None:
    """Print one line per audience."""
    table = Table(box=None, pad_edge=False)
    table.add_column("audience", no_wrap=True, overflow="fold")
    table.add_column("kind")
    table.add_column("members", justify="right", no_wrap=True)
    table.add_column("reachable", justify="right", no_wrap=True)
    table.add_column("last import", no_wrap=True)
    for line in lines:
        table.add_row(
            Text(line.name),
            line.kind,
            _number(line.members),
            _number(line.reachable),
            _minute(line.last_import) if line.last_import else "",
        )
    out.print(table)
    show("Reachable: members that a campaign by e-mail would be sent to.")
    for line in lines:
        if line.problem:
            show(f"{line.name}: {line.problem}")


def show_details(audience: AudienceDetails) -> None:
    """Print all that is counted of an audience."""
    show(f"{audience.name}: a {audience.kind} of {audience.members:,} contacts")
    for title, text in (
        ("about", audience.description),
        ("members of", ", ".join(audience.members_of)),
        ("where", audience.where),
    ):
        if text:
            show(f"  {title}: {text}")
    if audience.contract:
        thresholds = ", ".join(f"{name} {value:g}" for name, value in audience.contract.items())
        show(f"  contract: {thresholds}")
    show_counts("With", audience.having)
    show_counts("Subscription", {status: n for status, n in audience.statuses.items() if n})
    show(f"{audience.reachable:,} would be sent a campaign by e-mail.")
    show_counts("Left out", audience.excluded)
    show_counts("Columns", audience.columns)
    if audience.imports:
        show("Last imports:")
    for one in audience.imports:
        stopped = ", stopped by the contract" if one.state is ImportState.STOPPED else ""
        rows = f"{one.rows:,} rows, {one.refused:,} refused{stopped}"
        show(f"  {_minute(one.imported_at)}  {one.file_name}: {rows} (import {one.import_id})")


def show_count(counted: Counted) -> None:
    """Print how many contacts are meant."""
    show(f"{counted.contacts:,} contacts, of whom {counted.reachable:,} would be sent a campaign by e-mail.")


def show_saved(saved: Saved) -> None:
    """Print what became of a definition."""
    show(f"{saved.kind} {saved.audience!r} is {'made' if saved.created else 'saved'}.")
    if saved.unknown_fields:
        names = ", ".join(map(repr, saved.unknown_fields))
        show(f"No contact has {names} yet: until one has, nothing can be sent to this audience.")


def show_changed(changed: Changed, verb: str) -> None:
    """Print how a list was changed; `verb` says what its contacts did."""
    for address in changed.unknown:
        show(f"unknown: {address}")
    show(f"{changed.changed:,} contacts {verb} {changed.audience!r}, which has {changed.members:,} now.")


def _number(n: int | None) -> str:
    return "?" if n is None else f"{n:,}"


def _minute(time: datetime) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M}"
