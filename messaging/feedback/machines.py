"""Which opens and clicks are taken for a machine's: scanners, prefetchers, proxies (machines.toml).

They are kept and reported apart. Nobody is suppressed, unsubscribed or counted as interested by one.
"""

import re
import tomllib
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

SOON_SECONDS: Final = 10.0
"""After sending: gateways look at once, people need longer (resend/resend-node#901: 12 s after delivery)."""

LONGEST_AGENT: Final = 300
"""Characters of a user agent that are looked at and kept."""


def machine_of(
    agent: str, method: str = "GET", seconds_after_sending: float | None = None, *, prefetched: bool = False
) -> str:
    """Return which machine made a request, as in `scanner: Barracuda`; empty: perhaps it was a person.

    Args:
        agent: The User-Agent header.
        method: The request's.
        seconds_after_sending: Between our sending and the request; None: not known.
        prefetched: The request says so itself (Sec-Purpose, or Purpose: prefetch).
    """
    if method != "GET":
        return f"method: {method}"
    if prefetched:
        return "prefetch: browser"
    if known := _known(agent[:LONGEST_AGENT]):
        return known
    if seconds_after_sending is not None and seconds_after_sending < SOON_SECONDS:
        return "too soon"
    return ""


@lru_cache(maxsize=2048)
def _known(agent: str) -> str:
    if not agent.strip():
        return "program: no user agent"
    whole, parts, names = _table()
    if agent in whole:
        return whole[agent]
    found = parts.search(agent)
    return names[found.group().lower()] if found else ""


@cache
def _table() -> tuple[dict[str, str], re.Pattern[str], dict[str, str]]:
    """Return names by whole user agent, a pattern of all parts, and names by part in lower case."""
    listed = tomllib.loads((Path(__file__).with_name("machines.toml")).read_text(encoding="utf-8"))
    whole: dict[str, str] = {}
    names: dict[str, str] = {}
    for machine in listed["machines"]:
        name = f"{machine['does']}: {machine['who']}"
        whole |= dict.fromkeys(machine.get("is", ()), name)
        names |= dict.fromkeys((part.lower() for part in machine.get("has", ())), name)
    anyone = "|".join(map(re.escape, names))
    return whole, re.compile(f"(?<!cu)(?:{anyone})", re.IGNORECASE), names  # Cubot makes telephones
