"""Whom one account cannot reach is tried on the next, once, and nobody else is."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import Engine, text

from messaging.campaign import working
from messaging.campaign.controlling import cancel, pause
from messaging.campaign.ledger import BatchLedger
from messaging.campaign.planning import find_plan, plan_campaign
from messaging.campaign.retrying import check_retry, requeue
from messaging.campaign.sending import CampaignRun, send_batch
from messaging.campaign.working import has_work, next_work
from messaging.channels.whatsapp_cloud import WhatsAppCloudPool
from messaging.errors import CampaignStopped
from messaging.reports.numbers import batch_totals, campaign_report
from messaging.storage import batches, campaigns
from messaging.storage.attempts import Answer
from schemas.campaign import CampaignSpec, RetryRequest
from schemas.report import AccountTotals, Plan, Totals
from schemas.states import AttemptState, CampaignState, Channel
from tests.fakes.scripted_smtp import ScriptedSmtp, says
from tests.fakes.whatsapp_cloud import CloudApi
from tests.messaging.channels.whatsapp_cloud_provider import settings_of

ADA, BO, CY = "ada@example.org", "bo@example.org", "cy@example.org"
PHONES = ("+447700900001", "+447700900002", "+447700900003")
MAIN, RELAY, CLOUD = "smtp-account/main", "smtp-account/relay", "whatsapp-cloud-account/shop"
NOBODY = says("550 5.1.1 no such mailbox")
FORBIDDEN = says("550 5.7.1 not to this one")

SendAll = Callable[..., Awaitable[None]]


@pytest.fixture
def two(spec: CampaignSpec) -> CampaignSpec:
    """A campaign over one mail server, and another for those it does not reach."""
    return spec.model_copy(update={"fallback": [RELAY]})


@pytest.fixture
def then_whatsapp(spec: CampaignSpec) -> CampaignSpec:
    """A campaign by email, and over WhatsApp to those whom that does not reach."""
    update = {
        "fallback": [CLOUD],
        "template": {"name": "spring_offer", "language": "en_GB", "body": {"1": "{{ name }}"}},
    }
    return CampaignSpec.model_validate(spec.model_dump() | update)


@pytest.fixture
def send_all(ledger: Engine, open_run, monkeypatch: pytest.MonkeyPatch) -> SendAll:
    """Send a campaign as the flow does: over each account at once, to the server of its place."""
    monkeypatch.setattr(working, "LONGEST_NAP", 0.1)

    async def send_over(campaign_id: int, leg: int, port: int, chosen: list[int] | None) -> bool:
        if not await has_work(ledger, campaign_id, leg, chosen):
            return False
        async with open_run(campaign_id, port, connections=1, leg=leg) as run:
            async for numbers in next_work(run, chosen):
                for number in numbers:
                    await send_batch(run, number)
        return True

    async def send(campaign_id: int, *servers: ScriptedSmtp, chosen: list[int] | None = None) -> list[bool]:
        legs = [send_over(campaign_id, leg, server.port, chosen) for leg, server in enumerate(servers)]
        return await asyncio.gather(*legs)

    return send


def change(ledger: Engine, statement: str, **parameters: object) -> None:
    with ledger.begin() as connection:
        connection.execute(text(statement), parameters)


def refused(ledger: Engine, *addresses: str) -> None:
    """Let these have been refused as unreachable; everybody else was accepted."""
    change(
        ledger,
        """UPDATE attempts SET answered_at = now(), dispatched_at = now(), message_id = '<1@example.org>',
            state = CASE WHEN address = ANY (:addresses) THEN 'rejected' ELSE 'accepted' END,
            code = CASE WHEN address = ANY (:addresses) THEN 550 ELSE 250 END, tries = 1,
            unreachable = address = ANY (:addresses)
        WHERE state = 'queued'""",
        addresses=list(addresses),
    )


def look(ledger: Engine, campaign_id: int) -> tuple[CampaignState, list[int]]:
    """Do what every sender does between two passes."""
    with ledger.begin() as connection:
        made = campaigns.finish(connection, campaign_id)
        return campaigns.lock(connection, campaign_id).state, made


def rows(ledger: Engine, statement: str) -> list[tuple]:
    with ledger.begin() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


EVENTS = "SELECT attempt_id, kind, source, details FROM events WHERE kind = 'fell_back' ORDER BY attempt_id"
GONE = """
    INSERT INTO suppressions (channel, address_key, reason, source) VALUES (:channel, :key, 'manual', 'test')
"""
LATE = """
    UPDATE campaigns
    SET planned_at = now() - interval '2 h', spec = jsonb_set(spec, '{not_after}', '"1h"')
