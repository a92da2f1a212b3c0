"""Until when WhatsApp takes free text for somebody who wrote to us.

The 24 hours are Meta's:
https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/send-messages#customer-service-windows
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, text

LENGTH: Final = timedelta(hours=24)

# In order, so that two webhooks about the same people never wait for each other in a circle.
_OPEN = text("""
    INSERT INTO service_windows (account, phone, closes_at)
    SELECT :account, n.phone, n.closes_at
    FROM unnest(CAST(:phones AS text[]), CAST(:times AS timestamptz[])) AS n (phone, closes_at)
    ORDER BY n.phone
    ON CONFLICT (account, phone) DO UPDATE SET closes_at = excluded.closes_at
    WHERE service_windows.closes_at < excluded.closes_at
""")


def open_windows(connection: Connection, account: str, wrote: Mapping[str, datetime]) -> None:
    """Note when people last wrote to an account, by phone number; a window never closes earlier for it."""
    now = datetime.now(UTC)  # what is said to come from the future opens no window for ever
    connection.execute(
        _OPEN,
        {
            "account": account,
            "phones": list(wrote),
            "times": [min(at, now) + LENGTH for at in wrote.values()],
        },
    )
