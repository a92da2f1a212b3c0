"""Paused or cancelled, a campaign stops within a message per connection; resumed, it goes on."""

from collections.abc import Callable

from sqlalchemy import Engine

from tests.deployments.conftest import wait_for
from tests.faults.crowds import crowd, held, judged, states
from tests.faults.sink import Sink

RECIPIENTS = 2000
CONNECTIONS = 8  # of the account
SECONDS = 5


def test_a_paused_campaign_stops_at_once_and_goes_on_where_it_was(
    ledger: Engine, sink: Sink, outflow, begin, definition: Callable[..., str]
):
    crowd(ledger, RECIPIENTS)
    sender = begin("send", definition(rate="300/s"))
    wait_for(sink, RECIPIENTS // 10, sender)
    paused = outflow("pause", "faults", "--because", "lunch")
    at = sink.received()
    _, said = sender.communicate(timeout=SECONDS)

    assert paused.code == 0, paused.err
    assert sender.returncode == 1
    assert "lunch" in said
    counts = judged(states(ledger), sink.copies())
    assert set(counts) == {"accepted", "queued"}
    assert counts["accepted"] - at <= CONNECTIONS
    assert held(ledger) == 0

    resumed = outflow("resume", "faults", "--json")

    assert resumed.code == 0, resumed.err
    assert resumed.json["state"] == "finished"
    assert judged(states(ledger), sink.copies()) == {"accepted": RECIPIENTS}


def test_a_cancelled_campaign_stops_at_once_and_for_good(
    ledger: Engine, sink: Sink, outflow, begin, definition: Callable[..., str]
):
    crowd(ledger, RECIPIENTS)
    campaign = definition(rate="300/s")
    sender = begin("send", campaign)
    wait_for(sink, RECIPIENTS // 10, sender)
    cancelled = outflow("cancel", "faults", "--yes")
    at = sink.received()
    sender.communicate(timeout=SECONDS)
    again = outflow("send", campaign)

    assert cancelled.code == 0, cancelled.err
    assert again.code == 1
    counts = judged(states(ledger), sink.copies())
    assert set(counts) == {"accepted", "cancelled"}
    assert counts["accepted"] - at <= CONNECTIONS
    assert held(ledger) == 0
