"""Paused or cancelled, a campaign stops within a message per connection; resumed, it goes on."""

import asyncio
from collections.abc import Callable

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import PrefectHTTPStatusError
from sqlalchemy import Engine, text

from messaging.reports.histories import campaign_history
from tests.deployments.conftest import finished, run_deployed, wait_for
from tests.faults.crowds import crowd, held, judged, states
from tests.faults.sink import Sink

# Prefect's client leaves sockets to the garbage collector when a loop ends.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

RECIPIENTS = 2000
CONNECTIONS = 8  # of the account
SECONDS = 5  # until a decision has an effect, by the ledger's clock
PATIENCE = 120  # with a machine that has other things to do


def marked_after(ledger: Engine, kind: str) -> int:
    """Count the messages that were still begun when a decision should have had its effect."""
    statement = text("""
        SELECT count(*) FROM attempts a JOIN events e ON e.campaign_id = a.campaign_id AND e.kind = :kind
        WHERE a.dispatched_at > e.occurred_at + make_interval(secs => :seconds)
    """)
    with ledger.begin() as connection:
        return connection.execute(statement, {"kind": kind, "seconds": SECONDS}).scalar_one()


def state_of(ledger: Engine) -> str:
    with ledger.begin() as connection:
        return connection.execute(text("SELECT state FROM campaigns")).scalar_one()


def test_a_paused_campaign_stops_at_once_and_goes_on_where_it_was(
    ledger: Engine, sink: Sink, outflow, begin, definition: Callable[..., str]
):
    crowd(ledger, RECIPIENTS)
    sender = begin("send", definition(rate="300/s"))
    wait_for(sink, RECIPIENTS // 10, sender)
    paused = outflow("pause", "faults", "--because", "lunch")
    at = sink.received()
    _, said = sender.communicate(timeout=PATIENCE)

    assert paused.code == 0, paused.err
    assert sender.returncode == 1
    assert "lunch" in said
    counts = judged(states(ledger), sink.copies())
    assert set(counts) == {"accepted", "queued"}
    assert counts["accepted"] - at <= CONNECTIONS
    assert marked_after(ledger, "paused") == 0
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
    sender.communicate(timeout=PATIENCE)
    again = outflow("send", campaign)

    assert cancelled.code == 0, cancelled.err
    assert again.code == 1
    counts = judged(states(ledger), sink.copies())
    assert set(counts) == {"accepted", "cancelled"}
    assert counts["accepted"] - at <= CONNECTIONS
    assert marked_after(ledger, "cancelled") == 0
    assert held(ledger) == 0


async def test_paused_let_loose_and_resumed_by_deployments(
    ledger: Engine, sink: Sink, prefect: PrefectClient, launch
):
    crowd(ledger, RECIPIENTS)
    launched = await launch("20/s")
    while sink.received() < CONNECTIONS:  # noqa: ASYNC110 - another process counts
        await asyncio.sleep(0.05)
    because = {"campaign": "faults", "because": "a wrong price"}
    pausing = asyncio.create_task(run_deployed(prefect, "pause-campaign", {"request": because}))
    while state_of(ledger) == "running":  # noqa: ASYNC110 - another process decides
        await asyncio.sleep(0.01)
    at = sink.received()
    paused, stopped = await pausing, await finished(prefect, launched)

    assert paused.state.is_completed(), paused.state.message
    assert stopped.state.is_failed()
    assert "a wrong price" in stopped.state.message
    counts = judged(states(ledger), sink.copies())
    assert set(counts) == {"accepted", "queued"}
    assert counts["accepted"] - at <= CONNECTIONS
    assert marked_after(ledger, "paused") == 0
    assert held(ledger) == 0

    resuming = asyncio.create_task(
        run_deployed(prefect, "retry-campaign/resume-campaign", {"request": {"campaign": "faults"}})
    )
    while sink.received() == counts["accepted"]:  # noqa: ASYNC110 - another process counts
        await asyncio.sleep(0.05)
    let_loose = {"campaign": "faults", "free": True}
    paced = await run_deployed(prefect, "pace-campaign", {"request": let_loose})
    resumed = await resuming

    assert paced.state.is_completed(), paced.state.message
    assert resumed.state.is_completed(), resumed.state.message
    assert judged(states(ledger), sink.copies()) == {"accepted": RECIPIENTS}
    told = campaign_history(ledger, 1)
    assert [change.said for change in told.changes] == [
        "started",
        "paused: a wrong price",
        "resumed",
        "pace: as fast as the account takes it",
        "finished",
    ]
    by_people = [change.who for change in told.changes if change.kind in {"paused", "resumed", "paced"}]
    runs = [paused.name, resumed.name, paced.name]
    assert [who.rpartition(", flow run ")[2] for who in by_people] == runs


async def test_cancelled_by_a_deployment_that_asks_whether_it_is_meant(
    ledger: Engine, sink: Sink, prefect: PrefectClient, launch
):
    crowd(ledger, RECIPIENTS)
    launched = await launch("5/s")
    while sink.received() < CONNECTIONS:  # noqa: ASYNC110 - another process counts
        await asyncio.sleep(0.05)
    by_mistake = await run_deployed(prefect, "cancel-campaign", {"request": {"campaign": "faults"}})
    assert by_mistake.state.is_failed()
    assert "was not cancelled" in by_mistake.state.message
    assert state_of(ledger) == "running"

    meant = {"campaign": "faults", "for_good": True, "because": "sold out"}
    cancelling = asyncio.create_task(run_deployed(prefect, "cancel-campaign", {"request": meant}))
    while state_of(ledger) == "running":  # noqa: ASYNC110 - another process decides
        await asyncio.sleep(0.01)
    at = sink.received()
    cancelled = await cancelling
    await finished(prefect, launched)

    assert cancelled.state.is_completed(), cancelled.state.message
    counts = judged(states(ledger), sink.copies())
    assert set(counts) == {"accepted", "cancelled"}
    assert counts["accepted"] - at <= CONNECTIONS
    assert marked_after(ledger, "cancelled") == 0
    assert held(ledger) == 0


async def test_a_form_that_holds_an_address_is_refused_before_anything_is_stored(prefect: PrefectClient):
    deployment = await prefect.read_deployment_by_name("pause-campaign/pause-campaign")
    private = {"request": {"campaign": "faults", "because": "ada@example.org asked for it"}}

    with pytest.raises(PrefectHTTPStatusError, match="409"):
        await prefect.create_flow_run_from_deployment(deployment.id, parameters=private)
