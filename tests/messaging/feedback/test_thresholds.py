"""A campaign stops when too much of it comes back, and not before; what we hear while sending counts."""

import pytest
from sqlalchemy import Engine

from messaging.campaign.planning import plan_campaign
from messaging.campaign.sending import send_batch
from messaging.campaign.working import next_work
from messaging.errors import CampaignStopped
from messaging.feedback.recording import rematch
from messaging.feedback.thresholds import AROUND, LATEST, Touched, check, too_many
from messaging.storage import campaigns
from messaging.storage.returning import Returned
from schemas.bounces import BounceClass, BounceReason, Suppress
from schemas.campaign import CampaignSpec
from schemas.states import Channel, EventKind
from tests.fakes.scripted_smtp import ScriptedSmtp, says
from tests.messaging.campaign.conftest import audience, open_run  # noqa: F401 - fixtures
from tests.messaging.feedback.sent import (
    ADA,
    BLOCK,
    BO,
    PHONE,
    SOFT,
    SPAM,
    bounced,
    change,
    heard,
    people,
    recorded,
    rows,
    sent,
    suppressed,
    told,
)

K = EventKind
NOBODY = says("550 5.1.1 no such mailbox")


@pytest.mark.parametrize(
    ("answered", "bounces", "complaints", "stops"),
    [
        (200, 10, 0, False),
        (200, 11, 0, True),
        (11, 11, 0, True),
        (10, 10, 0, False),  # were the other 190 fine, it would be 5 %
        (2000, 100, 0, False),
        (2000, 101, 0, True),
        (200, 0, 1, False),  # half a percent, and one person
        (200, 0, 2, True),
        (2, 0, 2, True),
        (2000, 0, 6, False),
        (2000, 0, 7, True),
        (0, 0, 0, False),
    ],
)
def test_a_rate_is_one_of_two_hundred_at_least(answered, bounces, complaints, stops):
    assert bool(too_many(Returned(answered, bounces, complaints))) is stops


def test_the_reason_names_the_rate_and_what_to_do():
    assert too_many(Returned(150, 15, 0)) == (
        "15 of 150 messages bounced or were refused (10.0%, at most 5.0%): see why, mend the list or the "
        "account, then outflow resume"
    )
    assert too_many(Returned(400, 0, 2)) == (
        "2 of 400 messages were reported as spam (0.5%, at most 0.3%): see why, mend the list or the "
        "account, then outflow resume"
    )


def readers(ledger: Engine, n: int) -> list[str]:
    addresses = [f"reader{i:04}@example.org" for i in range(n)]
    people(ledger, *addresses)
    return addresses


def running(ledger: Engine, n: int = 300, answered: int | None = None, name: str = "spring-offer") -> int:
    """Have a campaign whose first messages were answered a while ago, in order."""
    readers(ledger, n)
    number = sent(ledger, name)
    change(
        ledger,
        """UPDATE attempts SET state = 'queued', answered_at = NULL, dispatched_at = NULL WHERE id > :last""",
        last=n if answered is None else answered,
    )
    return number


def tokens(ledger: Engine) -> list:
    return [row[0] for row in rows(ledger, "SELECT token FROM attempts ORDER BY id")]


def paused(ledger: Engine) -> list[tuple]:
    return rows(ledger, "SELECT state, state_reason FROM campaigns")


def resume(ledger: Engine, number: int) -> None:
    with ledger.begin() as connection:
        campaign = campaigns.lock(connection, number)
        campaigns.resume(connection, campaign, campaign.spec, "ada")


def test_bounces_of_whatever_kind_pause_a_campaign_that_runs(ledger: Engine):
    number = running(ledger)
    some = tokens(ledger)[150:]
    kinds = [BLOCK, SOFT, None]

    early = recorded(ledger, *(bounced(kinds[n % 3], token=some[n]) for n in range(10)))
    assert early.paused == ()
    late = recorded(ledger, bounced(BLOCK, token=some[10]))

    assert late.paused == (number,)
    [(state, reason)] = paused(ledger)
    assert state == "paused"
    assert reason.startswith("11 of 200 messages bounced or were refused (5.5%, at most 5.0%)")
    said = "SELECT source, details ->> 'said' FROM events WHERE campaign_id IS NOT NULL AND kind = 'paused'"
    assert rows(ledger, said) == [("outflow", f"paused: {reason}")]
    [(kind, alert)] = rows(ledger, "SELECT kind, said FROM alerts")
    assert kind == "paused"
    assert alert == (
        f"campaign 'spring-offer' (number {number}) is paused: {reason}. "
        "0 are still to be written to; to go on: outflow resume 'spring-offer'"
    )


