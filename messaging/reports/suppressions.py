"""Suppressions on a terminal and as JSON."""

from typing import Any

from messaging.reports.console import show
from messaging.storage.suppressions import Suppression
from schemas.suppressing import Lifted, Suppressed

_MOST_SHOWN = 20


def show_suppressed(done: Suppressed) -> None:
    """Print what became of addresses to be suppressed."""
    for one in done.refused[:_MOST_SHOWN]:
        show(f"refused: {one.given or f'row {one.row}'}: {one.reason}")
    if len(done.refused) > _MOST_SHOWN:
        show(f"refused: {len(done.refused) - _MOST_SHOWN:,} more (--json names all)")
    show(
        f"{done.added:,} addresses are suppressed now, {done.known:,} were before, {len(done.refused):,} "
        f"refused ({done.seconds:.1f} s)."
    )


def show_lifted(done: Lifted) -> None:
    """Print what became of addresses that may be written to again."""
    for given in done.unknown:
        show(f"not suppressed: {given}")
    for given in done.still_unsubscribed:
        show(f"still left out: {given} is unsubscribed as a contact, or has left an audience")
    show(f"{done.lifted:,} suppressions are lifted.")


def suppression_json(one: Suppression) -> dict[str, Any]:
    """Return a suppression under the names of an export's columns."""
    return {
        "channel": one.channel,
        "address": one.address_key,
        "reason": one.reason,
        "source": one.source,
        "since": one.created_at.isoformat(),
        "expires": one.expires_at and one.expires_at.isoformat(),
        "lifted_by": one.lifted_by,
    }


def suppression_line(one: Suppression) -> str:
    """Return a suppression on one line."""
    ends = ""
    if one.lifted_by:
        ends = f", lifted by {one.lifted_by}"
    elif one.expires_at:
        ends = f", until {one.expires_at:%Y-%m-%d}" if one.is_active else f", ended {one.expires_at:%Y-%m-%d}"
    return f"{one.channel:8}  {one.address_key}  {one.reason} {one.created_at:%Y-%m-%d} by {one.source}{ends}"
