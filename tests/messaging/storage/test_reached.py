"""A portfolio's day counts each person once, whoever writes to them, and never lets more through."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import Engine, text

from messaging.storage import caps, reached
from messaging.storage.reached import Reach

KEY = "portfolio:shop"
ONE, TWO = "whatsapp-cloud-account/one", "whatsapp-cloud-account/two"
ADA, BO, CY, DI = (f"+44740000000{n}" for n in range(1, 5))
HOUR = 3600.0
DAY = 24 * HOUR


class Day:
    """One cap in the ledger, whose time a test moves."""

    def __init__(self, engine: Engine, key: str, cap: int, accounts: tuple[str, ...] = (ONE, TWO)) -> None:
        self.engine = engine
        self.key = key
        self.cap = cap
        self.accounts = accounts

    def reserve(self, *phones: str, account: str = ONE, owner: str = "a", most: int = 100) -> reached.Answer:
        with self.engine.begin() as connection:
            return reached.reserve(connection, self.key, self.cap, account, owner, phones, most)

    def give_back(self, unused: dict[str, Reach], owner: str = "a") -> None:
        with self.engine.begin() as connection:
            reached.give_back(connection, self.key, owner, unused)

    def opens(self, phone: str, account: str = ONE) -> None:
        self._run(
            "INSERT INTO service_windows VALUES (:account, :phone, clock_timestamp() + interval '24 h') "
            "ON CONFLICT (account, phone) DO UPDATE SET closes_at = excluded.closes_at",
            account=account,
            phone=phone,
        )

    def passes(self, seconds: float) -> None:
        back = {"seconds": seconds, "key": self.key, "accounts": list(self.accounts)}
        for statement in (
            # Out of the way first: minutes may move onto each other.
            "UPDATE sent_minutes SET minute = minute - interval '9 years' WHERE key = :key",
            (
                "UPDATE sent_minutes "
                "SET minute = minute + interval '9 years' - make_interval(secs => :seconds) WHERE key = :key"
            ),
            "UPDATE reached_people SET minute = minute - make_interval(secs => :seconds) WHERE key = :key",
            (
                "UPDATE service_windows SET closes_at = closes_at - make_interval(secs => :seconds) "
                "WHERE account = ANY (:accounts)"
            ),
        ):
            self._run(statement, **back)

    @property
    def used(self) -> int:
        with self.engine.begin() as connection:
            return caps.used_of_day(connection, self.key, self._now)

    @property
    def known(self) -> int:
        """Count the people whom the day counts, one by one."""
        since = caps.since_of_day(self._now)
        return self._run(
            "SELECT count(*) FROM reached_people WHERE key = :key AND minute >= to_timestamp(:since)",
            key=self.key,
            since=since,
        )

    @property
    def _now(self) -> float:
        return float(self._run("SELECT extract(epoch FROM clock_timestamp())"))

    def _run(self, statement: str, **parameters):
        with self.engine.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return result.scalar() if result.returns_rows else None


@pytest.fixture
def day(ledger: Engine) -> Callable[[int], Day]:
    return lambda cap: Day(ledger, KEY, cap)


def test_somebody_counted_takes_nothing_more_over_another_account_and_when_the_day_is_full(day):
    shop = day(2)
    assert set(shop.reserve(ADA, BO).allowed) == {ADA}  # the last ones are not dealt at once
    assert set(shop.reserve(BO).allowed) == {BO}

    answer = shop.reserve(ADA, CY, BO, account=TWO, owner="b")

    assert (set(answer.allowed), answer.refused) == ({ADA, BO}, {CY})
    assert shop.used == 2


def test_a_person_counts_for_24_hours_after_the_last_message(day):
    shop = day(1)
    shop.reserve(ADA)
    shop.passes(20 * HOUR)
    assert set(shop.reserve(ADA).allowed) == {ADA}
    shop.passes(20 * HOUR)  # after the first message a day and 16 hours, after the second 20 hours

    assert shop.reserve(BO).refused == {BO}
    shop.passes(4 * HOUR + 180)
    assert set(shop.reserve(BO).allowed) == {BO}


def test_within_a_service_window_of_the_account_nobody_is_counted(day):
    shop = day(1)
    shop.reserve(ADA)
    shop.opens(BO)

    assert set(shop.reserve(BO, CY).allowed) == {BO}
    assert shop.reserve(BO, account=TWO).refused == {BO}  # they wrote to the other number
    assert shop.used == 1
    shop.passes(DAY - 60)  # it closes within a minute
    assert shop.reserve(BO).refused == {BO}


def test_who_was_not_written_to_is_given_back(day):
    shop = day(4)
    new = shop.reserve(ADA).allowed
    shop.give_back(new)
    assert (shop.used, shop.known) == (0, 0)

    shop.reserve(ADA)
    shop.passes(10 * HOUR)
    again = shop.reserve(ADA).allowed
    assert again[ADA].before is not None
    shop.give_back(again)
    assert shop.used == 1
    shop.passes(14 * HOUR + 180)  # a day after the message that went
    assert (shop.used, shop.known) == (0, 0)


def test_nobody_gives_back_whom_another_has_reserved_too(day):
    shop = day(4)
    ours = shop.reserve(ADA).allowed
    theirs = shop.reserve(ADA, owner="b", account=TWO).allowed

    shop.give_back(ours)
    assert shop.used == 1
    shop.give_back(theirs, owner="b")
    assert shop.used == shop.known == 1  # the first might have been written to


def test_whom_no_day_counts_any_more_is_forgotten(day, ledger: Engine):
    shop = day(4)
    shop.reserve(ADA)
    shop.passes(4 * DAY)
    with ledger.begin() as connection:
        reached.forget(connection, KEY)
        assert connection.execute(text("SELECT count(*) FROM reached_people")).scalar_one() == 0


def test_processes_at_once_never_pass_the_cap(ledger: Engine):
    shop = Day(ledger, KEY, cap=40)
    phones = [f"+4474001{n:05d}" for n in range(120)]

    def work(number: int) -> set[str]:
        random, written = Random(number), set()  # noqa: S311 - a test
        for _ in range(25):
            allowed = shop.reserve(*random.sample(phones, 10), owner=str(number), most=5).allowed
            unused = dict(random.sample(sorted(allowed.items()), len(allowed) // 2))
            written |= allowed.keys() - unused.keys()
            shop.give_back(unused, owner=str(number))
        return written

    with ThreadPoolExecutor(6) as threads:
        written = set().union(*threads.map(work, range(6)))

    assert len(written) <= shop.used == shop.known <= 40
    assert len(written) >= 30  # 40, but for those who were reserved by two and used by neither


class Portfolio(RuleBasedStateMachine):
    """Processes that reserve, write, give back and crash, people who write to us, and time that passes."""

    examples = count()
    owners = st.sampled_from("abc")
    accounts = st.sampled_from([0, 1])
    phones = st.sampled_from([ADA, BO, CY, DI, "+447400000005", "+447400000006"])

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        number = next(self.examples)
        self.accounts_of_ours = tuple(f"whatsapp-cloud-account/{number}-{n}" for n in (1, 2))
        self.day = Day(engine, f"portfolio:{number}", 3, self.accounts_of_ours)
        self.ahead = 0.0  # of the real time
        self.held: dict[str, dict[str, tuple[str, Reach]]] = {}
        self.open: dict[tuple[str, str], float] = {}
        self.written: list[tuple[float, str]] = []

    @rule(
        owner=owners,
        account=accounts,
        asked=st.lists(phones, min_size=1, unique=True),
        most=st.integers(1, 4),
    )
    def reserve(self, owner: str, account: int, asked: list[str], most: int) -> None:
        held = self.held.setdefault(owner, {})
        asked = [phone for phone in asked if phone not in held]
        name = self.accounts_of_ours[account]
        answer = self.day.reserve(*asked, account=name, owner=owner, most=most)
        held.update({phone: (name, reach) for phone, reach in answer.allowed.items()})

    @rule(owner=owners, phone=phones)
    def write(self, owner: str, phone: str) -> None:
        account, reach = self.held.get(owner, {}).pop(phone, (None, None))
        if reach is None:
            return
        if self.open.get((account, phone), 0.0) <= self.now():
            self.written.append((self.now(), phone))

    @rule(owner=owners, some=st.sets(phones))
    def give_back(self, owner: str, some: set[str]) -> None:
        held = self.held.get(owner, {})
        self.day.give_back({phone: held.pop(phone)[1] for phone in some & held.keys()}, owner)

    @rule(owner=owners)
    def crash(self, owner: str) -> None:
        self.held.pop(owner, None)

    @rule(account=accounts, phone=phones)
    def writes_to_us(self, account: int, phone: str) -> None:
        name = self.accounts_of_ours[account]
        self.day.opens(phone, name)
        self.open[name, phone] = self.now() + DAY

    @rule(seconds=st.sampled_from([30.0, 59.0, 600.0, 8 * HOUR, 23 * HOUR, DAY + 120]))
    def passes(self, seconds: float) -> None:
        self.day.passes(seconds)
        self.ahead += seconds
        for owner, held in list(self.held.items()):
            moved = {phone: (account, _earlier(reach, seconds)) for phone, (account, reach) in held.items()}
            late = {phone: reach for phone, (_, reach) in moved.items() if reach.until <= time.time()}
            self.held[owner] = {phone: one for phone, one in moved.items() if phone not in late}
            self.day.give_back(late, owner)

    def now(self) -> float:
        return time.time() + self.ahead

    @invariant()
    def never_more_people_than_the_cap(self) -> None:
        day_ago = self.now() - DAY
        people = {phone for at, phone in self.written if at > day_ago}
        assert len(people) <= self.day.used == self.day.known <= self.day.cap


def _earlier(reach: Reach, seconds: float) -> Reach:
    return Reach(
        None if reach.minute is None else reach.minute - seconds,
        None if reach.before is None else reach.before - seconds,
        reach.until - seconds,
    )


def test_no_order_of_events_reaches_more_people_than_the_cap(ledger: Engine):
    run_state_machine_as_test(
        lambda: Portfolio(ledger),
        settings=settings(max_examples=60, stateful_step_count=30, deadline=None),
    )
