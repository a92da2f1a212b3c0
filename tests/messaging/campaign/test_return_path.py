"""Each message's bounces come to an address of its own, which names its attempt."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from messaging.campaign.planning import plan_campaign
from messaging.campaign.sending import CampaignRun, send_batch
from messaging.campaign.testing import prepare, send_tests
from messaging.channels.smtp import SmtpPool, SmtpSettings
from messaging.feedback.bounces import read_bounces
from messaging.storage.link_keys import read_keys
from messaging.tokens import Purpose, read
from schemas.campaign import CampaignSpec
from tests.fakes.scripted_smtp import EXTENSIONS, STEPS, ScriptedSmtp

SENDER = "Shop <news@shop.example.org>"
BOUNCES = "bounces@shop.example.org"
READERS = ("ada@example.org", "bo@example.org", "cy@example.org")
# Names nothing but the address that it is sent to and the recipient: all else may be lost on the way.
REPORT = """From: MAILER-DAEMON@mx.example.net
To: <{to}>
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b

The mail system could not deliver your message.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; {recipient}
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 user unknown

--b--
"""


def pool(smtp: ScriptedSmtp) -> SmtpPool:
    return SmtpPool(SmtpSettings(host="127.0.0.1", port=smtp.port, security="none", connections=2))


async def send(ledger: Engine, spec: CampaignSpec, smtp: ScriptedSmtp, return_path: str = "") -> None:
    plan = plan_campaign(ledger, spec)
    async with smtp.running(), pool(smtp) as connections:
        run = CampaignRun(ledger, plan.campaign_id, SENDER, connections, return_path=return_path)
        async with run:
            await send_batch(run, 1)


def tokens(ledger: Engine) -> dict[str, str]:
    with ledger.begin() as connection:
        return {
            row.address: row.token.hex
            for row in connection.execute(text("SELECT address, token FROM attempts"))
        }


@pytest.mark.parametrize("extensions", [EXTENSIONS, STEPS])
async def test_a_report_sent_to_it_names_the_attempt(
    ledger: Engine, audience: Callable[..., None], spec: CampaignSpec, extensions: tuple[str, ...]
):
    audience(*READERS)
    smtp = ScriptedSmtp(extensions=extensions)

    await send(ledger, spec, smtp, BOUNCES)

    assert len(smtp.stored) == len(READERS)
    for one in smtp.stored:
        token = tokens(ledger)[one.rcpt_to]
        assert one.mail_from == f"bounces+{token}@shop.example.org"
        assert b"From: Shop <news@shop.example.org>\r\n" in one.content
        (found,) = read_bounces(REPORT.format(to=one.mail_from, recipient=one.rcpt_to).encode())
        assert found.origin.token == token


async def test_without_it_bounces_go_to_the_sender(
    ledger: Engine, audience: Callable[..., None], spec: CampaignSpec
):
    audience(*READERS)
    smtp = ScriptedSmtp()

    await send(ledger, spec, smtp)

    assert {one.mail_from for one in smtp.stored} == {"news@shop.example.org"}


async def test_the_links_of_a_campaign_are_signed_with_the_ledgers_key(
    ledger: Engine, audience: Callable[..., None], spec: CampaignSpec
):
    audience(*READERS)
    smtp = ScriptedSmtp()

    await send(ledger, spec, smtp)

    with ledger.begin() as connection:
        keys = read_keys(connection)
    for one in smtp.stored:
        link = one.content.partition(b"List-Unsubscribe: <")[2].partition(b">")[0].decode()
        attempt = read(keys, Purpose.UNSUBSCRIBE, link.rpartition("/u/")[2])
        assert attempt.hex == tokens(ledger)[one.rcpt_to]


async def test_a_test_message_is_made_like_the_others(
    ledger: Engine, audience: Callable[..., None], spec: CampaignSpec
):
    audience(*READERS)
    smtp = ScriptedSmtp()
    html = '<a href="https://shop.example.org/">x</a>'
    tracked = CampaignSpec(**(spec.model_dump() | {"html": html, "tracking": {"clicks": True}}))
    trial = prepare(ledger, tracked, None, ["me@example.com"])
    async with smtp.running(), pool(smtp) as connections:
        await send_tests(trial, SENDER, connections, return_path=BOUNCES)

    (sent,) = smtp.stored
    token = trial.readers[0].recipient.token
    assert sent.mail_from == f"bounces+{token.hex}@shop.example.org"
    with ledger.begin() as connection:
        keys = read_keys(connection)
    content = sent.content.replace(b"=\r\n", b"").decode()
    clicked = content.partition("/c/")[2][:44]
    assert read(keys, Purpose.CLICK, clicked, "https://shop.example.org/") == token
