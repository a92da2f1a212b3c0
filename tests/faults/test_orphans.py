"""A sender that was given up for dead and comes back does no harm."""

import signal
import time

from sqlalchemy import Engine

from tests.faults.crowds import expire_leases, held, in_state, judged, plan, states
from tests.faults.sink import Sink

RECIPIENTS = 1200
CONNECTIONS = 8


def test_a_frozen_sender_whose_batches_were_sent_meanwhile_stops_before_its_next_message(
    ledger: Engine, sink: Sink, start, finish
):
    campaign_id = plan(ledger, RECIPIENTS)
    orphan = start(campaign_id, sink.port, CONNECTIONS)
    while sink.received() < RECIPIENTS // 4:
        assert orphan.alive, orphan.failure()
        time.sleep(0.001)
    orphan.signal(signal.SIGSTOP)
    expire_leases(ledger)
    finish(campaign_id, sink.port)
    before = judged(states(ledger), sink.copies())

    orphan.signal(signal.SIGCONT)
    failure = orphan.failure()

    assert before["accepted"] + before["unknown"] == RECIPIENTS
    assert before["unknown"] <= CONNECTIONS  # what was on its way when it froze
    assert failure.startswith("LeaseLost") or not failure  # or it found everything done
    assert judged(states(ledger), sink.copies()) == before
    assert held(ledger) == 0


def test_two_senders_of_one_campaign_share_the_work(ledger: Engine, sink: Sink, start):
    campaign_id = plan(ledger, RECIPIENTS)
    senders = [start(campaign_id, sink.port, 4) for _ in range(2)]
    failures = [sender.failure() for sender in senders]

    assert failures == ["", ""]
    assert judged(states(ledger), sink.copies()) == {"accepted": RECIPIENTS}
    assert not in_state(ledger, "unknown")
