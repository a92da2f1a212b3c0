"""What evidence does, row by row, and what history makes of it."""

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from messaging.feedback.policy import (
    BY_SOFT_BOUNCES,
    LASTING_ENDS_AFTER,
    Address,
    Known,
    Verdict,
    Weight,
    judge,
    weight,
)
from schemas.bounces import BounceClass, Suppress
from schemas.states import Channel, EventKind, SuppressionReason

NOW = datetime(2027, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
MAIL = Address(Channel.EMAIL, "ada@example.org")
PHONE = Address(Channel.WHATSAPP, "+447700900001")
HARD, SOFT, BLOCK, COMPLAINT = (
    BounceClass.HARD,
    BounceClass.SOFT,
    BounceClass.BLOCK,
    BounceClass.COMPLAINT,
)
ONCE, SECOND, LASTS, NEVER = (
    Suppress.AT_ONCE,
    Suppress.SECOND_TIME,
    Suppress.WHEN_IT_LASTS,
    Suppress.NEVER,
)
B, C = EventKind.BOUNCED, EventKind.COMPLAINED

TABLE = [
    (B, HARD, ONCE, Weight.ENOUGH),
    (B, HARD, SECOND, Weight.WEAK),
    (B, HARD, LASTS, Weight.PASSING),
    (B, HARD, NEVER, Weight.NOTHING),
    (B, SOFT, LASTS, Weight.PASSING),
    (B, SOFT, ONCE, Weight.PASSING),
    (B, SOFT, SECOND, Weight.PASSING),
    (B, SOFT, NEVER, Weight.NOTHING),
    (B, BLOCK, NEVER, Weight.NOTHING),
    (B, BLOCK, ONCE, Weight.NOTHING),
    (B, COMPLAINT, ONCE, Weight.COMPLAINT),
    (B, COMPLAINT, NEVER, Weight.NOTHING),
    (B, BounceClass.AUTO_REPLY, ONCE, Weight.NOTHING),
    (B, BounceClass.CHALLENGE, ONCE, Weight.NOTHING),
    (B, BounceClass.DELIVERED, ONCE, Weight.NOTHING),
    (B, BounceClass.NOT_A_BOUNCE, ONCE, Weight.NOTHING),
    (B, None, None, Weight.PASSING),
    (C, COMPLAINT, ONCE, Weight.COMPLAINT),
    (C, COMPLAINT, NEVER, Weight.NOTHING),
    (C, None, None, Weight.COMPLAINT),
    (EventKind.DELAYED, HARD, ONCE, Weight.NOTHING),
    (EventKind.DELAYED, SOFT, LASTS, Weight.NOTHING),
    (EventKind.FAILED, HARD, ONCE, Weight.NOTHING),
    (EventKind.SENT, None, None, Weight.NOTHING),
    (EventKind.DELIVERED, None, None, Weight.TAKEN),
    (EventKind.OPENED, None, None, Weight.SEEN),
    (EventKind.CLICKED, None, None, Weight.SEEN),
    (EventKind.UNSUBSCRIBED, None, None, Weight.WISH),
    (EventKind.AUTO_REPLIED, BounceClass.AUTO_REPLY, ONCE, Weight.NOTHING),
    (EventKind.CHALLENGED, BounceClass.CHALLENGE, ONCE, Weight.NOTHING),
]


@pytest.mark.parametrize(("kind", "bounce_class", "suppress", "expected"), TABLE)
def test_each_piece_says_what_the_table_says(kind, bounce_class, suppress, expected):
    assert weight(kind, bounce_class, suppress) is expected


@pytest.mark.parametrize("kind", [EventKind.OPENED, EventKind.CLICKED])
def test_a_machine_is_no_sign_of_life(kind):
    assert weight(kind, by_machine=True) is Weight.NOTHING


def test_whoever_leaves_one_audience_may_be_written_to_otherwise():
    assert weight(EventKind.UNSUBSCRIBED, everywhere=False) is Weight.NOTHING


@pytest.mark.parametrize("kind", list(EventKind))
@pytest.mark.parametrize("bounce_class", [BLOCK, BounceClass.AUTO_REPLY, BounceClass.CHALLENGE])
@pytest.mark.parametrize("suppress", list(Suppress))
def test_what_is_not_about_the_recipient_never_suppresses(kind, bounce_class, suppress):
    known = [piece(weight(kind, bounce_class, suppress), day) for day in range(0, 60, 5)]
    if kind not in {EventKind.COMPLAINED, EventKind.UNSUBSCRIBED}:
        assert judged(*known) is None


_messages = count(1)


def piece(what: Weight, day: float = 0.0, message: int = 0, **fields) -> Known:
    given = {"address": MAIL, "source": "imap-mailbox/bounces"} | fields
    return Known(attempt_id=message or next(_messages), weight=what, occurred_at=NOW + day * DAY, **given)


def judged(*known: Known, since: datetime | None = None, now: datetime = NOW) -> Verdict | None:
    """Judge the address, whatever the order; all orders that are tried agree."""
    verdicts = [judge({MAIL: since}, order, now).get(MAIL) for order in (known, known[::-1])]
    assert verdicts[0] == verdicts[1]
    return verdicts[0]


def reason(*known: Known, since: datetime | None = None) -> str | None:
    verdict = judged(*known, since=since)
    return verdict.reason if verdict else None


def soft(*days: float, what: Weight = Weight.PASSING) -> list[Known]:
    return [piece(what, day) for day in days]


def test_a_hard_bounce_is_enough_for_its_address_and_for_no_other():
    found = judge({MAIL: None, PHONE: None}, [piece(Weight.ENOUGH)], NOW)

    assert found == {MAIL: Verdict(SuppressionReason.BOUNCED, "imap-mailbox/bounces")}


@pytest.mark.parametrize("what", [Weight.COMPLAINT, Weight.WISH])
def test_a_persons_own_word_counts_for_all_their_addresses(what):
    assert judge({MAIL: None, PHONE: None}, [piece(what)], NOW).keys() == {MAIL, PHONE}


def test_a_complaint_goes_before_a_wish_and_a_wish_before_a_bounce():
    bounce, wish, complaint = map(piece, (Weight.ENOUGH, Weight.WISH, Weight.COMPLAINT))

    assert reason(bounce) == "bounced"
    assert reason(bounce, wish) == "unsubscribed"
    assert reason(bounce, wish, complaint) == "complained"


@pytest.mark.parametrize(("days", "expected"), [(29, "bounced"), (30, "bounced"), (30.01, None)])
def test_a_weak_bounce_counts_the_second_time_within_thirty_days(days, expected):
    assert reason(*soft(0, days, what=Weight.WEAK)) == expected


def test_one_weak_bounce_is_not_enough():
    assert reason(piece(Weight.WEAK)) is None


def test_two_bounces_of_one_message_are_one():
    assert reason(piece(Weight.WEAK, 0, 7), piece(Weight.WEAK, 1, 7)) is None
    assert reason(*soft(0, 5, 10), piece(Weight.PASSING, 14, 7)) == "bounced"
    assert reason(piece(Weight.PASSING, 0, 7), *soft(5, 10), piece(Weight.PASSING, 14, 7)) is None


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ((0, 5, 10, 14), "bounced"),
        ((0, 5, 10, 13.99), None),
        ((0, 7, 14), None),
        ((0, 0.1, 0.2, 14), "bounced"),
        ((0, 5, 10, 12, 13), None),
        ((0, 100, 200, 300), "bounced"),
    ],
    ids=["4 in 14", "4 in 13", "3 in 14", "3 at once", "5 in 13", "4 in 300"],
)
def test_bounces_must_be_many_and_last(days, expected):
    assert reason(*soft(*days)) == expected


