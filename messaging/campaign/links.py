"""Links: where a message leads to on pages of our own, each signed for one recipient."""

import re
from typing import Final
from urllib.parse import quote

from messaging.errors import InputError
from messaging.settings import Settings
from messaging.tokens import LinkKey, Purpose, Signer

NOBODYS_KEY: Final = LinkKey(0, b"")
"""For messages that are only looked at."""

MAX_PUBLIC_URL: Final = 900  # leaves room for the token in a line of 998

_URL = re.compile(r"https?://[!#-;=?-~]+")  # printable ASCII, no space, quote or angle bracket


class Links:
    """The links of one campaign's messages; `attempt` is the 16 bytes of an attempt's token."""

    def __init__(self, public_url: str, key: LinkKey) -> None:
        """Check the URL that they begin with.

        Raises:
            InputError: It could not stand in a link or a header.
        """
        _check(public_url)
        self.public_url = public_url.rstrip("/")
        self.open_start = f"{self.public_url}/o/"
        """What stands before the token in the address of the picture that tells of an opened message."""
        self.click_start = f"{self.public_url}/c/"
        """What stands before the token in a link whose clicks are counted."""
        self._unsubscribe_start = f"{self.public_url}/u/"
        self._unsubscribe = Signer(key, Purpose.UNSUBSCRIBE).sign
        self._open = Signer(key, Purpose.OPEN).sign
        self._click = Signer(key, Purpose.CLICK).sign

    def unsubscribe(self, attempt: bytes) -> str:
        """Return the link with which a recipient ends the subscription."""
        return self._unsubscribe_start + self._unsubscribe(attempt)

    def open_token(self, attempt: bytes) -> str:
        """Return the token in the address of the picture."""
        return self._open(attempt)

    def click_token(self, attempt: bytes, url: bytes) -> str:
        """Return the token of a link to this URL, in UTF-8, and to no other."""
        return self._click(attempt, url)


def click_end(url: str) -> str:
    """Return what stands behind the token in a link to this URL: nothing that HTML would read otherwise."""
    return f"?to={quote(url, safe='/:')}"


def problem_of(public_url: str) -> str:
    """Say why recipients would not reach it, as far as it shows; empty: nothing shows."""
    if public_url == Settings.model_fields["public_url"].default or not public_url.startswith("https://"):
        return (
            f"the links of messages lead to {public_url}, where no recipient gets: "
            "set OUTFLOW_PUBLIC_URL to an https address of yours"
        )
    return ""


def _check(public_url: str) -> None:
    if not _URL.fullmatch(public_url) or len(public_url) > MAX_PUBLIC_URL:
        raise InputError(
            f"OUTFLOW_PUBLIC_URL must be http(s)://… in at most {MAX_PUBLIC_URL} ASCII characters"
        )
