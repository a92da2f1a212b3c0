"""Whatever the order and however often events of messages come, the ledger ends the same."""

import itertools
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from messaging.feedback.evidence import Evidence
from messaging.feedback.recording import record
from messaging.feedback.ses_events import read_ses_event
from tests.messaging.feedback.ses_samples import bounce, complaint, event, of_all_kinds
from tests.messaging.feedback.sqs_queue import SOURCE, about, send_campaign

PEOPLE = 3
EARLY = "2025-03-20T09:01:00.789Z"


def all_events() -> list[list[Evidence]]:
    """Return each kind of event, and two more bounces, about each person, as it is read from a message."""
    notices = [
        *of_all_kinds().values(),
        event(
            "Bounce", bounce("Transient", "MailboxFull", "smtp; 452 4.2.2 over quota") | {"timestamp": EARLY}
        ),
        event("Complaint", complaint(complaintFeedbackType="auth-failure", timestamp=EARLY)),
    ]
    bodies = [json.dumps(about(person, notice)) for person in range(1, PEOPLE + 1) for notice in notices]
    return [read_ses_event(body, SOURCE) for body in bodies]


EVENTS = all_events()
STATES = {
    "attempts": "SELECT id, state, provider_message_id, reason FROM attempts ORDER BY id",
    "suppressions": "SELECT address_key, channel, reason, source, expires_at FROM suppressions ORDER BY 1, 2",
    "contacts": "SELECT id, status FROM contacts ORDER BY id",
    "opt-outs": "SELECT audience_id, channel, address_key, source FROM audience_opt_outs ORDER BY 1, 2, 3",
    "events": """SELECT kind, source, source_id, attempt_id, occurred_at, details::text FROM events
        WHERE source = 'ses-queue/events' AND kind <> 'resolved' ORDER BY source_id""",
}


def outcome(connection: Connection, chunks: list[list[Evidence]], unanswered: list[int]) -> dict[str, Any]:
    """Record chunks on a campaign of which some messages had no answer; return what the ledger says."""
    send_campaign(connection, PEOPLE)
    connection.execute(
        text("UPDATE attempts SET state = 'unknown', provider_message_id = NULL WHERE id = ANY (:ids)"),
        {"ids": unanswered},
    )
    for chunk in chunks:
        record(connection, chunk)
    return {name: [tuple(row) for row in connection.execute(text(query))] for name, query in STATES.items()}


def undone(engine: Engine, chunks: list[list[Evidence]], unanswered: list[int]) -> dict[str, Any]:
    with engine.connect() as connection:
        try:
            for table in ("audiences", "campaigns", "batches", "contacts", "attempts"):
                connection.execute(text(f"ALTER SEQUENCE {table}_id_seq RESTART"))
            return outcome(connection, chunks, unanswered)
        finally:
            connection.rollback()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_any_chunks_and_any_repeats_end_the_same(ledger: Engine, data: st.DataObject):
    chosen = data.draw(st.lists(st.sampled_from(range(len(EVENTS))), unique=True, min_size=1), label="events")
    unanswered = data.draw(st.lists(st.integers(1, PEOPLE), unique=True), label="unanswered")
    repeats = data.draw(st.lists(st.sampled_from(chosen), max_size=6), label="repeats")
    order = data.draw(st.permutations([*chosen, *repeats]), label="order")
    cuts = sorted(data.draw(st.sets(st.integers(1, len(order)), max_size=4), label="cuts"))
    places = [0, *cuts, len(order)]
    chunks = [
        [one for n in order[start:end] for one in EVENTS[n]] for start, end in itertools.pairwise(places)
    ]

    usual = undone(ledger, [[one for n in sorted(chosen) for one in EVENTS[n]]], unanswered)

    assert undone(ledger, chunks, unanswered) == usual
