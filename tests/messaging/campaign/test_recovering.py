"""What should be sent goes on when its process has died, and what cannot be known is named."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from messaging.campaign import recovering
from messaging.campaign.controlling import cancel, pause
from messaging.storage import batches, campaign_runs, campaigns
from messaging.storage.batches import Lease
from schemas.states import CampaignState
from tests.faults.crowds import expire_leases, plan, states

ELSEWHERE = "elsewhere:1"


@pytest.fixture
def campaign(ledger: Engine) -> int:
    """A campaign of two batches that was started a while ago."""
    campaign_id = plan(ledger, 4, batch_size=2)
    age(ledger, "events", "received_at", 60)
    return campaign_id


def age(ledger: Engine, table: str, column: str, seconds: float) -> None:
    with ledger.begin() as connection:
        connection.execute(
            text(f"UPDATE {table} SET {column} = {column} - make_interval(secs => :seconds)"),  # noqa: S608
            {"seconds": seconds},
        )


def at_it(ledger: Engine, campaign: int, owner: str = ELSEWHERE, run: UUID | None = None) -> int:
    with ledger.begin() as connection:
        return campaign_runs.begin(connection, campaign, owner, run)


def claimed(ledger: Engine, campaign: int, number: int = 1, owner: str = ELSEWHERE) -> Lease:
    with ledger.begin() as connection:
        return batches.claim(connection, campaign, number, f"{owner}:0a1b2c3d")


def ended(ledger: Engine, campaign: int, how: str, *, times: int = 1, ago: float = 60) -> None:
    for _ in range(times):
        run = at_it(ledger, campaign)
        with ledger.begin() as connection:
            campaign_runs.end(connection, run, how)
    age(ledger, "campaign_runs", "ended_at", ago)


def state(ledger: Engine, campaign: int) -> CampaignState:
    with ledger.begin() as connection:
        return campaigns.get(connection, campaign).state


def waiting(ledger: Engine) -> list[int]:
    return [idle.campaign_id for idle in recovering.stranded(ledger)]


def alerted(ledger: Engine) -> list[tuple[str, str]]:
    with ledger.begin() as connection:
        return list(connection.execute(text("SELECT kind, said FROM alerts ORDER BY id")).tuples())


def test_a_campaign_that_nobody_is_at_goes_on(ledger: Engine, campaign: int):
    assert waiting(ledger) == [campaign]


def test_it_is_told_which_run_was_at_it_last_unless_it_was_resumed_since(ledger: Engine, campaign: int):
    run = uuid4()
    for each in (uuid4(), run):
        row = at_it(ledger, campaign, run=each)
        with ledger.begin() as connection:
            campaign_runs.end(connection, row, campaign_runs.STOPPED)
    for column in ("ended_at", "seen_at"):
        age(ledger, "campaign_runs", column, 20)
    assert [idle.flow_run_id for idle in recovering.stranded(ledger)] == [run]
    age(ledger, "events", "received_at", -40)
    for column in ("ended_at", "seen_at"):
        age(ledger, "campaign_runs", column, 20)
    assert [idle.flow_run_id for idle in recovering.stranded(ledger)] == [None]


def test_one_that_was_started_just_now_is_given_time(ledger: Engine):
    plan(ledger, 4)
    assert waiting(ledger) == []


def test_one_that_a_living_process_is_at_does_not(ledger: Engine, campaign: int):
    at_it(ledger, campaign)
    age(ledger, "campaign_runs", "seen_at", campaign_runs.DEAD_SECONDS - 5)
    assert waiting(ledger) == []
    age(ledger, "campaign_runs", "seen_at", 6)
    assert waiting(ledger) == [campaign]


def test_one_of_which_somebody_holds_a_batch_does_not(ledger: Engine, campaign: int):
    claimed(ledger, campaign)
    assert waiting(ledger) == []
    expire_leases(ledger)
    assert waiting(ledger) == [campaign]


@pytest.mark.usefixtures("campaign")
def test_one_that_is_paused_does_not(ledger: Engine):
    pause(ledger, "faults", "", "Ada")
    assert waiting(ledger) == []


@pytest.mark.usefixtures("campaign")
def test_what_an_older_version_left_behind_does_not_go_on_by_itself(ledger: Engine):
    with ledger.begin() as connection:
        connection.execute(text("DELETE FROM events"))
    assert waiting(ledger) == []


def test_one_whose_last_answer_came_and_nothing_more_is_finished(ledger: Engine, campaign: int):
    with ledger.begin() as connection:
        connection.execute(text("UPDATE attempts SET state = 'accepted'"))
    assert waiting(ledger) == []
    assert state(ledger, campaign) is CampaignState.FINISHED


@pytest.mark.parametrize("how", [campaign_runs.FAILED, campaign_runs.VANISHED])
def test_what_fails_again_and_again_waits_longer_each_time(ledger: Engine, campaign: int, how: str):
    ended(ledger, campaign, how, times=3, ago=20)
    age(ledger, "campaign_runs", "seen_at", 20)
    assert waiting(ledger) == [campaign]
    ended(ledger, campaign, how, ago=20)
    age(ledger, "campaign_runs", "seen_at", 20)
    assert waiting(ledger) == []
    age(ledger, "campaign_runs", "ended_at", 60)
    age(ledger, "campaign_runs", "seen_at", 60)
    assert waiting(ledger) == [campaign]


def test_without_a_deadline_a_campaign_that_was_left_for_hours_waits_for_a_person(
    ledger: Engine, campaign: int
):
    age(ledger, "events", "received_at", 5 * 3600)
    assert waiting(ledger) == []
    assert state(ledger, campaign) is CampaignState.PAUSED
    [(kind, said)] = alerted(ledger)
    assert kind == "paused"
    assert "nobody was at it for 5 hours" in said


def test_with_a_deadline_that_decides(ledger: Engine):
    campaign = plan(ledger, 4, not_after="12h")
    age(ledger, "events", "received_at", 5 * 3600)
    assert waiting(ledger) == [campaign]


def test_a_process_that_vanished_is_told_of_once(ledger: Engine, campaign: int):
    run = uuid4()
    at_it(ledger, campaign, run=run)
    assert recovering.lost_processes(ledger) == []
    age(ledger, "campaign_runs", "seen_at", 20)
    [lost] = recovering.lost_processes(ledger)
    assert (lost.campaign_id, lost.owner, lost.flow_run_id) == (campaign, ELSEWHERE, run)

    recovering.give_up(ledger, lost)
    recovering.give_up(ledger, lost)

    assert recovering.lost_processes(ledger) == []
    [(kind, said)] = alerted(ledger)
    assert kind == "crashed"
    assert said.endswith("'faults': the process that sent it (elsewhere:1) vanished; it goes on by itself")


def test_a_process_that_still_holds_a_batch_has_not_vanished(ledger: Engine, campaign: int):
    at_it(ledger, campaign)
    age(ledger, "campaign_runs", "seen_at", 20)
    claimed(ledger, campaign)
    assert recovering.lost_processes(ledger) == []
    expire_leases(ledger)
    assert len(recovering.lost_processes(ledger)) == 1


def test_the_batch_of_another_process_does_not_keep_it_alive(ledger: Engine, campaign: int):
    at_it(ledger, campaign)
    age(ledger, "campaign_runs", "seen_at", 20)
    claimed(ledger, campaign, owner="elsewhere:12")
    assert len(recovering.lost_processes(ledger)) == 1


def test_a_process_that_was_heard_of_meanwhile_is_let_be(ledger: Engine, campaign: int):
    run = at_it(ledger, campaign)
    age(ledger, "campaign_runs", "seen_at", 20)
    [lost] = recovering.lost_processes(ledger)
    with ledger.begin() as connection:
        campaign_runs.beat(connection, run)

    recovering.give_up(ledger, lost)

    assert waiting(ledger) == []
    assert alerted(ledger) == []


def on_its_way(ledger: Engine, campaign: int) -> None:
    """Let a process die with a message on its way."""
    claimed(ledger, campaign)
    with ledger.begin() as connection:
        connection.execute(
            text("UPDATE attempts SET state = 'dispatched' WHERE id = (SELECT min(id) FROM attempts)")
        )


@pytest.mark.parametrize("control", [pause, cancel], ids=["paused", "cancelled"])
def test_what_the_dead_left_on_its_way_becomes_unknown(ledger: Engine, campaign: int, control):
    on_its_way(ledger, campaign)
    control(ledger, "faults", *([""] if control is pause else []), "Ada")
    assert recovering.settle(ledger) == 0  # the lease is alive
    assert "dispatched" in states(ledger).values()
    expire_leases(ledger)

    assert recovering.settle(ledger) == 1
    assert recovering.settle(ledger) == 0

    rest = {"queued"} if control is pause else {"cancelled"}
    assert set(states(ledger).values()) == {"unknown"} | rest
    assert sorted(states(ledger).values()).count("unknown") == 1


def test_a_paused_campaign_of_which_only_that_was_left_is_finished(ledger: Engine, campaign: int):
    on_its_way(ledger, campaign)
    with ledger.begin() as connection:
        connection.execute(text("UPDATE attempts SET state = 'accepted' WHERE state = 'queued'"))
    pause(ledger, "faults", "", "Ada")
    expire_leases(ledger)

    recovering.settle(ledger)

    assert state(ledger, campaign) is CampaignState.FINISHED


def refused(ledger: Engine) -> None:
    with ledger.begin() as connection:
        connection.execute(
            text("""
                UPDATE attempts SET state = 'rejected', unreachable = true, code = 550, status = '5.1.1',
                    reply = 'no such user', answered_at = clock_timestamp()
                WHERE id = (SELECT min(id) FROM attempts)
            """)
        )


def suppressed(ledger: Engine) -> list[str]:
    with ledger.begin() as connection:
        return list(connection.execute(text("SELECT address_key FROM suppressions")).scalars())


def test_refusals_whose_sender_was_killed_are_evidence_after_all(ledger: Engine, campaign: int):
    refused(ledger)
    ended(ledger, campaign, campaign_runs.VANISHED)

    assert recovering.read_refusals(ledger).recorded == 1
    assert recovering.read_refusals(ledger).recorded == 0

    assert len(suppressed(ledger)) == 1


@pytest.mark.parametrize("case", ["done", "alive", "held", "tried elsewhere"])
def test_refusals_that_somebody_reads_or_that_say_nothing_yet_are_let_be(ledger: Engine, case: str):
    over = {"fallback": ["smtp-account/other"]} if case == "tried elsewhere" else {}
    campaign = plan(ledger, 4, batch_size=2, **over)
    refused(ledger)
    ended(ledger, campaign, campaign_runs.DONE if case == "done" else campaign_runs.VANISHED)
    if case == "alive":
        at_it(ledger, campaign)
    if case == "held":
        claimed(ledger, campaign)

    assert recovering.read_refusals(ledger).recorded == 0
    assert suppressed(ledger) == []


def test_a_cancelled_run_pauses_its_campaign_with_the_reason(ledger: Engine, campaign: int):
    assert recovering.pause_cancelled(ledger, campaign, "launch-faults")
    assert not recovering.pause_cancelled(ledger, campaign, "launch-faults")
    with ledger.begin() as connection:
        found = campaigns.get(connection, campaign)
    assert found.state is CampaignState.PAUSED
    assert found.state_reason == "flow run launch-faults was cancelled in Prefect"
