"""A campaign's plan in the ledger: who of its audience is written to, over which account, in which batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Self

from sqlalchemy import Connection, Select, TextualSelect, column, false, select, text

from messaging.storage import audiences, mail_domains
from messaging.storage.tables import campaigns, contacts
from schemas.accounts import channel_of
from schemas.campaign import CampaignSpec
from schemas.states import Channel

_BATCH_SECONDS: Final = 5.0  # of sending, at the campaign's rate
_USUAL_RATE: Final = 1000.0  # messages per second assumed when the campaign names no limit
_SMALLEST_BATCH: Final = (
    500  # a task run costs about 30 ms of two cores (measured on a default Prefect server)
)
_MOST_BATCHES: Final = 200  # task runs per flow run that the Prefect UI shows well


@dataclass(frozen=True, slots=True)
class Legs:
    """The first of a campaign's accounts to reach somebody by each kind of address, by place."""

    email: int | None = None
    phone: int | None = None
    windows: dict[str, int] = field(default_factory=dict)
    """Accounts that may say what the campaign says only to those who wrote to them in the last 24 hours.

    Free text over the Cloud API (Meta: Customer service windows; outside of one it is error 131047)."""
    groups: Sequence[str] = ()
    """Groups of WhatsApp that the account at `group_leg` writes to."""
    group_leg: int | None = None
    verify_domains: bool = False
    """Whether addresses are left out whose domain is known to take no mail."""

    @classmethod
    def of(cls, spec: CampaignSpec, after: int = -1) -> Self:
        """Return those of a campaign, or of its accounts after one."""
        email: int | None = None
        phone: int | None = None
        windows: dict[str, int] = {}
        for leg, account in enumerate(spec.accounts):
            if leg <= after:
                continue
            if channel_of(account) is Channel.EMAIL:
                email = leg if email is None else email
            elif account.startswith("whatsapp-cloud-account/") and not spec.template.name:
                windows[account] = leg
            else:
                phone = leg if phone is None else phone
        groups = spec.groups if after < 0 else ()  # which never fall back
        return cls(email, phone, windows, groups, spec.group_leg, spec.verify_domains)

    @property
    def by_phone(self) -> bool:
        """Whether anybody may be reached by phone number."""
        return self.phone is not None or bool(self.windows)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of `members`."""
        without = {
            (True, False): "no e-mail address",
            (False, True): "no phone number",
            (True, True): "neither e-mail address nor phone number",
        }
        return {
            "email_leg": self.email,
            "phone_leg": self.phone,
            "by_phone": self.by_phone,
            "windows": list(self.windows),
            "window_legs": list(self.windows.values()),
            "verify_domains": self.verify_domains,
            **({"groups": list(self.groups), "group_leg": self.group_leg} if self.groups else {}),
            "no_address": without.get((self.email is not None, self.by_phone), ""),
        }


BY_EMAIL: Final = Legs(email=0)


@dataclass(frozen=True, slots=True)
class Zones:
    """When a campaign's time comes in each time zone, and where phone numbers are."""

    names: Sequence[str]
    """The first to have the campaign's time first; a zone's place here counts from 1."""
    moments: Sequence[datetime]
    own: int
    """The place of the campaign's own zone."""
    digits: int
    """Of phone numbers so many leading digits count."""
    starts: Sequence[int]
    """Where in the order of those digits the places of numbers change."""
    places: Sequence[int]
    """Those from each start on; 0: such a number says nothing."""

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the parts `zones` and `recipients`."""
        return {
            "zone_names": list(self.names),
            "zone_moments": list(self.moments),
            "own_place": self.own,
            "digits": self.digits,
            "area_starts": list(self.starts),
            "area_places": list(self.places),
        }


# Each member's first account, and why a member is left out: one reason each, the person's own wish before
# ours; of what stands in the way on several accounts, that which is mended most easily.
_MEMBERS: Final = f"""
    SELECT m.id, m.leg,
        CASE WHEN m.leg = CAST(:email_leg AS int) THEN m.email_key ELSE m.phone END AS address_key,
        CASE WHEN m.leg = CAST(:email_leg AS int) THEN m.email ELSE m.phone END AS address,
        CASE
            WHEN m.status = 'unsubscribed' THEN 'unsubscribed'
            WHEN m.status = 'pending' THEN 'subscription not confirmed'
            WHEN m.leg IS NOT NULL THEN CASE WHEN m.consent_source IS NULL THEN 'no consent' END
            WHEN m.is_number AND m.no_messages IS NULL THEN 'no open service window'
            WHEN m.no_mail IS NOT NULL OR m.no_messages IS NOT NULL
                THEN coalesce(m.no_mail, m.no_messages)
            WHEN CAST(:by_phone AS bool) AND m.phone IS NOT NULL
                THEN 'phone number not in international form'
            ELSE :no_address
        END AS excluded
    FROM (
        SELECT c.*, why.no_mail, why.no_messages,
            least(
                CASE WHEN c.email_key IS NOT NULL AND why.no_mail IS NULL THEN CAST(:email_leg AS int) END,
                CASE WHEN c.is_number AND why.no_messages IS NULL
                    THEN least(CAST(:phone_leg AS int), open.leg) END
            ) AS leg
        FROM (
            SELECT c.*, CAST(:by_phone AS bool) AND c.phone ~ '^[+][1-9][0-9]{{6,14}}$' AS is_number -- E.164
            FROM chosen JOIN contacts c ON c.id = chosen.id OFFSET 0 -- or it is matched again for each use
        ) c
        LEFT JOIN suppressions mail ON mail.channel = 'email' AND mail.address_key = c.email_key
            AND (mail.expires_at IS NULL OR mail.expires_at > now())
        LEFT JOIN suppressions messages ON messages.channel = 'whatsapp' AND messages.address_key = c.phone
            AND (messages.expires_at IS NULL OR messages.expires_at > now())
        LEFT JOIN audience_opt_outs mail_of_this ON mail_of_this.audience_id = :audience_id
            AND mail_of_this.channel = 'email' AND mail_of_this.address_key = c.email_key
        LEFT JOIN audience_opt_outs messages_of_this ON messages_of_this.audience_id = :audience_id
            AND messages_of_this.channel = 'whatsapp' AND messages_of_this.address_key = c.phone
        LEFT JOIN mail_domains d ON CAST(:verify_domains AS bool) AND CAST(:email_leg AS int) IS NOT NULL
            AND d.domain = {mail_domains.DOMAIN} AND {mail_domains.REFUSING} AND {mail_domains.FRESH}
        -- A complaint and a wish are the person's, whichever address they were heard by, as another may have
        -- been imported since.
        CROSS JOIN LATERAL (
            SELECT CASE WHEN 'complained' IN (mail.reason, messages.reason) THEN 'suppressed: complained'
                WHEN coalesce(mail_of_this.channel, messages_of_this.channel) IS NOT NULL
                    THEN 'suppressed: unsubscribed from this audience' END AS nothing
        ) wants
        CROSS JOIN LATERAL (
            SELECT coalesce(wants.nothing, CASE WHEN CAST(:email_leg AS int) IS NOT NULL THEN coalesce(
                    'suppressed: ' || mail.reason,
                    CASE WHEN d.domain IS NOT NULL THEN 'domain takes no mail' END) END) AS no_mail,
                coalesce(wants.nothing, CASE WHEN CAST(:by_phone AS bool)
                    THEN 'suppressed: ' || messages.reason END) AS no_messages
        ) why
        LEFT JOIN LATERAL (
            SELECT min(a.leg) AS leg
            FROM unnest(CAST(:windows AS text[]), CAST(:window_legs AS int[])) AS a (account, leg)
            JOIN service_windows w ON w.account = a.account AND w.phone = c.phone AND w.closes_at > now()
        ) open ON CAST(:by_phone AS bool)
    ) m
