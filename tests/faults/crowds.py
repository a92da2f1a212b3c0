"""Crowds to write to, and what must hold of everyone in them at any time."""

from collections import Counter
from collections.abc import Mapping

from sqlalchemy import Engine, text

from messaging.campaign.planning import plan_campaign
from schemas.campaign import CampaignSpec

_HANDED_OVER = {"accepted", "unknown", "dispatched"}


def crowd(engine: Engine, size: int) -> None:
    """Make an audience `crowd` of reader1@example.org, reader2@example.org and so on."""
    with engine.begin() as connection:
        connection.execute(
            text("""
                WITH made AS (
                    INSERT INTO contacts (email_key, email, name, status, consent_source, attributes)
                    SELECT a, a, 'Reader ' || n, 'subscribed', 'a form', '{}'
                    FROM generate_series(1, :size) n, format('reader%s@example.org', n) a RETURNING id),
                joined AS (INSERT INTO audiences (name) VALUES ('crowd') RETURNING id)
                INSERT INTO audience_members (audience_id, contact_id)
                SELECT joined.id, made.id FROM joined, made
            """),
            {"size": size},
        )


def plan(engine: Engine, size: int, **changes: object) -> int:
    """Plan a campaign to a new crowd of this size and return its number."""
    crowd(engine, size)
    return plan_for_crowd(engine, **changes)


def plan_for_crowd(engine: Engine, **changes: object) -> int:
    """Plan a campaign to the crowd there is and return its number."""
    usual = {
        "name": "faults",
        "account": "smtp-account/main",
        "audience": "crowd",
        "subject": "Hello {{ name }}",
        "text": "Dear {{ name }}",
        "batch_size": 300,
    }
    return plan_campaign(engine, CampaignSpec.model_validate(usual | changes)).campaign_id


def states(engine: Engine) -> dict[str, str]:
    """Read everyone's state."""
    with engine.begin() as connection:
        return dict(connection.execute(text("SELECT address, state FROM attempts")).tuples().all())


def in_state(engine: Engine, *wanted: str) -> list[str]:
    """Read who is in these states."""
    return [address for address, state in states(engine).items() if state in wanted]


def expire_leases(engine: Engine) -> int:
    """Let the leases of the dead run out now instead of in half a minute; return how many there were."""
    with engine.begin() as connection:
        return connection.execute(
            text("""
                UPDATE batches SET lease_expires_at = clock_timestamp() - interval '1 second'
                WHERE lease_owner IS NOT NULL
            """)
        ).rowcount


def held(engine: Engine) -> int:
    """Count the leases that somebody holds."""
    with engine.begin() as connection:
        statement = text("SELECT count(*) FROM batches WHERE lease_owner IS NOT NULL")
        return int(connection.execute(statement).scalar_one())


def judged(states: Mapping[str, str], copies: Mapping[str, int]) -> Counter[str]:
    """Check what the ledger says of everyone against the copies there are; count the states.

    At most one copy for anybody, exactly one for who is accepted, none for who was not handed over.
    """
    assert not copies.keys() - states.keys(), "somebody has a copy who was not planned"
    assert not [address for address, n in copies.items() if n > 1], "somebody has two copies"
    said_falsely = [a for a, state in states.items() if state == "accepted" and copies.get(a, 0) != 1]
    assert not said_falsely, "somebody is accepted and has no copy"
    silently = [a for a, state in states.items() if state not in _HANDED_OVER and copies.get(a, 0)]
    assert not silently, "somebody has a copy that the ledger does not know of"
    return Counter(states.values())
