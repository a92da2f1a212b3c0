"""What Amazon SES reports of a campaign decides whom the next one leaves out: SES, SNS, SQS and the flow."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest
import typer
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from flows.launch_campaign import launch_campaign
from flows.process_events import process_events
from messaging.errors import AccountError, InputError, MessagingError
from outflow.events import events
from schemas.campaign import CampaignSpec
from schemas.feedback import EventsRequest
from tasks.accounts import add_account, remove_account
from tests.fakes.ses import KEY_ID, REGION, SECRET, FakeSes
from tests.fakes.ses_events import Wire, wired

# Prefect leaves sockets and streams of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

READERS = ["ada@example.org", "bob@example.org"]
BOUNCES, COMPLAINS = "bounce@simulator.amazonses.com", "complaint@simulator.amazonses.com"
SOON = EventsRequest(wait=1)

app = typer.Typer()
app.command("events")(events)


@pytest.fixture(params=[True, False], ids=["raw", "enveloped"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    with wired(raw=request.param) as running:
        yield running


@pytest.fixture
async def fake(wire: Wire) -> AsyncIterator[FakeSes]:
    async with FakeSes(on_sent=wire.publish, rate=1000.0).running() as running:
        yield running


async def save_queue(wire: Wire, name: str = "events", **values: str) -> str:
    own = {"queue_url": wire.queue_url, "region": REGION, "endpoint": wire.endpoint}
    return await add_account(
        "ses-queue", name, own | {"access_key_id": "x", "secret_access_key": "x"} | values
    )


async def save_account(fake: FakeSes) -> str:
    return await add_account(
        "ses",
        "main",
        {
            "region": REGION, "sender": "Shop <news@shop.example.org>", "access_key_id": KEY_ID,
            "secret_access_key": SECRET, "configuration_set": "outflow", "endpoint": fake.endpoint,
        },
    )  # fmt: skip


@pytest.fixture(autouse=True)
async def no_queue_is_left() -> AsyncIterator[None]:
    yield
    for name in ("events", "broken"):
        try:
            await remove_account(f"ses-queue/{name}")
        except InputError:
            continue


async def test_who_bounced_or_complained_is_left_out_of_the_next_campaign(
    ledger: Engine, audience, spec: CampaignSpec, wire: Wire, fake: FakeSes, artifact
):
    audience(*READERS, BOUNCES, COMPLAINS)
    first = spec.model_copy(update={"account": await save_account(fake)})
    await save_queue(wire)

    sent = await launch_campaign(first)
    await asyncio.to_thread(wire.wait)
    [report] = await process_events(SOON)
    again = await process_events(SOON)
    second = await launch_campaign(first.model_copy(update={"name": "summer-offer"}))

    assert sent.totals.accepted == 4
    assert (report.recorded, report.unmatched, report.suppressed) == (9, 0, 2)
    assert report.kinds == {"sent": 4, "delivered": 3, "bounced": 1, "complained": 1}
    assert [one.seen for one in again] == [0]
    assert second.totals.planned == second.totals.accepted == 2
    assert sorted(one.recipients[0] for one in fake.sent[4:]) == READERS
    with ledger.connect() as connection:
        kept = dict(connection.execute(text("SELECT address_key, reason FROM suppressions")).tuples().all())
        runs = connection.execute(text("SELECT source, seen, problem FROM feedback_runs ORDER BY id")).all()
    assert kept == {BOUNCES: "bounced", COMPLAINS: "complained"}
    assert [tuple(run) for run in runs] == [("ses-queue/events", 9, None), ("ses-queue/events", 0, None)]
    [row] = json.loads((await artifact("events")).data)
    assert (row["read from"], row["messages"], row["addresses suppressed"]) == ("ses-queue/events", 9, 2)
    assert "@" not in json.dumps(row)


async def test_one_queue_that_cannot_be_read_fails_the_run_after_the_others(ledger: Engine, wire: Wire):
    await save_queue(wire)
    await save_queue(wire, "broken", queue_url=wire.queue_url + "-of-nobody")

    with pytest.raises(MessagingError, match="1 of 2 could not be read: ses-queue/broken: Amazon SQS: there"):
        await process_events(SOON)
    with pytest.raises(AccountError, match="there is no queue"):
        await process_events(EventsRequest(queue="ses-queue/broken", wait=1))

    with ledger.connect() as connection:
        runs = connection.execute(text("SELECT source, problem IS NULL AS fine FROM feedback_runs")).all()
    assert sorted(tuple(run) for run in runs) == [
        ("ses-queue/broken", False), ("ses-queue/broken", False), ("ses-queue/events", True),
    ]  # fmt: skip


@pytest.mark.usefixtures("ledger")
async def test_what_is_no_queue_is_refused(account):
    reference = await account(25)

    with pytest.raises(InputError, match="is no queue: write ses-queue/NAME"):
        await process_events(EventsRequest(queue=reference))
    assert await process_events(EventsRequest()) == []


@pytest.mark.usefixtures("ledger")
def test_the_command_reads_all_queues_and_says_what_it_found(wire: Wire):
    asyncio.run(save_queue(wire))
    wire.sqs.send_message(QueueUrl=wire.queue_url, MessageBody="not JSON")

    for_people = CliRunner().invoke(app, ["--wait", "1"])
    as_json = CliRunner().invoke(app, ["ses-queue/events", "--wait", "1", "--json"])
    wrong = CliRunner().invoke(app, ["--wait", "0"])

    assert for_people.stdout == (
        "ses-queue/events: 1 messages, 0 new events, 0 addresses suppressed, 1 could not be read\n"
    )
    assert json.loads(as_json.stdout)["queues"][0]["seen"] == 0
    assert isinstance(wrong.exception, InputError)
