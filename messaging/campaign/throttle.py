"""The limits of one campaign in one process: asked before each message, in memory, kept in the ledger."""

import asyncio
import contextlib
import logging
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from uuid import uuid4

from sqlalchemy import Engine

from messaging.campaign.asking import (
    NEXT_FRAME_AT,
    Answer,
    Desk,
    News,
    Persons,
    Question,
    Slowed,
    capped,
    limited,
    people_key,
    together,
)
from messaging.campaign.clock import LedgerClock
from messaging.campaign.permits import FRAME_SECONDS, TICKS
from messaging.campaign.shares import People, Permits, Share
from messaging.campaign.slowing import is_about_the_group, said
from messaging.channels.base import Receipt
from messaging.errors import BrokenOff, DatabaseError, MessagingError, NotSent
from messaging.storage.attempts import Attempt
from messaging.storage.caps import Reserved
from messaging.storage.limits import account_key, domain_key
from messaging.storage.permits import Presence, Seen
from messaging.storage.throttles import Throttled
from schemas.pacing import WarmUp
from schemas.states import Outcome

T = TypeVar("T")
_log = logging.getLogger(__name__)

LONGEST_WAIT: Final = 1.0  # seconds; a limit may have changed by then
ASKING_SECONDS: Final = 0.1  # while the ledger is asked for somebody
_SHORTEST_WAIT: Final = 0.001
_USED_UP_WAIT: Final = 60.0  # before a day that is used up is looked at again
_BETWEEN_LOOKS: Final = 1.0  # while nothing is limited
_STALE_SECONDS: Final = 3.0  # a ledger that is away for longer may have new limits: nothing goes
_NAP: Final = 0.5  # after the ledger did not answer
_SHORTEST_NAP: Final = 0.05  # between two looks
_OBSERVED_SECONDS: Final = 5.0
_CLOSING_SECONDS: Final = 5.0


