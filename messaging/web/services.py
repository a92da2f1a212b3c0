"""What the public pages and the webhooks share."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from messaging.web.hits import Hits
from messaging.web.keys import Keys
from messaging.web.ledger import Ledger


@dataclass(frozen=True, slots=True)
class WhatsAppSecrets:
    """What tells Meta's webhooks for one phone number from forged ones."""

    account: str
    """As in whatsapp-cloud-account/main."""
    phone_number_id: str
    app_secret: str = field(repr=False)
    verify_token: str = field(repr=False)


LoadWhatsApp = Callable[[], Awaitable[Sequence[WhatsAppSecrets]]]
"""Reads the accounts anew; whoever calls it keeps what it returns for a while.

Raises:
    MessagingError: They cannot be read now.
"""


@dataclass(frozen=True, slots=True)
class Services:
    """Made once for an application; routes take it as a parameter."""

    ledger: Ledger
    """`await services.ledger.transaction(lambda connection: …)`: committed when it returns; a DatabaseError
    that leaves a handler is answered 503 with Retry-After."""
    keys: Keys
    hits: Hits
    """Opens and clicks on their way to the ledger."""
    load_whatsapp: LoadWhatsApp | None = None
    """None: no webhooks of WhatsApp are taken."""
