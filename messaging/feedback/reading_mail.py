"""Reading a mailbox: what came back becomes events, each once, whatever breaks on the way.

The order is what makes it safe: fetch without marking, record in one transaction, mark once that is
committed, note the position last. Broken off anywhere, the next reading takes up what is not marked; what it
reads a second time is known by its hash.
"""

import contextlib
import hashlib
import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from messaging.errors import MessagingError, NotSent
from messaging.feedback import mail_evidence
from messaging.feedback.bounces import read_bounces
from messaging.feedback.findings import Finding, Findings
from messaging.feedback.mail import MAX_BYTES
from messaging.feedback.mailbox import (
    Folder,
    Listed,
    MailboxSettings,
    UnreadableError,
    open_folder,
)
from messaging.feedback.progress import Progress, tracked
from messaging.feedback.recording import Recorded, record
from messaging.storage import feedback_runs, returned_mails
from messaging.storage.failing import database_errors
from messaging.storage.returned_mails import Returned
from schemas.feedback import FeedbackReport

_log = logging.getLogger(__name__)

NAPS: Final = (1.0, 2.0, 4.0)
"""Seconds to wait before each new connection in place of one that broke."""

IN_USE: Final = "it is being read by another process"

_CHUNK = 50
_CHUNK_BYTES = 8 << 20
_MOST_ASIDE = 3  # mails in a row that cannot be fetched are the server's trouble, not theirs
_SORTING_SECONDS = 60.0  # beyond its time, to find out at which of some mails the connection breaks
_MOST_TURNS = 3  # of a transaction that met another one
_MET = {"40P01", "40001"}  # deadlock, serialization failure
_NOT_ALL = "does not hand out what it has listed"


