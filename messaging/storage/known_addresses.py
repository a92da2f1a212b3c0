"""What the ledger knows of addresses before anything is sent to them, set-based and page by page."""

from collections.abc import Collection, Generator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, TextualSelect, column, text

from messaging.storage import mail_domains
from schemas.states import Channel
from schemas.verifying import AddressFault

Pages = Generator[Sequence[Row[Any]], None, None]

_PAGE = 50_000

# What was lifted, or has run out, is forgiven: only what happened since then counts.
_HISTORY: Final = """
    SELECT a.address_key,
        max(e.occurred_at) FILTER (WHERE e.kind = 'complained') AS complained_at,
        max(e.occurred_at) FILTER (WHERE e.kind = 'bounced' AND e.details ->> 'class' = 'hard') AS bounced_at,
        max(a.answered_at) FILTER (WHERE a.unreachable AND a.state = 'rejected') AS refused_at,
        max(a.answered_at) FILTER (WHERE a.state = 'accepted') AS accepted_at
    FROM chosen JOIN attempts a ON a.contact_id = chosen.id
    LEFT JOIN events e ON e.attempt_id = a.id AND e.kind IN ('complained', 'bounced')
    GROUP BY a.address_key
"""
_AGAINST: Final = f"""
    CASE
        WHEN s.reason IS NOT NULL AND coalesce(s.expires_at > now(), true) THEN 'suppressed: ' || s.reason
        WHEN o.channel IS NOT NULL THEN 'suppressed: unsubscribed from this audience'
        WHEN h.complained_at > f.at THEN '{AddressFault.COMPLAINED}'
        WHEN h.bounced_at > f.at THEN '{AddressFault.BOUNCED}'
        WHEN h.refused_at > greatest(f.at, h.accepted_at) THEN '{AddressFault.LEADS_TO_NOBODY}'
    END
"""
_JOINS: Final = """
    LEFT JOIN suppressions s ON s.channel = :channel AND s.address_key = {key}
    LEFT JOIN audience_opt_outs o ON o.audience_id = :audience_id AND o.channel = :channel
        AND o.address_key = {key}
    LEFT JOIN history h ON h.address_key = {key}
    CROSS JOIN LATERAL (SELECT coalesce(s.expires_at, '-infinity') AS at) f
"""
_EMAILS: Final = f"""
    SELECT c.email AS address, {_AGAINST} AS against, d.verdict AS said
    FROM chosen JOIN contacts c ON c.id = chosen.id
    {_JOINS.format(key="c.email_key")}
    LEFT JOIN mail_domains d ON d.domain = {mail_domains.DOMAIN} AND {mail_domains.FRESH}
    WHERE c.email_key IS NOT NULL ORDER BY c.id
"""  # noqa: S608 - constants
_NUMBERS: Final = f"""
    SELECT c.phone AS address, {_AGAINST} AS against, CASE WHEN w.registered THEN 'on WhatsApp'
        WHEN NOT w.registered THEN '{AddressFault.NOT_ON_WHATSAPP}' END AS said
    FROM chosen JOIN contacts c ON c.id = chosen.id
    {_JOINS.format(key="c.phone")}
    LEFT JOIN numbers_on_whatsapp w ON w.phone = c.phone
        AND w.checked_at > now() - make_interval(days => :days)
    WHERE c.phone IS NOT NULL ORDER BY c.id
"""  # noqa: S608 - constants
_UNKNOWN_NUMBERS: Final = """
    SELECT DISTINCT c.phone FROM chosen JOIN contacts c ON c.id = chosen.id
    LEFT JOIN suppressions s ON s.channel = 'whatsapp' AND s.address_key = c.phone
        AND coalesce(s.expires_at > now(), true)
    WHERE c.phone IS NOT NULL AND s.id IS NULL AND NOT EXISTS (
        SELECT FROM numbers_on_whatsapp w
        WHERE w.phone = c.phone AND w.checked_at > now() - make_interval(days => :days))
    ORDER BY c.phone LIMIT :most
"""


_UNSUBSCRIBED: Final = text("""
    SELECT CASE WHEN :channel = 'email' THEN email_key ELSE phone END FROM contacts
    WHERE status = 'unsubscribed' AND (
        (:channel = 'email' AND email_key = ANY (:keys)) OR (:channel = 'whatsapp' AND phone = ANY (:keys)))
    UNION
    SELECT address_key FROM audience_opt_outs WHERE channel = :channel AND address_key = ANY (:keys)
""")


def emails(connection: Connection, audience_id: int, members: Select[tuple[int]]) -> Pages:
    """Yield pages of members' e-mail addresses: address, what we know against it, its domain's verdict."""
    return _pages(connection, _EMAILS, members, {"audience_id": audience_id, "channel": Channel.EMAIL})


def numbers(connection: Connection, audience_id: int, members: Select[tuple[int]], days: int) -> Pages:
    """Yield pages of members' numbers: number, what we know against it, whether it is on WhatsApp.

    What WhatsApp said is believed for so many days.
    """
    parameters = {"audience_id": audience_id, "channel": Channel.WHATSAPP, "days": days}
    return _pages(connection, _NUMBERS, members, parameters)


def unknown_numbers(connection: Connection, members: Select[tuple[int]], days: int, most: int) -> list[str]:
    """Return members' numbers of which WhatsApp has said nothing in so many days, `most` at most."""
    asked = text(_UNKNOWN_NUMBERS).columns(column("phone")).add_cte(members.cte("chosen"))
    return list(connection.execute(asked, {"days": days, "most": most}).scalars())


def unsubscribed(connection: Connection, channel: Channel, address_keys: Collection[str]) -> set[str]:
    """Return those of these addresses whose contact is unsubscribed, or has left some audience."""
    parameters = {"channel": channel, "keys": list(address_keys)}
    return set(connection.execute(_UNSUBSCRIBED, parameters).scalars())


def _pages(
    connection: Connection, sql: str, members: Select[tuple[int]], parameters: dict[str, Any]
) -> Pages:
    chosen = members.cte("chosen")
    history = text(_HISTORY).columns().cte("history")
    query: TextualSelect = text(sql).columns(column("address"), column("against"), column("said"))
    options = {"yield_per": _PAGE}
    streamed = query.add_cte(chosen, history)
    # All rows are wanted: else a cursor is planned for its first ones, which takes hours for the last.
    connection.execute(text("SET LOCAL cursor_tuple_fraction = 1"))
    with connection.execute(streamed, parameters, execution_options=options) as found:
        yield from found.partitions()
