"""Find the codes in what a server said: the SMTP reply (RFC 5321, 4.2) and the enhanced status (RFC 3463)."""

import re
from dataclasses import dataclass

_LONGEST = 4000

# Never a part of an address, a version or a time.
_REPLY = re.compile(r"([45](?<![\w.:/\[-].)\d\d)(?:[- ]|$)(?!\d)")
_BOTH = re.compile(
    r"([245](?<![\w.:/\[-].)\d\d)[- ]{0,3}['\"]?[#(:]{0,2} ?([245]\.\d{1,3}\.\d{1,3})(?![\d.]*\d)"
)
_MARKED = re.compile(
    r"(?:#|\(#?|code ?:?\s?|error ?:?\s?|status ?:?\s?|^|: |; )([245]\.\d{1,2}\.\d{1,3})(?![.\d]*\d)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Codes:
    """The enhanced status and the three digits of a reply; either may be empty."""

    status: str = ""
    reply: str = ""


def codes_in(words: str) -> Codes:
    """Return the codes in a text: those that stand together, else each by itself."""
    words = " ".join(words[:_LONGEST].split())
    for both in _BOTH.finditer(words):
        if both[1][0] == both[2][0]:
            return Codes(both[2], both[1])
    marked = _MARKED.search(words)
    reply = _REPLY.search(words)
    return Codes(marked[1] if marked else "", reply[1] if reply else "")
