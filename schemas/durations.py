"""Lengths of time as people write them: 90s, 4h, 2d."""

import re
from typing import Final

SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")


def seconds_of(text: str) -> float:
    """Return the seconds of a length of time such as 90s, 15m, 4h or 2d.

    Raises:
        ValueError: It is none; the text says how to write one.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not a length of time: write a number and s, m, h or d, as in 90s or 4h"
        )
    return float(match[1]) * SECONDS[match[2]]
