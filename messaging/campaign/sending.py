"""Sending one batch: every attempt that is due, once, over the connections of one account."""

import asyncio
import contextlib
import logging
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from math import inf
from types import TracebackType
from typing import Final, Self

from sqlalchemy import Engine

from messaging.campaign.answering import answered, broken_off
from messaging.campaign.breaking import Breaker
from messaging.campaign.claiming import Claims
from messaging.campaign.clock import LedgerClock
from messaging.campaign.finding import campaign_numbered
from messaging.campaign.heartbeat import Heartbeat
from messaging.campaign.ledger import BatchLedger
from messaging.campaign.paging import DueAttempts
from messaging.campaign.quotas import Quotas
from messaging.campaign.renderers import renderer_for
from messaging.campaign.rendering import Letterhead, Recipient, RenderError
from messaging.campaign.skeleton import Attachment
from messaging.campaign.throttle import Limits
from messaging.campaign.turns import Turns
from messaging.campaign.windows import Windows
from messaging.channels.base import Message, Receipt, Sender, SenderPool
from messaging.errors import (
    AccountError,
    BrokenOff,
    CampaignStopped,
    DatabaseError,
    NotSent,
    Unknown,
    Withdrawn,
)
from messaging.feedback.refusals import Sent, record_refusals
from messaging.storage import attempts, campaigns, installation
from messaging.storage.attempts import Answer, Attempt, Mark
from messaging.storage.batches import Lease
from messaging.storage.failing import database_errors, through_outage
from messaging.storage.link_keys import newest_key
from messaging.storage.totals import of_batch
from schemas.accounts import channel_of
from schemas.report import BatchReport, Totals
from schemas.states import AttemptState, Channel

_log = logging.getLogger(__name__)

UNANSWERED_IN_A_ROW: Final = 20
BROKEN_OFF_IN_A_ROW: Final = 5
FIRST_PAUSE: Final = 0.1  # seconds, for a connection after a failure; doubles until the account is stopped
GRACE_SECONDS: Final = 7.0  # for messages in flight when we are told to stop; docker stop grants 10


