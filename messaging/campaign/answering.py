"""What a provider's answer makes of an attempt: its next state, and when its next turn comes."""

import random
from typing import Final

from messaging.channels.base import Receipt
from messaging.errors import BrokenOff
from messaging.storage.attempts import Answer, Attempt
from schemas.states import AttemptState, Outcome

MOST_TRIES: Final = 5  # definite "not now" answers before we give up on a recipient
MOST_DELAYS: Final = 30  # about a day: "not now" that is not about the recipient, or a broken connection
FIRST_WAIT: Final = 60.0  # seconds; doubles with each try, unless the provider names a wait
FIRST_WAIT_BROKEN_OFF: Final = 2.0  # seconds; four times as long with each try
LONGEST_WAIT: Final = 3600.0


def answered(attempt: Attempt, receipt: Receipt, seconds_left: float | None = None) -> Answer:
    """Turn a provider's answer into the attempt's next state.

    A "not now" comes back later, at most so many times, and not after `seconds_left`, the time until the
    campaign's deadline (None: it has none): then it is `rejected` as given up, with the last answer.
    """
    deferred = receipt.outcome is Outcome.DEFERRED
    state = AttemptState.ACCEPTED if receipt.outcome is Outcome.ACCEPTED else AttemptState.REJECTED
    reason = receipt.reply if receipt.code is None else None  # without a code the words are ours
    wait = None
    if deferred:
        tries, most = (attempt.tries, MOST_TRIES) if not receipt.throttled else (attempt.delays, MOST_DELAYS)
        wait = backoff(tries, receipt.retry_after)
        said = f"{receipt.code or ''} {receipt.status or ''}".strip()
        if tries + 1 >= most:
            reason = f"gave up after {most} tries: {said}"
        elif seconds_left is not None and wait > seconds_left:
            reason = f"gave up at the campaign's deadline: {said}"
        else:
            state = AttemptState.QUEUED
    return Answer(
        attempt_id=attempt.id,
        state=state,
        code=receipt.code,
        status=receipt.status,
        reply=receipt.reply,
        reason=reason,
        provider_message_id=receipt.provider_message_id,
        wait=wait if state is AttemptState.QUEUED else None,
        counts=deferred and not receipt.throttled,
        delays=receipt.throttled,
        unreachable=receipt.unreachable and receipt.outcome is Outcome.REJECTED,
    )


def broken_off(attempt: Attempt, error: BrokenOff) -> Answer:
    """Put off the next turn of a message that the connection broke over."""
    if attempt.delays + 1 >= MOST_DELAYS:
        reason = f"gave up after {MOST_DELAYS} tries: {error}"
        return Answer(attempt.id, AttemptState.REJECTED, reason=reason)
    wait = min(LONGEST_WAIT, FIRST_WAIT_BROKEN_OFF * 4**attempt.delays)
    return Answer(attempt.id, AttemptState.QUEUED, wait=wait, delays=True)


def backoff(tries: int, asked: float | None) -> float:
    """Return the seconds to wait after `tries` earlier deferrals: what the provider asked, else doubling.

    A fifth of chance on top keeps recipients that were deferred together from coming back together.
    """
    wait = asked if asked is not None else min(LONGEST_WAIT, FIRST_WAIT * 2**tries)
    return wait * random.uniform(1.0, 1.2)  # noqa: S311 - spread, not secrecy
