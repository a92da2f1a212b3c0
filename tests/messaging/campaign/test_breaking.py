"""Refusals that are alike speak of us, whichever provider they come from."""

import pytest

from messaging.campaign.breaking import ALIKE_IN_A_ROW, Breaker
from messaging.channels import gmail_replies
from messaging.channels.base import Receipt
from schemas.states import Outcome

CONTENT = gmail_replies.receipt(
    gmail_replies.Verdict.REFUSED, gmail_replies.Reply(400, "badRequest", "the attachment is invalid", None)
)
NOBODY = gmail_replies.receipt(
    gmail_replies.Verdict.NOBODY, gmail_replies.Reply(400, "invalidArgument", "Invalid To header", None)
)


def tripped(receipt: Receipt, times: int = ALIKE_IN_A_ROW) -> list[int]:
    breaker = Breaker()
    return [number for number in range(times) if breaker.trips("example.org", number, receipt)]


@pytest.mark.parametrize(
    "receipt",
    [
        Receipt(Outcome.REJECTED, 554, None, "refused"),
        Receipt(Outcome.REJECTED, 550, "5.7.1", "refused"),
        CONTENT,
        Receipt(Outcome.REJECTED, 400, "132000", "(#132000) parameter count"),
    ],
)
def test_the_same_refusal_for_everybody_trips_once_there_are_many(receipt: Receipt):
    assert tripped(receipt) == [ALIKE_IN_A_ROW - 1]


@pytest.mark.parametrize(
    "receipt",
    [
        Receipt(Outcome.REJECTED, 550, "5.1.1", "no such mailbox"),
        Receipt(Outcome.REJECTED, 400, None, "(#131050) wants no marketing"),
        Receipt(Outcome.REJECTED, 554, None, "no such number", unreachable=True),
        NOBODY,
        Receipt(Outcome.DEFERRED, 451, "4.7.1", "greylisted"),
        Receipt(Outcome.ACCEPTED, 250, "2.0.0", "queued"),
    ],
)
def test_what_is_about_a_recipient_never_trips(receipt: Receipt):
    assert tripped(receipt, 3 * ALIKE_IN_A_ROW) == []