"""


async def test_only_whom_the_first_account_cannot_reach_is_tried_on_the_second(
    ledger: Engine, audience, two: CampaignSpec, states, send_all: SendAll
):
    audience(ADA, BO, CY, "di@example.org")
    plan = plan_campaign(ledger, two)
    main, relay = (
        ScriptedSmtp({"RCPT": [None, NOBODY, FORBIDDEN, NOBODY]}),
        ScriptedSmtp({"RCPT": [None, NOBODY]}),
    )
    async with main.running(), relay.running():
        await send_all(plan.campaign_id, main, relay)

    assert states() == {ADA: "accepted", BO: "accepted", CY: "rejected", "di@example.org": "rejected"}
    assert ([s.rcpt_to for s in main.stored], [s.rcpt_to for s in relay.stored]) == ([ADA], [BO])
    report = campaign_report(ledger, plan.campaign_id)
    assert report.state is CampaignState.FINISHED
    assert report.accounts == [
        AccountTotals(account=MAIN, totals=Totals(accepted=1, rejected=1), fell_back=2),
        AccountTotals(account=RELAY, totals=Totals(accepted=1, rejected=1), fell_back=0),
    ]
    assert rows(ledger, EVENTS) == [
        (n, "fell_back", "outflow", {"leg": 0, "account": MAIN, "code": 550, "status": "5.1.1"})
        for n in (2, 4)
    ]
    assert rows(ledger, "SELECT number, leg FROM batches ORDER BY number") == [(1, 0), (2, 1)]


async def test_by_email_then_by_whatsapp_each_in_its_own_words(
    ledger: Engine, audience, then_whatsapp: CampaignSpec, states, open_run, monkeypatch
):
    monkeypatch.setattr(working, "LONGEST_NAP", 0.1)
    audience(ADA, BO, "", phones=PHONES)
    plan = plan_campaign(ledger, then_whatsapp)

    async def send_over(run: CampaignRun) -> None:
        async for numbers in next_work(run, None):
            for number in numbers:
                await send_batch(run, number)

    main = ScriptedSmtp({"RCPT": [None, NOBODY]})
    async with AsyncExitStack() as running:
        await running.enter_async_context(main.running())
        cloud = await running.enter_async_context(CloudApi().running())
        pool = await running.enter_async_context(WhatsAppCloudPool(settings_of(cloud)))
        by_mail = await running.enter_async_context(open_run(plan.campaign_id, main.port, connections=1))
        by_phone = CampaignRun(ledger, plan.campaign_id, "", pool, leg=1)
        await running.enter_async_context(by_phone)
        await asyncio.gather(send_over(by_mail), send_over(by_phone))

    assert states() == {ADA: "accepted", PHONES[1]: "accepted", PHONES[2]: "accepted"}
    assert [stored.rcpt_to for stored in main.stored] == [ADA]
    assert sorted(taken.to for taken in cloud.taken) == [phone.removeprefix("+") for phone in PHONES[1:]]


def test_who_falls_back_starts_anew_under_the_same_token(
    ledger: Engine, audience, then_whatsapp: CampaignSpec
):
    audience(ADA, phones=PHONES[:1])
    plan = plan_campaign(ledger, then_whatsapp)
    before = rows(ledger, "SELECT id, contact_id, token FROM attempts")
    refused(ledger, ADA)

    assert look(ledger, plan.campaign_id) == (CampaignState.RUNNING, [2])

    assert rows(ledger, "SELECT id, contact_id, token FROM attempts") == before
    started = """
        SELECT state, address, address_key, tries, unreachable,
            num_nonnulls(code, status, reply, reason, answered_at, dispatched_at, message_id, not_before)
        FROM attempts"""
    assert rows(ledger, started) == [("queued", PHONES[0], PHONES[0], 0, False, 0)]


@pytest.mark.parametrize(
    ("meanwhile", "parameters"),
    [
        (GONE, {"channel": "whatsapp", "key": PHONES[0]}),
        ("UPDATE contacts SET status = 'unsubscribed'", {}),
        ("UPDATE contacts SET consent_source = NULL", {}),
        ("UPDATE contacts SET phone = NULL", {}),
        ("UPDATE attempts SET contact_id = NULL", {}),
        ("UPDATE attempts SET unreachable = false", {}),
        ("UPDATE attempts SET state = 'accepted'", {}),
        ("UPDATE attempts SET state = 'unknown'", {}),
        (LATE, {}),
    ],
    ids=[
        "suppressed there", "unsubscribed", "consent withdrawn", "no address", "erased", "another refusal",
        "accepted", "unknown", "too late",
    ],
)  # fmt: skip
def test_who_must_not_or_cannot_be_tried_again_is_not(
    ledger: Engine, audience, then_whatsapp: CampaignSpec, meanwhile: str, parameters: dict[str, str]
):
    audience(ADA, phones=PHONES[:1])
    plan = plan_campaign(ledger, then_whatsapp)
    refused(ledger, ADA)
    change(ledger, meanwhile, **parameters)
    before = rows(ledger, "SELECT * FROM attempts")

    assert look(ledger, plan.campaign_id) == (CampaignState.FINISHED, [])
    assert rows(ledger, "SELECT * FROM attempts") == before
    assert rows(ledger, EVENTS) == []


def test_what_is_suppressed_for_email_says_nothing_about_a_phone(
    ledger: Engine, audience, then_whatsapp: CampaignSpec, states
):
    audience(ADA, phones=PHONES[:1])
    plan = plan_campaign(ledger, then_whatsapp)
    refused(ledger, ADA)
    change(ledger, GONE, channel="email", key=ADA)  # as a bounce does

    look(ledger, plan.campaign_id)

    assert states() == {PHONES[0]: "queued"}


def test_a_cancelled_campaign_tries_nobody_again(
    ledger: Engine, audience, then_whatsapp: CampaignSpec, states
):
    audience(ADA, phones=PHONES[:1])
    plan = plan_campaign(ledger, then_whatsapp)
    refused(ledger, ADA)
    cancel(ledger, plan.name, "ada")

    assert look(ledger, plan.campaign_id) == (CampaignState.CANCELLED, [])
    assert states() == {ADA: "rejected"}


def test_a_number_is_written_to_once_whoever_has_it(
    ledger: Engine, audience, then_whatsapp: CampaignSpec, states
):
    audience("", ADA, BO, CY, phones=[PHONES[0], PHONES[0], PHONES[1], PHONES[1]])
    plan = plan_campaign(ledger, then_whatsapp)
    refused(ledger, ADA, BO, CY)

    look(ledger, plan.campaign_id)

    assert states() == {PHONES[0]: "accepted", ADA: "rejected", PHONES[1]: "queued", CY: "rejected"}


def test_the_next_account_that_can_reach_them_is_tried_not_just_the_next(
    ledger: Engine, audience, then_whatsapp: CampaignSpec
):
    audience(ADA, BO, phones=["", PHONES[1]])
    plan = plan_campaign(ledger, then_whatsapp.model_copy(update={"fallback": [CLOUD, RELAY]}))
    refused(ledger, ADA, BO)
    legs = "SELECT address, leg FROM attempts a JOIN batches b ON b.id = a.batch_id ORDER BY a.id"

    assert look(ledger, plan.campaign_id) == (CampaignState.RUNNING, [2, 3])
    assert rows(ledger, legs) == [(ADA, 2), (PHONES[1], 1)]

    refused(ledger, ADA, PHONES[1])

    assert look(ledger, plan.campaign_id) == (CampaignState.RUNNING, [4])
    assert rows(ledger, legs) == [(ADA, 2), (BO, 2)]

    refused(ledger, ADA, BO)

    assert look(ledger, plan.campaign_id) == (CampaignState.FINISHED, [])
    assert [details["leg"] for *_, details in rows(ledger, EVENTS)] == [0, 0, 1]


def test_many_who_look_at_once_move_everybody_once(ledger: Engine, audience, two: CampaignSpec, states):
    people = [f"reader{n}@example.org" for n in range(60)]
    audience(*people)
    plan = plan_campaign(ledger, two.model_copy(update={"batch_size": 10}))
    refused(ledger, *people[:30])

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: look(ledger, plan.campaign_id)[1], range(8)))

    assert sorted(made) == [[]] * 7 + [[7, 8, 9]]
    assert len(rows(ledger, EVENTS)) == 30
    assert list(states().values()) == ["queued"] * 30 + ["accepted"] * 30


async def test_a_process_that_died_between_two_accounts_leaves_what_a_retry_finds(
    ledger: Engine, audience, two: CampaignSpec, states, send_all: SendAll
):
    audience(ADA, BO)
    plan = plan_campaign(ledger, two)
    refused(ledger, ADA)  # the last answer is in the ledger, and nobody has looked since

    check_retry(ledger, RetryRequest(campaign=plan.name))
    assert requeue(ledger, RetryRequest(campaign=plan.name), "ada") == 0
    main, relay = ScriptedSmtp(), ScriptedSmtp()
    async with main.running(), relay.running():
        opened = await send_all(plan.campaign_id, main, relay)

    assert states() == {ADA: "accepted", BO: "accepted"}
    assert (opened, main.opened, [stored.rcpt_to for stored in relay.stored]) == ([False, True], 0, [ADA])


async def test_an_account_without_work_is_not_opened(
    ledger: Engine, audience, two: CampaignSpec, send_all: SendAll
):
    audience(ADA)
    plan = plan_campaign(ledger, two)
    main, relay = ScriptedSmtp(), ScriptedSmtp()
    async with main.running(), relay.running():
        assert await send_all(plan.campaign_id, main, relay) == [True, False]

    assert relay.opened == 0


async def test_a_campaign_paused_in_between_is_neither_finished_nor_sent(
    ledger: Engine, audience, two: CampaignSpec, states
):
    audience(ADA)
    plan = plan_campaign(ledger, two)
    refused(ledger, ADA)

    pause(ledger, plan.name, "lunch", "ada")

    assert campaign_report(ledger, plan.campaign_id).state is CampaignState.PAUSED
    with pytest.raises(CampaignStopped, match=r"paused \(lunch, by ada\): 1 recipients are left"):
        await has_work(ledger, plan.campaign_id, 1, None)
    assert states() == {ADA: "queued"}


async def test_of_one_batch_retried_those_who_fall_back_are_sent_too(
    ledger: Engine, audience, two: CampaignSpec, states, send_all: SendAll
):
    audience(ADA, BO)
    plan = plan_campaign(ledger, two.model_copy(update={"batch_size": 1}))
    main, relay = ScriptedSmtp({"RCPT": NOBODY}), ScriptedSmtp()
    async with main.running(), relay.running():
        await send_all(plan.campaign_id, main, relay, chosen=[2])

    assert states() == {ADA: "queued", BO: "accepted"}
    assert [stored.rcpt_to for stored in relay.stored] == [BO]


async def test_who_is_requeued_is_sent_to_where_they_are_now(
    ledger: Engine, audience, two: CampaignSpec, states, send_all: SendAll
):
    audience(ADA)
    plan = plan_campaign(ledger, two)
    main, relay = ScriptedSmtp({"RCPT": NOBODY}), ScriptedSmtp({"RCPT": [FORBIDDEN]})
    async with main.running(), relay.running():
        await send_all(plan.campaign_id, main, relay)
        assert states() == {ADA: "rejected"}
        requeue(ledger, RetryRequest(campaign=plan.name, states=["rejected"]), "ada")
        await send_all(plan.campaign_id, main, relay)

    assert states() == {ADA: "accepted"}
    assert (main.verbs().count("RCPT"), relay.verbs().count("RCPT")) == (1, 2)


def test_a_batch_is_claimed_for_its_own_account_only(ledger: Engine, audience, then_whatsapp: CampaignSpec):
    audience(ADA, "", phones=["", PHONES[1]])
    plan = plan_campaign(ledger, then_whatsapp)
    with ledger.begin() as connection:
        wrong = batches.claim(connection, plan.campaign_id, 2, "us", leg=0)
        right = batches.claim(connection, plan.campaign_id, 2, "us", leg=1)

    assert wrong is None
    assert right.channel is Channel.WHATSAPP


async def test_an_answer_that_comes_late_for_the_batch_before_changes_nothing(
    ledger: Engine, audience, two: CampaignSpec, states
):
    audience(ADA)
    plan = plan_campaign(ledger, two)
    with ledger.begin() as connection:
        lease = batches.claim(connection, plan.campaign_id, 1, "us", leg=0)
    async with BatchLedger(ledger, lease) as book:
        refused(ledger, ADA)
        look(ledger, plan.campaign_id)
        book.record(Answer(1, AttemptState.ACCEPTED, code=250))
        await book.committed()

    assert states() == {ADA: "queued"}


async def test_a_batch_that_everybody_left_is_counted_and_passed_over(
    ledger: Engine, audience, two: CampaignSpec, open_run
):
    audience(ADA)
    plan = plan_campaign(ledger, two)
    refused(ledger, ADA)
    look(ledger, plan.campaign_id)
    async with open_run(plan.campaign_id, port=1, connections=1) as run:
        report = await send_batch(run, 1)

    assert not report.claimed
    assert [(batch.number, batch.totals.planned) for batch in batch_totals(ledger, plan.campaign_id)] == [
        (1, 0),
        (2, 1),
    ]


def test_a_fallback_may_be_replaced_by_one_of_its_kind_only(
    ledger: Engine, audience, then_whatsapp: CampaignSpec
):
    audience(ADA, phones=PHONES[:1])
    plan_campaign(ledger, then_whatsapp)
    other = then_whatsapp.model_copy(update={"fallback": ["whatsapp-cloud-account/other"]})

    assert not plan_campaign(ledger, other).created
    with pytest.raises(Exception, match="planned before with another fallback"):
        plan_campaign(ledger, then_whatsapp.model_copy(update={"fallback": [RELAY]}))


def test_a_plan_names_the_accounts_that_have_batches(ledger: Engine, audience, then_whatsapp: CampaignSpec):
    audience(ADA, phones=PHONES[:1])
    plan: Plan = plan_campaign(ledger, then_whatsapp)
    assert plan.accounts == [MAIN]
    refused(ledger, ADA)
    look(ledger, plan.campaign_id)

    assert find_plan(ledger, plan.name).accounts == [MAIN, CLOUD]
