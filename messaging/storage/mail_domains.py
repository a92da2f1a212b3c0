"""What DNS said of the domains of addresses, believed for some days."""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, Select, column, text

from schemas.states import DomainVerdict

DOMAIN: Final = "split_part(c.email_key, '@', -1)"
"""The domain of a contact `c`; a quoted local part may hold an @ too."""

FRESH: Final = """d.checked_at > now() - CASE d.verdict WHEN 'takes mail' THEN interval '7 days'
    WHEN 'unknown' THEN interval '1 hour' ELSE interval '1 day' END"""
"""Whether a row `d` is still believed: domains seldom lose their mail server, and outages pass."""

REFUSING: Final = "d.verdict IN ('no such domain', 'no mail server', 'takes no mail')"
"""Whether a row `d` speaks against an address."""

_KNOWN = text(f"""
    SELECT d.domain, d.verdict FROM mail_domains d WHERE d.domain = ANY (:domains) AND {FRESH}
""")  # noqa: S608 - constants

# Those of most members first: should the time not suffice, most are judged.
_UNKNOWN = f"""
    SELECT held.domain FROM (
        SELECT {DOMAIN} AS domain, count(*) AS n FROM chosen JOIN contacts c ON c.id = chosen.id
        WHERE c.email_key IS NOT NULL GROUP BY 1
    ) held
    WHERE NOT EXISTS (SELECT FROM mail_domains d WHERE d.domain = held.domain AND {FRESH})
    ORDER BY held.n DESC, held.domain
"""  # noqa: S608 - constants

# In order, so that two who remember the same do not wait for each other in a circle.
_REMEMBER = text("""
    INSERT INTO mail_domains (domain, verdict)
    SELECT domain, verdict FROM unnest(CAST(:domains AS text[]), CAST(:verdicts AS text[]))
        AS told (domain, verdict) ORDER BY domain
    ON CONFLICT (domain) DO UPDATE SET verdict = excluded.verdict, checked_at = now()
""")


def known(connection: Connection, domains: Sequence[str]) -> dict[str, DomainVerdict]:
    """Return what is still believed of domains (lower-case ASCII)."""
    rows = connection.execute(_KNOWN, {"domains": list(domains)})
    return {row.domain: DomainVerdict(row.verdict) for row in rows}


def unknown(connection: Connection, members: Select[tuple[int]]) -> list[str]:
    """Return the domains of contacts' e-mail addresses of which nothing is believed, the commonest first."""
    asked = text(_UNKNOWN).columns(column("domain")).add_cte(members.cte("chosen"))
    return [row.domain for row in connection.execute(asked)]


def remember(connection: Connection, verdicts: Mapping[str, DomainVerdict]) -> None:
    """Keep what DNS said, as of now."""
    told = {"domains": list(verdicts), "verdicts": [str(verdict) for verdict in verdicts.values()]}
    connection.execute(_REMEMBER, told)
