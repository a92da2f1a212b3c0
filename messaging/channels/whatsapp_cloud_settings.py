"""What it takes to send from one phone number at Meta's WhatsApp Cloud API."""

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from messaging.errors import InputError

META: Final = "https://graph.facebook.com"
API_VERSION: Final = "v23.0"
MESSAGES_PER_SECOND: Final = 80.0  # a number's usual throughput (Meta: Throughput, May 2026)
PORTFOLIO_LIMIT: Final = 250  # people in 24 hours; a new portfolio's (Meta: Messaging limits)


@dataclass(frozen=True, slots=True)
class WhatsAppCloudSettings:
    """One phone number of a WhatsApp Business account, and how to reach it."""

    phone_number_id: str
    """Meta's number for the phone number, not the phone number itself."""
    token: str = field(repr=False)
    api_version: str = API_VERSION
    base_url: str = META
    connections: int = 16
    """Requests on their way at once."""
    connect_timeout: float = 10.0
    total_timeout: float = 60.0
    """Patience with the answer to a request that has been sent; a timeout here makes an `unknown`."""
    messages_per_second: float = MESSAGES_PER_SECOND
    portfolio: str = ""
    """Whose numbers share one limit; empty: this number has its own."""
    portfolio_limit: int = PORTFOLIO_LIMIT
    """Different people in any 24 hours; 0: no limit."""
    pair_seconds: float = 6.0
    """Between two messages to one person (Meta: Throughput, pair rate limit; error 131056)."""

    def __post_init__(self) -> None:
        """Refuse what can never work."""
        if not re.fullmatch(r"\d{1,32}", self.phone_number_id, re.ASCII):
            raise InputError(
                "WhatsApp Cloud account: phone_number_id is the number that Meta shows as Phone number ID, "
                "digits only."
            )
        if not re.fullmatch(r"[!-~]+", self.token):
            raise InputError("WhatsApp Cloud account: token must be an access token, without spaces.")
        if not re.fullmatch(r"v\d{1,3}\.\d{1,2}", self.api_version, re.ASCII):
            raise InputError(f"WhatsApp Cloud account: api_version is written as {API_VERSION}.")
        if self.connections < 1 or self.messages_per_second <= 0 or self.portfolio_limit < 0:
            raise InputError(
                "WhatsApp Cloud account: connections and messages_per_second must be more than 0, "
                "portfolio_limit 0 or more."
            )
        try:
            url = urlsplit(self.base_url)
            usable = url.scheme in {"http", "https"} and bool(url.hostname) and (url.port or 1) > 0
        except ValueError:
            usable = False
        if not usable or url.username or url.query or url.fragment or not self.base_url.isascii():
            raise InputError(f"WhatsApp Cloud account: endpoint is a URL such as {META}.")
        if url.scheme == "http" and not _is_loopback(url.hostname or ""):
            raise InputError("WhatsApp Cloud account: a token is never sent without TLS; write https.")

    @property
    def where(self) -> str:
        """The server, as error texts name it."""
        return urlsplit(self.base_url).netloc

    @property
    def url(self) -> str:
        """The phone number, as the API knows it."""
        return f"{self.base_url.rstrip('/')}/{self.api_version}/{self.phone_number_id}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
