"""Find e-mail addresses in the text of a report, with where they stand."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Other scripts write no blank between an address and the next word, so only ASCII belongs to it by itself.
_BEFORE_AT = re.compile(r"""(?:"[^"\n@<>]{1,64}"|[\w.+\-=/!#$%&'*^~?{}|]{1,64})\Z""", re.ASCII)
_AFTER_AT = re.compile(r"\[?[\w-][\w.-]{0,253}", re.ASCII)
_BRACKETED = re.compile(r"<([^\s<>@\"()\[\]:;,]{1,64}@[^\s<>@\"()\[\]:;,]{1,253})>")
_LONGEST_LOCAL = 66
_MOST = 200
_OPENING = "'*|=/.?!#%^~-"
_CLOSING = ".-_'"


@dataclass(frozen=True, slots=True)
class Found:
    """An address and where its text begins and ends."""

    address: str
    start: int
    end: int


def addresses(text: str) -> Iterator[Found]:
    """Yield the addresses in a text in order, bare and unchanged in case; the first few hundred at most."""
    at, last = text.find("@"), 0
    for _ in range(_MOST):
        if at < 0:
            return
        opening = text.rfind("<", max(last, at - _LONGEST_LOCAL), at)
        if opening >= 0 and (bracketed := _BRACKETED.match(text, opening)) and not bracketed[1].isascii():
            last = bracketed.end(1)  # RFC 6531
            yield Found(bracketed[1], bracketed.start(1), last)
            at = text.find("@", last)
            continue
        before = _BEFORE_AT.search(text, max(last, at - _LONGEST_LOCAL), at)
        after = _AFTER_AT.match(text, at + 1)
        if before and after:
            local = before[0].lstrip(_OPENING)
            local = local[5:] if local[:5].lower() == "smtp=" else local
            domain = after[0].rstrip(_CLOSING)
            last = at + 1 + len(domain)
            if local and domain and not domain.startswith("["):
                yield Found(f"{local.strip(chr(34))}@{domain}", at - len(local), last)
        at = text.find("@", at + 1)


def first_address(text: str) -> str:
    """Return the first address in a text, or nothing."""
    return next((found.address for found in addresses(text)), "")