def test_several_bounces_of_a_message_are_one(ledger: Engine):
    running(ledger)
    some = tokens(ledger)[-5:]

    found = recorded(ledger, *(bounced(BLOCK, token=some[n % 5]) for n in range(50)))

    assert found.paused == ()


def test_two_complaints_of_two_hundred_pause_it_and_one_does_not(ledger: Engine):
    number = running(ledger, 200)
    one, two, *_ = tokens(ledger)
    not_spam = SPAM.__class__(BounceClass.COMPLAINT, BounceReason.NOT_SPAM, Suppress.NEVER)

    first = recorded(
        ledger,
        told(K.COMPLAINED, token=one, bounce=SPAM),
        told(K.COMPLAINED, token=one),
        told(K.COMPLAINED, token=two, bounce=not_spam),
    )
    assert first.paused == ()

    assert recorded(ledger, told(K.COMPLAINED, token=two, bounce=SPAM)).paused == (number,)


@pytest.mark.parametrize("kind", [K.DELAYED, K.FAILED, K.AUTO_REPLIED, K.CHALLENGED, K.UNSUBSCRIBED])
def test_nothing_else_pauses_it(ledger: Engine, kind: EventKind):
    running(ledger)

    assert recorded(ledger, *(told(kind, token=its) for its in tokens(ledger)[-50:])).paused == ()


def test_what_anybody_can_make_up_stops_no_campaign(ledger: Engine):
    addresses = readers(ledger, 50)
    sent(ledger)

    found = recorded(ledger, *(bounced(recipient=address) for address in addresses))

    assert (found.unmatched, found.paused) == (0, ())


def test_numbers_that_are_not_on_whatsapp_stop_no_campaign_and_complaints_do(ledger: Engine):
    people(ledger, *[""] * 40, phones=[f"+4477009{n:05}" for n in range(40)])
    number = sent(
        ledger,
        account="whatsapp-cloud-account/shop",
        channel="whatsapp",
        template={"name": "offer", "language": "en_GB", "body": {}},
    )
    change(ledger, "UPDATE attempts SET state = 'rejected' WHERE id <= 20")
    its = tokens(ledger)

    absent = recorded(ledger, *(bounced(token=t, channel=Channel.WHATSAPP) for t in its))
    assert absent.paused == ()
    angry = recorded(ledger, *(told(K.COMPLAINED, token=t, channel=Channel.WHATSAPP) for t in its[:2]))
    assert angry.paused == (number,)


