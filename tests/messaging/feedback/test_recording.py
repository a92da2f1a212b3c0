"""Evidence is kept once, finds its attempt, and has the same effect in whatever order it comes."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from messaging.campaign.planning import plan_campaign
from messaging.feedback.policy import BY_SOFT_BOUNCES
from messaging.feedback.recording import Recorded, judge_again, record, rematch
from messaging.storage import batches, suppressions
from messaging.storage.attempts import ROUND, Mark, round_done, round_of
from messaging.storage.plans import Legs, exclusions
from messaging.storage.prepared import Prepared
from messaging.storage.suppressions import Imposed
from schemas.states import Channel, EventKind, SuppressionReason
from tests.messaging.feedback.sent import (
    ADA,
    BLOCK,
    BO,
    CY,
    DAY,
    HARD,
    MAILBOX,
    NOW,
    PHONE,
    SOFT,
    SPAM,
    SPEC,
    WEAK,
    attempt,
    bounced,
    change,
    heard,
    people,
    recorded,
    rows,
    sent,
    suppressed,
    token,
    told,
)

K = EventKind
EVENTS = "SELECT attempt_id, kind FROM events WHERE campaign_id IS NULL AND kind <> 'resolved' ORDER BY id"
MATCHED = "SELECT attempt_id, details ->> 'matched' FROM events WHERE campaign_id IS NULL ORDER BY id"


def state(ledger: Engine, campaign_id: int, address: str = ADA) -> str:
    return attempt(ledger, campaign_id, address).state


def test_a_piece_is_kept_once_whatever_brings_it_again(ledger: Engine):
    people(ledger, ADA, BO)
    number = sent(ledger)
    one = bounced(token=token(ledger, number, ADA))
    other = told(K.DELIVERED, token=token(ledger, number, BO))

    first = recorded(ledger, one, one, replace(one, occurred_at=NOW + DAY))
    second = recorded(ledger, other, one)

    assert first == Recorded(1, 2, 0, 1, {K.BOUNCED: 1})
    assert second == Recorded(1, 1, 0, 0, {K.DELIVERED: 1})
    assert first + second == Recorded(2, 3, 0, 1, {K.BOUNCED: 1, K.DELIVERED: 1})
    assert rows(ledger, EVENTS) == [(1, "bounced"), (2, "delivered")]


def test_nothing_is_recorded_of_nothing(ledger: Engine):
    assert recorded(ledger) == Recorded()
    with ledger.begin() as connection:
        assert rematch(connection) == Recorded()


@pytest.mark.parametrize(
    ("clue", "how"),
    [
        ({"token": "its"}, "token"),
        ({"token": "its", "recipient": BO, "campaign_id": 99}, "token"),
        ({"recipient": ADA, "provider_message_id": "ses-1"}, "provider message id"),
        ({"recipient": ADA, "message_id": "<ses-1@eu-west-1.amazonses.com>"}, "provider message id"),
        ({"recipient": "ADA@Example.org", "message_id": "<1.1@shop.example.org>"}, "message id"),
        ({"recipient": "forwarded@example.net", "aliases": (ADA,), "campaign_id": 1}, "campaign"),
        ({"recipient": ADA, "token": uuid4(), "campaign_id": 1}, "campaign"),
        ({"recipient": ADA, "campaign_id": 99, "message_id": "<another@example.org>"}, "address"),
    ],
)
def test_the_attempt_is_found_by_whatever_names_it(ledger: Engine, clue: dict, how: str):
    people(ledger, ADA, BO)
    number = sent(ledger)
    sent(ledger, "later")  # an address alone would mean this one
    change(ledger, "UPDATE attempts SET provider_message_id = 'ses-' || id WHERE campaign_id = 1")
    if clue.get("token") == "its":
        clue = clue | {"token": token(ledger, number, ADA)}

    recorded(ledger, bounced(**clue))

    assert rows(ledger, MATCHED)[:1] == [(3 if how == "address" else 1, how)]


def test_an_address_alone_means_the_last_message_of_the_thirty_days_before(ledger: Engine):
    people(ledger, ADA)
    for day in (-100, -20, -2):
        sent(ledger, f"day{day}", at=NOW + day * DAY)

    for day in (0, -10, -50, -80, -101):
        recorded(ledger, bounced(SOFT, recipient=ADA, occurred_at=NOW + day * DAY))

    assert rows(ledger, MATCHED) == [
        (3, "address"),
        (2, "address"),
        (None, None),
        (1, "address"),
        (None, None),
    ]


def test_whoever_was_refused_or_never_written_to_is_not_meant_by_an_address(ledger: Engine):
    people(ledger, ADA)
    for state in ("rejected", "queued", "suppressed", "cancelled"):
        sent(ledger, state, state=state)

    assert recorded(ledger, bounced(recipient=ADA)).unmatched == 1


def test_an_erased_contacts_attempt_is_found_by_campaign_and_address(ledger: Engine):
    people(ledger, ADA, BO)
    number = sent(ledger)
    change(ledger, "DELETE FROM contacts")

    its = attempt(ledger, number, ADA).message_id

    assert recorded(ledger, bounced(recipient="Ada@example.org", campaign_id=number)).suppressed == 0
    report = bounced(recipient="Ada@example.org", campaign_id=number, message_id=its)
    assert recorded(ledger, report).suppressed == 1
    assert suppressed(ledger) == {ADA: "bounced"}


def test_a_campaigns_number_alone_is_no_proof_as_anybody_can_count(ledger: Engine):
    people(ledger, ADA)
    numbers = [sent(ledger, name, state="unknown") for name in ("first", "second")]
    change(ledger, "UPDATE attempts SET state = 'accepted' WHERE campaign_id = :id", id=numbers[0])

    forged = [bounced(recipient=ADA, campaign_id=number) for number in numbers]
    assert recorded(ledger, forged[1]).suppressed == 0
    assert state(ledger, numbers[1]) == "unknown"
    assert recorded(ledger, forged[0]).suppressed == 1  # a second one, about another message


def test_an_address_in_another_script_is_compared_as_the_ledger_does(ledger: Engine):
    people(ledger, "info@xn--bcher-kva.example.org")
    number = sent(ledger)

    assert recorded(ledger, bounced(recipient="Info@bücher.example.org", campaign_id=number)).unmatched == 0


def test_what_belongs_to_nobody_is_kept_and_does_nothing(ledger: Engine):
    people(ledger, ADA)
    sent(ledger)

    found = recorded(ledger, bounced(recipient="made-up@example.org", campaign_id=7), bounced())

    assert found == Recorded(2, 0, 2, 0, {K.BOUNCED: 2})
    assert suppressed(ledger) == {}
    [origin] = rows(ledger, "SELECT details -> 'origin' FROM events WHERE details -> 'origin' <> '{}'")[0]
    assert origin == {"recipient": "made-up@example.org", "campaign_id": 7}


def test_what_no_database_can_hold_does_not_keep_the_rest_from_being_recorded(ledger: Engine):
    people(ledger, ADA)
    number = sent(ledger)
    odd = "a\0b\ud800"

    found = recorded(
        ledger,
        told(
            K.CLICKED,
            source_id=odd * 1000,
            token=uuid4(),
            recipient=odd,
            aliases=(odd,),
            message_id=odd,
            provider_message_id=odd,
            campaign_id=2**70,
            details={odd: [{"agent": odd}], "n": 1},
            occurred_at=datetime(1, 1, 1, tzinfo=UTC),
        ),
        bounced(token=token(ledger, number, ADA), occurred_at=datetime(9999, 12, 31, tzinfo=UTC)),
    )

    assert found.recorded == 2
    assert rows(ledger, "SELECT DISTINCT occurred_at <= now() FROM events WHERE campaign_id IS NULL") == [
        (True,)
    ]


@pytest.mark.parametrize(
    ("piece", "excluded"),
    [
        (told(K.COMPLAINED, recipient=ADA, message_id="<1.1@shop.example.org>", bounce=SPAM), "complained"),
        (
            told(K.UNSUBSCRIBED, recipient=ADA, message_id="<1.1@shop.example.org>", everywhere=False),
            "unsubscribed from this audience",
        ),
    ],
    ids=["complained", "left the audience"],
)
def test_a_number_that_is_imported_later_is_that_of_the_same_person(ledger: Engine, piece, excluded: str):
    people(ledger, ADA)
    sent(ledger)
    recorded(ledger, piece)
    change(ledger, "UPDATE contacts SET phone = :phone", phone=PHONE)

    with ledger.begin() as connection:
        for legs in (Legs(phone=0), Legs(email=0, phone=1)):
            assert exclusions(connection, 1, legs) == {f"suppressed: {excluded}": 1}


def test_what_was_given_back_counts_no_more_even_after_another_suppression(ledger: Engine):
    people(ledger, ADA)
    its = token(ledger, sent(ledger), ADA)
    recorded(ledger, told(K.COMPLAINED, token=its, bounce=SPAM))
    with ledger.begin() as connection:
        suppressions.lift(connection, Channel.EMAIL, [ADA], "alice")
        ends = datetime.now(UTC) + DAY
        suppressions.impose_list(connection, Channel.EMAIL, [ADA], SuppressionReason.MANUAL, "alice", ends)

    recorded(ledger, bounced(SOFT, token=its, occurred_at=datetime.now(UTC)))

    assert suppressed(ledger) == {ADA: "manual"}


# -- unmatched, then rematched


def test_what_finds_its_attempt_later_has_the_effect_that_it_would_have_had(ledger: Engine):
    people(ledger, ADA, BO, CY)
    pieces = [
        bounced(recipient=ADA, message_id="<1.1@shop.example.org>"),
        told(K.COMPLAINED, recipient=BO, message_id="<2.1@shop.example.org>", bounce=SPAM),
        told(K.UNSUBSCRIBED, recipient=CY, campaign_id=1, everywhere=False),
        bounced(BLOCK, recipient="nobody@example.org", campaign_id=1, details={"box": "postmaster"}),
    ]
    assert recorded(ledger, *pieces).unmatched == 4
    sent(ledger, state="unknown")

    with ledger.begin() as connection:
        found = rematch(connection)
        again = rematch(connection)

    assert found == Recorded(3, 0, 0, 3, {K.BOUNCED: 1, K.COMPLAINED: 1, K.UNSUBSCRIBED: 1})
    assert again == Recorded()
    later = effect(ledger)
    change(ledger, "TRUNCATE events, suppressions, audience_opt_outs")
    change(ledger, "UPDATE attempts SET state = 'unknown'")
    recorded(ledger, *pieces)
    assert effect(ledger) == later


def test_only_the_newest_are_looked_at_again(ledger: Engine):
    people(ledger, ADA, BO)
    recorded(ledger, bounced(recipient=ADA, message_id="<1.1@shop.example.org>"))
    recorded(ledger, bounced(recipient=BO, message_id="<2.1@shop.example.org>"))
    sent(ledger)

    with ledger.begin() as connection:
        assert rematch(connection, 1).recorded == 1
    assert suppressed(ledger) == {BO: "bounced"}


# -- attempts without an answer

TAKEN = [
    K.SENT, K.DELIVERED, K.DELAYED, K.BOUNCED, K.COMPLAINED, K.OPENED, K.CLICKED, K.AUTO_REPLIED,
    K.CHALLENGED, K.UNSUBSCRIBED,
]  # fmt: skip


@pytest.mark.parametrize("kind", TAKEN)
def test_evidence_that_it_was_taken_resolves_what_is_unknown(ledger: Engine, kind: EventKind):
    people(ledger, ADA)
    number = sent(ledger, state="unknown")
    change(ledger, "UPDATE attempts SET answered_at = NULL")

    recorded(
        ledger,
        told(kind, token=token(ledger, number, ADA), provider_message_id="p-1", details={"machine": "Bot"}),
    )

    after = attempt(ledger, number, ADA)
    assert (after.state, after.provider_message_id) == ("accepted", "p-1")
    assert after.answered_at is not None
    assert rows(ledger, "SELECT source, details FROM events WHERE kind = 'resolved'") == [
        (MAILBOX, {"from": "unknown", "to": "accepted"})
    ]


@pytest.mark.parametrize("before", ["accepted", "queued", "suppressed", "cancelled", "rejected"])
@pytest.mark.parametrize("kind", [K.BOUNCED, K.FAILED, K.DELIVERED])
def test_an_answer_stands_whatever_evidence_says(ledger: Engine, before: str, kind: EventKind):
    people(ledger, ADA)
    number = sent(ledger, state=before)

    recorded(ledger, told(kind, token=token(ledger, number, ADA), bounce=HARD))

    assert state(ledger, number) == before
    assert rows(ledger, "SELECT 1 FROM events WHERE kind = 'resolved'") == []


def test_what_a_dead_process_left_on_its_way_is_resolved_too(ledger: Engine):
    people(ledger, ADA, BO)
    number = sent(ledger, state="dispatched")

    recorded(ledger, told(K.DELIVERED, token=token(ledger, number, ADA)))
    recorded(ledger, told(K.FAILED, token=token(ledger, number, BO), bounce=BLOCK))

    assert (state(ledger, number), state(ledger, number, BO)) == ("accepted", "rejected")
    assert attempt(ledger, number, BO).reason == "given up by the provider: reputation"


def test_evidence_speaks_for_a_connection_that_may_never_answer(ledger: Engine):
    people(ledger, ADA, BO)
    number = sent(ledger, state="dispatched")
    lease = "UPDATE batches SET lease_owner = 'us', lease_expires_at = now() + interval '30 s'"
    change(ledger, lease)

    recorded(ledger, told(K.DELIVERED, token=token(ledger, number, ADA)))
    recorded(ledger, told(K.FAILED, token=token(ledger, number, BO)))

    assert (state(ledger, number), state(ledger, number, BO)) == ("accepted", "dispatched")


def test_a_row_that_its_sender_is_answering_is_left_to_it(ledger: Engine):
    people(ledger, ADA)
    number = sent(ledger, state="dispatched")
    piece = told(K.DELIVERED, token=token(ledger, number, ADA))
    with ledger.begin() as sender:
        sender.execute(text("UPDATE attempts SET state = 'accepted', code = 251"))
        recorded(ledger, piece)

    assert attempt(ledger, number, ADA).code == 251


@pytest.mark.parametrize("turn", [1, -1])
def test_taken_and_given_up_end_the_same_in_either_order(ledger: Engine, turn: int):
    people(ledger, ADA)
    number = sent(ledger, state="unknown")
    its = token(ledger, number, ADA)

    for kind in (K.SENT, K.FAILED)[::turn]:
        recorded(ledger, told(kind, token=its))

    assert state(ledger, number) == "accepted"


def test_what_names_only_an_address_resolves_nothing(ledger: Engine):
    people(ledger, ADA)
    number = sent(ledger, state="unknown")

    recorded(ledger, bounced(recipient=ADA))

    assert state(ledger, number) == "unknown"


def test_a_late_report_of_the_first_account_says_nothing_of_the_second(ledger: Engine):
    people(ledger, ADA, phones=[PHONE])
    number = sent(
        ledger,
        state="unknown",
        fallback=["whatsapp-cloud-account/shop"],
        template={"name": "offer", "language": "en_GB", "body": {}},
    )
    its = token(ledger, number, ADA)
    change(ledger, "UPDATE batches SET leg = 1")
    change(ledger, "UPDATE attempts SET address = :phone, address_key = :phone", phone=PHONE)

    recorded(ledger, bounced(token=its, provider_message_id="ses-1"))

    after = attempt(ledger, number, PHONE)
    assert (after.state, after.provider_message_id) == ("unknown", None)
    assert suppressed(ledger) == {ADA: "bounced"}


# -- what it does to addresses


def test_a_hard_bounce_suppresses_its_address_and_a_complaint_all_of_the_persons(ledger: Engine):
    people(ledger, ADA, BO, phones=[PHONE, "+447700900002"])
    number = sent(ledger)

    found = recorded(
        ledger,
        bounced(token=token(ledger, number, ADA)),
        told(K.COMPLAINED, token=token(ledger, number, BO), bounce=SPAM),
    )

    assert found.suppressed == 3
    assert suppressed(ledger) == {ADA: "bounced", BO: "complained", "+447700900002": "complained"}
    assert rows(ledger, "SELECT DISTINCT status FROM contacts") == [("subscribed",)]


def test_delivered_after_a_complaint_lifts_nothing(ledger: Engine):
    people(ledger, ADA)
    its = token(ledger, sent(ledger), ADA)

    recorded(ledger, told(K.COMPLAINED, token=its, bounce=SPAM))
    recorded(ledger, told(K.DELIVERED, token=its), told(K.OPENED, token=its))

    assert suppressed(ledger) == {ADA: "complained"}


def test_a_complaint_goes_before_the_bounce_that_was_there(ledger: Engine):
    people(ledger, ADA)
    its = token(ledger, sent(ledger), ADA)

    recorded(ledger, bounced(token=its))
    assert recorded(ledger, told(K.COMPLAINED, token=its)).suppressed == 0
    recorded(ledger, bounced(token=its))

    assert suppressed(ledger) == {ADA: "complained"}


@pytest.mark.parametrize(
    "piece",
    [
        bounced(BLOCK),
        bounced(SOFT),
        bounced(WEAK),
        told(K.DELAYED, bounce=HARD),
        told(K.AUTO_REPLIED),
        told(K.CHALLENGED),
        told(K.FAILED, bounce=HARD),
    ],
)
def test_what_is_not_enough_suppresses_nobody(ledger: Engine, piece):
    people(ledger, ADA)

    assert recorded(ledger, replace(piece, token=token(ledger, sent(ledger), ADA))).suppressed == 0
    assert suppressed(ledger) == {}


def test_whoever_unsubscribes_is_written_to_nowhere(ledger: Engine):
    people(ledger, ADA, phones=[PHONE])

    found = recorded(ledger, told(K.UNSUBSCRIBED, token=token(ledger, sent(ledger), ADA), source="web"))

    assert found.suppressed == 2
    assert suppressed(ledger) == {ADA: "unsubscribed", PHONE: "unsubscribed"}
    assert rows(ledger, "SELECT status FROM contacts") == [("unsubscribed",)]


def test_whoever_leaves_one_audience_stays_in_the_others(ledger: Engine):
    people(ledger, ADA, BO, phones=[PHONE])
    change(ledger, "INSERT INTO audiences (name) VALUES ('others')")
    change(ledger, "INSERT INTO audience_members SELECT 2, contact_id FROM audience_members")
    piece = told(K.UNSUBSCRIBED, token=token(ledger, sent(ledger), ADA), everywhere=False, source="web")

    assert recorded(ledger, piece).suppressed == 2
    assert recorded(ledger, replace(piece, source_id="again")).suppressed == 0

    assert suppressed(ledger) == {}
    assert rows(ledger, "SELECT status FROM contacts WHERE id = 1") == [("subscribed",)]
    assert plan_campaign(ledger, SPEC.model_copy(update={"name": "next"})).recipients == 1
    other = SPEC.model_copy(update={"name": "elsewhere", "audience": "others"})
    assert plan_campaign(ledger, other).recipients == 2


def soft_bounces(ledger: Engine, *days: int) -> list:
    found = []
    for day in days:
        number = sent(ledger, f"day{day}", at=NOW + day * DAY)
        found.append(bounced(SOFT, token=token(ledger, number, ADA), occurred_at=NOW + day * DAY))
    return found


def test_soft_bounces_that_last_suppress_for_a_while(ledger: Engine):
    people(ledger, ADA)
    first, *others, last = soft_bounces(ledger, -20, -10, -5, -1)

    assert recorded(ledger, first, *others).suppressed == 0
    assert recorded(ledger, last).suppressed == 1

    assert rows(ledger, "SELECT reason, source, expires_at FROM suppressions") == [
        ("bounced", BY_SOFT_BOUNCES, NOW + 179 * DAY)
    ]


def test_an_open_that_is_heard_of_late_takes_the_suppression_back(ledger: Engine):
    people(ledger, ADA)
    *pieces, last = soft_bounces(ledger, -30, -20, -10, -5, -1)
    recorded(ledger, *pieces)
    opened = told(K.OPENED, token=pieces[0].token, occurred_at=NOW - 25 * DAY)

    recorded(ledger, replace(opened, source_id="by a machine", details={"machine": "Apple"}))
    recorded(ledger, replace(opened, source_id="after them", occurred_at=NOW - 2 * DAY))
    assert suppressed(ledger) == {ADA: "bounced"}
    recorded(ledger, opened)
    assert suppressed(ledger) == {}

    # What we took back ourselves is not forgotten, unlike what a person lifts: the bounces after it count on.
    before = replace(last, occurred_at=NOW - 3 * DAY)
    assert recorded(ledger, before).suppressed == 1


def test_soft_bounces_of_several_people_do_not_add_up(ledger: Engine):
    people(ledger, ADA, BO)
    pieces = soft_bounces(ledger, -20, -10, -5)
    number = sent(ledger, "last")

    found = recorded(ledger, *pieces, bounced(SOFT, token=token(ledger, number, BO)))

    assert found.suppressed == 0


def test_what_a_person_lifted_stays_lifted_until_something_new_comes(ledger: Engine):
    people(ledger, ADA)
    number = sent(ledger)
    its = token(ledger, number, ADA)
    recorded(ledger, bounced(token=its), told(K.COMPLAINED, token=its))
    with ledger.begin() as connection:
        assert suppressions.lift(connection, Channel.EMAIL, [ADA], "ada") == 1

    again = recorded(
        ledger,
        bounced(token=its),
        told(K.OPENED, token=its),
        told(K.UNSUBSCRIBED, token=its),
    )
    assert again.suppressed == 0
    assert suppressed(ledger) == {}
    assert rows(ledger, "SELECT status FROM contacts") == [("subscribed",)]

    after = recorded(ledger, bounced(token=its, occurred_at=datetime.now(UTC) + DAY))
    assert after.suppressed == 1
    assert rows(ledger, "SELECT reason, expires_at, lifted_by FROM suppressions") == [("bounced", None, None)]


@pytest.mark.parametrize(
    ("given", "for_days", "bounce", "expected"),
    [
        ("unsubscribed", None, HARD, ("unsubscribed", "bo")),
        ("manual", None, HARD, ("bounced", MAILBOX)),
        ("manual", 30, HARD, ("bounced", MAILBOX)),
        ("complained", 30, HARD, ("bounced", MAILBOX)),
        ("manual", None, SOFT, ("manual", "bo")),
    ],
)
def test_of_two_reasons_the_one_for_good_stays_and_of_those_the_stronger(
    ledger: Engine, given, for_days, bounce, expected
):
    people(ledger, ADA)
    pieces = [replace(piece, bounce=bounce) for piece in soft_bounces(ledger, -20, -10, -5, -1)]
    ends = datetime.now(UTC) + for_days * DAY if for_days else None
    with ledger.begin() as connection:
        suppressions.impose(connection, [Imposed(Channel.EMAIL, ADA, given, "bo", ends)])

    assert recorded(ledger, *pieces).suppressed == 0

    assert rows(ledger, "SELECT reason, source FROM suppressions") == [expected]


def test_after_events_are_taken_back_nothing_speaks_for_the_suppression(ledger: Engine):
    people(ledger, ADA, BO)
    number = sent(ledger)
    pieces = [bounced(token=token(ledger, number, address)) for address in (ADA, BO)]
    recorded(ledger, *pieces, told(K.COMPLAINED, token=pieces[1].token))
    change(ledger, "DELETE FROM events WHERE kind = 'bounced'")

    with ledger.begin() as connection:
        assert judge_again(connection, [], {MAILBOX}, "reclassified") == 0
        assert judge_again(connection, [1, 2], {"another"}, "reclassified") == 0
        assert judge_again(connection, [1, 2], {MAILBOX}, "reclassified") == 1

    assert suppressed(ledger) == {BO: "complained"}
    assert recorded(ledger, replace(pieces[0], source_id="read again")).suppressed == 1


# -- made up by somebody


def test_a_bounce_made_up_for_an_address_suppresses_nobody(ledger: Engine):
    people(ledger, ADA, BO)
    sent(ledger)
    forged = [bounced(recipient=ADA, occurred_at=NOW + timedelta(seconds=n)) for n in range(5)]

    assert recorded(ledger, *forged, told(K.COMPLAINED, recipient=BO, bounce=SPAM)).suppressed == 0
    assert suppressed(ledger) == {}


def test_of_two_messages_it_is_believed_if_a_server_has_taken_one(ledger: Engine):
    people(ledger, ADA, BO)
    for day in (-20, -1):
        sent(ledger, f"day{day}", at=NOW + day * DAY, state="unknown")
    forged = [bounced(recipient=a, occurred_at=NOW + day * DAY) for day in (-19, 0) for a in (ADA, BO)]
    assert recorded(ledger, *forged).suppressed == 0

    found = recorded(ledger, *(told(K.SENT, token=token(ledger, number, ADA)) for number in (1, 2)))

    assert found.suppressed == 1
    assert suppressed(ledger) == {ADA: "bounced"}


# -- order, repetition, concurrency


def effect(ledger: Engine | Connection) -> dict[str, list]:
    """Return all that evidence has an effect on, but the times and sources of what is said several times."""
    statements = {
        "attempts": "SELECT id, state, provider_message_id FROM attempts ORDER BY id",
        "events": """SELECT attempt_id, kind, source, source_id, details, occurred_at FROM events
            WHERE campaign_id IS NULL AND kind <> 'resolved' ORDER BY source, source_id""",
        "suppressions": """SELECT channel, address_key, reason, expires_at FROM suppressions
            WHERE expires_at IS NULL OR expires_at > clock_timestamp() ORDER BY 1, 2""",
        "contacts": "SELECT id, status FROM contacts ORDER BY id",
        "opted out": "SELECT audience_id, channel, address_key FROM audience_opt_outs ORDER BY 1, 2, 3",
        "campaigns": "SELECT id, state, state_reason IS NULL FROM campaigns ORDER BY id",
    }
    if isinstance(ledger, Engine):
        with ledger.begin() as connection:
            return effect(connection)
    return {name: [tuple(row) for row in ledger.execute(text(s))] for name, s in statements.items()}


SENT_ON = (-40, -30, -20, -10, -1)
KINDS = st.sampled_from([K.SENT, K.DELIVERED, K.DELAYED, K.FAILED, K.OPENED, K.CLICKED, K.UNSUBSCRIBED])
PIECES = st.one_of(
    st.builds(
        lambda bounce: ("bounced", bounce), st.sampled_from([HARD, WEAK, SOFT, SOFT, SOFT, SOFT, BLOCK])
    ),
    st.builds(lambda kind: (kind, None), KINDS),
    st.just((K.DELIVERED, None)),
    st.just((K.COMPLAINED, SPAM)),
)
STORIES = st.lists(
    st.tuples(
        PIECES,
        st.integers(0, len(SENT_ON) - 1),  # the campaign
        st.sampled_from([ADA, ADA, ADA, BO]),
        st.integers(0, 8),  # days later
        st.sampled_from(["token", "token", "token", "campaign", "address"]),
        st.booleans(),  # by a machine; from everything
    ),
    min_size=1,
    max_size=14,
)


@pytest.fixture
def story_ledger(ledger: Engine) -> Engine:
    people(ledger, ADA, BO, phones=[PHONE])
    for number, day in enumerate(SENT_ON):
        sent(ledger, f"day{day}", at=NOW + day * DAY, state=("accepted", "unknown")[number % 2])
    return ledger


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=STORIES, seed=st.integers(0, 2**32))
def test_the_same_evidence_ends_the_same_in_any_order_and_however_often(story_ledger, story, seed):
    found = rows(story_ledger, "SELECT campaign_id, address, token FROM attempts")
    tokens = {(row[0], row[1]): row[2] for row in found}
    pieces = []
    for n, ((kind, bounce), place, address, later, how, flag) in enumerate(story):
        # As when two are told of one moment, some are.
        at = min(NOW, NOW + (SENT_ON[place] + later) * DAY)
        clue = {
            "token": {"token": tokens[place + 1, address]},
            "campaign": {"recipient": address, "campaign_id": place + 1},
            "address": {"recipient": address},
        }[how]
        details = {"machine": "Bot"} if flag and kind in {K.OPENED, K.CLICKED} else {}
        everywhere = not (flag and kind is K.UNSUBSCRIBED)
        pieces.append(
            told(
                K(kind), bounce=bounce, source_id=str(n), occurred_at=at, details=details,
                everywhere=everywhere, **clue,
            )
        )  # fmt: skip
    dice = random.Random(seed)  # noqa: S311 - an order, not a secret
    shuffled = [*pieces, *dice.choices(pieces, k=dice.randint(0, 5))]
    dice.shuffle(shuffled)
    effects = []
    with story_ledger.connect() as connection:
        for order in ([pieces], [shuffled], [[piece] for piece in shuffled], [[p] for p in pieces[::-1]]):
            with connection.begin() as transaction:
                for chunk in order:
                    record(connection, chunk)
                effects.append(effect(connection))
                transaction.rollback()

    assert effects[1:] == effects[:1] * 3


def test_two_who_record_the_same_at_once_record_it_once(ledger: Engine):
    addresses = [f"reader{n}@example.org" for n in range(40)]
    people(ledger, *addresses)
    number = sent(ledger, state="unknown")
    tokens = {a: token(ledger, number, a) for a in addresses}
    pieces = [bounced(token=tokens[a]) for a in addresses[:5]]
    pieces += [told(K.DELIVERED, token=tokens[a]) for a in addresses[5:]]
    pieces += [bounced(recipient=f"nobody{n}@example.org") for n in range(40)]
    start = Barrier(4)

    def run(seed: int) -> Recorded:
        mine = random.Random(seed).sample(pieces, len(pieces))  # noqa: S311 - an order, not a secret
        start.wait(10)
        return recorded(ledger, *mine)

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(run, range(4)))

    total = done[0] + done[1] + done[2] + done[3]
    assert (total.recorded, total.repeated, total.suppressed) == (80, 240, 5)
    assert rows(ledger, "SELECT state, count(*) FROM attempts GROUP BY 1") == [("accepted", 40)]
    assert rows(ledger, "SELECT count(*) FROM events WHERE kind = 'resolved'") == [(40,)]


def test_of_two_who_record_at_once_the_second_sees_what_the_first_knows(ledger: Engine):
    people(ledger, ADA)
    numbers = [sent(ledger, f"day{day}", at=NOW + day * DAY) for day in (-2, -1)]
    pieces = [bounced(WEAK, token=token(ledger, number, ADA)) for number in numbers]

    with ThreadPoolExecutor(1) as pool, ledger.connect() as connection:
        with connection.begin():
            record(connection, pieces[:1])
            second = pool.submit(recorded, ledger, pieces[1])
            waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while rows(ledger, waits) == [(0,)]:
                assert not second.done()
        assert second.result(30).suppressed == 1

    assert suppressed(ledger) == {ADA: "bounced"}


def test_a_thousand_pieces_take_as_many_statements_as_ten(ledger: Engine):
    addresses = [f"reader{n}@example.org" for n in range(1000)]
    people(ledger, *addresses, phones=[f"+4477{n:08}" for n in range(1000)])
    number = sent(ledger, state="unknown")
    by_name = {row[0]: row[1] for row in rows(ledger, "SELECT address, token FROM attempts")}
    makers = [
        lambda its, _: bounced(token=its, provider_message_id=its.hex),
        lambda _, address: bounced(SOFT, recipient=address),
        lambda its, _: told(K.COMPLAINED, token=its),
        lambda its, _: told(K.UNSUBSCRIBED, token=its),
        lambda its, _: told(K.UNSUBSCRIBED, token=its, everywhere=False),
        lambda its, _: told(K.OPENED, token=its),
        lambda its, _: told(K.FAILED, token=its),
        lambda _, address: told(K.CLICKED, recipient=address, campaign_id=number),
        lambda _, address: bounced(recipient=f"not-{address}"),
        lambda its, _: told(K.DELIVERED, token=its),
    ]

    def cost(some: list[str]) -> int:
        pieces = [makers[n % 10](by_name[address], address) for n, address in enumerate(some)]
        with heard(ledger) as statements:
            assert recorded(ledger, *pieces).recorded == len(some)
        return len(statements)

    few, many = cost(addresses[:10]), cost(addresses[10:])

    assert many <= few + 4  # that a campaign is paused is noted
    assert many < 50
    assert len(rows(ledger, "SELECT 1 FROM suppressions")) == 2 * 2 * 100 + 100


# -- campaigns that run, and those that come


async def test_a_running_campaign_leaves_out_who_bounces_meanwhile(ledger: Engine):
    people(ledger, ADA, BO)
    before = sent(ledger, "before")
    now = plan_campaign(ledger, SPEC.model_copy(update={"name": "running"})).campaign_id
    with ledger.begin() as connection:
        lease = batches.claim(connection, now, 1, "us")

    recorded(ledger, bounced(token=token(ledger, before, ADA)))

    marks = [Mark(attempt(ledger, now, address).id, "<x@example.org>") for address in (ADA, BO)]
    asking = Prepared.open(ledger, {"round": ROUND})
    try:
        done = round_done(await asking.ask("round", round_of(lease, [], marks)))
    finally:
        asking.close()
    assert done.marked == {marks[1].attempt_id}
    assert state(ledger, now) == "suppressed"
    assert attempt(ledger, now, ADA).reason == "suppressed: bounced"


def test_the_next_campaign_leaves_out_who_is_suppressed_until_that_ends(ledger: Engine):
    people(ledger, ADA, BO)
    number = sent(ledger)
    recorded(ledger, bounced(token=token(ledger, number, ADA)))

    second = plan_campaign(ledger, SPEC.model_copy(update={"name": "second"}))
    assert (second.recipients, second.excluded) == (1, {"suppressed: bounced": 1})

    with ledger.begin() as connection:
        suppressions.lift(connection, Channel.EMAIL, [ADA], "ada")
    assert plan_campaign(ledger, SPEC.model_copy(update={"name": "third"})).recipients == 2
