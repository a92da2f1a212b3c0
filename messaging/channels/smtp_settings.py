"""What it takes to reach one account on one SMTP server."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from messaging.errors import InputError


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """One account on one SMTP server."""

    host: str
    port: int
    security: Literal["none", "starttls", "tls"]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    access_token: Callable[[], Awaitable[str]] | None = field(default=None, repr=False)
    """Asked for a fresh OAuth 2 token before each connection, instead of a password."""
    connections: int = 8
    messages_per_connection: int = 100
    chunking: bool = False
    """Use BDAT (RFC 3030) where it is offered; DATA is as fast and keeps both sides in step."""
    connect_timeout: float = 30.0
    command_timeout: float = 60.0
    content_timeout: float = 180.0
    """Patience with a server that takes nothing of a message (RFC 5321 4.5.3.2.5)."""
    final_timeout: float = 300.0
    """Patience after the end of a message, when the server stores it.

    RFC 5321 4.5.3.2.6 asks for 600 s; 300 s is the least that our fault matrix allows. A timeout here makes
    an `unknown`, and a connection that hangs for ten minutes holds its batch's lease for nothing.
    """

    def __post_init__(self) -> None:
        """Refuse what can never work."""
        for name in ("connections", "messages_per_connection", "port"):
            if getattr(self, name) < 1:
                raise InputError(f"SMTP account: {name} must be at least 1.")
        if not re.fullmatch(r"[!-~]+", self.host):
            raise InputError("SMTP account: host must be a host name or an IP address.")
        if self.security not in {"none", "starttls", "tls"}:
            raise InputError("SMTP account: security must be none, starttls or tls.")
        if self.password is not None and self.access_token is not None:
            raise InputError("SMTP account: give a password or an access token, not both.")
        if (self.username is None) != (self.password is None and self.access_token is None):
            raise InputError(
                "SMTP account: give both a user name and a password (or an access token), or neither."
            )

    @property
    def where(self) -> str:
        """The server, as error texts name it."""
        return f"{self.host}:{self.port}"
