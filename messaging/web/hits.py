"""Opens and clicks on their way to the ledger: in memory, and on disk while the ledger is away.

A visitor waits for neither. One writer takes what has gathered, a group at least every second.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Self
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from messaging.errors import DatabaseError
from messaging.feedback.evidence import Evidence
from messaging.feedback.machines import machine_of
from messaging.feedback.recording import record
from messaging.storage import preferences
from messaging.web.journal import Journal
from messaging.web.ledger import Ledger, WorkRefused
from schemas.states import Channel, EventKind

SOURCE: Final = "web"
"""Who tells of opens, clicks and unsubscriptions."""

LONGEST_URL: Final = 2000
"""Characters of a link that are kept."""

_GROUP: Final = 1000
_GROUP_SECONDS: Final = 0.5  # between two groups; a group may take as long again
_MOST_IN_MEMORY: Final = 50_000  # some 40 MB
_MOST_A_MINUTE: Final = 30  # of one kind for one message: nobody opens a mail that often, a loop does
_MINUTE: Final = 60.0
_MOST_COUNTED: Final = 100_000  # messages
_WRITE_SECONDS: Final = 5.0
_LAST_WRITE_SECONDS: Final = 3.0  # when we are told to stop; docker stop grants 10 in all
_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 10.0

_LOOK_SECONDS: Final = 2.0
_LOOK: Final = text("SELECT 1")

_NO_CONTROLS: Final = dict.fromkeys([*range(32), 127], " ")  # PostgreSQL's JSON takes no NUL
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hit:
    """One request for a pixel or a link."""

    kind: EventKind
    token: UUID
    method: str
    agent: str = ""
    url: str = ""
    prefetched: bool = False
    """It says so itself."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    id: UUID = field(default_factory=uuid4)

    def as_line(self) -> dict[str, Any]:
        """Return it as a line of the journal."""
        return {
            "id": self.id.hex,
            "kind": self.kind,
            "token": self.token.hex,
            "at": self.at.isoformat(),
            "url": self.url,
            "agent": self.agent,
            "method": self.method,
            "prefetched": self.prefetched,
        }

    @classmethod
    def of_line(cls, line: dict[str, Any]) -> Self | None:
        """Return what a line of the journal says; None: it is none of ours."""
        try:
            return cls(
                id=UUID(line["id"]),
                kind=EventKind(line["kind"]),
                token=UUID(line["token"]),
                at=datetime.fromisoformat(line["at"]),
                url=str(line["url"]),
                agent=str(line["agent"]),
                method=str(line["method"]),
                prefetched=bool(line["prefetched"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


class Hits:
    """The hits that are not in the ledger yet, and the task that takes them there."""

    def __init__(self, ledger: Ledger, journal: Journal) -> None:
        """Begin empty; `start` begins to write."""
        self._ledger = ledger
        self._journal = journal
        self._waiting: deque[Hit] = deque()
        self._counted: Counter[tuple[EventKind, UUID]] = Counter()
        self._counted_since = 0.0
        self._lost = 0
        self._keeping = True
        self._there = True
        self._next_look = 0.0
        self._wait = _FIRST_WAIT
        self._stopping = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    def put(self, hit: Hit) -> None:
        """Keep a hit, unless it is one of too many: then it is counted as lost."""
        now = asyncio.get_running_loop().time()
        if now - self._counted_since > _MINUTE or len(self._counted) > _MOST_COUNTED:
            self._counted.clear()
            self._counted_since = now
        self._counted[hit.kind, hit.token] += 1
        if self._counted[hit.kind, hit.token] > _MOST_A_MINUTE:
            return
        if len(self._waiting) >= _MOST_IN_MEMORY:
            self._lost += 1
        else:
            self._waiting.append(hit)

    @property
    def are_kept(self) -> bool:
        """Whether the last hits reached the ledger or the disk."""
        return self._there or self._keeping

    def figures(self) -> dict[str, int]:
        """Return how many hits wait in memory, how many bytes on disk, and how many hits were lost."""
        return {"in_memory": len(self._waiting), "bytes": self._journal.size(), "lost": self._lost}

    def start(self) -> None:
        """Begin to write, with what an earlier process left on disk."""
        self._writing = asyncio.get_running_loop().create_task(self._write_on())

    async def stop(self) -> None:
        """Write what is left, to the ledger or else to disk, within some seconds."""
        self._stopping.set()
        if self._writing is not None:
            await self._writing
        if self._waiting:
            await self._write_gathered(_LAST_WRITE_SECONDS, look=self._there)
        await asyncio.to_thread(self._journal.close)

    async def _write_on(self) -> None:
        while not self._stopping.is_set():
            try:
                there = self._there or (self._now() >= self._next_look and await self._answers())
                await self._write_gathered(_WRITE_SECONDS, look=there)
                await self._replay()
            except Exception as error:  # noqa: BLE001 - whatever it was, later hits must not suffer
                _log.error("hits could not be written (%s)", type(error).__name__)
                self._away()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _GROUP_SECONDS)

    async def _answers(self) -> bool:
        try:
            await self._ledger.transaction(lambda connection: connection.execute(_LOOK), _LOOK_SECONDS)
        except DatabaseError:
            self._away()
            return False
        self._back()
        return True

    async def _write_gathered(self, seconds: float, *, look: bool) -> None:
        """Take what has gathered to the ledger, else to disk."""
        for _ in range(-(-len(self._waiting) // _GROUP)):
            group = [self._waiting.popleft() for _ in range(min(_GROUP, len(self._waiting)))]
            try:
                look = look and await self._recorded(group, seconds)
            except Exception:
                await self._keep(group)
                raise
            if not look:
                await self._keep(group)

    async def _recorded(self, group: Sequence[Hit], seconds: float = _WRITE_SECONDS) -> bool:
        try:
            await self._ledger.transaction(partial(_record, group), seconds)
        except WorkRefused:
            return False  # one of them is at fault: replaying finds out which
        except DatabaseError:
            self._away()
            return False
        self._back()
        return True

    async def _keep(self, group: Sequence[Hit]) -> None:
        try:
            await asyncio.to_thread(self._journal.append, [hit.as_line() for hit in group])
        except OSError as error:
            if self._keeping:
                _log.error("hits are lost: the journal cannot be written (%s)", type(error).__name__)
            self._lost += len(group)
            self._keeping = False
        else:
            self._keeping = True

    async def _replay(self) -> None:
        """Take what is on disk to the ledger, file by file; new hits are not kept waiting."""
        while self._there and not self._stopping.is_set():
            with self._journal.oldest() as kept:
                if kept is None:
                    return
                for lines in kept.groups(_GROUP):
                    await self._record_all([hit for line in lines if (hit := Hit.of_line(line))])
                    if not self._there or self._stopping.is_set():
                        return
                    if self._waiting:
                        await self._write_gathered(_WRITE_SECONDS, look=True)
                kept.delete()

    async def _record_all(self, group: list[Hit]) -> None:
        """Record hits; those that the ledger does not take are set aside, the others are not."""
        if not group:
            return
        try:
            await self._ledger.transaction(partial(_record, group), _WRITE_SECONDS)
        except WorkRefused:
            if len(group) == 1:
                await asyncio.to_thread(self._journal.refuse, group[0].as_line())
                return
            half = len(group) // 2
            await self._record_all(group[:half])
            await self._record_all(group[half:])
        except DatabaseError:
            self._away()

    def _away(self) -> None:
        if self._there:
            _log.warning("the ledger is away: hits are kept on disk")
        self._there = False
        self._next_look = self._now() + self._wait
        self._wait = min(2 * self._wait, _LONGEST_WAIT)

    def _back(self) -> None:
        if not self._there:
            _log.warning("the ledger is back")
        self._there = True
        self._wait = _FIRST_WAIT

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _record(group: Iterable[Hit], connection: Connection) -> None:
    hits = list(group)
    messages = preferences.sent(connection, [hit.token for hit in hits])
    record(connection, [_evidence(hit, messages.get(hit.token)) for hit in hits])


def _evidence(hit: Hit, message: preferences.Sent | None) -> Evidence:
    seconds = (hit.at - message.at).total_seconds() if message and message.at else None
    machine = machine_of(hit.agent, hit.method, seconds, prefetched=hit.prefetched)
    details = {"url": hit.url, "agent": hit.agent, "machine": machine}
    details = {name: value.translate(_NO_CONTROLS) for name, value in details.items() if value}
    return Evidence(
        kind=hit.kind,
        channel=message.channel if message else Channel.EMAIL,
        source=SOURCE,
        source_id=str(hit.id),
        occurred_at=hit.at,
        token=hit.token,
        details=details,
    )
