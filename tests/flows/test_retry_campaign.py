"""A retry sends what is missing, and again only to those it was told to."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from flows.launch_campaign import launch_campaign
from flows.retry_campaign import retry_campaign
from messaging.campaign.planning import plan_campaign
from messaging.errors import InputError, MessagingError
from schemas.campaign import CampaignSpec, RetryRequest
from schemas.states import CampaignState
from tests.fakes.scripted_smtp import ScriptedSmtp, hangs_up, says

# Prefect leaves sockets and streams of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

READERS = [f"reader{n}@example.org" for n in range(6)]
REFUSED = says("550 5.7.1 not today")


@pytest.fixture
def attempts(ledger: Engine) -> Callable[[], dict[int, list[tuple]]]:
    """Read every column of every attempt, by batch number."""

    def read() -> dict[int, list[tuple]]:
        statement = text(
            "SELECT b.number, a.* FROM attempts a JOIN batches b ON b.id = a.batch_id ORDER BY a.id"
        )
        found: dict[int, list[tuple]] = {}
        with ledger.begin() as connection:
            for number, *columns in connection.execute(statement):
                found.setdefault(number, []).append(tuple(columns))
        return found

    return read


async def test_with_rejected_it_sends_again_to_exactly_those(
    ledger: Engine, audience, spec: CampaignSpec, server, account, received, states
):
    audience(*READERS)
    smtp = ScriptedSmtp({"RCPT": [None, REFUSED, None, REFUSED, None, None]})
    async with smtp.running():
        await account(smtp.port, connections="1")
        first = await launch_campaign(spec)
    refused = [address for address, state in states().items() if state == "rejected"]
    await account(server.port)
    report = await retry_campaign(RetryRequest(campaign=spec.name, states=["rejected"]))

    assert (first.totals.rejected, len(refused)) == (2, 2)
    assert received() == dict.fromkeys(refused, 1)
    assert (report.totals.accepted, report.state) == (6, CampaignState.FINISHED)
    with ledger.begin() as connection:
        noted = connection.execute(
            text("SELECT kind, details ->> 'from' FROM events WHERE attempt_id IS NOT NULL")
        ).all()
    assert noted == [("requeued", "rejected")] * 2
    [decision] = report.decisions
    assert "flow run retry-spring-offer" in decision.who
    assert decision.said == "to be sent to again: 2 rejected"


async def test_without_a_choice_it_sends_nothing_of_a_finished_campaign(
    audience, spec: CampaignSpec, server, account, attempts
):
    audience("ada@example.org", "nobody.ed@example.org", "drop.flo@example.org")
    await account(server.port)
    first = await launch_campaign(spec)
    sent, before = server.received(), attempts()
    report = await retry_campaign(RetryRequest(campaign=spec.name))

    assert (first.totals.accepted, first.totals.rejected, first.totals.unknown) == (1, 1, 1)
    assert server.received() == sent  # above all not again to who is unknown
    assert attempts() == before
    assert report == first


async def test_who_is_unknown_is_written_to_again_only_when_a_person_says_so(
    audience, spec: CampaignSpec, server, account, received
):
    audience("ada@example.org", "bo@example.org")
    smtp = ScriptedSmtp({"DOT": [hangs_up(stores=True)]})
    async with smtp.running():
        await account(smtp.port, connections="1")
        first = await launch_campaign(spec)
    await account(server.port)
    report = await retry_campaign(RetryRequest(campaign=spec.name, states=["unknown"]))

    assert first.totals.unknown == 1
    assert list(received().elements()) == [smtp.stored[0].rcpt_to]
    assert report.totals.accepted == 2


async def test_one_batch_retried_leaves_the_others_untouched(
    audience, spec: CampaignSpec, server, account, received, attempts
):
    audience(*READERS)
    smtp = ScriptedSmtp({"RCPT": REFUSED})
    async with smtp.running():
        await account(smtp.port)
        await launch_campaign(spec.model_copy(update={"batch_size": 2}))
    before = attempts()
    await account(server.port)
    report = await retry_campaign(RetryRequest(campaign=spec.name, batches=[2], states=["rejected"]))
    after = attempts()

    assert received() == dict.fromkeys(READERS[2:4], 1)
    assert (report.totals.accepted, report.totals.rejected) == (2, 4)
    assert [number for number in before if before[number] != after[number]] == [2]


@pytest.mark.parametrize("states", [[], ["unknown"]], ids=["nothing missing", "nobody unknown"])
async def test_one_batch_of_a_finished_campaign_that_has_nobody_to_send_to_is_left_as_it_is(
    audience, spec: CampaignSpec, server, account, attempts, caplog, states: list[str]
):
    audience(*READERS)
    await account(server.port)
    first = await launch_campaign(spec.model_copy(update={"batch_size": 2}))
    before = attempts()
    report = await retry_campaign(RetryRequest(campaign=spec.name, batches=[2], states=states))

    assert (attempts(), server.received(), report) == (before, len(READERS), first)
    assert "of batch 2 of campaign 'spring-offer'" in caplog.text.replace("in batch", "of batch")


async def test_one_failed_batch_neither_cuts_the_others_short_nor_the_report(
    ledger: Engine, audience, spec: CampaignSpec, server, account, received, states, artifact
):
    audience(*READERS, city="Leeds")
    await account(server.port)
    plan = plan_campaign(ledger, spec.model_copy(update={"batch_size": 2, "text": "Hello {{ city }}"}))
    with ledger.begin() as connection:
        # What no code of ours writes, for the two of the first batch: an error that nobody foresaw.
        connection.execute(text("UPDATE contacts SET attributes = '[1]' WHERE id IN (1, 2)"))
    state = await retry_campaign(RetryRequest(campaign=spec.name), return_state=True)

    with pytest.raises(MessagingError, match="unexpected"):
        await state.aresult()
    assert list(states().values()) == ["queued"] * 2 + ["accepted"] * 4
    assert received() == dict.fromkeys(READERS[2:], 1)
    report = await artifact(f"campaign-{plan.campaign_id}")
    assert "**4 of 6** recipients accepted" in report.data
    assert "`outflow resume spring-offer`" in report.data  # what nobody foresaw pauses it


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (RetryRequest(campaign="autumn"), "there is no campaign 'autumn' .campaigns: spring-offer."),
        (RetryRequest(campaign="spring-offer", batches=[7]), "has no batch 7: it has 1 to 1"),
    ],
    ids=["unknown campaign", "unknown batch"],
)
async def test_what_does_not_exist_fails_with_a_sentence_and_sends_nothing(
    ledger: Engine, audience, spec: CampaignSpec, server, account, request_: RetryRequest, sentence: str
):
    audience(*READERS)
    await account(server.port)
    plan_campaign(ledger, spec)
    with pytest.raises(InputError, match=sentence):
        await retry_campaign(request_)

    assert server.received() == 0