class Limits:
    """All that limits a campaign's messages: rates, daily caps, slow-downs, a broken account.

    `take` answers from memory; a task keeps permits ahead of need and sees changes within a second or two.
    When the ledger is away, what we have is used up and then nothing goes until it is back.
    """

    def __init__(self, engine: Engine, campaign_id: int, account: str) -> None:
        """Nothing may go before `async with`."""
        self._engine = engine
        self._owner = uuid4().hex
        self._account = account
        self._campaign_id = campaign_id
        self._clock = LedgerClock()
        self._pauses: dict[str, float] = {}
        self._rest: Permits | None = None  # None: messages of groups without a limit need no permit
        self._groups: dict[str, Permits] = {}
        self._paid: Permits | None = None  # whose permit the last `take` used
        self._caps: dict[str, int | WarmUp] = {}
        self._shares: dict[str, Share] = {}
        self._unused: list[tuple[str, Reserved]] = []  # of the caps, to be given back
        self._people: People | None = None  # whom the day of the account's portfolio has room for
        self._capped = False  # whether the account has a daily cap, of which its messages are reserved
        self._sent = 0  # else: messages that the ledger has not counted yet
        self._frame = 0
        self._fresh_until = -math.inf
        self._guarded = False  # whether there is more to ask than permits
        self._open_until: float | None = None
        self._trial_until: float | None = None  # the account is broken and one message of ours may try it
        self._tried_until: float | None = None  # of the trial that a message of ours has taken
        self._tries = False
        self._troubled = False  # the ledger has failures of our account
        self._news = News()
        self._answers: Counter[str] = Counter()
        self._observed: deque[tuple[float, Counter[str]]] = deque()
        self._next_look = 0.0
        self._wake = asyncio.Event()
        self._closing = False
        self._failure: MessagingError | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"limits-{campaign_id}")
        self._desk = Desk(engine)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Look for the first time; a ledger that is away is looked for again and again."""
        self._observed.append((monotonic(), Counter()))
        looked = asyncio.Event()
        self._task = asyncio.create_task(self._keep(looked))
        await looked.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell the ledger what is left to tell, and give back what was reserved."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_CLOSING_SECONDS)
            self._task.cancel()
        self._thread.shutdown(wait=False)

    def take(self, group: str, address: str = "") -> float:
        """Return 0.0 when a message to this address of a provider group may go now: it is counted then.

        Else the seconds until it is worth asking again; nothing is taken. The address matters to accounts
        of a portfolio.
        """
        now = monotonic()
        if now >= self._fresh_until:
            return _NAP
        if self._guarded and (wait := self._guard(now)):
            return wait
        people = self._people
        if people is not None and address not in people:
            return ASKING_SECONDS
        held = self._groups.get(group, self._rest)
        if held is not None and not self._pay(held, now):
            return self._wait(held, now)
        if people is not None:
            people.use(address)
        if self._guarded:
            self._tried_until, self._trial_until = self._trial_until, None
            for share in self._shares.values():
                share.use()
        if not self._capped:
            self._sent += 1
        return 0.0

    def closed_for(self) -> float:
        """Return the seconds for which nobody may go: the account is broken, or its day is used up.

        0.0: somebody may, each as its group's limit allows.

        Raises:
            MessagingError: What keeps the permits coming has failed.
        """
        if self._failure is not None:
            raise self._failure
        now = monotonic()
        if now >= self._fresh_until:
            return _NAP
        if self._open_until is not None and self._trial_until is None and self._open_until > now:
            return self._open_until - now
        if any(share.empty_handed and not share.left for share in self._shares.values()):
            return _USED_UP_WAIT
        return self._guard(now) if self._guarded else 0.0

    def paused_for(self, group: str) -> float:
        """Return the seconds for which the provider of this group wants nothing."""
        until = max(self._pauses.get(group, -math.inf), self._pauses.get("", -math.inf))
        return max(0.0, until - monotonic())

    def first(self, waiting: Collection[Attempt]) -> int | None:
        """Return the place of the first whom the day of the account's portfolio, if any, has room for.

        None: of nobody yet; they are asked for.
        """
        people = self._people
        if people is None:
            return 0
        place = people.first([attempt.address for attempt in waiting])
        if people.asks:
            self._wake.set()
        return place

    @property
    def refuses(self) -> bool:
        """Whether there is somebody whom the day of the account's portfolio has no room for."""
        return self._people is not None and self._people.refuses

    def refused(self, address: str) -> bool:
        """Say, once, whether the day of the account's portfolio has no room for somebody."""
        return self._people is not None and self._people.refused(address)

    def give_back(self, group: str, address: str = "") -> None:
        """Undo the last `take`, which was for this address: its message did not go."""
        if self._paid is not None and (group in self._groups or self._rest is not None):
            self._paid.put_back(monotonic())
            self._paid = None
        for share in self._shares.values():
            share.put_back()
        if self._people is not None:
            self._people.put_back(address)
        if not self._capped:
            self._sent -= 1
        self._trial_until, self._tried_until = self._tried_until, None

    def answered(self, group: str, receipt: Receipt) -> None:
        """Count an answer; one that asks us to slow down slows the account or the provider group."""
        self._answers[group] += 1
        self.connected()
        if receipt.throttled and receipt.outcome is Outcome.DEFERRED:
            self.slow_down(group, receipt)

    def slow_down(self, group: str, receipt: Receipt) -> None:
        """Slow the account or the provider group down, as the answer's codes say."""
        self._slow(group if is_about_the_group(receipt) else "", receipt)

    def failed(self, error: NotSent) -> None:
        """Note that a connection could not be made or used; several in a row stop the account for a while."""
        if isinstance(error, BrokenOff):
            return  # it may be the message that the server cannot bear
        self._news.failures += 1
        self._news.reason = str(error)
        self._troubled = True
        self._wake.set()

    def connected(self) -> None:
        """Note that a connection works: the account is in order."""
        if not self._troubled and self._open_until is None:
            return
        self._troubled = False
        self._open_until = None
        self._news.connected = True
        self._news.failures = 0
        self._guarded = bool(self._shares)
        self._wake.set()

    def _guard(self, now: float) -> float:
        """Return the seconds that a broken account or a daily cap asks us to wait."""
        if self._open_until is not None and self._trial_until is None:
            self._tries = True
            return min(LONGEST_WAIT, max(_SHORTEST_WAIT, self._open_until - now, self._next_look - now))
        wait = 0.0
        for share in self._shares.values():
            if not share.left:
                wait = max(wait, LONGEST_WAIT if share.empty_handed else _SHORTEST_NAP)
                if not share.empty_handed:
                    self._wake.set()
        return wait

    def _pay(self, held: Permits, now: float) -> bool:
        if held.take(now):
            self._paid = held
            return True
        if held is self._rest:
            # Whoever may go to a limited group may go anywhere; else that permit would be lost.
            spare = next((other for other in self._groups.values() if other.take_spare(now)), None)
            self._paid = spare or self._paid
            return spare is not None
        # Its own limit is the slower one and bears that the permit is late; a general one pays the others.
        if self._rest is not None and held.has_turn(now) and self._rest.take(now):
            held.take_turn()
            self._paid = self._rest
            return True
        return False

    def _wait(self, held: Permits, now: float) -> float:
        due_at = held.due_at()
        if held is not self._rest and self._rest is not None and held.has_turn(now):
            due_at = min(due_at, self._rest.due_at())
        elif held is self._rest:
            due_at = min([due_at, *(other.due_at(spare=True) for other in self._groups.values())])
        if due_at == math.inf:
            due_at = self._next_look + _SHORTEST_NAP
            if not held.is_wished_for:
                self._wake.set()
        return min(LONGEST_WAIT, max(_SHORTEST_WAIT, due_at - now))

    def _slow(self, group: str, receipt: Receipt) -> None:
        counts = self._observe()
        total = sum(counts.values())
        part = counts[group] / total if group and total else 1.0
        before = self._news.slowed.get(group)
        waits = [before.pause if before else None, receipt.retry_after]
        pause = max((wait for wait in waits if wait is not None), default=None)
        self._news.slowed[group] = Slowed(part, pause, said(receipt))
        self._wake.set()

    def _observe(self) -> Counter[str]:
        """Return the answers of the last seconds by group."""
        now = monotonic()
        if now - self._observed[-1][0] >= FRAME_SECONDS:
            self._observed.append((now, self._answers.copy()))
        while len(self._observed) > 1 and self._observed[1][0] <= now - _OBSERVED_SECONDS:
            self._observed.popleft()
        return self._answers - self._observed[0][1]

    async def _keep(self, looked: asyncio.Event) -> None:
        try:
            while not self._closing:
                self._wake.clear()
                try:
                    await self._look()
                except DatabaseError as error:
                    _log.warning("limits: %s; nothing more goes until it answers", error)
                    self._next_look = monotonic() + _NAP
                except Exception as error:
                    # Told by whoever asks next: else everyone would wait for permits that never come.
                    self._failure = MessagingError(f"limits: unexpected {type(error).__name__}")
                    raise
                looked.set()
                await asyncio.sleep(_SHORTEST_NAP)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), max(0.0, self._next_look - monotonic()))
        finally:
            looked.set()
            with contextlib.suppress(DatabaseError):
                await self._leave()

    async def _look(self) -> None:
        now = monotonic()
        news, self._news = self._news, News()
        counts = self._observe()
        rate = sum(counts.values()) / max(1.0, now - self._observed[0][0])
        wishes = {group: held.wish(now, FRAME_SECONDS) for group, held in self._groups.items()}
        if self._rest is not None:
            wishes[""] = self._rest.wish(now, FRAME_SECONDS)
        told = self._clock.now()
        question = Question(
            presence=self._presence(wishes, rate),
            news=news,
            after=self._frame,
            wanted={key: share.wanted for key, share in self._shares.items()},
            expired=self._expired(told),
            people=self._persons(told),
            tries=self._tries,
        )
        try:
            answer = await self._in_thread(self._desk.ask, question)
        except BaseException:
            self._news = together(news, self._news)
            raise
        self._sent -= question.presence.sent
        self._heed(answer)

    def _heed(self, answer: Answer) -> None:
        seen = answer.seen
        self._clock.observe(answer.asked, seen.now, answer.answered)
        self._fresh_until = answer.asked + _STALE_SECONDS
        self._heed_limits(seen)
        self._heed_breaker(seen.throttled.get(account_key(self._account)))
        given_back = {key for key, _ in self._unused}
        for key, reserved in answer.reserved.items():
            if reserved.n or key not in given_back:  # else there may be some left when ours are back
                self._shares[key].add(reserved)
        if self._people is not None:
            self._people.hear(answer.people, monotonic())
        for frame in sorted(answer.permits):
            self._frame = frame
            for group, told in answer.permits[frame].items():
                held = self._groups.get(group) if group else self._rest
                if held is not None:
                    begin = self._clock.local(frame * FRAME_SECONDS)
                    held.add([begin + at / TICKS for at in told["at"]], told["late"], told["own_late"])
        self._hold(seen)
        self._guarded = self._open_until is not None or bool(self._shares)
        if self._rest is None and not self._groups:
            self._next_look = answer.answered + _BETWEEN_LOOKS
        else:
            frame = math.floor(seen.now / FRAME_SECONDS + 1 - NEXT_FRAME_AT)
            self._next_look = self._clock.local((frame + NEXT_FRAME_AT) * FRAME_SECONDS) + _apart()

    def _heed_limits(self, seen: Seen) -> None:
        everyone, groups = limited(seen, self._account)
        if not everyone:
            self._rest = None
        elif self._rest is None:
            self._rest = Permits(asked_at=monotonic())
            self._wake.set()
        self._groups = {group: self._groups.get(group) or Permits() for group in groups}
        self._heed_caps(capped(seen, self._account, self._campaign_id))
        self._capped = account_key(self._account) in self._shares
        key = people_key(seen, self._account)
        if key is None:
            self._people = None
        elif self._people is None or self._people.key != key:
            self._people = People(key)

    def _heed_caps(self, caps: dict[str, int | WarmUp]) -> None:
        # What was reserved of a cap goes back when the cap is another one: a lower one holds at once.
        for key, share in self._shares.items():
            if caps.get(key) != self._caps.get(key):
                self._unused += [(key, part) for part in share.expired(math.inf)]
                self._wake.set()
        self._caps = caps
        self._shares = {key: self._shares.get(key) or Share() for key in caps}

    def _heed_breaker(self, throttled: Throttled | None) -> None:
        if self._news.connected:
            return  # the ledger does not know yet
        self._open_until = self._trial_until = None
        self._troubled = self._news.failures > 0
        self._tries = False
        if throttled is None:
            return
        self._troubled = self._troubled or throttled.failures > 0
        if throttled.open_until is not None:
            self._open_until = self._clock.local(throttled.open_until)
            if throttled.trial_owner == self._owner and throttled.trial_until != self._tried_until:
                self._trial_until = throttled.trial_until

    def _hold(self, seen: Seen) -> None:
        """Drop the permits of a time in which the provider wants nothing."""
        account = seen.throttled.get(account_key(self._account))
        self._pauses.clear()
        for group, held in [*self._groups.items(), ("", self._rest)]:
            throttled = seen.throttled.get(domain_key(self._account, group)) if group else None
            pauses = [t.pause_until for t in (account, throttled) if t is not None and t.pause_until]
            if held is not None and pauses:
                held.hold(self._clock.local(max(pauses)))
                self._pauses[group] = self._clock.local(max(pauses))

    async def _leave(self) -> None:
        parts, people = self._expired(math.inf), self._persons(math.inf)
        await self._in_thread(self._desk.leave, self._presence({}, 0.0), self._news, parts, people)

    def _expired(self, told: float) -> list[tuple[str, Reserved]]:
        parts = [(key, part) for key, share in self._shares.items() for part in share.expired(told)]
        parts += self._unused
        self._unused = []
        return sorted(parts, key=lambda named: (named[0], named[1].minute))  # rows are locked in one order

    def _persons(self, told: float) -> Persons | None:
        people = self._people
        if people is None:
            return None
        return Persons(people.key, people.expired(told), people.asked(), people.wanted)

    def _presence(self, wishes: dict[str, int | None], rate: float) -> Presence:
        # Fewer than none: one was given back after the ledger had counted it.
        return Presence(self._owner, self._account, self._campaign_id, wishes, rate, max(0, self._sent))

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401 - passed on
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _apart() -> float:
    """Return some milliseconds, so that one process deals and the others find what it dealt."""
    return random.uniform(0.0, 0.04)  # noqa: S311 - spread, not secrecy