class CampaignRun:
    """One campaign being sent by this process, for `async with`: renderer, limits, connections."""

    def __init__(  # noqa: PLR0913 - what an account says of itself comes one by one
        self,
        engine: Engine,
        campaign_id: int,
        account_sender: str,
        pool: SenderPool,
        leg: int = 0,
        *,
        return_path: str = "",
    ) -> None:
        """Compile the campaign's templates once for all batches of a leg, which is an account's place.

        Raises:
            InputError: There is no such campaign, its templates do not compile, the account's sender or
                return path cannot be used, or the ledger is a copy.
        """
        asked = time.monotonic()
        campaign = campaign_numbered(engine, campaign_id)
        self.clock = LedgerClock()
        self.clock.observe(asked, campaign.read_at.timestamp(), time.monotonic())
        self.windows = Windows.of(campaign.spec)
        self.engine = engine
        self.campaign_id = campaign_id
        self.leg = leg
        self.deadline = campaign.deadline
        self.pool = pool
        with engine.begin() as connection:
            installation.refuse_copy(connection)
            files = [Attachment(*file) for file in campaigns.attachments(connection, campaign_id)]
            letterhead = Letterhead(account_sender, newest_key(connection), return_path)
        account = campaign.spec.accounts[leg]
        self.is_last_by_email = Channel.EMAIL in {channel_of(account)} - {
            channel_of(later) for later in campaign.spec.accounts[leg + 1 :]
        }
        """Whether an e-mail address that this account does not reach is tried on no other."""
        self.renderer = renderer_for(account, campaign.spec, campaign_id, letterhead, files)
        self.limits = Limits(engine, campaign_id, account)
        self.heartbeat = Heartbeat(engine, account, pool)
        self._quotas = Quotas(engine, campaign_id, account, pool, self.heartbeat.stopped)
        self._open = AsyncExitStack()
        self.breaker = Breaker()
        self.claims = Claims(engine, campaign_id, leg)
        self.taken_back: set[int] = set()
        """Attempts whose refusal turned out to be about us."""
        self.halted = False
        """Whether the campaign was stopped, so that no further batch need be tried."""
        self._failing_since: float | None = None
        self._failed_at = 0.0
        self._broken_off = 0  # messages in a row
        self._unanswered = 0  # messages in a row

    async def __aenter__(self) -> Self:
        """Start to tell how the account is, and follow the limits.

        Raises:
            AccountError: The account cannot go on; the campaign is paused.
            DatabaseError: The ledger stayed away.
        """
        async with AsyncExitStack() as opening:
            for part in (self.heartbeat, self._quotas, self.limits):
                await opening.enter_async_context(part)
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give unused permits back, and queue again whoever was refused for our own fault."""
        try:
            await self._open.__aexit__(kind, error, trace)
        finally:
            if self.taken_back:
                await asyncio.to_thread(self._take_back)

    def _take_back(self) -> None:
        # Here, when all batches have ended: refusals of several may belong to one streak.
        with database_errors(), self.engine.begin() as connection:
            attempts.take_back(connection, self.campaign_id, sorted(self.taken_back))

    @property
    def is_failing(self) -> bool:
        """Whether the last that was heard of the server was a failure."""
        return self._failing_since is not None

    @property
    def failing_for(self) -> float:
        """Seconds from the first failure to the last, with no answer between; 0 when the server answers."""
        return self._failed_at - self._failing_since if self._failing_since is not None else 0.0

    def seconds_left(self) -> float | None:
        """Return the seconds until the campaign's deadline; None when it has none."""
        return self.deadline.timestamp() - self.clock.now() if self.deadline else None

    @property
    def is_over(self) -> bool:
        """Whether the campaign's deadline has passed."""
        return self.deadline is not None and self.deadline.timestamp() <= self.clock.now()

    def closes_in(self, lease: Lease) -> float:
        """Return the seconds until quiet hours begin for a batch: none within them, infinite without any.

        Told by the lease, as whoever found the batch open saw the ledger's clock no later.
        """
        taken_at = lease.taken_at
        closes_at = self.windows.closes_at(taken_at, lease.time_zone) if taken_at is not None else None
        if taken_at is None or closes_at is None:
            return inf
        return (closes_at - taken_at).total_seconds() - (time.monotonic() - lease.heard_at)

    def failed(self, error: NotSent) -> None:
        """Note trouble with the connection, which may stop the account for a while."""
        if isinstance(error, BrokenOff):
            # One message may be more than the server can bear; several in a row say that it is the server.
            self._broken_off += 1
            if self._broken_off < BROKEN_OFF_IN_A_ROW:
                return
            error = NotSent(str(error))
        self._failed_at = time.monotonic()
        self._failing_since = self._failing_since or self._failed_at
        self.limits.failed(error)

    def unanswered(self, error: Unknown) -> None:
        """Note a message without an answer.

        Raises:
            AccountError: There were many in a row: each further one could be another unknown.
        """
        self.failed(NotSent(str(error)))
        self._unanswered += 1
        if self._unanswered >= UNANSWERED_IN_A_ROW:
            raise AccountError(
                f"{self._unanswered} messages in a row were taken without an answer: see what the server has "
                "of them, then outflow resolve, and outflow resume"
            )

    def heard(self, group: str, receipt: Receipt) -> None:
        """Note an answer: the server is there, and may ask us to go slower."""
        self._unanswered = self._broken_off = 0
        self._failing_since = None
        self.limits.answered(group, receipt)


