"""Whom a throttle's answer is about."""

import pytest

from messaging.campaign.slowing import is_about_the_group, said
from messaging.channels.base import Receipt
from schemas.states import Outcome


@pytest.mark.parametrize(
    ("code", "status", "of_group"),
    [
        (421, "4.7.28", True),  # Gmail: unusual rate from this address to Gmail
        (421, "4.7.650", True),  # Outlook
        (451, "4.7.26", True),
        (450, "4.2.1", True),
        (452, "4.5.3", True),
        (421, "4.7.0", False),  # Postfix: too many connections
        (421, None, False),
        (421, "4.3.2", False),  # shutting down
        (451, "4.3.0", False),
        (454, None, False),  # Amazon SES: Throttling failure
        (454, "4.7.28", False),
        (451, "4.4.5", False),
        (429, None, False),
    ],
)
def test_codes_say_whether_the_account_or_the_provider_group_slows_down(
    code: int, status: str | None, *, of_group: bool
):
    receipt = Receipt(Outcome.DEFERRED, code=code, status=status, throttled=True)

    assert is_about_the_group(receipt) is of_group


def test_only_the_codes_of_an_answer_are_told():
    receipt = Receipt(Outcome.DEFERRED, code=421, status="4.7.28", reply="ada@example.org is too much")

    assert said(receipt) == "421 4.7.28"
