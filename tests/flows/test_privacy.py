"""No person and no secret reaches Prefect: its server stores parameters, logs and the text of every error."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import pytest
from prefect import State
from sqlalchemy import Engine, text

from flows.import_contacts import import_contacts
from flows.launch_campaign import launch_campaign
from flows.retry_campaign import retry_campaign
from flows.send_batches import send_batches
from messaging.campaign.finding import campaign_named
from messaging.campaign.planning import plan_campaign
from messaging.errors import AccountError, InputError, MessagingError
from messaging.reports.numbers import campaign_report
from schemas.campaign import CampaignSpec, RetryRequest, SendRequest
from schemas.contacts import ImportRequest
from tasks.accounts import add_account
from tests.fakes import ses, whatsapp_cloud
from tests.fakes.scripted_smtp import ScriptedSmtp, says

# Prefect leaves sockets and streams of its clients open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

PASSWORD = "canary-Zq9-secret"
PERSON = "canary-7f3a"
NAME = "Quillfeather"
PHONE = "7400918273"
CITY = "Canarytown"
CANARIES = (PASSWORD, PERSON, NAME, PHONE, "07400 918273", CITY)

CONTACTS = f"""email,name,mobile,city
{PERSON}@example.org,Ada {NAME},07400 918273,{CITY}
nobody.{PERSON}@example.org,Bo {NAME},,{CITY}
greylist.{PERSON}@example.org,Cy {NAME},,{CITY}
hangup.{PERSON}@example.org,Di {NAME},,{CITY}
drop.{PERSON}@example.org,Ed {NAME},,{CITY}
without-city.{PERSON}@example.org,Flo {NAME},,
{PERSON}@@example.org,Gil {NAME},07400 918273,{CITY}
,Hal {NAME},07400 918273 0000000000,{CITY}
"""


@pytest.fixture
def contacts(tmp_path: Path) -> Path:
    file = tmp_path / "people.csv"
    file.write_text(CONTACTS)
    return file


@pytest.fixture
def stored(prefect_database: Path) -> Callable[[UUID], Awaitable[bytes]]:
    """Read every byte of Prefect's database, once it holds all about a flow run and what came before."""
    # Log lines and events are sent and written behind our back, in order.
    is_there = """
        SELECT EXISTS (SELECT 1 FROM log WHERE flow_run_id = :id AND message LIKE 'Finished in state %')
            AND EXISTS (SELECT 1 FROM events WHERE resource_id = 'prefect.flow-run.' || :id
                AND event = 'prefect.flow-run.Failed')
    """

    async def read(flow_run_id: UUID) -> bytes:
        with contextlib.closing(sqlite3.connect(prefect_database)) as connection:
            async with asyncio.timeout(30):
                while not connection.execute(is_there, {"id": str(flow_run_id)}).fetchone()[0]:  # noqa: ASYNC110 - another process writes
                    await asyncio.sleep(0.3)
            return b"".join(file.read_bytes() for file in sorted(prefect_database.parent.iterdir()))

    return read


