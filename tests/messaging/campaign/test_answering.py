"""What an answer makes of an attempt, and how often one comes back."""

from uuid import UUID

import pytest

from messaging.campaign.answering import MOST_DELAYS, MOST_TRIES, answered, broken_off
from messaging.campaign.breaking import Breaker
from messaging.channels.base import Receipt
from messaging.errors import BrokenOff
from messaging.storage.attempts import Attempt
from schemas.states import AttemptState, Outcome


def attempt(tries: int = 0, delays: int = 0) -> Attempt:
    return Attempt(1, UUID(int=1), "ada@example.org", tries, delays, "Ada", None, {})


GREYLISTED = Receipt(Outcome.DEFERRED, 450, "4.7.1", "greylisted")
BUSY = Receipt(Outcome.DEFERRED, 421, "4.7.0", "busy", throttled=True)


def test_turns_that_were_put_off_for_the_servers_sake_do_not_bring_the_end_of_tries_nearer():
    answer = answered(attempt(tries=0, delays=MOST_DELAYS - 1), GREYLISTED)

    assert answer.state is AttemptState.QUEUED
    assert (answer.counts, answer.delays) == (True, False)


def test_tries_do_not_bring_the_end_of_delays_nearer():
    for answer in (answered(attempt(tries=4), BUSY), broken_off(attempt(tries=4), BrokenOff("lost"))):
        assert answer.state is AttemptState.QUEUED
        assert (answer.counts, answer.delays) == (False, True)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (answered(attempt(tries=MOST_TRIES - 1), GREYLISTED), "gave up after 5 tries: 450 4.7.1"),
        (answered(attempt(delays=MOST_DELAYS - 1), BUSY), "gave up after 30 tries: 421 4.7.0"),
        (broken_off(attempt(delays=MOST_DELAYS - 1), BrokenOff("lost")), "gave up after 30 tries: lost"),
        (answered(attempt(), GREYLISTED, 30.0), "gave up at the campaign's deadline: 450 4.7.1"),
    ],
)
def test_who_is_given_up_is_rejected_with_the_last_answer(answer, reason: str):
    assert answer.state is AttemptState.REJECTED
    assert answer.reason == reason
    assert answer.wait is None


def test_only_a_refusal_says_that_an_address_leads_to_nobody():
    nobody = Receipt(Outcome.REJECTED, 550, "5.1.1", "no such mailbox", unreachable=True)
    not_yet = Receipt(Outcome.DEFERRED, 450, "4.2.1", "perhaps nobody", unreachable=True)

    assert answered(attempt(), nobody).unreachable
    assert not answered(attempt(), Receipt(Outcome.REJECTED, 550, "5.7.1", "not to them")).unreachable
    assert not answered(attempt(tries=MOST_TRIES - 1), not_yet).unreachable


def test_people_who_cannot_be_reached_say_nothing_about_us():
    breaker = Breaker()
    refusals = [
        breaker.trips("whatsapp", n, Receipt(Outcome.REJECTED, 554, unreachable=n != 3)) for n in range(100)
    ]

    assert refusals == [[]] * 100


def test_a_wait_that_ends_before_the_deadline_is_kept():
    assert answered(attempt(), GREYLISTED, 3600.0).state is AttemptState.QUEUED
