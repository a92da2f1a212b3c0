"""Whoever is at a limit waits, others go past, and waiting costs nothing."""

import asyncio
from types import SimpleNamespace
from uuid import UUID

import pytest

from messaging.campaign.shares import REFUSED_SECONDS
from messaging.campaign.turns import LONGEST_HOLD, Turns
from messaging.storage.attempts import Attempt
from schemas.states import AttemptState


class Due:
    """A batch in memory."""

    def __init__(self, *addresses: str) -> None:
        self._left = [
            Attempt(n, UUID(int=n), address, 0, 0, None, None, {}) for n, address in enumerate(addresses, 1)
        ]

    def ready(self) -> Attempt | None:
        return self._left.pop(0) if self._left else None

    async def next(self) -> Attempt | None:
        return self.ready()


class Allowing:
    """Limits that a test sets; the real ones have tests of their own."""

    def __init__(self) -> None:
        self.waits: dict[str, float] = {}
        self.pauses: dict[str, float] = {}
        self.closed = 0.0
        self.asked = 0
        self.counted: set[str] | None = None  # of a portfolio: whom its day has room for
        self.left_out: set[str] = set()

    def first(self, waiting) -> int | None:
        allowed = (n for n, one in enumerate(waiting) if self.counted is None or one.address in self.counted)
        return next(allowed, None)

    @property
    def refuses(self) -> bool:
        return bool(self.left_out)

    def refused(self, address: str) -> bool:
        return address in self.left_out

    def take(self, group: str, address: str) -> float:
        if self.counted is not None and address not in self.counted:
            return 0.05
        self.asked += 1
        return self.waits.get(group, 0.0)

    def give_back(self, group: str, address: str) -> None:  # noqa: ARG002 - of the real ones
        self.waits.pop(group, None)

    def closed_for(self) -> float:
        return self.closed

    def paused_for(self, group: str) -> float:
        return self.pauses.get(group, 0.0)


@pytest.fixture
def limits() -> Allowing:
    return Allowing()


def turns(limits: Allowing, *addresses: str) -> SimpleNamespace:
    recorded: list = []
    stopping = asyncio.Event()
    ledger = SimpleNamespace(record=recorded.append)
    return SimpleNamespace(
        turns=Turns(Due(*addresses), limits, ledger, stopping), recorded=recorded, stopping=stopping
    )


async def addresses_of(one: Turns) -> list[str]:
    found = []
    while (turn := await one.next()) is not None:
        found.append(turn[0].address)
    return found


async def test_without_limits_they_come_in_order(limits: Allowing):
    assert await addresses_of(turns(limits, "a@x.org", "b@y.org", "c@x.org").turns) == [
        "a@x.org",
        "b@y.org",
        "c@x.org",
    ]


async def test_others_go_past_whoever_is_at_a_limit(limits: Allowing):
    limits.waits["gmail.com"] = 0.05
    one = turns(limits, "a@gmail.com", "b@googlemail.com", "c@x.org")

    assert (await one.turns.next())[0].address == "c@x.org"
    limits.waits.clear()
    assert await addresses_of(one.turns) == ["a@gmail.com", "b@googlemail.com"]


async def test_waiting_for_a_limit_is_not_asking_all_the_time(limits: Allowing):
    limits.waits["x.org"] = 0.2
    one = turns(limits, *(f"{n}@x.org" for n in range(10)))
    waiting = [asyncio.create_task(one.turns.next()) for _ in range(8)]
    await asyncio.sleep(0.5)
    one.stopping.set()
    await asyncio.gather(*waiting)

    assert limits.asked < 200


async def test_recipients_of_a_provider_that_wants_nothing_for_long_go_back(limits: Allowing):
    limits.waits["gmail.com"] = 1.0
    limits.pauses["gmail.com"] = 2 * LONGEST_HOLD
    one = turns(limits, "a@gmail.com", "b@x.org", "c@gmail.com")

    assert await addresses_of(one.turns) == ["b@x.org"]
    assert [(a.attempt_id, a.state, a.wait) for a in one.recorded] == [
        (1, AttemptState.QUEUED, 2 * LONGEST_HOLD),
        (3, AttemptState.QUEUED, 2 * LONGEST_HOLD),
    ]


async def test_while_the_account_is_stopped_for_long_nobody_is_held(limits: Allowing):
    limits.closed = 2 * LONGEST_HOLD

    assert await addresses_of(turns(limits, "a@x.org").turns) == []


async def test_one_given_back_has_the_next_turn(limits: Allowing):
    one = turns(limits, "a@x.org", "b@x.org")
    attempt, group = await one.turns.next()
    one.turns.give_back(attempt, group)

    assert await addresses_of(one.turns) == ["a@x.org", "b@x.org"]


async def test_whom_a_day_has_room_for_goes_past_whom_it_has_none_for(limits: Allowing):
    limits.counted, limits.left_out = {"+4402", "+4404"}, {"+4401", "+4403"}
    one = turns(limits, "+4401", "+4402", "+4403", "+4404")

    assert await addresses_of(one.turns) == ["+4402", "+4404"]
    assert [(a.attempt_id, a.state, a.wait) for a in one.recorded] == [
        (1, AttemptState.QUEUED, REFUSED_SECONDS),
        (3, AttemptState.QUEUED, REFUSED_SECONDS),
    ]


async def test_whoever_is_still_asked_for_is_waited_for(limits: Allowing):
    limits.counted = set()
    one = turns(limits, "+4401")
    waiting = asyncio.create_task(one.turns.next())
    await asyncio.sleep(0.2)
    assert not waiting.done()
    limits.counted.add("+4401")

    assert (await waiting)[0].address == "+4401"
    assert one.recorded == []
