"""Falling back: who cannot be reached over one of a campaign's accounts is queued for the next."""

from typing import Final

from sqlalchemy import Connection, text

from messaging.storage import plans
from messaging.storage.plans import Legs
from schemas.campaign import CampaignSpec

_REFUSED: Final = """
    SELECT a.contact_id, b.time_zone, b.not_before FROM attempts a JOIN batches b ON b.id = a.batch_id
    WHERE a.campaign_id = :campaign_id AND a.unreachable AND a.state = 'rejected' AND b.leg = :leg
    FOR UPDATE OF a
"""
_CHOSEN: Final = "SELECT contact_id AS id FROM refused"

# Whoever is tried on another account stays in the time zone that they were planned in.
_ZONES: Final = """
    SELECT row_number() OVER (ORDER BY min(not_before), time_zone)::int AS place, time_zone AS name,
        min(not_before) AS not_before
    FROM refused WHERE time_zone IS NOT NULL GROUP BY time_zone
"""

# One recipient is reached once per campaign: whose number is that of another recipient stays rejected.
_RECIPIENTS: Final = """
    SELECT m.id, m.leg, m.address_key, m.address, coalesce(z.place, 0) AS place
    FROM members m JOIN refused r ON r.contact_id = m.id LEFT JOIN zones z ON z.name = r.time_zone
    WHERE m.excluded IS NULL AND NOT EXISTS (
        SELECT FROM attempts a WHERE a.campaign_id = :campaign_id AND a.address_key = m.address_key
            AND a.contact_id IS DISTINCT FROM m.id)
"""

# The attempts are looked up once more, by their contacts and, with `+ 0` and `::int`, in no other way: from
# stale statistics the planner takes those refused for a row or two, and would read all for each recipient.
_NOTED: Final = """
    INSERT INTO events (attempt_id, kind, source, source_id, details)
    SELECT a.id, 'fell_back', 'outflow', gen_random_uuid()::text, jsonb_strip_nulls(jsonb_build_object(
        'leg', CAST(:leg AS int), 'account', CAST(:account AS text),
        'code', a.code, 'status', a.status, 'reason', a.reason))
    FROM numbered n JOIN attempts a ON a.contact_id = n.id
    WHERE a.campaign_id + 0 = :campaign_id AND a.unreachable::int = 1 AND a.state = 'rejected'
"""
# The token stays: a report that the first account hears of later finds the attempt by it.
_MOVED: Final = """
    UPDATE attempts a SET batch_id = made.id, address_key = n.address_key, address = n.address,
        state = 'queued', tries = 0, delays = 0, not_before = NULL, dispatched_at = NULL, answered_at = NULL,
        message_id = NULL, provider_message_id = NULL, code = NULL, status = NULL, reply = NULL,
        reason = NULL, unreachable = false
    FROM numbered n JOIN made USING (number)
    WHERE a.contact_id = n.id
        AND a.campaign_id + 0 = :campaign_id AND a.unreachable::int = 1 AND a.state = 'rejected'
"""
_MADE: Final = "SELECT number FROM made ORDER BY number"
_PARTS_AFTER: Final = {
    "zones": _ZONES,
    "recipients": _RECIPIENTS,
    **plans.BATCHES,
    "noted": _NOTED,
    "moved": _MOVED,
}


_AUDIENCE: Final = text("SELECT audience_id FROM campaigns WHERE id = :campaign_id")


def fall_back(connection: Connection, campaign_id: int, spec: CampaignSpec) -> list[int]:
    """Queue those refused as unreachable for the next account that can reach them; return the new batches.

    The caller has locked the campaign, so that of two who come at once one moves everybody. Whoever has no
    address for another account, must not be written to there, or is a recipient already stays rejected. An
    event keeps the answer that was.
    """
    batch_size, most_batches = plans.sizes(spec)
    made: list[int] = []
    audience_id = connection.execute(_AUDIENCE, {"campaign_id": campaign_id}).scalar_one()
    for leg, account in enumerate(spec.accounts[:-1]):
        legs = Legs.of(spec, after=leg)
        parts = {"refused": _REFUSED, "chosen": _CHOSEN, **plans.members(legs), **_PARTS_AFTER}
        ctes = [text(part).columns().cte(name) for name, part in parts.items()]
        parameters = legs.parameters() | {
            "campaign_id": campaign_id,
            "audience_id": audience_id,
            "leg": leg,
            "account": account,
            "batch_size": batch_size,
            "most_batches": most_batches,
        }
        made += connection.execute(text(_MADE).columns().add_cte(*ctes), parameters).scalars()
    return made
