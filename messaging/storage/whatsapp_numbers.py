"""What WhatsApp Web said of numbers."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text

_KNOWN = text("""
    SELECT phone, registered FROM numbers_on_whatsapp
    WHERE phone = ANY (:phones) AND checked_at > clock_timestamp() - make_interval(days => :days)
""")

_REMEMBER = text("""
    INSERT INTO numbers_on_whatsapp (phone, registered)
    SELECT phone, registered FROM unnest(CAST(:phones AS text[]), CAST(:registered AS boolean[]))
        AS told (phone, registered)
    ON CONFLICT (phone) DO UPDATE SET registered = excluded.registered, checked_at = clock_timestamp()
""")


def known(connection: Connection, phones: Sequence[str], days: int) -> dict[str, bool]:
    """Return whether numbers in E.164 are registered, of those that were checked in the last `days`."""
    rows = connection.execute(_KNOWN, {"phones": list(phones), "days": days})
    return {row.phone: row.registered for row in rows}


def remember(connection: Connection, registered: Mapping[str, bool]) -> None:
    """Keep whether numbers are registered, as of now."""
    told = {"phones": list(registered), "registered": list(registered.values())}
    connection.execute(_REMEMBER, told)
