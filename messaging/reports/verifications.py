"""Verified audiences on a terminal."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from messaging.reports.console import err, out, show, show_counts
from schemas.verifying import AudienceVerification

T = TypeVar("T")


async def with_steps(work: Callable[..., Coroutine[Any, Any, T]]) -> T:
    """Await work under a progress bar when stderr is a terminal; it says in `told` how far it is."""
    if not err.is_terminal:
        return await work(told=lambda _doing, _done, _of: None)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        line = bar.add_task("looking", total=None)
        return await work(
            told=lambda doing, done, of: bar.update(line, description=doing, completed=done, total=of)
        )


def show_verified(found: AudienceVerification) -> None:
    """Print what is known of an audience's addresses."""
    asked = f"DNS was asked about {found.domains_asked:,} domains"
    if found.numbers_asked:
        asked += f", WhatsApp about {found.numbers_asked:,} numbers"
    show(
        f"{found.audience}: {found.addresses:,} addresses of {found.contacts:,} contacts; {asked} "
        f"({found.seconds:.1f} s)."
    )
    if found.counts:
        several = len({count.channel for count in found.counts}) > 1
        table = Table(box=None, pad_edge=False)
        table.add_column("addresses", justify="right", no_wrap=True)
        for heading in (*(["channel"] if several else []), "verdict", "reason"):
            table.add_column(heading, no_wrap=True, overflow="fold")
        for count in found.counts:
            channel = [count.channel] if several else []
            table.add_row(f"{count.addresses:,}", *channel, count.verdict, Text(count.reason))
        out.print(table)
    show_counts("Likely mistyped", found.suggestions)
    if found.dns_is_silent:
        show(
            "DNS does not answer here, or knows an inner network only, so domains were not judged: name a "
            "server that does, as in --dns 9.9.9.9"
        )
    elif found.domains_left:
        show(f"{found.domains_left:,} domains could not be asked about: the same command asks again")
    if found.file:
        show(f"Those that are not good: {found.file}")
