"""Whatever happens to the database, nothing is sent that it does not know of, and the sending goes on."""

import asyncio
import time
from collections import Counter

import pytest
from sqlalchemy import Engine, text

from tests.faults.cluster import Cluster
from tests.faults.crowds import in_state, judged, plan, states
from tests.faults.sink import Sink
from tests.faults.wire import CutError, wire_to_database

RECIPIENTS = 1600
MORE_RECIPIENTS = 3000
SEGMENT = 2**20  # of the log's files: their size is not to be limited


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_restarted_in_mid_batch_it_costs_nobody_an_answer(cluster: Cluster, sink: Sink, start, finish, how):
    campaign_id = plan(cluster.ledger, RECIPIENTS)
    sender = start(campaign_id, sink.port, url=cluster.url)
    for goal in (RECIPIENTS // 4, RECIPIENTS // 2):
        while sink.received() < goal and sender.alive:
            time.sleep(0.005)
        cluster.restart(how)
        cluster.ledger.dispose()
    if failure := sender.failure():  # between two batches: the task's retry is played here
        assert failure.startswith("DatabaseError")
        finish(campaign_id, sink.port, url=cluster.url)

    assert judged(states(cluster.ledger), sink.copies()) == {"accepted": RECIPIENTS}


async def test_commits_whose_answer_is_lost_are_looked_up_and_cost_nobody_a_copy(
    ledger: Engine, database_url: str, sink: Sink, start
):
    campaign_id = plan(ledger, 40)
    cuts = 0
    seen = Counter(states(ledger).values())

    async def cut_off_each_change() -> None:
        nonlocal cuts, seen
        now = Counter((await asyncio.to_thread(states, ledger)).values())
        if now != seen and cuts < 12:  # what comes back is the answer to the commit of this change
            cuts, seen = cuts + 1, now
            raise CutError

    async with wire_to_database(database_url) as (wire, url):
        wire.answering = cut_off_each_change
        sender = start(campaign_id, sink.port, 2, url)
        failure = await asyncio.to_thread(sender.failure)

    assert (failure, cuts) == ("", 12)
    assert judged(states(ledger), sink.copies()) == {"accepted": 40}


def test_with_no_room_left_on_the_disk_nothing_is_sent_until_there_is_again(
    cluster: Cluster, sink: Sink, start, finish
):
    campaign_id = plan(cluster.ledger, MORE_RECIPIENTS)
    with cluster.ledger.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        # While somebody looks at the former versions of the rows, each change needs new room.
        size = connection.execute(text("SELECT pg_relation_size('attempts')")).scalar_one()
        sender = start(campaign_id, sink.port, url=cluster.url)
        while sink.received() < MORE_RECIPIENTS // 10:
            assert sender.alive, sender.failure()
            time.sleep(0.005)
        cluster.let_files_grow_to(max(SEGMENT, size))
        stuck_at = stands_still(sink)
        queued = in_state(cluster.ledger, "queued")
    assert MORE_RECIPIENTS // 10 <= stuck_at < MORE_RECIPIENTS
    assert not sink.copies().keys() & set(queued)

    cluster.let_files_grow_to("unlimited")
    if failure := sender.failure():
        assert failure.startswith("DatabaseError")
        finish(campaign_id, sink.port, url=cluster.url)

    assert judged(states(cluster.ledger), sink.copies()) == {"accepted": MORE_RECIPIENTS}


def stands_still(sink: Sink) -> int:
    """Wait until nothing more arrives."""
    received = -1
    while received < (received := sink.received()):
        time.sleep(3)
    return received
