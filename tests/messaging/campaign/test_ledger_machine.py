"""Whatever happens in whatever order, nobody gets a second copy and every recipient's state is true.

A state machine drives the real ledger the way senders, crashes and people do; a small model counts the copies
that a server would have stored.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, text

from messaging.campaign.ledger import BatchLedger
from messaging.errors import CampaignStopped, LeaseLost, Withdrawn
from messaging.storage import attempts, batches, campaigns, plans
from messaging.storage.attempts import Answer, Mark
from messaging.storage.batches import Lease
from messaging.storage.tables import metadata
from schemas.campaign import CampaignSpec, RetryRequest
from schemas.states import AttemptState

PEOPLE = 6
CONNECTIONS = 2  # of each sender
PER_BATCH = 3  # as planned; each who falls back to the other account may be in a batch of their own
FATES = {  # what the server does with a message handed over: copies it stores, and what we hear of it
    "accepted": (1, AttemptState.ACCEPTED),
    "rejected": (0, AttemptState.REJECTED),
    "nobody there": (0, AttemptState.REJECTED),
    "deferred": (0, AttemptState.QUEUED),
    "silent, stored": (1, AttemptState.UNKNOWN),
    "silent, dropped": (0, AttemptState.UNKNOWN),
}

numbers = st.sampled_from([1, 2, 1, 2, 1, 2, 3, 4])  # of batches; the last two may be made by falling back
people = st.integers(1, PEOPLE)
fates = st.sampled_from(sorted(FATES))
picks = st.integers(0, 9)


@dataclass
class OneSender:
    """A process that sends a batch, and what its connections have in flight: attempt -> fate."""

    lease: Lease
    ledger: BatchLedger
    tasks: set[asyncio.Task]
    flying: dict[int, str] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    cut_off: bool = False  # another process has taken the batch


class Sending(RuleBasedStateMachine):
    def __init__(self, engine: Engine, spec: CampaignSpec) -> None:
        super().__init__()
        self.engine = engine
        self.spec = spec
        self.loop = asyncio.new_event_loop()
        self.senders: list[OneSender] = []
        self.claims = 0
        self.state = "running"
        self.withdrawn: set[int] = set()
        self.copies: Counter[int] = Counter()
        self.allowed: Counter[int] = Counter()  # copies that a person asked for on top of the first

    @initialize()
    def plan(self) -> None:
        tables = ", ".join(table.name for table in metadata.sorted_tables)
        self.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")
        self.execute("INSERT INTO audiences (name) VALUES ('customers')")
        self.execute(
            "INSERT INTO contacts (email_key, email, consent_source) "
            "SELECT k, k, 'form' FROM (SELECT n || '@example.org' AS k FROM generate_series(1, :n) n)",
            n=PEOPLE,
        )
        self.execute("INSERT INTO audience_members (audience_id, contact_id) SELECT 1, id FROM contacts")
        self.launch()

    @rule()
    def launch(self) -> None:
        """A first launch plans; a later one finds the plan and lets the campaign run on."""
        with self.engine.begin() as connection:
            if campaigns.add(connection, self.spec, 1) is not None:
                plans.plan(connection, 1, PER_BATCH, 200)
                campaigns.start(connection, campaigns.lock(connection, 1), "ada")
            elif self.state in {"running", "paused"}:  # else planning refuses, or leaves it
                campaigns.resume(connection, campaigns.lock(connection, 1), self.spec, "ada")
                self.state = "running"

    @rule(number=numbers)
    def claim(self, number: int) -> None:
        held = [sender for sender in self.senders if sender.lease.batch_id == number and not sender.cut_off]
        before = self.states()
        free = self.execute(
            "SELECT lease_owner IS NULL OR lease_expires_at < clock_timestamp() FROM batches WHERE id = :id",
            id=number,
        )
        self.claims += 1
        with self.engine.begin() as connection:
            lease = batches.claim(connection, 1, number, f"owner-{self.claims}")
        if lease is None:
            return
        assert free
        after = self.states()
        assert sum(after[n] == "unknown" != before[n] for n in after) <= CONNECTIONS
        for sender in held:
            sender.cut_off = True
        tasks = asyncio.all_tasks(self.loop)
        ledger = BatchLedger(self.engine, lease)
        self.loop.run_until_complete(ledger.__aenter__())
        self.senders.append(OneSender(lease, ledger, asyncio.all_tasks(self.loop) - tasks))

    @precondition(lambda self: self.senders)
    @rule(pick=picks, ids=st.lists(people, min_size=1, max_size=CONNECTIONS, unique=True), fate=fates)
    def send(self, pick: int, ids: list[int], fate: str) -> None:
        """Each free connection marks an attempt and hands it over."""
        sender = self.pick(pick)
        ids = [n for n in ids if n not in sender.flying][: CONNECTIONS - len(sender.flying)]
        self.run(self.hand_over(sender, ids, fate))

    @precondition(lambda self: self.senders)
    @rule(pick=picks, ids=st.lists(people, min_size=1, max_size=CONNECTIONS, unique=True), fate=fates)
    def answer_and_send(self, pick: int, ids: list[int], fate: str) -> None:
        """Each connection records its answer and marks its next attempt at once."""
        sender = self.pick(pick)
        self.record(sender)
        self.run(self.hand_over(sender, ids, fate))

    @precondition(lambda self: self.senders)
    @rule(pick=picks, pause=st.sampled_from([0, 0.003]))
    def answer(self, pick: int, pause: float) -> None:
        """Record answers; whether the round is on its way when something else happens is up to chance."""
        self.record(self.pick(pick))
        self.run(asyncio.sleep(pause))

    @precondition(lambda self: self.senders)
    @rule(pick=picks, ids=st.lists(people, min_size=1, unique=True), nobody=st.booleans())
    def refused_before_the_content(self, pick: int, ids: list[int], *, nobody: bool) -> None:
        """Envelopes were refused, answers for attempts that were never marked; then the pass has ended."""
        sender = self.pick(pick)
        for person in set(ids) - sender.taken:
            sender.ledger.record(Answer(person, AttemptState.REJECTED, code=550, unreachable=nobody))
        self.run(asyncio.wait_for(sender.ledger.committed(), timeout=30))
        self.look()

    @rule(number=numbers, ids=st.lists(people, min_size=1, unique=True))
    def nobody_is_there(self, number: int, ids: list[int]) -> None:
        """A pass over one batch at a server that knows none of them."""
        self.claim(number)
        if self.senders:
            self.refused_before_the_content(-1, ids, nobody=True)

    @precondition(lambda self: self.senders)
    @rule(pick=picks)
    def finish(self, pick: int) -> None:
        sender = self.pick(pick)
        self.record(sender)
        self.senders.remove(sender)
        try:
            self.run(sender.ledger.__aexit__(None, None, None))
        except LeaseLost:
            assert sender.cut_off

    @precondition(lambda self: self.senders)
    @rule(pick=picks)
    def crash(self, pick: int) -> None:
        """The process is gone: nothing more is written, nothing is given back."""
        sender = self.pick(pick)
        self.senders.remove(sender)
        self.kill(sender)

    @rule(number=numbers)
    def lease_expires(self, number: int) -> None:
        self.execute(
            "UPDATE batches SET lease_expires_at = clock_timestamp() - interval '1 s' "
            "WHERE id = :id AND lease_owner IS NOT NULL",
            id=number,
        )

    @rule()
    def pause(self) -> None:
        with self.engine.begin() as connection:
            campaigns.pause(connection, 1, "lunch")
        self.state = "paused" if self.state == "running" else self.state

    @rule()
    def cancel(self) -> None:
        with self.engine.begin() as connection:
            campaigns.cancel(connection, 1, "ada")
        self.state = "cancelled"

    @rule()
    def look(self) -> None:
        """What every sender does between two passes: whom the first account did not reach falls back."""
        goes_on = self.state in {"running", "paused"}
        before = self.places()
        with self.engine.begin() as connection:
            campaigns.finish(connection, 1)
            self.state = campaigns.lock(connection, 1).state
        after = self.places()
        unreached = {
            n for n, (leg, _, state, nobody) in before.items() if leg == 0 and nobody and state == "rejected"
        }
        assert {n for n in before if after[n] != before[n] and self.state != "cancelled"} == (
            unreached - self.withdrawn if goes_on else set()
        )
        for person in unreached - self.withdrawn:
            leg, batch, state, _ = after[person]
            assert not goes_on or (leg, state) == (1, "queued"), batch

    @rule(person=people)
    def suppress(self, person: int) -> None:
        self.execute(
            "INSERT INTO suppressions (channel, address_key, reason, source) "
            "VALUES ('email', :key, 'complained', 'test') ON CONFLICT DO NOTHING",
            key=f"{person}@example.org",
        )
        self.withdrawn.add(person)

    @rule(person=people)
    def unsubscribe(self, person: int) -> None:
        self.execute("UPDATE contacts SET status = 'unsubscribed' WHERE id = :id", id=person)
        self.withdrawn.add(person)

    @precondition(lambda self: self.state != "cancelled")
    @rule(states=st.sampled_from([["unknown"], ["rejected"], ["rejected", "unknown"]]))
    def requeue(self, states: list[str]) -> None:
        before = self.states()
        with self.engine.begin() as connection:
            attempts.requeue(connection, 1, RetryRequest(campaign="faults", states=states), "ada")
        after = self.states()
        for person in before:
            if after[person] == "queued" != before[person]:
                self.allowed[person] += 1

    @invariant()
    def every_recipient_has_one_true_state(self) -> None:
        if not self.copies and not self.claims:
            return
        states = self.states()
        assert sorted(states) == list(range(1, PEOPLE + 1))
        for person, state in states.items():
            assert self.copies[person] <= 1 + self.allowed[person], (person, state)
            if state == "accepted":
                assert self.copies[person] >= 1, person
            if state in {"queued", "rejected", "suppressed", "cancelled"} and not self.allowed[person]:
                assert self.copies[person] == 0, (person, state)

    def teardown(self) -> None:
        for sender in self.senders:
            self.kill(sender)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    async def hand_over(self, sender: OneSender, ids: list[int], fate: str) -> None:
        await asyncio.gather(*(self.hand_one_over(sender, person, fate) for person in ids))

    async def hand_one_over(self, sender: OneSender, person: int, fate: str) -> None:
        sender.taken.add(person)
        try:
            await asyncio.wait_for(
                sender.ledger.dispatch(Mark(person, f"<{person}@example.org>")), timeout=30
            )
        except LeaseLost:
            assert sender.cut_off
        except CampaignStopped:
            assert self.state != "running"
        except Withdrawn:
            assert (
                person in self.withdrawn
                or self.states()[person] != "queued"
                or self.elsewhere(sender, person)
            )
        else:
            assert not sender.cut_off
            assert self.state == "running"
            assert person not in self.withdrawn
            self.copies[person] += FATES[fate][0]
            sender.flying[person] = fate

    def elsewhere(self, sender: OneSender, person: int) -> bool:
        return self.places()[person][1] != sender.lease.batch_id

    def record(self, sender: OneSender) -> None:
        for person, fate in sender.flying.items():
            answer = Answer(
                person, FATES[fate][1], counts=fate == "deferred", unreachable=fate == "nobody there"
            )
            sender.ledger.record(answer)
        sender.flying.clear()

    def kill(self, sender: OneSender) -> None:
        for task in sender.tasks:
            task.cancel()
        self.run(asyncio.wait(sender.tasks))

    def pick(self, pick: int) -> OneSender:
        return self.senders[pick % len(self.senders)]

    def run(self, work) -> None:
        self.loop.run_until_complete(work)

    def states(self) -> dict[int, str]:
        return {person: state for person, (_, _, state, _) in self.places().items()}

    def places(self) -> dict[int, tuple[int, int, str, bool]]:
        """Read each one's account, batch, state and whether they were refused as unreachable."""
        statement = """
            SELECT a.id, b.leg, b.id, a.state, a.unreachable
            FROM attempts a JOIN batches b ON b.id = a.batch_id ORDER BY a.id
        """
        with self.engine.connect() as connection:
            return {person: tuple(place) for person, *place in connection.execute(text(statement))}

    def execute(self, statement: str, **parameters):
        with self.engine.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return result.scalar() if result.returns_rows else None


def test_no_order_of_events_sends_twice_or_tells_a_lie(ledger: Engine, spec: CampaignSpec):
    two = spec.model_copy(update={"fallback": ["smtp-account/relay"]})
    run_state_machine_as_test(
        lambda: Sending(ledger, two),
        settings=settings(max_examples=60, stateful_step_count=30, deadline=None),
    )
