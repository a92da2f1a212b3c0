"""Test messages: to whom they may go, with whose data, and that the ledger never hears of them."""

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email import message_from_string, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from messaging import sandbox
from messaging.campaign.renderers import renderer_for
from messaging.campaign.rendering import Letterhead
from messaging.campaign.testing import Ending, Tried, prepare, send_tests
from messaging.channels.smtp import SmtpPool, SmtpSettings
from messaging.channels.whatsapp_cloud import WhatsAppCloudPool
from messaging.errors import InputError
from schemas.campaign import CampaignSpec
from schemas.whatsapp import WhatsAppTemplate
from tests.fakes.scripted_smtp import ScriptedSmtp, hangs_up, says
from tests.fakes.whatsapp_cloud import CloudApi, Template
from tests.messaging.channels.whatsapp_cloud_provider import settings_of

SENDER = "Shop <news@shop.example.org>"
SES = "ses-account/main"
WEB = "whatsapp-web-account/main"
CLOUD = "whatsapp-cloud-account/main"


@pytest.fixture
def customers(audience: Callable[..., None]) -> None:
    audience("ada@example.org", "bo@example.org", city="York")


@asynccontextmanager
async def open_pool(port: int) -> AsyncIterator[SmtpPool]:
    async with SmtpPool(SmtpSettings(host="127.0.0.1", port=port, security="none", connections=2)) as pool:
        yield pool


def over(spec: CampaignSpec, account: str, **changes: object) -> CampaignSpec:
    channel = "whatsapp" if account.startswith("whatsapp") else "email"
    return spec.model_copy(update={"account": account, "channel": channel, **changes})


def problem(*arguments: object, **options: object) -> str:
    with pytest.raises(InputError) as refused:
        prepare(*arguments, **options)
    return str(refused.value)


def received(server: sandbox.Sandbox) -> dict[str, EmailMessage]:
    files = [
        message_from_string(path.read_text(), policy=policy.default)
        for path in (server.outbox / "new").iterdir()
    ]
    return {message["X-Sandbox-Rcpt-To"]: message for message in files}


def rows(ledger: Engine) -> list[int]:
    tables = ("campaigns", "batches", "attempts", "events", "throttles", "suppressions")
    with ledger.begin() as connection:
        return [connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in tables]  # noqa: S608 - our own names


@pytest.mark.usefixtures("customers")
async def test_a_test_shows_each_reader_the_message_and_leaves_the_ledger_as_it_was(
    ledger: Engine, spec: CampaignSpec, server: sandbox.Sandbox
):
    spec = spec.model_copy(
        update={"text": "Dear {{ name }} of {{ city }}: {{ email }} {{ unsubscribe_url }}"}
    )
    before = rows(ledger)
    trial = prepare(
        ledger, spec, None, [" me@example.com", "BO@example.org", "you@example.com", "third@example.com"]
    )

    async with open_pool(server.port) as pool:
        tried = await send_tests(trial, SENDER, pool)

    assert [one.to for one in tried] == [
        "me@example.com",
        "BO@example.org",
        "you@example.com",
        "third@example.com",
    ]
    assert {one.ending for one in tried} == {Ending.ACCEPTED}
    assert all(one.said.startswith("250 ") for one in tried)
    messages = received(server)
    assert {message["Subject"] for message in messages.values()} == {"[Test] Hello Ada", "[Test] Hello Bo"}
    texts = {to: message.get_content() for to, message in messages.items()}
    # Strangers see the first members in turn, a contact sees itself.
    assert texts["me@example.com"].startswith("Dear Ada of York: me@example.com https://")
    assert texts["you@example.com"].startswith("Dear Bo of York: you@example.com")
    assert texts["third@example.com"].startswith("Dear Ada of York")
    assert texts["BO@example.org"].startswith("Dear Bo of York: BO@example.org")
    links = {re.search(r"https://\S+", body)[0] for body in texts.values()}
    assert len(links) == 4
    assert rows(ledger) == before == [0] * len(before)