"""  # noqa: S608 - constants

# An e-mail address is one contact's; a phone number may be that of several.
_ONCE: Final = {
    "judged": _MEMBERS,
    "members": """
        SELECT id, leg, address_key, address, coalesce(excluded, CASE
            WHEN row_number() OVER (PARTITION BY excluded IS NULL, address_key ORDER BY id) > 1
            THEN 'same phone number as another contact' END) AS excluded
        FROM judged
    """,
}

# Groups of WhatsApp are nobody's contact: they have no consent to give, and no other account reaches them.
_WITH_GROUPS: Final = """
    SELECT id, leg, address_key, address, excluded FROM people
    UNION ALL
    SELECT NULL, CAST(:group_leg AS int), g.jid, g.jid, 'suppressed: ' || s.reason
    FROM unnest(CAST(:groups AS text[])) AS g (jid)
    LEFT JOIN suppressions s ON s.channel = 'whatsapp' AND s.address_key = g.jid
        AND (s.expires_at IS NULL OR s.expires_at > now())
"""

_TOGETHER: Final = {
    "zones": "SELECT NULL::int AS place, NULL::text AS name, NULL::timestamptz AS not_before WHERE false",
    "recipients": "SELECT id, leg, address_key, address, 0 AS place FROM members WHERE excluded IS NULL",
}

# The contact's zone, else that of the phone number, else the campaign's: the areas of numbers are stretches
# of the order of their digits, so that the place of a number is found without a join.
_BY_ZONE: Final = {
    "zones": """
        SELECT z.place::int, z.name, z.not_before
        FROM unnest(CAST(:zone_names AS text[]), CAST(:zone_moments AS timestamptz[]))
            WITH ORDINALITY AS z (name, not_before, place)
    """,
    "recipients": """
        SELECT m.id, m.leg, m.address_key, m.address, coalesce(
            z.place,
            nullif((CAST(:area_places AS int[]))[width_bucket(
                CASE WHEN c.phone ~ '^[+][1-9][0-9]{6,14}$'
                    THEN rpad(substr(c.phone, 2, :digits), :digits, '0')::int END,
                CAST(:area_starts AS int[]))], 0),
            :own_place) AS place
        FROM members m LEFT JOIN contacts c ON c.id = m.id LEFT JOIN zones z ON z.name = c.time_zone
        WHERE m.excluded IS NULL
    """,
}

# Batches of one account and time zone each, numbered after those that the campaign has, in the order that
# their time comes.
BATCHES: Final = {
    "sizes": """
        SELECT leg, place, count(*) AS n, greatest(
            :batch_size, ceil(sum(count(*)) OVER () / CAST(:most_batches AS numeric))::int) AS size
        FROM recipients GROUP BY leg, place
    """,
    "shares": """
        SELECT leg, place, size,
            (SELECT coalesce(max(number), 0) FROM batches WHERE campaign_id = :campaign_id)
            + coalesce(sum((n + size - 1) / size) OVER (
                ORDER BY leg, place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::int AS before
        FROM sizes
    """,
    "numbered": """
        SELECT r.*,
            before + 1 + (row_number() OVER (PARTITION BY leg, place ORDER BY id) - 1) / size AS number
        FROM recipients r JOIN shares USING (leg, place)
    """,
    "made": """
        INSERT INTO batches (campaign_id, number, leg, time_zone, not_before)
        SELECT :campaign_id, n.number, n.leg, z.name, z.not_before
        FROM (SELECT DISTINCT number, leg, place FROM numbered) n LEFT JOIN zones z USING (place)
        ORDER BY n.number
        RETURNING id, number
    """,
}
# In the order of batches, so that the attempts of one lie together.
_PLANNED = """
    INSERT INTO attempts (campaign_id, batch_id, contact_id, address_key, address)
    SELECT :campaign_id, made.id, numbered.id, numbered.address_key, numbered.address
    FROM numbered JOIN made USING (number) ORDER BY numbered.number, numbered.id
"""
_PLAN = """
    UPDATE campaigns SET excluded = coalesce((
        SELECT jsonb_object_agg(excluded, n)
        FROM (SELECT excluded, count(*) AS n FROM members WHERE excluded IS NOT NULL GROUP BY excluded) e
    ), '{}') WHERE id = :campaign_id RETURNING id
"""
_EXCLUSIONS = "SELECT excluded, count(*) AS n FROM members GROUP BY excluded"
_BY_DOMAIN = """
    SELECT leg, CASE WHEN CAST(:by_domain AS bool) AND strpos(address, '@') > 0
        THEN lower(split_part(address, '@', -1)) ELSE '' END AS domain, count(*) AS n
    FROM members WHERE excluded IS NULL GROUP BY 1, 2
"""
_IN_ZONES = """
    SELECT z.name, z.not_before, count(*) AS n FROM recipients JOIN zones z USING (place)
    GROUP BY z.name, z.not_before ORDER BY z.not_before, z.name
"""


def plan(
    connection: Connection, campaign_id: int, batch_size: int, most_batches: int, zones: Zones | None = None
) -> None:
    """Snapshot a campaign's audience into attempts and batches, leaving out who must not be written to.

    Each member is written to over the first of the campaign's accounts that can reach them, its groups over
    the first of WhatsApp Web. Batches hold `batch_size` attempts, or more when there would be over
    `most_batches` of them. With `zones` each batch is of one time zone, and waits for its time there: then
    there are as many batches more, at most, as there are zones.
    """
    found = connection.execute(
        select(campaigns.c.audience_id, campaigns.c.spec).where(campaigns.c.id == campaign_id)
    ).one()
    spec = CampaignSpec.model_validate(found.spec)
    legs = Legs.of(spec)
    # Parts of one statement, hence one snapshot: nobody who joins meanwhile falls between the batches.
    parts = {**members(legs), **(_BY_ZONE if zones else _TOGETHER), **BATCHES, "planned": _PLANNED}
    chosen = _chosen(connection, found.audience_id, spec.where)
    parameters = {
        "campaign_id": campaign_id,
        "audience_id": found.audience_id,
        "batch_size": batch_size,
        "most_batches": most_batches,
        **(zones.parameters() if zones else {}),
    }
    connection.execute(_with_parts(_PLAN, ["id"], chosen, parts), parameters | legs.parameters())


def exclusions(
    connection: Connection, audience_id: int | None, legs: Legs, where: str = ""
) -> dict[str | None, int]:
    """Count an audience's members, and the groups, by why they would be left out; None: they would not be.

    Without an audience there are the groups alone.
    """
    chosen = _chosen(connection, audience_id, where)
    statement = _with_parts(_EXCLUSIONS, ["excluded", "n"], chosen, members(legs))
    parameters = legs.parameters() | {"audience_id": audience_id}
    return {row.excluded: row.n for row in connection.execute(statement, parameters)}


def by_account(
    connection: Connection, audience_id: int | None, legs: Legs, where: str = "", *, by_domain: bool = False
) -> dict[tuple[int, str], int]:
    """Count who would be written to by account and, when asked for, by the domain of the address."""
    chosen = _chosen(connection, audience_id, where)
    statement = _with_parts(_BY_DOMAIN, ["leg", "domain", "n"], chosen, members(legs))
    parameters = legs.parameters() | {"audience_id": audience_id, "by_domain": by_domain}
    return {(row.leg, row.domain): row.n for row in connection.execute(statement, parameters)}


@dataclass(frozen=True, slots=True)
class ZoneTime:
    """One time zone that a campaign has recipients in."""

    zone: str
    at: datetime
    """When the campaign's time comes there."""
    recipients: int


def zones_of(
    connection: Connection, audience_id: int | None, legs: Legs, zones: Zones, where: str = ""
) -> list[ZoneTime]:
    """Count those of an audience, and the groups, who would be written to by time zone, the first first."""
    parts = {**members(legs), **_BY_ZONE}
    statement = _with_parts(
        _IN_ZONES, ["name", "not_before", "n"], _chosen(connection, audience_id, where), parts
    )
    parameters = legs.parameters() | zones.parameters() | {"audience_id": audience_id}
    return [ZoneTime(*row) for row in connection.execute(statement, parameters)]


def _chosen(connection: Connection, audience_id: int | None, where: str) -> Select[tuple[int]]:
    if audience_id is None:
        return select(contacts.c.id).where(false())
    return audiences.members(connection, audience_id, where)


def members(legs: Legs) -> dict[str, str]:
    """Return parts of a statement, `members` the last: how `chosen` and groups are written to, or why not.

    Its parameters are those of `legs` and `audience_id`.
    """
    parts = _ONCE if legs.by_phone else {"members": _MEMBERS}
    if not legs.groups:
        return parts
    others = {name: part for name, part in parts.items() if name != "members"}
    return {**others, "people": parts["members"], "members": _WITH_GROUPS}


def sizes(spec: CampaignSpec) -> tuple[int, int]:
    """Return how many recipients a batch holds at least, and how many batches there may be."""
    if isinstance(spec.batch_size, int):
        return spec.batch_size, 2**31 - 1  # who names a size gets that size
    rate = (spec.pacing.per_second or _USUAL_RATE) / spec.workers  # of each, so that all end together
    return max(_SMALLEST_BATCH, round(rate * _BATCH_SECONDS)), _MOST_BATCHES * spec.workers


def _with_parts(
    sql: str, names: list[str], chosen: Select[tuple[int]], parts: Mapping[str, str]
) -> TextualSelect:
    """Put `WITH chosen AS (…), …` before a statement that returns columns of these names."""
    ctes = [text(part).columns().cte(name) for name, part in parts.items()]
    return text(sql).columns(*map(column, names)).add_cte(chosen.cte("chosen"), *ctes)