async def send_batch(run: CampaignRun, number: int) -> BatchReport:
    """Send what is due of one batch and return its figures.

    Cancelled, it lets messages in flight finish for some seconds, so that their answers are known.

    Raises:
        AccountError: The account cannot go on; the campaign is paused and who is left stays queued.
        LeaseLost: Another process took the batch; calling again is safe.
        DatabaseError: The ledger went away; calling again is safe.
    """
    lease = await run.claims.take(number)
    if lease is None:
        _log.info("batch %d is held by another process, or nothing of it is due", number)
        return BatchReport(number=number, claimed=False)
    async with BatchLedger(run.engine, lease) as ledger, DueAttempts(run.engine, lease.batch_id) as due:
        sending = _BatchSending(run, ledger, due)
        closes_in = run.closes_in(lease)
        if lease.running and closes_in > 0:
            await sending.finish(closes_in)
    spared = run.taken_back | run.breaker.pending  # here, as the other batch changes them on this loop
    await through_outage(partial(_record_refusals, run, lease, sending.unreachable, spared))
    totals = await asyncio.to_thread(_totals, run, number)
    _log.info(
        "batch %d: %d answers now; of %d recipients %d accepted, %d rejected, %d unknown, %d left",
        number,
        sending.answers,
        totals.planned,
        totals.accepted,
        totals.rejected,
        totals.unknown,
        totals.unfinished,
    )
    return BatchReport(number=number, claimed=True, answers=sending.answers, totals=totals)


def _record_refusals(
    run: CampaignRun, lease: Lease, unreachable: dict[int, Answer], spared: set[int]
) -> None:
    sent = Sent(
        campaign_id=run.campaign_id,
        batch_id=lease.batch_id,
        leg=run.leg,
        is_final=run.is_last_by_email,
        unreachable=unreachable,
        spared=spared,
    )
    with run.engine.begin() as connection:
        recorded = record_refusals(connection, sent)
    if recorded.paused:
        run.halted = True
        _log.warning("campaign %d is paused: too much of it comes back", run.campaign_id)


def _totals(run: CampaignRun, number: int) -> Totals:
    with run.engine.begin() as connection:
        return of_batch(connection, run.campaign_id, number)


@dataclass(slots=True)
class _Parcel:
    """One attempt with its message made."""

    attempt: Attempt
    group: str
    message: Message
    mark: Mark