def test_at_full_speed_bounces_come_when_the_latest_have_long_left(ledger: Engine):
    number = running(ledger, 3000)
    early = tokens(ledger)[:AROUND]

    few = recorded(ledger, *(bounced(BLOCK, token=its) for its in early[0 : AROUND // 2 : 20]))
    assert few.paused == ()
    assert recorded(ledger, *(bounced(BLOCK, token=its) for its in early[1::15])).paused == (number,)


def test_a_campaign_resumed_by_a_person_is_not_stopped_by_the_same_again(ledger: Engine):
    number = running(ledger, 400, answered=200)
    its = tokens(ledger)
    bounces = [bounced(BLOCK, token=token) for token in its[:40]]
    assert recorded(ledger, *bounces).paused == (number,)
    resume(ledger, number)

    late = recorded(ledger, *(bounced(BLOCK, token=token) for token in its[40:100]))
    assert late.paused == ()

    change(ledger, "UPDATE attempts SET state = 'accepted', answered_at = clock_timestamp() WHERE id > 200")
    assert recorded(ledger, *(bounced(BLOCK, token=t) for t in its[200:210])).paused == ()
    assert recorded(ledger, bounced(BLOCK, token=its[210])).paused == (number,)


@pytest.mark.parametrize("state", ["finished", "cancelled", "paused"])
def test_only_a_campaign_that_runs_is_paused(ledger: Engine, state: str):
    running(ledger)
    change(ledger, "UPDATE campaigns SET state = :state", state=state)

    assert recorded(ledger, *(bounced(BLOCK, token=its) for its in tokens(ledger)[-20:])).paused == ()
    assert paused(ledger) == [(state, None)]


def test_bounces_that_find_their_attempts_later_pause_too(ledger: Engine):
    addresses = [f"reader{i:04}@example.org" for i in range(20)]
    names = [f"<{n}.1@shop.example.org>" for n in range(1, 21)]
    reports = zip(addresses, names, strict=True)
    recorded(ledger, *(bounced(BLOCK, recipient=a, message_id=name) for a, name in reports))
    number = running(ledger, 20)

    with ledger.begin() as connection:
        assert rematch(connection).paused == (number,)


def test_a_campaign_that_somebody_is_changing_is_left_to_them(ledger: Engine):
    number = running(ledger)
    pieces = [bounced(BLOCK, token=its) for its in tokens(ledger)[-20:]]

    with ledger.begin() as connection:
        campaigns.lock(connection, number)
        assert recorded(ledger, *pieces).paused == ()

    with ledger.begin() as connection:
        assert check(connection, [Touched(number)]) == (number,)


def test_no_more_rows_are_read_of_a_large_campaign(ledger: Engine):
    number = running(ledger, 6000)
    pieces = [bounced(BLOCK, token=its) for its in tokens(ledger)[:9]]
    read = "SELECT coalesce(sum(idx_tup_fetch + seq_tup_read), 0) FROM pg_stat_xact_user_tables"
    recorded(ledger, *pieces)
    with ledger.begin() as connection:
        before = connection.exec_driver_sql(read).scalar_one()
        with heard(ledger) as statements:
            check(connection, [Touched(number, tuple(range(1, 10)))])
        after = connection.exec_driver_sql(read).scalar_one()

    assert len(statements) == 7
    assert after - before < 3 * AROUND + 5 * LATEST


# -- what a server says while we send


@pytest.fixture
def then_relay(spec: CampaignSpec) -> CampaignSpec:
    return spec.model_copy(update={"fallback": ["smtp-account/relay"]})


@pytest.fixture
def then_whatsapp(spec: CampaignSpec) -> CampaignSpec:
    update = {
        "fallback": ["whatsapp-cloud-account/shop"],
        "template": {"name": "spring_offer", "language": "en_GB", "body": {"1": "{{ name }}"}},
    }
    return CampaignSpec.model_validate(spec.model_dump() | update)


BOUNCES = """
    SELECT attempt_id, details ->> 'class', details ->> 'reason' FROM events
    WHERE kind = 'bounced' AND source = 'outflow' ORDER BY attempt_id
"""


async def test_a_mailbox_that_the_server_does_not_know_has_bounced(
    ledger: Engine,
    audience,  # noqa: F811 - a fixture
    spec: CampaignSpec,
    open_run,  # noqa: F811 - a fixture
):
    audience(ADA, BO, "cy@example.org", "di@example.org")
    plan = plan_campaign(ledger, spec)
    answers = [
        NOBODY,
        says("550 5.2.1 this mailbox is disabled"),
        says("550 5.1.1 blocked using a block list"),
        says("550 5.7.1 not to this one"),
    ]
    smtp = ScriptedSmtp({"RCPT": answers})
    async with smtp.running(), open_run(plan.campaign_id, smtp.port, 1) as run:
        await send_batch(run, 1)

    assert rows(ledger, BOUNCES) == [
        (1, "hard", "user unknown"),
        (2, "hard", "inactive"),
        (3, "block", "blocked"),
    ]
    assert suppressed(ledger) == {ADA: "bounced"}
    assert {row[0] for row in rows(ledger, "SELECT state FROM attempts")} == {"rejected"}


async def test_a_batch_sent_in_two_turns_tells_of_each_refusal_once(
    ledger: Engine,
    audience,  # noqa: F811 - a fixture
    spec: CampaignSpec,
    open_run,  # noqa: F811 - a fixture
):
    audience(ADA, BO)
    plan = plan_campaign(ledger, spec)
    smtp = ScriptedSmtp({"RCPT": [NOBODY, says("450 4.2.0 not now")]})
    async with smtp.running(), open_run(plan.campaign_id, smtp.port, 1) as run:
        await send_batch(run, 1)
        change(ledger, "UPDATE attempts SET not_before = now()")
        await send_batch(run, 1)

    assert len(smtp.stored) == 1
    assert rows(ledger, BOUNCES) == [(1, "hard", "user unknown")]


async def test_an_address_that_another_server_is_to_be_asked_about_is_not_suppressed(
    ledger: Engine,
    audience,  # noqa: F811 - a fixture
    then_relay: CampaignSpec,
    open_run,  # noqa: F811 - a fixture
):
    audience(ADA, BO)
    plan = plan_campaign(ledger, then_relay)
    main, relay = ScriptedSmtp({"RCPT": [NOBODY, NOBODY]}), ScriptedSmtp({"RCPT": [None, NOBODY]})
    async with main.running(), relay.running():
        async with open_run(plan.campaign_id, main.port, 1) as run:
            await send_batch(run, 1)
        assert suppressed(ledger) == {}
        with ledger.begin() as connection:
            assert campaigns.finish(connection, plan.campaign_id) == [2]
        async with open_run(plan.campaign_id, relay.port, 1, leg=1) as run:
            await send_batch(run, 2)

    assert [stored.rcpt_to for stored in relay.stored] == [ADA]
    assert suppressed(ledger) == {BO: "bounced"}


@pytest.mark.parametrize("early", [True, False], ids=["while the batch is sent", "after it"])
async def test_an_address_is_suppressed_and_its_person_reached_by_phone(
    ledger: Engine,
    audience,  # noqa: F811 - a fixture
    then_whatsapp: CampaignSpec,
    open_run,  # noqa: F811 - a fixture
    early: bool,  # noqa: FBT001 - a case
):
    audience(ADA, BO, phones=[PHONE])
    plan = plan_campaign(ledger, then_whatsapp)
    smtp = ScriptedSmtp({"RCPT": [NOBODY]})

    def look() -> None:
        """Do what the sender of the other account does meanwhile."""
        with ledger.begin() as connection:
            assert campaigns.finish(connection, plan.campaign_id) == [2]

    def asked(statement: str) -> None:
        if early and "has_moved" in statement:
            look()

    async with smtp.running(), open_run(plan.campaign_id, smtp.port, 1) as run:
        with heard(ledger, asked):
            await send_batch(run, 1)
    if not early:
        look()

    assert suppressed(ledger) == {ADA: "bounced"}
    assert rows(ledger, "SELECT address, state FROM attempts ORDER BY id") == [
        (PHONE, "queued"),
        (BO, "accepted"),
    ]


async def test_a_list_of_dead_mailboxes_stops_its_campaign(
    ledger: Engine,
    audience,  # noqa: F811 - a fixture
    spec: CampaignSpec,
    open_run,  # noqa: F811 - a fixture
):
    audience(*(f"nobody{n}@example.org" for n in range(60)))
    plan = plan_campaign(ledger, spec.model_copy(update={"batch_size": 20}))
    smtp = ScriptedSmtp({"RCPT": NOBODY})
    async with smtp.running(), open_run(plan.campaign_id, smtp.port, 1) as run:
        with pytest.raises(CampaignStopped, match=r"20 of 20 messages bounced or were refused \(100.0%"):
            async for numbers in next_work(run, None):
                for number in numbers:
                    if not run.halted:
                        await send_batch(run, number)

    assert len(suppressed(ledger)) == 20
    assert rows(ledger, "SELECT state, count(*) FROM attempts GROUP BY 1 ORDER BY 1") == [
        ("queued", 40),
        ("rejected", 20),
    ]


async def test_refusals_that_may_be_about_us_are_left_to_the_breaker(
    ledger: Engine,
    audience,  # noqa: F811 - a fixture
    spec: CampaignSpec,
    open_run,  # noqa: F811 - a fixture
):
    audience(*(f"reader{n}@example.org" for n in range(45)))
    plan = plan_campaign(ledger, spec.model_copy(update={"batch_size": 15}))
    smtp = ScriptedSmtp({"RCPT": says("554 transaction failed")})
    async with smtp.running(), open_run(plan.campaign_id, smtp.port, 1) as run:
        await send_batch(run, 1)
        assert paused(ledger) == [("running", None)]
        with pytest.raises(Exception, match="refuses everyone alike"):
            await send_batch(run, 2)

    assert rows(ledger, "SELECT DISTINCT state FROM attempts") == [("queued",)]
