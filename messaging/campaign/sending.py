"""Sending one batch: every attempt that is due, once, over the connections of one account."""

import asyncio
import contextlib
import logging
import os
import platform
import random
from collections.abc import AsyncIterator
from functools import partial
from typing import Final
from uuid import uuid4

from sqlalchemy import Engine

from messaging.campaign.breaking import Breaker
from messaging.campaign.finding import campaign_numbered
from messaging.campaign.ledger import BatchLedger
from messaging.campaign.rendering import Recipient, Renderer, RenderError
from messaging.campaign.throttle import Throttle
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
from messaging.settings import settings
from messaging.storage import attempts, batches, campaigns
from messaging.storage.attempts import Answer, Attempt, Mark
from messaging.storage.batches import Lease
from messaging.storage.failing import database_errors
from messaging.storage.totals import by_batch
from schemas.report import BatchReport, Totals
from schemas.states import AttemptState, Outcome

_log = logging.getLogger(__name__)

MOST_TRIES: Final = 5  # definite "not now" answers before we give up on a recipient
MOST_TRIES_THROTTLED: Final = 30  # about a day, when the "not now" is not about the recipient
FIRST_WAIT: Final = 60.0  # seconds; doubles with each try, unless the provider names a wait
FIRST_WAIT_BROKEN_OFF: Final = 2.0  # seconds; four times as long with each try
LONGEST_WAIT: Final = 3600.0
FAILURES_IN_A_ROW: Final = 3  # connections of one worker that hand nothing over before the batch gives up
GRACE_SECONDS: Final = 8.0  # for messages in flight when we are told to stop; docker stop grants 10
_PAGE: Final = 500  # attempts fetched at once


class CampaignRun:
    """One campaign being sent by this process: its renderer, its limit, its connections."""

    def __init__(self, engine: Engine, campaign_id: int, account_sender: str, pool: SenderPool) -> None:
        """Compile the campaign's templates once for all its batches.

        Raises:
            InputError: There is no such campaign, or its templates do not compile.
        """
        campaign = campaign_numbered(engine, campaign_id)
        self.engine = engine
        self.campaign_id = campaign_id
        self.pool = pool
        self.renderer = Renderer(campaign.spec, campaign_id, account_sender, settings().public_url)
        self.throttle = Throttle(engine, f"campaign:{campaign_id}", campaign.spec.pacing.per_second)


async def send_batch(run: CampaignRun, number: int) -> BatchReport:
    """Send what is due of one batch and return its figures.

    Cancelled, it lets messages in flight finish for some seconds, so that their answers are known.

    Raises:
        NotSent: The server cannot be reached; who is left stays queued, and calling again is safe.
        AccountError: The account cannot go on; the campaign is paused and who is left stays queued.
        LeaseLost: Another process took the batch; calling again is safe.
        DatabaseError: The ledger went away; calling again is safe.
    """
    lease = await asyncio.to_thread(_claim, run, number)
    if lease is None:
        _log.info("batch %d is held by another process", number)
        return BatchReport(number=number, claimed=False)
    async with BatchLedger(run.engine, lease) as ledger:
        sending = _BatchSending(run, lease, ledger)
        await sending.finish()
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


def _claim(run: CampaignRun, number: int) -> Lease | None:
    owner = f"{platform.node()}:{os.getpid()}:{uuid4().hex[:8]}"
    with run.engine.begin() as connection:
        return batches.claim(connection, run.campaign_id, number, owner)


def _totals(run: CampaignRun, number: int) -> Totals:
    with run.engine.begin() as connection:
        return by_batch(connection, run.campaign_id, number)[0].totals


