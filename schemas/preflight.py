"""What a preflight says of a campaign, line by line."""

from collections.abc import Iterable
from enum import StrEnum

from pydantic import Field

from schemas.base import Schema


class Verdict(StrEnum):
    """What one line comes to; the first is the worst."""

    REFUSE = "refuse"
    WARN = "warn"
    UNKNOWN = "unknown"
    OK = "ok"


class Line(Schema):
    """One thing that was looked at."""

    what: str = Field(description="What was looked at, as in links.")
    verdict: Verdict = Field(description="refuse: it is not sent. unknown: it could not be told.")
    said: str = Field(description="What was found, with figures; names no recipient.")
    do: str = Field(default="", description="What to do about it; empty: nothing.")


def worst_first(lines: Iterable[Line]) -> list[Line]:
    """Return the lines by verdict, the worst first, else in their order."""
    return sorted(lines, key=lambda line: list(Verdict).index(line.verdict))
