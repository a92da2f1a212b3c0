"""Campaigns that were sent, on a real ledger, and evidence about their messages."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, event, text

from messaging.campaign.planning import plan_campaign
from messaging.feedback.evidence import Bounce, Evidence
from messaging.feedback.recording import Recorded, record
from schemas.bounces import BounceClass, BounceReason, Suppress
from schemas.campaign import CampaignSpec
from schemas.states import Channel, EventKind

ADA, BO, CY = "ada@example.org", "bo@example.org", "cy@example.org"
PHONE = "+447700900001"
SPEC = CampaignSpec(
    name="spring-offer",
    account="smtp-account/main",
    audience="customers",
    subject="Hi",
    text="Dear {{ name }}",
)
MAILBOX = "imap-mailbox/bounces"
NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
DAY = timedelta(days=1)

HARD = Bounce(BounceClass.HARD, BounceReason.USER_UNKNOWN, Suppress.AT_ONCE, status="5.1.1")
WEAK = Bounce(BounceClass.HARD, BounceReason.INACTIVE, Suppress.SECOND_TIME, status="5.2.1")
SOFT = Bounce(BounceClass.SOFT, BounceReason.MAILBOX_FULL, Suppress.WHEN_IT_LASTS, status="4.2.2")
BLOCK = Bounce(BounceClass.BLOCK, BounceReason.REPUTATION, Suppress.NEVER, status="5.7.1")
SPAM = Bounce(BounceClass.COMPLAINT, BounceReason.ABUSE, Suppress.AT_ONCE)

_numbers = count()


def people(ledger: Engine, *addresses: str, phones: Sequence[str] = (), audience: str = "customers") -> None:
    """Put subscribed contacts into an audience; an empty address or phone is none."""
    numbers = [*phones, *[""] * (len(addresses) - len(phones))]
    with ledger.begin() as connection:
        connection.execute(
            text("INSERT INTO audiences (name) VALUES (:name) ON CONFLICT DO NOTHING"), {"name": audience}
        )
        connection.execute(
            text("""
                WITH made AS (
                    INSERT INTO contacts (email_key, email, phone, consent_source)
                    SELECT nullif(lower(a), ''), nullif(a, ''), nullif(p, ''), 'form'
                    FROM unnest(CAST(:addresses AS text[]), CAST(:phones AS text[])) AS x (a, p)
                    RETURNING id)
                INSERT INTO audience_members (audience_id, contact_id)
                SELECT au.id, made.id FROM made, audiences au WHERE au.name = :name
            """),
            {"addresses": list(addresses), "phones": numbers, "name": audience},
        )


def sent(
    ledger: Engine, name: str = "spring-offer", at: datetime = NOW, state: str = "accepted", **changes: Any
) -> int:
    """Plan a campaign, let all its messages have left then, and return its number."""
    plan = plan_campaign(ledger, CampaignSpec.model_validate(SPEC.model_dump() | {"name": name} | changes))
    change(
        ledger,
        """UPDATE attempts SET state = :state, dispatched_at = :at, answered_at = :at, code = 250,
            message_id = '<' || id || '.' || campaign_id || '@shop.example.org>'
        WHERE campaign_id = :id""",
        state=state, at=at, id=plan.campaign_id,
    )  # fmt: skip
    change(ledger, "UPDATE batches SET lease_epoch = 1 WHERE campaign_id = :id", id=plan.campaign_id)
    return plan.campaign_id


def change(ledger: Engine, statement: str, **parameters: object) -> None:
    with ledger.begin() as connection:
        connection.execute(text(statement), parameters)


def rows(ledger: Engine, statement: str, **parameters: object) -> list[tuple[Any, ...]]:
    with ledger.begin() as connection:
        return [tuple(row) for row in connection.execute(text(statement), parameters)]


def attempt(ledger: Engine, campaign_id: int, address: str) -> Row[Any]:
    with ledger.begin() as connection:
        return connection.execute(
            text("SELECT * FROM attempts WHERE campaign_id = :id AND address = :address"),
            {"id": campaign_id, "address": address},
        ).one()


def token(ledger: Engine, campaign_id: int, address: str) -> UUID:
    return attempt(ledger, campaign_id, address).token


def told(kind: EventKind, **fields: Any) -> Evidence:
    """Make a piece of evidence; each has another name unless told."""
    given = {
        "channel": Channel.EMAIL,
        "source": MAILBOX,
        "source_id": f"piece {next(_numbers)}",
        "occurred_at": NOW,
    }
    return Evidence(kind=kind, **(given | fields))


def bounced(bounce: Bounce = HARD, **fields: Any) -> Evidence:
    return told(EventKind.BOUNCED, bounce=bounce, **fields)


def recorded(ledger: Engine, *evidence: Evidence) -> Recorded:
    with ledger.begin() as connection:
        return record(connection, evidence)


ACTIVE = """
    SELECT address_key, reason FROM suppressions WHERE expires_at IS NULL OR expires_at > clock_timestamp()
    ORDER BY address_key
"""


def suppressed(ledger: Engine | Connection) -> dict[str, str]:
    """Return the reason of every address that must not be used now."""
    if isinstance(ledger, Connection):
        return dict(tuple(row) for row in ledger.execute(text(ACTIVE)))
    return dict(rows(ledger, ACTIVE))


@contextmanager
def heard(ledger: Engine, also: Callable[[str], None] = lambda _: None) -> Iterator[list[str]]:
    """Collect the statements that are asked of the ledger, and hand each on before it is run."""
    statements: list[str] = []

    def hear(*told: Any) -> None:
        statements.append(told[2])
        also(told[2])

    event.listen(ledger, "before_cursor_execute", hear)
    try:
        yield statements
    finally:
        event.remove(ledger, "before_cursor_execute", hear)