class _BatchSending:
    """The workers of one batch, one per connection, and what they share."""

    def __init__(self, run: CampaignRun, lease: Lease, ledger: BatchLedger) -> None:
        self._run = run
        self._lease = lease
        self._ledger = ledger
        self._due = self._pages()
        self._fetching = asyncio.Lock()
        self._failure: Exception | None = None
        self._stopping = asyncio.Event()
        self._breaker = Breaker()
        self.answers = 0

    async def finish(self) -> None:
        """Work until nothing is due, one worker fails, or we are cancelled."""
        workers = [asyncio.create_task(self._work()) for _ in range(self._run.pool.connections)]
        try:
            await asyncio.wait(workers)
        finally:
            # Cancelled: let the messages in flight have their answers.
            self._stopping.set()
            _, late = await asyncio.wait(workers, timeout=GRACE_SECONDS)
            for worker in late:
                worker.cancel()
        if self._failure is not None:
            raise self._failure

    async def _work(self) -> None:
        # A failure stops all workers, each after the message it is at: a cancelled transaction would be
        # an unknown.
        try:
            await self._send_while_due()
        except CampaignStopped:
            self._stopping.set()
        except AccountError as failure:
            self._fail(failure)
            with contextlib.suppress(DatabaseError):  # then the others stop as well, each by its own failure
                await asyncio.to_thread(self._pause, str(failure))
        except Exception as failure:  # noqa: BLE001 - told to the caller by `finish`
            self._fail(failure)

    def _fail(self, failure: Exception) -> None:
        self._failure = self._failure or failure
        self._stopping.set()

    async def _send_while_due(self) -> None:
        failures = 0
        async with self._run.pool.sender() as sender:
            while (attempt := await self._next()) is not None:
                try:
                    await self._send(attempt, sender)
                    failures = 0
                except NotSent:
                    failures += 1
                    if failures == FAILURES_IN_A_ROW:
                        raise

    async def _next(self) -> Attempt | None:
        async with self._fetching:  # an async generator takes one caller at a time
            attempt = None if self._stopping.is_set() else await anext(self._due, None)
        if attempt is None:
            return None
        delay = await self._run.throttle.reserve()
        if delay > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)
        return None if self._stopping.is_set() else attempt

    async def _pages(self) -> AsyncIterator[Attempt]:
        after = 0
        while page := await asyncio.to_thread(self._page, after):
            for attempt in page:
                yield attempt
            after = page[-1].id

    def _page(self, after: int) -> list[Attempt]:
        with self._run.engine.begin() as connection:
            return attempts.due(connection, self._lease.batch_id, after, _PAGE)

    def _pause(self, reason: str) -> None:
        with database_errors(), self._run.engine.begin() as connection:
            campaigns.pause(connection, self._run.campaign_id, reason)

    async def _send(self, attempt: Attempt, sender: Sender) -> None:
        try:
            rendered = self._run.renderer.render(
                Recipient(
                    token=attempt.token,
                    address=attempt.address,
                    name=attempt.name,
                    phone=attempt.phone,
                    attributes=attempt.attributes,
                )
            )
        except RenderError as error:
            self._record(Answer(attempt.id, AttemptState.REJECTED, reason=str(error)))
            return
        message = Message(attempt.id, self._run.renderer.envelope_sender, attempt.address, rendered.content)
        dispatch = partial(self._ledger.dispatch, Mark(attempt.id, rendered.message_id))
        try:
            receipt = await sender.send(message, dispatch)
        except Withdrawn:
            return  # the ledger has noted why
        except BrokenOff as error:
            self._record(_broken_off(attempt, error))
            raise
        except Unknown as error:
            self._record(Answer(attempt.id, AttemptState.UNKNOWN, reason=f"no answer: {error}"))
        except (NotSent, AccountError):
            self._ledger.record(Answer(attempt.id, AttemptState.QUEUED, wait=1.0))
            raise
        else:
            self._record(_answer(attempt, receipt))
            if alike := self._breaker.trips(attempt.id, receipt):
                for attempt_id in alike:
                    self._ledger.record(Answer(attempt_id, AttemptState.QUEUED))
                said = " ".join(filter(None, (str(receipt.code), receipt.status)))
                raise AccountError(
                    f"the server refuses everyone alike ({said}): mend the account or the message; "
                    "nobody was rejected for it"
                )

    def _record(self, answer: Answer) -> None:
        if answer.state is not AttemptState.QUEUED:
            self.answers += 1
        self._ledger.record(answer)


def _answer(attempt: Attempt, receipt: Receipt) -> Answer:
    """Turn a provider's answer into the attempt's next state."""
    state = AttemptState.ACCEPTED if receipt.outcome is Outcome.ACCEPTED else AttemptState.REJECTED
    reason = receipt.reply if receipt.code is None else None  # without a code the words are ours
    wait = None
    if receipt.outcome is Outcome.DEFERRED:
        most = MOST_TRIES_THROTTLED if receipt.throttled else MOST_TRIES
        if attempt.tries + 1 < most:
            state, wait = AttemptState.QUEUED, backoff(attempt.tries, receipt.retry_after)
        else:
            reason = f"gave up after {most} tries: {receipt.code} {receipt.status or ''}".strip()
    return Answer(
        attempt_id=attempt.id,
        state=state,
        code=receipt.code,
        status=receipt.status,
        reply=receipt.reply,
        reason=reason,
        provider_message_id=receipt.provider_message_id,
        wait=wait,
        counts=receipt.outcome is Outcome.DEFERRED,
    )


def _broken_off(attempt: Attempt, error: BrokenOff) -> Answer:
    """Put off the next turn of a message that the connection broke over."""
    if attempt.tries + 1 >= MOST_TRIES_THROTTLED:
        reason = f"gave up after {MOST_TRIES_THROTTLED} tries: {error}"
        return Answer(attempt.id, AttemptState.REJECTED, reason=reason)
    wait = min(LONGEST_WAIT, FIRST_WAIT_BROKEN_OFF * 4**attempt.tries)
    return Answer(attempt.id, AttemptState.QUEUED, wait=wait, counts=True)


def backoff(tries: int, asked: float | None) -> float:
    """Return the seconds to wait after `tries` earlier deferrals: what the provider asked, else doubling.

    A fifth of chance on top keeps recipients that were deferred together from coming back together.
    """
    wait = asked if asked is not None else min(LONGEST_WAIT, FIRST_WAIT * 2**tries)
    return wait * random.uniform(1.0, 1.2)  # noqa: S311 - spread, not secrecy