async def test_no_address_phone_name_or_password_reaches_prefects_database(
    ledger: Engine, contacts: Path, spec: CampaignSpec, server, account, stored
):
    spec = spec.model_copy(update={"subject": "News from {{ city }}", "name": "canary-campaign"})
    request = ImportRequest(
        files=[str(contacts)], audience="customers", region="GB", consent="a form", accept_breach="small"
    )
    [imported] = await import_contacts(request)
    await account(server.port, username="news", password=PASSWORD)
    # The sandbox takes no login: the account is refused, then sends without one.
    with pytest.raises(AccountError):
        await launch_campaign(spec)
    await account(server.port)
    report = await launch_campaign(spec)

    assert (imported.imported, imported.refused) == (6, 2)
    assert (report.totals.accepted, report.totals.rejected, report.totals.unknown) == (3, 2, 1)

    # Servers and databases quote people; a header may be a person.
    headless = contacts.with_name("headless.csv")
    headless.write_text("".join(CONTACTS.splitlines(keepends=True)[1:]))
    [without_header] = await import_contacts(
        ImportRequest(files=[str(headless)], audience="others", consent="a form")
    )
    assert without_header.mapping["email"] == ["Column 1"]
    nobody = contacts.with_name("nobody.csv")
    nobody.write_text(f"{NAME},{CITY}\n{NAME},{CITY}\n")
    with pytest.raises(InputError):
        await import_contacts(ImportRequest(files=[str(nobody)], audience="others"))
    gossip = ScriptedSmtp(
        {
            "RCPT": says(f"550 5.1.1 <{PERSON}@example.org> {NAME} is not here"),
            "MAIL": [None, says(f"421 4.3.2 {PERSON}@example.org wrote too much")],
        },
        logins={"news": "another"},
    )
    async with gossip.running():
        await account(gossip.port, username="news", password=PASSWORD)
        with pytest.raises(AccountError):  # this server repeats the password it refuses
            await launch_campaign(spec.model_copy(update={"name": "refused login"}))
        gossip.logins = {"news": PASSWORD}
        await launch_campaign(spec.model_copy(update={"name": "gossip"}))
        await retry_campaign(RetryRequest(campaign="gossip", states=["rejected"]))
        plan_campaign(ledger, spec.model_copy(update={"name": "broken"}))
        with ledger.begin() as connection:
            connection.execute(text("UPDATE contacts SET attributes = to_jsonb(email)"))
        last = await retry_campaign(RetryRequest(campaign="broken"), return_state=True)
        with pytest.raises(MessagingError, match="unexpected"):
            await last.aresult()

    everything = await stored(last.state_details.flow_run_id)
    for known in (
        b"canary-campaign",
        b"550 5.1.1",
        b"AUTH: answered 535",
        b"recipients done",
        b"answers now",
    ):
        assert known in everything  # or this looks into the wrong place
    assert {canary for canary in CANARIES if canary.encode() in everything} == set()


async def test_nobody_and_no_secret_of_the_other_channels_reaches_it_either(
    ledger: Engine, contacts: Path, spec: CampaignSpec, stored
):
    request = ImportRequest(
        files=[str(contacts)], audience="customers", region="GB", consent="a form", accept_breach="small"
    )
    await import_contacts(request)
    spec = CampaignSpec(
        **spec.model_dump(exclude={"name", "account", "channel", "fallback", "template"}),
        name="canary-channels",
        channel="whatsapp",
        account="whatsapp-cloud-account/main",
        fallback=["ses-account/main"],
        template={"name": "spring_offer", "language": "en_GB", "body": {"1": "{{ name }}"}},
    )

    async def send(chosen: CampaignSpec) -> State:
        plan = plan_campaign(ledger, chosen)
        return await send_batches(SendRequest(campaign_id=plan.campaign_id), return_state=True)

    async with whatsapp_cloud.CloudApi().running() as cloud, ses.FakeSes().running() as amazon:
        number = {"phone_number_id": cloud.phone_number_id, "endpoint": cloud.url}
        secrets = {"token": whatsapp_cloud.TOKEN, "app_secret": PASSWORD, "verify_token": PASSWORD}
        await add_account("whatsapp-cloud", "main", number | secrets)
        keys = {"access_key_id": ses.KEY_ID, "secret_access_key": ses.SECRET, "region": ses.REGION}
        sender = {"sender": "Shop <news@shop.example.org>", "endpoint": amazon.endpoint}
        await add_account("ses", "main", keys | sender)
        cloud.deed = whatsapp_cloud.Fault(400, 131026, f"(#131026) +44{PHONE} {NAME} is not on WhatsApp")
        with pytest.raises(AccountError, match="131026"):  # whoever asks about the number hears it too
            await launch_campaign(spec)

        await send(spec)
        report = campaign_report(ledger, campaign_named(ledger, spec.name).id)
        assert (report.totals.accepted, report.accounts[0].fell_back) == (6, 1)

        cloud.deed = whatsapp_cloud.Fault(401, 190, f"{whatsapp_cloud.TOKEN} of +44{PHONE} has expired")
        with pytest.raises(AccountError, match="token"):
            await (await send(spec.model_copy(update={"name": "refused token"}))).aresult()
        cloud.deed = whatsapp_cloud.Manner()
        said = f"the key {ses.SECRET} may not write to {PERSON}@example.org"
        amazon.faults["SendEmail"] = ses.Fault(ses.Refusal("AccessDeniedException", said, 403))
        last = await send(spec.model_copy(update={"name": "refused key"}))
        with pytest.raises(AccountError):
            await last.aresult()

    everything = await stored(last.state_details.flow_run_id)
    assert b"canary-channels" in everything
    canaries = (*CANARIES, whatsapp_cloud.TOKEN, ses.SECRET)
    assert {canary for canary in canaries if canary.encode() in everything} == set()
