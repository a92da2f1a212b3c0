"""What an account may send in a day holds over hosts, kills, restarts and midnights."""

import time
from collections.abc import Callable

from sqlalchemy import Engine, text

from messaging.campaign.limiting import Change, change_limits
from tests.faults.crowds import judged, plan, states
from tests.faults.sink import Sink

RECIPIENTS = 600
A_DAY = 120
ACCOUNT = "smtp-account/main"
PATIENCE = 120.0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def later(ledger: Engine, hours: int, minutes: int = 0) -> None:
    """Let hours pass for the ledger, whose clock alone counts: what it counted is that much older."""
    passed = text("""
        UPDATE sent_minutes
        SET minute = minute - make_interval(hours => :hours, mins => :minutes)
    """)
    with ledger.begin() as connection:
        connection.execute(passed, {"hours": hours, "minutes": minutes})
        connection.execute(text("UPDATE senders_status SET reason = NULL"))


def stands_still(ledger: Engine) -> bool:
    """Say whether a process has said, since time passed, that the day is used up."""
    said = text("SELECT EXISTS (SELECT FROM senders_status WHERE reason LIKE '%in 24 hours%')")
    with ledger.begin() as connection:
        return bool(connection.execute(said).scalar_one())


def test_a_days_messages_are_counted_over_hosts_kills_restarts_and_midnights(
    ledger: Engine, sink: Sink, start
):
    campaign_id = plan(ledger, RECIPIENTS, pacing={"rate": "60/s"})
    change_limits(ledger, ACCOUNT, Change(None, str(A_DAY), {}, clear=False))

    one, other = (start(campaign_id, sink.port, 4) for _ in range(2))
    wait_until(lambda: sink.received() >= A_DAY // 4)
    one.kill()
    again = start(campaign_id, sink.port, 4)
    wait_until(lambda: stands_still(ledger))
    first = sink.received()

    later(ledger, hours=23)  # whatever the time zone, a midnight is among them
    other.kill()
    restarted = start(campaign_id, sink.port, 4)
    wait_until(lambda: stands_still(ledger))
    assert sink.received() == first

    later(ledger, hours=1, minutes=3)
    wait_until(lambda: sink.received() > first + A_DAY // 2)
    wait_until(lambda: stands_still(ledger))
    second = sink.received() - first
    for process in (again, restarted):
        process.kill()
        process.wait()

    assert A_DAY // 2 < first <= A_DAY  # what the killed one had put aside for itself is lost for the day
    assert A_DAY // 2 < second <= A_DAY
    assert judged(states(ledger), sink.copies())["queued"] >= RECIPIENTS - 2 * A_DAY