@pytest.mark.parametrize("sign", [Weight.TAKEN, Weight.SEEN])
def test_a_sign_of_life_between_begins_the_count_anew(sign):
    assert reason(*soft(0, 5, 10, 14), piece(sign, 7)) is None
    assert reason(*soft(0, 5, 10, 14), piece(sign, -1), piece(sign, 15)) == "bounced"
    assert reason(*soft(0, 1, 10, 14, 20, 24), piece(sign, 5)) == "bounced"


def test_a_message_that_was_taken_and_then_returned_is_no_sign_of_life():
    bounces = soft(0, 5, 10, 14)
    taken = [
        piece(Weight.TAKEN, day - 0.1, b.attempt_id) for day, b in zip((0, 5, 10, 14), bounces, strict=True)
    ]

    assert reason(*bounces, *taken) == "bounced"
    assert reason(*bounces, *taken, piece(Weight.SEEN, 7, bounces[0].attempt_id)) is None


def test_what_lasted_expires_and_is_no_persons_word():
    lasted = judged(*soft(0, 5, 10, 14, 20))

    assert lasted == Verdict(SuppressionReason.BOUNCED, BY_SOFT_BOUNCES, NOW + 20 * DAY + LASTING_ENDS_AFTER)
    assert judged(*soft(0, 5, 10, 14), now=NOW + 14 * DAY + LASTING_ENDS_AFTER) is None


def test_only_what_came_after_an_address_was_given_back_counts():
    assert reason(piece(Weight.ENOUGH, 0), since=NOW) is None
    assert reason(piece(Weight.ENOUGH, 0.001), since=NOW) == "bounced"
    assert reason(*soft(0, 5, what=Weight.WEAK), since=NOW) is None
    assert reason(*soft(0, 5, 10, 14), since=NOW) is None
    assert reason(piece(Weight.COMPLAINT, 0), since=NOW) is None


def test_an_address_given_back_says_nothing_of_the_others():
    complaint = piece(Weight.COMPLAINT, 0)

    assert judge({MAIL: NOW, PHONE: None}, [complaint], NOW).keys() == {PHONE}


@pytest.mark.parametrize(
    ("what", "accepted", "twice", "expected"),
    [
        (Weight.ENOUGH, True, False, None),
        (Weight.ENOUGH, True, True, "bounced"),
        (Weight.ENOUGH, False, True, None),
        (Weight.COMPLAINT, True, False, None),
        (Weight.COMPLAINT, True, True, "complained"),
        (Weight.COMPLAINT, False, True, None),
        (Weight.WISH, False, False, "unsubscribed"),
    ],
)
def test_what_names_no_message_is_believed_the_second_time_at_most(what, accepted, twice, expected):
    known = [piece(what, day, named=False, accepted=accepted) for day in ((0, 5) if twice else (0,))]

    assert reason(*known) == expected


def test_made_up_twice_of_one_message_it_is_not_believed():
    assert reason(*(piece(Weight.ENOUGH, day, 7, named=False) for day in (0, 5))) is None