@pytest.mark.usefixtures("customers")
async def test_what_was_said_to_each_is_told_and_one_failure_stops_no_other(
    ledger: Engine, spec: CampaignSpec
):
    smtp = ScriptedSmtp(
        {
            "RCPT": [says("550 5.1.1 no such user"), says("450 4.2.0 not now"), None, None],
            "DOT": [hangs_up(stores=True), None],
        }
    )
    names = [f"{name}@example.com" for name in ("gone", "busy", "lost", "fine")]
    async with smtp.running(), open_pool(smtp.port) as pool:
        tried = await send_tests(prepare(ledger, spec, None, names), SENDER, pool)

    assert [one.ending for one in tried] == [
        Ending.REJECTED,
        Ending.DEFERRED,
        Ending.UNKNOWN,
        Ending.ACCEPTED,
    ]
    assert tried[0].said == "550 5.1.1 no such user"
    assert tried[2].said.endswith("it may have arrived")


@pytest.mark.usefixtures("customers")
async def test_once_the_account_is_refused_nothing_more_is_tried(ledger: Engine, spec: CampaignSpec):
    smtp = ScriptedSmtp({"MAIL": [says("530 5.7.0 authentication required")]})
    async with smtp.running(), open_pool(smtp.port) as pool:
        tried = await send_tests(
            prepare(ledger, spec, None, ["a@example.com", "b@example.com"]), SENDER, pool
        )

    assert [one.ending for one in tried] == [Ending.NOT_SENT] * 2
    assert tried[0].said == tried[1].said
    assert smtp.stored == []


@pytest.mark.usefixtures("customers")
async def test_a_message_that_cannot_be_made_is_said_of_its_reader_alone(
    ledger: Engine, spec: CampaignSpec, server: sandbox.Sandbox
):
    with ledger.begin() as connection:
        connection.execute(text("UPDATE contacts SET attributes = '{}' WHERE email = 'ada@example.org'"))
    trial = prepare(
        ledger, spec.model_copy(update={"text": "{{ city }}"}), None, ["ada@example.org", "bo@example.org"]
    )

    async with open_pool(server.port) as pool:
        ada, bo = await send_tests(trial, SENDER, pool)

    assert (ada.ending, ada.said) == (Ending.NOT_SENT, "text: no value for merge field 'city'")
    assert bo.ending is Ending.ACCEPTED


@pytest.mark.usefixtures("customers")
async def test_whoever_must_not_be_written_to_gets_no_test_either(
    ledger: Engine, spec: CampaignSpec, server: sandbox.Sandbox
):
    with ledger.begin() as connection:
        connection.execute(
            text("""
                UPDATE contacts SET status = 'unsubscribed' WHERE email = 'ada@example.org';
                INSERT INTO suppressions (channel, address_key, reason, source) VALUES
                    ('email', 'gone@example.com', 'bounced', 'x'),
                    ('whatsapp', 'me@example.com', 'manual', 'x');
                INSERT INTO suppressions (channel, address_key, reason, source, expires_at)
                    VALUES ('email', 'again@example.com', 'bounced', 'x', now() - interval '1 hour')
            """)
        )
    names = ["ada@example.org", "Gone@example.com", "me@example.com", "again@example.com"]

    async with open_pool(server.port) as pool:
        tried = await send_tests(prepare(ledger, spec, None, names), SENDER, pool)

    assert [one.ending for one in tried] == [Ending.NOT_SENT] * 2 + [Ending.ACCEPTED] * 2
    assert tried[1].said == "suppressed: bounced"
    assert received(server).keys() == {"me@example.com", "again@example.com"}


@pytest.mark.usefixtures("customers")
async def test_attachments_are_in_the_test_too(
    ledger: Engine, spec: CampaignSpec, server: sandbox.Sandbox, tmp_path: Path
):
    (tmp_path / "terms.pdf").write_bytes(b"%PDF-1.7")
    spec = spec.model_copy(update={"attachments": [str(tmp_path / "terms.pdf")]})

    async with open_pool(server.port) as pool:
        await send_tests(prepare(ledger, spec, None, ["me@example.com"]), SENDER, pool)

    [attached] = received(server)["me@example.com"].iter_attachments()
    assert attached.get_filename() == "terms.pdf"


@pytest.mark.usefixtures("customers")
def test_the_simulator_is_amazons_alone_and_no_other_address_is_needed(ledger: Engine, spec: CampaignSpec):
    trial = prepare(ledger, over(spec, SES), None, ["me@example.com"], simulator=True)

    assert [reader.recipient.address for reader in trial.readers] == [
        "me@example.com",
        "success@simulator.amazonses.com",
        "bounce@simulator.amazonses.com",
        "complaint@simulator.amazonses.com",
        "ooto@simulator.amazonses.com",
        "suppressionlist@simulator.amazonses.com",
    ]
    assert len(prepare(ledger, over(spec, SES), None, [], simulator=True).readers) == 5
    assert "only Amazon SES has one" in problem(ledger, spec, None, ["me@example.com"], simulator=True)


