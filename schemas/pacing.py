"""How fast a campaign may go: a rate, a pause after each message, or a daily cap that grows."""

import re
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from schemas.base import OptionalPart, OptionalText, Schema
from schemas.durations import SECONDS, seconds_of

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*([smhd])")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)\s*([smhd])")
_MOST_A_DAY = 1_000_000_000  # a warm-up that has grown past it limits nobody


def rate_of(text: str) -> float:
    """Return the messages per second of a rate such as 50/s, 200/m, 3000/h or 5000/d.

    Raises:
        ValueError: It is none; the text says how to write one.
    """
    match = _RATE.fullmatch(text.strip())
    if match is None or float(match[1]) == 0:
        raise ValueError(f"{text!r} is not a rate: write a number, a slash and s, m, h or d, as in 50/s")
    return float(match[1]) / SECONDS[match[2]]


def span_of(text: str) -> tuple[float, float]:
    """Return the shortest and longest seconds of a span such as 10-25s.

    Raises:
        ValueError: It is none; the text says how to write one.
    """
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not a span of time: write two numbers, a dash between, and a unit, as in 10-25s"
        )
    shortest, longest = (float(number) * SECONDS[match[3]] for number in match.groups()[:2])
    if not 0 < shortest <= longest:
        raise ValueError(f"{text!r} is not a span of time: the first number is the smaller one, and not 0")
    return shortest, longest


class WarmUp(Schema):
    """A cap for each 24 hours since the campaign's first message, which grows day by day."""

    start: int = Field(
        default=0, ge=0, description="At most this many messages in the first 24 hours. 0: no warm-up."
    )
    growth: float = Field(
        default=1.5, ge=1.0, le=10.0, description="Each following day may have this many times as many."
    )

    def cap(self, day: int) -> int | None:
        """Return the most messages of a day, the first being day 0, or None without a warm-up."""
        if not self.start:
            return None
        try:
            return int(min(self.start * self.growth**day, _MOST_A_DAY))
        except OverflowError:
            return _MOST_A_DAY


class Pacing(Schema):
    """How fast a campaign may go; by default as fast as the account takes it."""

    rate: OptionalText = Field(
        default="",
        description="At most this many messages per second (s), minute (m), hour (h) or day (d), as in 50/s "
        "or 3000/h. Empty: as fast as the account takes them.",
        examples=["50/s", "3000/h"],
    )
    delay: OptionalText = Field(
        default="",
        description="Wait at least this long after each message, as in 2s. Instead of a rate.",
        examples=["2s"],
    )
    human: OptionalText = Field(
        default="",
        description="Wait for a random time between these two after each message, as a person would: 10-25s. "
        "Instead of a rate.",
        examples=["10-25s"],
    )
    warm_up: Annotated[WarmUp, OptionalPart] = Field(
        default_factory=WarmUp,
        description="A cap for each 24 hours since the first message, which grows: for a sender that "
        "receivers do not know yet. It may go with any of the others.",
    )

    @field_validator("rate")
    @classmethod
    def _is_a_rate(cls, value: str) -> str:
        if value.strip():
            rate_of(value)
        return value.strip()

    @field_validator("delay")
    @classmethod
    def _is_a_duration(cls, value: str) -> str:
        if value.strip() and seconds_of(value) == 0:
            raise ValueError("a delay of nothing is no delay: leave it out")
        return value.strip()

    @field_validator("human")
    @classmethod
    def _is_a_span(cls, value: str) -> str:
        if value.strip():
            span_of(value)
        return value.strip()

    @model_validator(mode="after")
    def _is_one_of_them(self) -> "Pacing":
        chosen = [name for name in ("rate", "delay", "human") if getattr(self, name)]
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} exclude each other: choose one")
        return self

    @property
    def interval(self) -> tuple[float, float] | None:
        """The shortest and longest seconds from one message to the next, when that is what was asked for."""
        if self.delay:
            return seconds_of(self.delay), seconds_of(self.delay)
        return span_of(self.human) if self.human else None

    @property
    def per_second(self) -> float | None:
        """Messages per second, in the mean; None for no limit. A warm-up is no rate."""
        if self.interval is not None:
            return 2 / sum(self.interval)
        return rate_of(self.rate) if self.rate else None
