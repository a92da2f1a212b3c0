"""A limit holds across all who share it."""

import asyncio

from sqlalchemy import Engine

from messaging.campaign.throttle import Throttle
from messaging.storage import throttles


def test_permits_follow_each_other_at_the_rate_whoever_takes_them(ledger: Engine):
    with ledger.begin() as connection:
        waits = [throttles.reserve(connection, "campaign:1", rate=2.0, n=3) for _ in range(4)]
        other = throttles.reserve(connection, "campaign:2", rate=2.0, n=3)

    # Three permits at two a second: each chunk is due a second and a half after the one before.
    assert waits[0] == other == 0.0
    assert all(abs(wait - 1.5 * turn) < 0.4 for turn, wait in enumerate(waits))


def test_a_new_rate_owes_no_permits_taken_at_the_old_one(ledger: Engine):
    with ledger.begin() as connection:
        for _ in range(8):
            throttles.reserve(connection, "campaign:1", rate=1 / 3600, n=1)
        waits = [throttles.reserve(connection, "campaign:1", rate=50.0, n=1) for _ in range(2)]
        slower = throttles.reserve(connection, "campaign:1", rate=0.5, n=1)

    assert waits[0] < 0.2  # not the eight hours that were reserved
    assert 0.0 < waits[1] - waits[0] < 0.2
    assert slower < 0.2


async def test_two_processes_share_one_limit(ledger: Engine):
    throttles_of_processes = [Throttle(ledger, "campaign:1", 20.0) for _ in range(2)]

    delays = await asyncio.gather(
        *(throttle.reserve() for throttle in throttles_of_processes for _ in range(20))
    )

    # Forty permits at twenty a second end no earlier than 39 intervals after the first.
    assert max(delays) - min(delays) >= 39 / 20 - 0.2
    assert len({round(delay, 2) for delay in delays}) > 30  # spread evenly, not in bursts


async def test_without_a_rate_nobody_waits(ledger: Engine):
    assert await Throttle(ledger, "campaign:1", None).reserve() == 0.0
