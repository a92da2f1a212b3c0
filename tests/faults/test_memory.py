"""A sender needs no more memory for many recipients than for few."""

import time

import psutil
from sqlalchemy import Engine

from tests.faults.crowds import judged, plan, states
from tests.faults.sink import Sink

RECIPIENTS = 6000
MAY_GROW_MB = 8


def test_memory_does_not_grow_with_the_recipients_sent_to(ledger: Engine, sink: Sink, start):
    campaign_id = plan(ledger, RECIPIENTS, batch_size=RECIPIENTS)
    sender = start(campaign_id, sink.port)
    used = []
    for goal in (RECIPIENTS // 6, RECIPIENTS * 5 // 6):
        while sink.received() < goal:
            assert sender.alive, sender.failure()
            time.sleep(0.02)
        used.append(psutil.Process(sender.pid).memory_info().rss / 2**20)

    assert not sender.failure()
    assert judged(states(ledger), sink.copies()) == {"accepted": RECIPIENTS}
    assert used[1] - used[0] < MAY_GROW_MB
    assert used[1] < 300
