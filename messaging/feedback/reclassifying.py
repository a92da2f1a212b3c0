"""Reading again what came back, under today's rules: what is said of it changes, and what follows from it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine

from messaging.feedback.bounces import read_bounces
from messaging.feedback.evidence import Evidence
from messaging.feedback.mail import MAX_BYTES
from messaging.feedback.mail_evidence import evidence_of, kept, numbered_like, source_id, storable
from messaging.feedback.policy import RECLASSIFIED, Weight, weight
from messaging.feedback.recording import Recorded, judge_again, record
from messaging.storage import returned_mails
from messaging.storage.failing import database_errors
from messaging.storage.returned_mails import Kept
from schemas.bounces import BounceClass, Suppress
from schemas.feedback import Reclassified
from schemas.states import EventKind

_NOTHING = "nothing"


@dataclass(slots=True)
class _Page:
    """What changes of some mails, all in one transaction."""

    mails: int = 0
    evidence: list[Evidence] = field(default_factory=list)
    """What is said now and was not, or not so."""
    taken_back: list[tuple[str, str]] = field(default_factory=list)
    """Source and name of events that are no more so."""
    doubtful: set[tuple[str, str]] = field(default_factory=set)
    """Those of them that weighed otherwise than what is said now."""


def reclassify(
    engine: Engine,
    since: datetime | None = None,
    *,
    apply: bool,
    heard: Callable[[int, int], None] = lambda _done, _of: None,
) -> Reclassified:
    """Read kept mails again and return what is said of them now, in memory that their number does not change.

    Without `apply` each change is made, counted and taken back. Stopped, what is done is done; calling again
    does the rest.

    Args:
        engine: Of the ledger.
        since: Only mails since then.
        apply: Change the ledger.
        heard: Called with how many mails of how many are done.

    Raises:
        DatabaseError: The ledger is away.
    """
    began = time.monotonic()
    done = changed = lifted = 0
    recorded = Recorded()
    changes: dict[str, dict[str, int]] = {}
    with database_errors():
        with engine.begin() as connection:
            mails, last = returned_mails.count(connection, since)
        after = 0
        while True:
            with engine.connect() as connection, connection.begin() as transaction:
                page = returned_mails.page(connection, after, last, since)
                if not page:
                    break
                made = _reread(connection, page, changes)
                if made.taken_back or made.evidence:
                    recorded_now, lifted_now = _give_effect(connection, made)
                    recorded += recorded_now
                    lifted += lifted_now
                if not apply:
                    transaction.rollback()
            after = page[-1].id
            done += len(page)
            changed += made.mails
            heard(done, mails)
    return Reclassified(
        mails=done,
        changed=changed,
        changes=changes,
        lifted=lifted,
        suppressed=recorded.suppressed,
        applied=apply,
        seconds=round(time.monotonic() - began, 3),
    )


def _reread(connection: Connection, mails: Sequence[Kept], changes: dict[str, dict[str, int]]) -> _Page:
    """Rewrite what was found in mails; count changes, and collect what follows from them."""
    page = _Page()
    for mail in mails:
        read = read_bounces(mail.content(MAX_BYTES))
        if read.failed and mail.findings:
            continue  # a defect of ours takes nothing back
        findings = numbered_like(mail.findings, read.findings)
        before = {int(row["number"]): row for row in mail.findings}
        now = {int(row["number"]): row for row in kept(findings)}
        notes = [storable(note) for note in read.notes]
        if before == now and notes == mail.notes:
            continue
        returned_mails.rewrite(connection, mail.id, list(now.values()), notes)
        different = [n for n in sorted(before.keys() | now.keys()) if before.get(n) != now.get(n)]
        if not different:
            continue
        page.mails += 1
        for number in different:
            _count(changes, before.get(number), now.get(number))
        for number in before.keys() & different:
            name = (mail.mailbox, source_id(mail.sha256, number))
            page.taken_back.append(name)
            if _weight(before[number]) is not _weight(now.get(number)):
                page.doubtful.add(name)
        page.evidence += evidence_of(
            {n: findings[n] for n in different if n in now}, mail.mailbox, mail.sha256, mail.received_at
        )
    return page


def _give_effect(connection: Connection, page: _Page) -> tuple[Recorded, int]:
    """Replace events, and judge anew whom they were about; return what is new and how many are lifted."""
    attempts = returned_mails.take_back(connection, page.taken_back)
    recorded = record(connection, page.evidence)
    doubtful = page.doubtful & attempts.keys()
    if not doubtful:
        return recorded, 0
    sources = {source for source, _ in doubtful}
    return recorded, judge_again(connection, {attempts[name] for name in doubtful}, sources, RECLASSIFIED)


def _weight(finding: Mapping[str, Any] | None) -> Weight:
    if finding is None:
        return Weight.NOTHING
    kind, meaning = EventKind(finding["kind"]), BounceClass(finding["class"])
    return weight(kind, meaning, Suppress(finding["suppress"]))


def _count(
    changes: dict[str, dict[str, int]], before: Mapping[str, Any] | None, now: Mapping[str, Any] | None
) -> None:
    was, becomes = _words(before), _words(now)
    if was == becomes:
        becomes += " (otherwise in its details)"
    counts = changes.setdefault(was, {})
    counts[becomes] = counts.get(becomes, 0) + 1


def _words(finding: Mapping[str, Any] | None) -> str:
    return f"{finding['class']}, {finding['reason']}" if finding else _NOTHING