class _BatchSending:
    """The workers of one batch, one per connection, and what they share."""

    def __init__(self, run: CampaignRun, ledger: BatchLedger, due: DueAttempts) -> None:
        self._run = run
        self._ledger = ledger
        self._stopping = asyncio.Event()
        self._turns = Turns(due, run.limits, ledger, self._stopping)
        self._failure: Exception | None = None
        self.answers = 0
        self.unreachable: dict[int, Answer] = {}

    async def finish(self, closes_in: float = inf) -> None:
        """Work until nothing is due, quiet hours begin, one worker fails, or we are cancelled.

        After `closes_in` seconds each connection ends the message it is at, and begins no other.
        """
        workers = [asyncio.create_task(self._work()) for _ in range(self._run.pool.connections)]
        watch = asyncio.create_task(self._stop_with_the_ledger())
        closing = None
        if closes_in < inf:
            closing = asyncio.get_running_loop().call_later(closes_in, self._stopping.set)
        try:
            await asyncio.wait(workers)
        finally:
            watch.cancel()
            if closing is not None:
                closing.cancel()
            # Cancelled: let the messages in flight have their answers, unless we are told twice.
            self._stopping.set()
            try:
                await asyncio.wait(workers, timeout=GRACE_SECONDS)
            finally:
                for worker in workers:
                    worker.cancel()
        if self._failure is not None:
            raise self._failure

    async def _work(self) -> None:
        # A failure stops all workers, each after the message it is at: a cancelled transaction would be
        # an unknown.
        try:
            await self._send_while_due()
        except CampaignStopped:
            self._run.halted = True
            self._stopping.set()
        except AccountError as failure:
            self._run.halted = True
            self._run.heartbeat.stopped(str(failure))
            self._fail(failure)
            with contextlib.suppress(DatabaseError):  # then the others stop as well, each by its own failure
                await asyncio.to_thread(self._pause, str(failure))
        except Exception as failure:  # noqa: BLE001 - told to the caller by `finish`
            self._fail(failure)

    async def _stop_with_the_ledger(self) -> None:
        # Whoever waits for a limit marks nothing, and would not hear that the lease or the database is gone.
        await self._ledger.failed.wait()
        self._stopping.set()

    def _fail(self, failure: Exception) -> None:
        self._failure = self._failure or failure
        self._stopping.set()

    def _pause(self, reason: str) -> None:
        with database_errors(), self._run.engine.begin() as connection:
            campaigns.pause(connection, self._run.campaign_id, reason)

    async def _send_while_due(self) -> None:
        failures = 0  # in a row
        async with self._run.pool.sender() as sender:
            parcel = await self._next()
            while parcel is not None:
                # Whoever may go next is announced with this one: a round trip less for each message.
                following = self._ready()
                try:
                    await self._send(parcel, following, sender)
                    failures = 0
                except NotSent as error:
                    if error.throttle is not None:
                        self._run.limits.slow_down(parcel.group, error.throttle)
                    self._run.failed(error)
                    failures += 1
                    await self._wait(FIRST_PAUSE * 2 ** min(failures, 4))
                except BaseException:
                    self._give_back(following)
                    raise
                if following is not None and self._stopping.is_set():
                    self._give_back(following)
                    break
                parcel = following or await self._next()
            # The next batch marks on this connection: at most one attempt of it may be dispatched.
            await self._ledger.committed()

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _give_back(self, parcel: _Parcel | None) -> None:
        if parcel is not None:
            self._turns.give_back(parcel.attempt, parcel.group)

    async def _next(self) -> _Parcel | None:
        while not self._run.is_over and (turn := await self._turns.next()) is not None:
            if (parcel := self._parcel(*turn)) is not None:
                return parcel
        return None

    def _ready(self) -> _Parcel | None:
        while not self._run.is_over and (turn := self._turns.ready()) is not None:
            if (parcel := self._parcel(*turn)) is not None:
                return parcel
        return None

    def _parcel(self, attempt: Attempt, group: str) -> _Parcel | None:
        """Make the message; None: this recipient's cannot be made, and is rejected alone."""
        try:
            rendered = self._run.renderer.render(
                Recipient(
                    token=attempt.token,
                    address=attempt.address,
                    name=attempt.name,
                    phone=attempt.phone,
                    attributes=attempt.attributes,
                    email=attempt.email,
                )
            )
        except RenderError as error:
            self._run.limits.give_back(group, attempt.address)
            self._record(Answer(attempt.id, AttemptState.REJECTED, reason=str(error)))
            return None
        message = Message(
            attempt.id,
            rendered.envelope_sender,
            attempt.address,
            rendered.content,
            attempt.token.hex,
            self._run.campaign_id,
        )
        return _Parcel(attempt, group, message, Mark(attempt.id, rendered.message_id))

    async def _send(self, parcel: _Parcel, following: _Parcel | None, sender: Sender) -> None:
        attempt = parcel.attempt
        dispatch = partial(self._ledger.dispatch, parcel.mark)
        try:
            receipt = await sender.send(parcel.message, dispatch, following.message if following else None)
        except Withdrawn:  # the ledger has noted why
            self._run.limits.connected()
            return
        except BrokenOff as error:
            self._record(broken_off(attempt, error))
            raise
        except Unknown as error:
            self._record(Answer(attempt.id, AttemptState.UNKNOWN, reason=f"no answer: {error}"))
            self._run.unanswered(error)
        except (NotSent, AccountError):
            self._ledger.record(Answer(attempt.id, AttemptState.QUEUED, wait=1.0))
            raise
        else:
            self._run.heard(parcel.group, receipt)
            self._record(answered(attempt, receipt, self._run.seconds_left()))
            if alike := self._run.breaker.trips(parcel.group, attempt.id, receipt):
                self._refused_alike(alike, receipt)

    def _refused_alike(self, attempt_ids: list[int], receipt: Receipt) -> None:
        """Take back refusals that are about us.

        Raises:
            AccountError: Always.
        """
        self._run.taken_back.update(attempt_ids)  # some may be another batch's
        for attempt_id in attempt_ids:
            self._ledger.record(Answer(attempt_id, AttemptState.QUEUED))
        said = " ".join(filter(None, (str(receipt.code), receipt.status)))
        raise AccountError(
            f"the server refuses everyone alike ({said}): mend the account or the message; "
            "nobody was rejected for it"
        )

    def _record(self, answer: Answer) -> None:
        if answer.state is not AttemptState.QUEUED:
            self.answers += 1
        if answer.unreachable:
            self.unreachable[answer.attempt_id] = answer
        self._ledger.record(answer)
