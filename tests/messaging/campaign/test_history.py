"""Every change of a campaign is kept with its time, who decided and why, and the changes tell its state."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, text

from messaging.campaign.approving import approve, reject
from messaging.campaign.controlling import accept_unknown, cancel, pause, set_pace
from messaging.campaign.planning import keep_campaign, plan_campaign, start_campaign
from messaging.campaign.retrying import requeue
from messaging.errors import InputError
from messaging.reports.histories import campaign_history
from messaging.reports.numbers import all_reports
from messaging.storage import attempts, campaigns
from messaging.storage.tables import metadata
from schemas.campaign import CampaignSpec, RetryRequest
from schemas.history import CampaignHistory, Change
from schemas.pacing import Pacing
from schemas.states import CampaignState

ADA = "ada on desk"
NAME = "spring-offer"
DRAFT, SCHEDULED, RUNNING, PAUSED, FINISHED, CANCELLED = CampaignState


@pytest.fixture
def history(ledger: Engine) -> Callable[[], CampaignHistory]:
    def read() -> CampaignHistory:
        with ledger.begin() as connection:
            campaign = campaigns.find(connection, NAME)
        assert campaign is not None
        return campaign_history(ledger, campaign.id)

    return read


def told(history: CampaignHistory) -> list[tuple[CampaignState | None, str, str]]:
    return [(change.state, change.who, change.said) for change in history.changes]


def put(engine: Engine, state: str, person: int) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE attempts SET state = :state WHERE id = :id"), {"state": state, "id": person}
        )


def finish(engine: Engine, campaign_id: int) -> None:
    with engine.begin() as connection:
        campaigns.finish(connection, campaign_id)


def test_a_campaign_walked_through_all_its_states_tells_each_change_with_time_actor_and_words(
    ledger: Engine, audience, spec: CampaignSpec, history
):
    audience("ada@example.org", "bo@example.org")
    begun = datetime.now(UTC)
    due_at = begun + timedelta(days=1)
    number = keep_campaign(ledger, spec.model_copy(update={"approval": True}), due_at, "cy on sofa").id
    approve(ledger, number, "looks good", ADA)
    start_campaign(ledger, number, "flow run start-campaign-1")
    pause(ledger, NAME, "a wrong price", ADA)
    requeue(ledger, RetryRequest(campaign=NAME, because="mended"), "bo on sofa")
    set_pace(ledger, NAME, Pacing(rate="50/s"), ADA, "the relay is slow")
    with ledger.begin() as connection:
        campaigns.pause(connection, number, "the account was blocked")
    put(ledger, "rejected", 1)
    put(ledger, "unknown", 2)
    finish(ledger, number)  # paused, with nobody left
    requeue(ledger, RetryRequest(campaign=NAME, states=["rejected"], limit=5, because="sorry"), ADA)
    put(ledger, "accepted", 1)
    accept_unknown(ledger, NAME, None, ADA, "seen in the log")  # with that nobody is left
    put(ledger, "rejected", 1)
    with ledger.begin() as connection:
        attempts.take_back(connection, number, [1])
    cancel(ledger, NAME, ADA, "enough")

    assert told(history()) == [
        (DRAFT, "cy on sofa", f"draft for {due_at:%F %H:%M} UTC"),
        (SCHEDULED, ADA, "approved: looks good"),
        (RUNNING, "flow run start-campaign-1", "started"),
        (PAUSED, ADA, "paused: a wrong price"),
        (RUNNING, "bo on sofa", "resumed: mended"),
        (RUNNING, ADA, "pace: at most 50/s: the relay is slow"),
        (PAUSED, "outflow", "paused: the account was blocked"),
        (FINISHED, "outflow", "finished"),
        (FINISHED, ADA, "to be sent to again: 1 rejected, at most 5: sorry"),
        (RUNNING, ADA, "running again"),
        (RUNNING, ADA, "called accepted: 1 unknown: seen in the log"),
        (FINISHED, "outflow", "finished"),
        (PAUSED, "outflow", "paused: recipients were refused for a fault of ours"),
        (CANCELLED, ADA, "cancelled: enough"),
    ]
    times = [change.at for change in history().changes]
    assert times == sorted(times)
    assert begun <= times[0]
    assert times[-1] <= datetime.now(UTC)
    assert (history().state, history().due_at) == (CANCELLED, due_at)


def test_who_fell_back_is_one_change_for_each_account(ledger: Engine, audience, spec: CampaignSpec, history):
    audience("ada@example.org", "bo@example.org", "cy@example.org")
    two = spec.model_copy(update={"fallback": ["smtp-account/relay"]})
    number = plan_campaign(ledger, two, ADA).campaign_id
    for person in (1, 2):
        put(ledger, "rejected", person)
        with ledger.begin() as connection:
            connection.execute(text("UPDATE attempts SET unreachable = state = 'rejected'"))
        finish(ledger, number)

    assert told(history()) == [
        (RUNNING, ADA, "started"),
        (
            None,
            "outflow",
            "not reached over smtp-account/main, hence tried on the next account: 2 so far",
        ),
    ]


def test_the_processes_that_sent_it_and_its_schedule_are_told(
    ledger: Engine, audience, spec: CampaignSpec, history
):
    audience("ada@example.org")
    number = plan_campaign(ledger, spec, ADA).campaign_id
    with ledger.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO schedules (name, spec) VALUES ('weekly', '{}');
                UPDATE campaigns SET schedule_id = 1, scheduled_for = '2027-03-20 09:00Z';
            """)
        )
        connection.execute(
            text("""
                INSERT INTO campaign_runs (campaign_id, owner, flow_run_id, started_at, ended_at, ended_as)
                VALUES (:id, 'desk:7', '0190f6b2-0000-7000-8000-000000000007', now(), now(), 'failed'),
                    (:id, 'sofa:8', NULL, now(), NULL, NULL)
            """),
            {"id": number},
        )

    found = history()

    assert (found.schedule, found.scheduled_for) == ("weekly", datetime(2027, 3, 20, 9, tzinfo=UTC))
    assert [(run.owner, run.flow_run_id, run.ended_as) for run in found.runs] == [
        ("desk:7", "0190f6b2-0000-7000-8000-000000000007", "failed"),
        ("sofa:8", None, None),
    ]


