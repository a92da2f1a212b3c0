"""Whom a "not now" is about: the account as a whole, or the provider of its recipient."""

import re
from typing import Final

from messaging.channels.base import Receipt

# The first line that fits decides: codes, enhanced status, and whether only the recipients' provider group
# slows down. RFC 3463: x.2 mailbox, x.3 mail system, x.4 network and routing, x.5 protocol, x.7 security
# and policy. A relay of our own speaks of itself in 4.3 and 4.4; policy about reputation and rate, which
# providers put in 4.7, is each provider's own.
_RULES: Final = [
    # Temporary authentication failure (RFC 4954, 6), and Amazon SES's "Throttling failure".
    ({454}, r".*", False),
    # Gmail: 4.7.28 unusual rate, 4.7.23, .26, .27, .32 missing authentication; Outlook: 4.7.500, 4.7.650.
    (None, r"4\.7\.[1-9]\d*", True),
    # Gmail: the user, or the domain, receives mail too quickly; too many recipients at once.
    (None, r"4\.2\.1|4\.5\.3", True),
    # 4.7.0 is what a relay says about the rate of connections (Postfix: anvil), and what says no more.
    (None, r".*", False),
]


def is_about_the_group(receipt: Receipt) -> bool:
    """Say whether a throttle's answer concerns the recipient's provider only."""
    return next(
        of_group
        for codes, status, of_group in _RULES
        if (codes is None or receipt.code in codes) and re.fullmatch(status, receipt.status or "")
    )


def said(receipt: Receipt) -> str:
    """Return an answer's codes; its words may hold addresses."""
    return " ".join(filter(None, (str(receipt.code or ""), receipt.status))) or "no code"
