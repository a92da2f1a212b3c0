"""Commands that are killed lose nobody and mail nobody twice; the next one goes on."""

import random
from collections.abc import Callable

from sqlalchemy import Engine

from tests.deployments.conftest import wait_for
from tests.faults.crowds import crowd, expire_leases, in_state, judged, states
from tests.faults.sink import Sink

RECIPIENTS = 2000
CONNECTIONS = 8  # of the account


def test_killed_in_mid_batch_it_goes_on_with_what_is_missing(
    ledger: Engine, sink: Sink, outflow, begin, definition: Callable[[], str]
):
    crowd(ledger, RECIPIENTS)
    campaign = definition()
    chance = random.Random()  # noqa: S311 - moments, not secrets
    commands = [("send", campaign), ("retry", "faults"), ("send", campaign)]
    for kill, command in enumerate(commands, 1):
        sender = begin(*command)
        goal = chance.randint(RECIPIENTS * (2 * kill - 1) // 8, RECIPIENTS * 2 * kill // 8)
        wait_for(sink, goal, sender)
        sender.kill()
        sender.communicate()
        assert expire_leases(ledger) >= 1  # half a minute, made short

    ended = outflow("retry", "faults", "--json")

    assert ended.code == 0, ended.err
    counts = judged(states(ledger), sink.copies())
    assert counts["accepted"] + counts["unknown"] == counts.total() == RECIPIENTS
    assert counts["unknown"] <= len(commands) * CONNECTIONS
    assert (ended.json["state"], ended.json["unknown"]) == ("finished", counts["unknown"])
    named = outflow("report", "faults", "--json").json["unknown_recipients"]
    assert sorted(named) == sorted(in_state(ledger, "unknown"))

    again = outflow("send", campaign)
    assert (again.code, sink.received()) == (1, sink.copies().total())
    assert "was sent already" in again.err
    assert judged(states(ledger), sink.copies()) == counts