@pytest.mark.usefixtures("customers")
def test_a_test_goes_over_one_of_the_campaigns_accounts(ledger: Engine, spec: CampaignSpec):
    spec = over(spec, WEB, fallback=["smtp-account/main"])

    trial = prepare(ledger, spec, "smtp-account/main", ["me@example.com"])

    assert (trial.account, trial.readers[0].recipient.address) == ("smtp-account/main", "me@example.com")
    assert "choose one of whatsapp-web-account/main, smtp-account/main" in problem(
        ledger, spec, SES, ["a@b.org"]
    )


@pytest.mark.usefixtures("customers")
def test_on_whatsapp_a_number_may_be_written_as_people_do(ledger: Engine, spec: CampaignSpec):
    with ledger.begin() as connection:
        connection.execute(text("UPDATE contacts SET phone = '+447400000002' WHERE email = 'bo@example.org'"))
    spec = over(spec, WEB, text="Dear {{ name }}, {{ email }}")
    group = "120363000000000001@g.us"

    trial = prepare(ledger, spec, None, ["+44 7400 000-002", group, "+447400000002"])

    renderer = renderer_for(WEB, spec, 0, Letterhead("+15550000001", trial.key))
    texts = [
        json.loads(renderer.render(reader.recipient).content)["text"]["body"] for reader in trial.readers
    ]
    assert [reader.recipient.address for reader in trial.readers] == ["+447400000002", group]
    assert texts == ["Dear Bo, bo@example.org", "Dear Ada, ada@example.org"]


@pytest.mark.usefixtures("customers")
async def test_the_cloud_api_takes_the_template_with_all_its_parameters(ledger: Engine, spec: CampaignSpec):
    template = WhatsAppTemplate(
        name="spring_offer",
        language="en_GB",
        header="document: https://shop.example.org/{{ city }}.pdf",
        body={"1": "{{ name }}", "2": "{{ city }}"},
        buttons=["", "spring?c={{ city }}"],
    )
    trial = prepare(ledger, over(spec, CLOUD, template=template, text=""), None, ["+447400000001"])
    api = CloudApi(templates={("spring_offer", "en_GB"): Template(body=2, header="document", buttons=1)})

    async with api.running(), WhatsAppCloudPool(settings_of(api)) as pool:
        [tried] = await send_tests(trial, "+15550000001", pool)

    [taken] = api.taken
    assert tried == Tried("+447400000001", Ending.ACCEPTED, tried.said, taken.wamid)
    assert taken.to == "447400000001"
    assert taken.callback


@pytest.mark.usefixtures("customers")
@pytest.mark.parametrize(
    ("account", "addresses", "expected"),
    [
        ("smtp-account/main", ["a@example.com", "+447400000001"], "address 2 is no e-mail address"),
        ("smtp-account/main", ["canary"], "address 1 is no e-mail address"),
        (WEB, ["canary@example.com"], "address 1 is no phone number with its country"),
        (WEB, ["07400 000001"], "address 1 is no phone number with its country"),
        ("whatsapp-cloud-account/main", ["120363000000000001@g.us"], "address 1 is no phone number"),
        ("smtp-account/main", [], "1 to 20 addresses"),
        ("smtp-account/main", [f"a{n}@example.com" for n in range(21)], "1 to 20 addresses"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused_before_anything_is_sent(
    ledger: Engine, spec: CampaignSpec, account: str, addresses: list[str], expected: str
):
    said = problem(ledger, over(spec, account), None, addresses)

    assert expected in said
    assert "canary" not in said


@pytest.mark.usefixtures("customers")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"text": "{{ citty }}"}, "unknown merge field 'citty'"),
        ({"text": "{{ city"}, "text: line 1"),
        ({"audience": "nobody"}, "there is no audience 'nobody'"),
        ({"where": 'city = "Leeds"'}, "has nobody whose data"),
        ({"attachments": ["/nowhere/terms.pdf"]}, "no such file"),
    ],
)
def test_a_campaign_that_cannot_be_sent_is_not_tried(
    ledger: Engine, spec: CampaignSpec, changes: dict[str, object], expected: str
):
    assert expected in problem(ledger, spec.model_copy(update=changes), None, ["me@example.com"])
