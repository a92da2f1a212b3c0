"""A campaign's plan in the ledger: who of its audience is written to, over which account, in which batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from sqlalchemy import Connection, Select, TextualSelect, column, select, text

from messaging.storage import audiences
from messaging.storage.tables import campaigns
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
        return cls(email, phone, windows)

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
            "no_address": without.get((self.email is not None, self.by_phone), ""),
        }


BY_EMAIL: Final = Legs(email=0)

# Each member's first account, and why a member is left out: one reason each, the person's own wish before
# ours; of what stands in the way on several accounts, that which is mended most easily.
_MEMBERS: Final = """
    SELECT m.id, m.leg,
        CASE WHEN m.leg = CAST(:email_leg AS int) THEN m.email_key ELSE m.phone END AS address_key,
        CASE WHEN m.leg = CAST(:email_leg AS int) THEN m.email ELSE m.phone END AS address,
        CASE
            WHEN m.status = 'unsubscribed' THEN 'unsubscribed'
            WHEN m.status = 'pending' THEN 'subscription not confirmed'
            WHEN m.leg IS NOT NULL THEN CASE WHEN m.consent_source IS NULL THEN 'no consent' END
            WHEN m.is_number AND m.no_messages IS NULL THEN 'no open service window'
            WHEN m.no_mail IS NOT NULL OR m.no_messages IS NOT NULL
                THEN 'suppressed: ' || coalesce(m.no_mail, m.no_messages)
            WHEN CAST(:by_phone AS bool) AND m.phone IS NOT NULL
                THEN 'phone number not in international form'
            ELSE :no_address
        END AS excluded
    FROM (
        SELECT c.*, mail.reason AS no_mail, messages.reason AS no_messages,
            least(
                CASE WHEN c.email_key IS NOT NULL AND mail.reason IS NULL THEN CAST(:email_leg AS int) END,
                CASE WHEN c.is_number AND messages.reason IS NULL
                    THEN least(CAST(:phone_leg AS int), open.leg) END
            ) AS leg
        FROM (
            SELECT c.*, CAST(:by_phone AS bool) AND c.phone ~ '^[+][1-9][0-9]{6,14}$' AS is_number -- E.164
            FROM chosen JOIN contacts c ON c.id = chosen.id OFFSET 0 -- or it is matched again for each use
        ) c
        LEFT JOIN suppressions mail ON CAST(:email_leg AS int) IS NOT NULL
            AND mail.channel = 'email' AND mail.address_key = c.email_key
            AND (mail.expires_at IS NULL OR mail.expires_at > now())
        LEFT JOIN suppressions messages ON CAST(:by_phone AS bool)
            AND messages.channel = 'whatsapp' AND messages.address_key = c.phone
            AND (messages.expires_at IS NULL OR messages.expires_at > now())
        LEFT JOIN LATERAL (
            SELECT min(a.leg) AS leg
            FROM unnest(CAST(:windows AS text[]), CAST(:window_legs AS int[])) AS a (account, leg)
            JOIN service_windows w ON w.account = a.account AND w.phone = c.phone AND w.closes_at > now()
        ) open ON CAST(:by_phone AS bool)
    ) m
"""

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

RECIPIENTS: Final = "SELECT id, leg, address_key, address FROM members WHERE excluded IS NULL"

# Batches of one account each, numbered after those that the campaign has.
BATCHES: Final = {
    "sizes": """
        SELECT leg, count(*) AS n, greatest(
            :batch_size, ceil(sum(count(*)) OVER () / CAST(:most_batches AS numeric))::int) AS size
        FROM recipients GROUP BY leg
    """,
    "shares": """
        SELECT leg, size, (SELECT coalesce(max(number), 0) FROM batches WHERE campaign_id = :campaign_id)
            + coalesce(sum((n + size - 1) / size) OVER (
                ORDER BY leg ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::int AS before
        FROM sizes
    """,
    "numbered": """
        SELECT r.*, before + 1 + (row_number() OVER (PARTITION BY leg ORDER BY id) - 1) / size AS number
        FROM recipients r JOIN shares USING (leg)
    """,
    "made": """
        INSERT INTO batches (campaign_id, number, leg)
        SELECT :campaign_id, number, leg FROM numbered GROUP BY number, leg ORDER BY number
        RETURNING id, number
    """,
}
_PLANNED = """
    INSERT INTO attempts (campaign_id, batch_id, contact_id, address_key, address)
    SELECT :campaign_id, made.id, numbered.id, numbered.address_key, numbered.address
    FROM numbered JOIN made USING (number) ORDER BY numbered.id
"""
_PLAN = """
    UPDATE campaigns SET excluded = coalesce((
        SELECT jsonb_object_agg(excluded, n)
        FROM (SELECT excluded, count(*) AS n FROM members WHERE excluded IS NOT NULL GROUP BY excluded) e
    ), '{}') WHERE id = :campaign_id RETURNING id
"""
_EXCLUSIONS = "SELECT excluded, count(*) AS n FROM members GROUP BY excluded"


def plan(connection: Connection, campaign_id: int, batch_size: int, most_batches: int) -> None:
    """Snapshot a campaign's audience into attempts and batches, leaving out who must not be written to.

    Each member is written to over the first of the campaign's accounts that can reach them. Batches hold
    `batch_size` attempts, or more when there would be over `most_batches` of them.
    """
    found = connection.execute(
        select(campaigns.c.audience_id, campaigns.c.spec).where(campaigns.c.id == campaign_id)
    ).one()
    spec = CampaignSpec.model_validate(found.spec)
    legs = Legs.of(spec)
    # Parts of one statement, hence one snapshot: nobody who joins meanwhile falls between the batches.
    parts = {**members(legs), "recipients": RECIPIENTS, **BATCHES, "planned": _PLANNED}
    chosen = audiences.members(connection, found.audience_id, spec.where)
    parameters = {"campaign_id": campaign_id, "batch_size": batch_size, "most_batches": most_batches}
    connection.execute(_with_parts(_PLAN, ["id"], chosen, parts), parameters | legs.parameters())


def exclusions(
    connection: Connection, audience_id: int, legs: Legs, where: str = ""
) -> dict[str | None, int]:
    """Count an audience's members by why they would be left out; None: they would be written to."""
    chosen = audiences.members(connection, audience_id, where)
    statement = _with_parts(_EXCLUSIONS, ["excluded", "n"], chosen, members(legs))
    return {row.excluded: row.n for row in connection.execute(statement, legs.parameters())}


def members(legs: Legs) -> dict[str, str]:
    """Return parts of a statement, `members` the last: how those `chosen` are written to, or why not."""
    return _ONCE if legs.by_phone else {"members": _MEMBERS}


def sizes(spec: CampaignSpec) -> tuple[int, int]:
    """Return how many recipients a batch holds at least, and how many batches there may be."""
    if isinstance(spec.batch_size, int):
        return spec.batch_size, 2**31 - 1  # who names a size gets that size
    rate = spec.pacing.per_second or _USUAL_RATE
    return max(_SMALLEST_BATCH, round(rate * _BATCH_SECONDS)), _MOST_BATCHES


def _with_parts(
    sql: str, names: list[str], chosen: Select[tuple[int]], parts: Mapping[str, str]
) -> TextualSelect:
    """Put `WITH chosen AS (…), …` before a statement that returns columns of these names."""
    ctes = [text(part).columns().cte(name) for name, part in parts.items()]
    return text(sql).columns(*map(column, names)).add_cte(chosen.cte("chosen"), *ctes)
