"""Who says no during a campaign is not written to any more."""

import time

import pytest
from sqlalchemy import Engine, text

from tests.faults.crowds import in_state, judged, plan, states
from tests.faults.sink import Sink

RECIPIENTS = 3000
CONNECTIONS = 8

UNSUBSCRIBED = "UPDATE contacts SET status = 'unsubscribed' WHERE id % 3 = 0 RETURNING email_key"
SUPPRESSED = """
    INSERT INTO suppressions (channel, address_key, reason, source)
    SELECT 'email', email_key, 'complained', 'test' FROM contacts WHERE id % 3 = 0 RETURNING address_key
"""


@pytest.mark.parametrize("no", [UNSUBSCRIBED, SUPPRESSED], ids=["unsubscribed", "suppressed"])
def test_a_no_is_heard_within_a_message_per_connection(ledger: Engine, sink: Sink, start, no: str):
    campaign_id = plan(ledger, RECIPIENTS, pacing={"rate": "800/s"})  # at full speed it is over in a second
    sender = start(campaign_id, sink.port, CONNECTIONS)
    while sink.received() < RECIPIENTS // 10:
        assert sender.alive, sender.failure()
        time.sleep(0.001)
    with ledger.begin() as connection:
        said_no = set(connection.execute(text(no)).scalars())
    waiting = said_no & set(in_state(ledger, "queued", "suppressed"))  # some have been heard already
    failure = sender.failure()

    assert not failure
    assert len(waiting) > RECIPIENTS // 10  # said in mid-campaign
    written_to = waiting & sink.copies().keys()
    assert len(written_to) <= CONNECTIONS  # a mark that was being committed at that moment
    counts = judged(states(ledger), sink.copies())
    assert counts["suppressed"] == len(waiting) - len(written_to)
    assert counts["accepted"] + counts["suppressed"] == RECIPIENTS
