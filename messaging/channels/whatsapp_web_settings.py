"""What a WhatsApp Web account is opened with."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WhatsAppWebSettings:
    """One phone's WhatsApp account, linked as a phone links its browser."""

    account: str
    """The name of the account, as in `shop`: the session is kept under it."""
    proxy: str | None = field(default=None, repr=False)
    """An HTTP or SOCKS5 proxy that WhatsApp is reached through; it may hold a password."""
    per_day: int = 100
    """Messages in any 24 hours."""
    check_days: int = 30
    """Days that an answer to "is this number on WhatsApp?" is believed."""
    patience: float = 80.0
    """Seconds that an answer may take. The library itself gives up after 75."""
    connecting: float = 60.0
    """Seconds that connecting may take, with what the library needs to start."""