def test_what_runs_comes_first_then_what_waits_for_a_person_then_what_will_be_then_what_is_over(
    ledger: Engine, audience, spec: CampaignSpec
):
    audience("ada@example.org")
    now = datetime.now(UTC)

    def named(name: str, **values: object) -> CampaignSpec:
        return spec.model_copy(update={"name": name, **values})

    for name in ("over", "cancelled", "paused", "running"):
        plan_campaign(ledger, named(name), ADA)
    pause(ledger, "paused", "", ADA)
    cancel(ledger, "cancelled", ADA)
    with ledger.begin() as connection:
        connection.execute(text("UPDATE campaigns SET state = 'finished' WHERE name = 'over'"))
    keep_campaign(ledger, named("later"), now + timedelta(days=2), ADA)
    keep_campaign(ledger, named("sooner"), now + timedelta(days=1), ADA)
    keep_campaign(ledger, named("draft", approval=True), now + timedelta(days=3), ADA)

    assert [report.campaign for report in all_reports(ledger)] == [
        "running",
        "paused",
        "draft",
        "sooner",
        "later",
        "cancelled",
        "over",
    ]


class Deciding(RuleBasedStateMachine):
    """People and the sending do what they do, in any order; whatever was refused has changed nothing."""

    def __init__(self, engine: Engine, spec: CampaignSpec) -> None:
        super().__init__()
        self.engine = engine
        self.spec = spec
        self.changes: list[Change] = []

    @initialize(way=st.sampled_from(["draft", "scheduled", "at once"]))
    def begin(self, way: str) -> None:
        tables = ", ".join(table.name for table in metadata.sorted_tables)
        with self.engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
            connection.execute(
                text("""
                    INSERT INTO audiences (name) VALUES ('customers');
                    INSERT INTO contacts (email_key, email, name, consent_source)
                        VALUES ('a@b.org', 'a@b.org', 'A', 'form'), ('b@b.org', 'b@b.org', 'B', 'form');
                    INSERT INTO audience_members (audience_id, contact_id) SELECT 1, id FROM contacts
                """)
            )
        if way == "at once":
            plan_campaign(self.engine, self.spec, ADA)
        else:
            spec = self.spec.model_copy(update={"approval": way == "draft"})
            keep_campaign(self.engine, spec, datetime.now(UTC) + timedelta(days=1), ADA)

    @rule(
        decision=st.sampled_from(
            ["approve", "reject", "start", "pause", "pace", "cancel", "resume", "retry", "accept", "put off"]
        )
    )
    def decide(self, decision: str) -> None:
        decisions = {
            "approve": lambda: approve(self.engine, 1, "", ADA),
            "reject": lambda: reject(self.engine, 1, "", ADA),
            "start": lambda: start_campaign(self.engine, 1, ADA),
            "pause": lambda: pause(self.engine, NAME, "", ADA),
            "pace": lambda: set_pace(self.engine, NAME, Pacing(rate="5/s"), ADA),
            "cancel": lambda: cancel(self.engine, NAME, ADA),
            "resume": lambda: requeue(self.engine, RetryRequest(campaign=NAME), ADA),
            "retry": lambda: requeue(
                self.engine, RetryRequest(campaign=NAME, states=["rejected", "unknown"], limit=1), ADA
            ),
            "accept": lambda: accept_unknown(self.engine, NAME, None, ADA),
            "put off": lambda: keep_campaign(
                self.engine, self.spec_now(), datetime.now(UTC) + timedelta(days=2), ADA
            ),
        }
        before = self.state()
        try:
            decisions[decision]()
        except InputError:
            assert self.state() == before

    @rule(person=st.integers(1, 2), state=st.sampled_from(["accepted", "rejected", "unknown"]))
    def answer(self, person: int, state: str) -> None:
        """A sender has an answer, and looks whether it was the last."""
        if self.state() == "running":
            with self.engine.begin() as connection:
                connection.execute(
                    text("UPDATE attempts SET state = :state WHERE id = :id AND state = 'queued'"),
                    {"state": state, "id": person},
                )
            finish(self.engine, 1)

    @rule()
    def block(self) -> None:
        with self.engine.begin() as connection:
            campaigns.pause(connection, 1, "the account was blocked")

    @invariant()
    def the_changes_tell_the_state(self) -> None:
        with self.engine.begin() as connection:
            if campaigns.get(connection, 1) is None:
                return
        changes = campaign_history(self.engine, 1).changes
        assert changes[: len(self.changes)] == self.changes  # what was told stays
        self.changes = changes
        assert changes[-1].state == self.state()
        assert all(change.who and change.said for change in changes)

    def state(self) -> str:
        with self.engine.begin() as connection:
            return connection.execute(text("SELECT state FROM campaigns WHERE id = 1")).scalar_one()

    def spec_now(self) -> CampaignSpec:
        with self.engine.begin() as connection:
            campaign = campaigns.get(connection, 1)
        assert campaign is not None
        return campaign.spec


def test_whatever_is_decided_in_whatever_order_the_changes_tell_the_state(ledger: Engine, spec: CampaignSpec):
    run_state_machine_as_test(
        lambda: Deciding(ledger, spec),
        settings=settings(max_examples=25, stateful_step_count=15, deadline=None),
    )