@dataclass(frozen=True, slots=True)
class _Mail:
    """A mail that was fetched and read."""

    uid: int
    digest: bytes
    content: bytes
    listed: Listed
    findings: Findings

    @property
    def matters(self) -> bool:
        """Whether it is kept; of what is no bounce nothing is."""
        return bool(self.findings) or self.findings.failed

    @property
    def numbered(self) -> Mapping[int, Finding]:
        return dict(enumerate(self.findings))


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Mails that the ledger has, and the mailbox does not know of yet."""

    uid_validity: int
    bounces: list[int]
    others: list[int]
    mails: int
    last_uid: int


@dataclass(slots=True)
class _Tally:
    """What is counted on the way."""

    seen: int = 0
    set_aside: int = 0
    recorded: Recorded = field(default_factory=Recorded)
    problem: str = ""

    def report(self, mailbox: str) -> FeedbackReport:
        return FeedbackReport(
            source=mailbox,
            seen=self.seen,
            recorded=self.recorded.recorded,
            repeated=self.recorded.repeated,
            unmatched=self.recorded.unmatched,
            suppressed=self.recorded.suppressed,
            set_aside=self.set_aside,
            kinds=dict(self.recorded.kinds),
            paused=sorted(set(self.recorded.paused)),
            problem=self.problem,
        )


def read_mailbox(  # noqa: PLR0913 - an argument per wish
    engine: Engine,
    mailbox: str,
    settings: MailboxSettings,
    *,
    again: bool = False,
    seconds: float = math.inf,
    naps: Sequence[float] = NAPS,
) -> FeedbackReport:
    """Read what is new in a mailbox, record it and mark it; return counts. Blocks.

    Args:
        engine: Of the ledger.
        mailbox: Its reference, as in imap-mailbox/bounces: the source of the events.
        settings: How to reach it.
        again: Read all that is unseen, also what was read before; nothing is recorded twice.
        seconds: After which no more is read, once anything was; the next reading goes on from there.
        naps: Seconds to wait before each new connection in place of one that broke.

    Raises:
        NotSent: The server cannot be reached; nothing was read.
        AccountError: The mailbox cannot be used as it is.
        MessagingError: It cannot be read.
        DatabaseError: The ledger is away; what is not marked is read next time.
    """
    with database_errors(), contextlib.ExitStack() as stack:
        if not _locked(stack, engine, mailbox):
            _log.warning("%s: %s", mailbox, IN_USE)
            return FeedbackReport(source=mailbox, problem=IN_USE)
        with engine.begin() as connection:
            run_id = feedback_runs.begin(connection, mailbox)
            if again:
                returned_mails.forget_positions(connection, mailbox)
        progress = stack.enter_context(tracked(mailbox))
        reading = _Reading(engine, mailbox, settings, progress, naps, time.monotonic() + seconds)
        try:
            report = reading.run()
        except Exception as error:
            said = str(error) if isinstance(error, MessagingError) else f"unexpected {type(error).__name__}"
            report = reading.report().model_copy(update={"problem": said})
            with contextlib.suppress(SQLAlchemyError), engine.begin() as connection:
                feedback_runs.finish(connection, run_id, report)
            raise
        with engine.begin() as connection:
            feedback_runs.finish(connection, run_id, report)
        _log.info(
            "%s: %d mails read, %d new events, %d known before, %d addresses suppressed, %d set aside%s",
            mailbox, report.seen, report.recorded, report.repeated, report.suppressed, report.set_aside,
            f"; {report.problem}" if report.problem else "",
        )  # fmt: skip
        return report


def _locked(stack: contextlib.ExitStack, engine: Engine, mailbox: str) -> bool:
    """Keep others from the mailbox by a connection of its own: closed, however, it lets them in."""
    connection = stack.enter_context(engine.connect().execution_options(isolation_level="AUTOCOMMIT"))
    connection.detach()
    if not returned_mails.lock(connection, mailbox):
        return False
    stack.callback(_unlock, connection, mailbox)
    return True


def _unlock(connection: Connection, mailbox: str) -> None:
    with contextlib.suppress(SQLAlchemyError):  # the connection is gone, and the lock with it
        returned_mails.unlock(connection, mailbox)


class _Reading:
    """One reading of one mailbox, over as many connections as it takes."""

    def __init__(  # noqa: PLR0913, PLR0917 - all of it belongs to one reading
        self,
        engine: Engine,
        mailbox: str,
        settings: MailboxSettings,
        progress: Progress,
        naps: Sequence[float],
        deadline: float,
    ) -> None:
        self._engine = engine
        self._mailbox = mailbox
        self._settings = settings
        self._progress = progress
        self._naps = naps
        self._deadline = deadline
        self._spare = _SORTING_SECONDS
        self._tally = _Tally()
        self._unmarked: _Recorded | None = None
        self._one_by_one_to = 0
        """Up to this UID mails are fetched alone, as one of them may be what breaks the connection."""
        self._alone: int | None = None
        """The mail that is being fetched alone."""
        self._aside: list[int] = []
        """Mails set aside since the last one that was read; not passed over for good before the next is."""
        self._passed: set[int] = set()

    def report(self) -> FeedbackReport:
        return self._tally.report(self._mailbox)

    def run(self) -> FeedbackReport:
        failures = 0
        while True:
            seen = self._tally.seen
            try:
                with open_folder(self._settings) as folder:
                    self._read(folder)
                break
            except (NotSent, UnreadableError) as error:
                failures = 0 if self._tally.seen > seen else failures
                alone, self._alone = self._alone, None
                if alone is not None and (failures >= len(self._naps) or isinstance(error, UnreadableError)):
                    self._set_aside(alone, str(error))
                    failures = 0
                    continue
                if failures >= len(self._naps) or self._is_late:
                    if not self._tally.seen:
                        raise
                    self._tally.problem = str(error)
                    break
                _log.warning("%s: %s; connecting again", self._mailbox, error)
                self._progress.go_on(after_seconds=self._naps[failures])
                failures += 1
        self._tally.set_aside += len(self._aside)
        return self.report()

    @property
    def _is_late(self) -> bool:
        """Whether the time is up; never before something was read, so that each reading gets on."""
        return self._tally.seen > 0 and time.monotonic() >= self._deadline

    def _read(self, folder: Folder) -> None:
        if self._unmarked is not None and self._unmarked.uid_validity == folder.uid_validity:
            self._mark(folder, self._unmarked)
        self._unmarked = None
        with self._engine.begin() as connection:
            position = returned_mails.position(
                connection, self._mailbox, self._settings.numbered_by, folder.uid_validity
            )
        newest = folder.newest()
        # Numbered anew, or never read: only what nobody has opened can be new.
        unseen = position is None or not self._settings.opened_too
        found = [uid for uid in folder.find(position or 0, unseen=unseen) if uid not in self._passed]
        self._progress.found = self._progress.read + len(found)
        for first in range(0, len(found), _CHUNK):
            self._progress.go_on()
            if not self._read_chunk(folder, found[first : first + _CHUNK]):
                _log.info("%s: the time is up; the next reading does the rest", self._mailbox)
                return
        if not self._aside:
            self._move_on(folder.uid_validity, max(newest, position or 0, *found[-1:]))

    def _read_chunk(self, folder: Folder, uids: list[int]) -> bool:
        """Read some mails; return whether all of them, as the time may be up."""
        alone = uids[0] <= self._one_by_one_to
        self._one_by_one_to = max(self._one_by_one_to, uids[-1])  # should it fail
        if alone:
            self._deadline, self._spare = max(self._deadline, time.monotonic() + self._spare), 0.0
        for part in self._parts(folder, uids, alone=alone):
            if self._is_late:
                self._alone = None
                return False
            contents = folder.contents({uid: listed.size for uid, listed in part.items()}, careful=alone)
            self._alone = None
            if missing := sorted(part.keys() - contents.keys()):
                if not alone:  # they may have been deleted since; one by one will tell
                    raise UnreadableError(f"{self._settings.where} {_NOT_ALL}")
                self._set_aside(missing[0], f"the server {_NOT_ALL}")
            if mails := [_mail(uid, contents[uid], part[uid]) for uid in sorted(contents)]:
                self._unmarked = self._recorded(folder.uid_validity, mails)
                self._mark(folder, self._unmarked)
                self._unmarked = None
            self._progress.read += len(part)
        if not alone:
            self._one_by_one_to = 0
        return True

    def _parts(self, folder: Folder, uids: list[int], *, alone: bool) -> Iterator[dict[int, Listed]]:
        """Yield what is fetched together; alone, each mail is asked about by itself too."""
        if not alone:
            yield from _parts(folder.listed(uids))
            return
        for uid in uids:
            self._alone = uid
            if listed := folder.listed([uid]):
                yield listed
        self._alone = None

    def _recorded(self, uid_validity: int, mails: list[_Mail]) -> _Recorded:
        """Record mails, all at once; when that fails for a reason of theirs, one by one."""
        done: list[_Mail] = []
        try:
            self._tally.recorded += self._record(mails)
            done = mails
        except Exception as error:
            if _is_away(error):
                raise
            for mail in mails:
                try:
                    self._tally.recorded += self._record([mail])
                except Exception as failure:
                    if _is_away(failure):
                        raise
                    self._set_aside(mail.uid, f"it cannot be recorded ({type(failure).__name__})")
                else:
                    done.append(mail)
        for mail in done:
            if mail.findings.failed:
                self._tally.set_aside += 1
                _log.warning("%s: mail %d: %s", self._mailbox, mail.uid, "; ".join(mail.findings.notes))
        return _Recorded(
            uid_validity,
            [mail.uid for mail in done if mail.findings],
            [mail.uid for mail in done if not mail.findings and not mail.findings.failed],
            len(done),
            max((mail.uid for mail in done), default=0),
        )

    def _record(self, mails: Iterable[_Mail]) -> Recorded:
        """Keep mails and what they say, in one transaction."""
        kept = [mail for mail in mails if mail.matters]
        if not kept:
            return Recorded()
        for turn in range(_MOST_TURNS):
            try:
                with self._engine.begin() as connection:
                    return self._recorded_in(connection, kept)
            except DBAPIError as error:
                if _sqlstate(error) not in _MET or turn + 1 == _MOST_TURNS:
                    raise
        raise AssertionError  # the last turn returns or raises

    def _recorded_in(self, connection: Connection, mails: list[_Mail]) -> Recorded:
        owners = returned_mails.keep(connection, self._mailbox, [_returned(mail) for mail in mails])
        # A mail that another mailbox has brought is known by its name: no event is there twice.
        evidence = [
            piece
            for mail in {mail.digest: mail for mail in mails}.values()
            for piece in mail_evidence.evidence_of(
                mail.numbered, owners[mail.digest], mail.digest, mail.listed.received_at
            )
        ]
        return record(connection, evidence)

    def _mark(self, folder: Folder, recorded: _Recorded) -> None:
        """Mark what the ledger has, and note how far the folder was read."""
        to_mark = sorted(recorded.bounces + (recorded.others if self._settings.mark_others else []))
        try:
            if to_mark:
                folder.mark_seen(to_mark)
            if recorded.bounces and self._settings.processed_folder:
                folder.move(recorded.bounces, self._settings.processed_folder)
        except UnreadableError as error:  # it is in the ledger, and not read again
            self._tally.problem = f"bounces were read, but not marked: {error}"
            _log.warning("%s: %s", self._mailbox, self._tally.problem)
        if recorded.last_uid:
            self._move_on(recorded.uid_validity, recorded.last_uid)
            self._tally.seen += recorded.mails
            passed = [uid for uid in self._aside if uid < recorded.last_uid]
            self._tally.set_aside += len(passed)
            self._aside = [uid for uid in self._aside if uid not in passed]

    def _move_on(self, uid_validity: int, last_uid: int) -> None:
        with self._engine.begin() as connection:
            returned_mails.move_on(
                connection, self._mailbox, self._settings.numbered_by, uid_validity, last_uid
            )

    def _set_aside(self, uid: int, why: str) -> None:
        """Leave a mail where it is and go on.

        Raises:
            MessagingError: It is one of several in a row.
        """
        _log.warning("%s: mail %d is set aside: %s", self._mailbox, uid, why)
        self._aside.append(uid)
        self._passed.add(uid)
        if len(self._aside) >= _MOST_ASIDE:
            raise MessagingError(
                f"{_MOST_ASIDE} mails in a row cannot be read, so that none is passed over: {why}"
            )


def _parts(listed: Mapping[int, Listed]) -> Iterator[dict[int, Listed]]:
    """Yield mails that are fetched together, in the order of their numbers."""
    part: dict[int, Listed] = {}
    size = 0
    for uid in sorted(listed):
        room = min(listed[uid].size, MAX_BYTES)
        if part and size + room > _CHUNK_BYTES:
            yield part
            part, size = {}, 0
        part[uid] = listed[uid]
        size += room
    if part:
        yield part


def _mail(uid: int, content: bytes, listed: Listed) -> _Mail:
    return _Mail(uid, hashlib.sha256(content).digest(), content, listed, read_bounces(content))


def _returned(mail: _Mail) -> Returned:
    return Returned(
        mail.digest,
        max(mail.listed.size, len(mail.content)),
        mail.content,
        mail_evidence.kept(mail.numbered),
        [mail_evidence.storable(note) for note in mail.findings.notes],
        mail.listed.received_at,
    )


def _is_away(error: Exception) -> bool:
    """Whether it is the database that fails, and not what it was given."""
    if isinstance(error, DataError | IntegrityError):
        return error.connection_invalidated
    return isinstance(error, DBAPIError | NoConnectionError)


def _sqlstate(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", None) or "")
