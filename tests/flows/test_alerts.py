"""What happens to campaigns and accounts is told: in Prefect's events, and wherever targets lead."""

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from flows.launch_campaign import launch_campaign
from messaging.errors import AccountError, InputError, NotSent
from messaging.storage.alerts import alert
from schemas.campaign import CampaignSpec
from schemas.states import AlertKind
from tasks.alerting import (
    add_alert_target,
    event_of,
    list_alert_targets,
    remove_alert_target,
    tell_alerts,
    try_alert_target,
)
from tests.fakes.listeners import Listener
from tests.fakes.scripted_smtp import ScriptedSmtp, says

pytestmark = [
    # Prefect leaves sockets and streams of its clients open.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    # Apprise loads all its services, one of which a library that Python is about to drop a part of.
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]

PASSWORD = "canary-Zq9-secret"
PERSON = "canary-7f3a"


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener().running() as running:
        yield running


@pytest.fixture(autouse=True)
async def no_targets() -> None:
    for target in await list_alert_targets():
        await remove_alert_target(target.name)


@pytest.fixture
def event(prefect_database: Path) -> Callable[[str, str], Awaitable[dict]]:
    """Read the newest event of a kind about something from Prefect, once it is there."""

    async def read(kind: str, about: str) -> dict:
        with contextlib.closing(sqlite3.connect(prefect_database)) as connection:
            async with asyncio.timeout(60):
                while True:
                    found = connection.execute(
                        "SELECT resource, payload FROM events WHERE event = ? AND resource_id = ?",
                        (kind, about),
                    ).fetchall()
                    if found:
                        [(resource, payload)] = found
                        return {"resource": json.loads(resource), "payload": json.loads(payload)}
                    await asyncio.sleep(0.3)

    return read


def told_at(ledger: Engine) -> list[bool]:
    with ledger.begin() as connection:
        return [at is not None for at in connection.execute(text("SELECT told_at FROM alerts")).scalars()]


async def test_a_campaign_that_finishes_is_told_with_its_figures(
    ledger: Engine, spec: CampaignSpec, audience, account, server, listener, event
):
    audience("ada@example.org", "nobody@example.org")
    await account(server.port)
    shown = await add_alert_target("ops", {"url": listener.url})

    report = await launch_campaign(spec)

    [posted] = listener.posted
    assert posted["title"] == "Outflow: spring-offer finished"
    said = f"campaign 'spring-offer' (number {report.campaign_id}) is finished: 1 accepted, 1 rejected"
    assert posted["message"] == said
    found = await event("outflow.campaign.finished", f"outflow.campaign.{report.campaign_id}")
    assert found["resource"]["prefect.resource.name"] == "spring-offer"
    assert found["payload"]["said"] == said
    assert shown.sentence == "ops: every alert, by json"
    assert told_at(ledger) == [True]


async def test_an_account_that_cannot_go_on_is_told_together_with_its_campaign(
    spec: CampaignSpec, audience, account, listener, event, campaign_id
):
    audience("ada@example.org", "bo@example.org")
    await add_alert_target("ops", {"url": listener.url})
    refusing = ScriptedSmtp({"MAIL": says("550 5.7.1 this sender is blocked")})
    async with refusing.running():
        await account(refusing.port)
        with pytest.raises(AccountError):
            await launch_campaign(spec)

    [posted] = listener.posted
    assert posted["title"].startswith("Outflow: 2 alerts: ")
    first, second = posted["message"].splitlines()
    assert first.startswith("- account smtp-account/main cannot go on: ")
    assert second.startswith(f"- campaign 'spring-offer' (number {campaign_id()}) is paused: ")
    assert second.endswith("2 are still to be written to; to go on: outflow resume 'spring-offer'")
    assert (await event("outflow.campaign.paused", f"outflow.campaign.{campaign_id()}"))["payload"]["number"]
    assert (await event("outflow.account.paused", "outflow.account.smtp-account/main"))["payload"]["account"]


async def test_a_target_that_fails_fails_no_campaign(
    ledger: Engine, spec: CampaignSpec, audience, account, server, listener
):
    audience("ada@example.org")
    await account(server.port)
    listener.status = 500
    await add_alert_target("ops", {"url": listener.url})

    report = await launch_campaign(spec)

    assert report.state == "finished"
    assert told_at(ledger) == [False]


async def test_alerts_are_mailed_over_an_account_and_count_as_nobodys_message(
    ledger: Engine, spec: CampaignSpec, audience, account, server, received, states
):
    audience("ada@example.org")
    reference = await account(server.port)
    await add_alert_target("mail", {"account": reference, "to": "Ops <ops@example.org>, boss@example.org"})

    await launch_campaign(spec)

    assert received() == {"ada@example.org": 1, "ops@example.org": 1, "boss@example.org": 1}
    [mail] = [
        content
        for content in (file.read_text() for file in (server.outbox / "new").iterdir())
        if "X-Sandbox-Rcpt-To: ops@example.org" in content
    ]
    for line in (
        "X-Sandbox-Mail-From: news@shop.example.org",
        "From: Shop <news@shop.example.org>",
        "Subject: Outflow: spring-offer finished",
        "Auto-Submitted: auto-generated",
    ):
        assert line in mail
    assert states() == {"ada@example.org": "accepted"}
    assert told_at(ledger) == [True]


async def test_a_target_without_its_account_is_tried_again(ledger: Engine, account, server, received):
    reference = await account(server.port)
    await add_alert_target("mail", {"account": reference, "to": "nobody@example.org"})
    with ledger.begin() as connection:
        alert(connection, AlertKind.CRASHED, "something crashed")

    await tell_alerts()
    assert told_at(ledger) == [False]

    await add_alert_target("mail", {"account": reference, "to": "ops@example.org"})
    with ledger.begin() as connection:
        connection.execute(text("UPDATE alerts SET raised_at = raised_at - interval '2 minutes'"))
    await tell_alerts()
    assert told_at(ledger) == [True]
    assert received() == {"ops@example.org": 1}


async def test_a_test_says_what_is_wrong_with_a_target(account, server, listener):
    await add_alert_target("ops", {"url": listener.url})
    await try_alert_target("ops")
    assert listener.posted[0]["title"] == "Outflow: a test"

    listener.status = 403
    with pytest.raises(NotSent, match="alert target ops did not take the test: it answered 403"):
        await try_alert_target("ops")
    reference = await account(server.port)
    await add_alert_target("mail", {"account": reference, "to": "nobody@example.org"})
    with pytest.raises(NotSent, match=r"1 of 1 readers were refused \(550 5.1.1\)"):
        await try_alert_target("mail")
    with pytest.raises(InputError, match="there is no alert target 'nowhere'"):
        await try_alert_target("nowhere")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "name a url, or an account and to"),
        ({"url": "json://127.0.0.1/x", "account": "smtp-account/main"}, "name a url, or an account and to"),
        ({"account": "smtp-account/main"}, "to is missing"),
        ({"account": "whatsapp-web-account/shop", "to": "a@example.org"}, "no account that mails"),
        ({"account": "smtp-account/nowhere", "to": "a@example.org"}, "there is no account"),
        ({"account": "smtp-account/main", "to": "nobody"}, "must be an address"),
        ({"url": "https://127.0.0.1/x"}, "its address is none that can be used"),
        ({"url": "json://127.0.0.1/x", "kinds": "weather"}, "kinds"),
        ({"url": "json://127.0.0.1/x", "colour": "red"}, "alert targets have no 'colour'"),
    ],
    ids=[
        "nothing",
        "both",
        "no reader",
        "no mail",
        "no account",
        "no address",
        "no scheme",
        "no kind",
        "no setting",
    ],
)
async def test_what_makes_no_target_is_said(values: dict[str, str], sentence: str):
    with pytest.raises(InputError, match=sentence) as refusal:
        await add_alert_target("ops", values)

    assert "127.0.0.1" not in str(refusal.value)
    assert await list_alert_targets() == []


async def test_kinds_may_be_chosen_in_words_or_dashes(listener):
    shown = await add_alert_target("ops", {"url": listener.url, "kinds": "late, account-paused"})

    assert shown.kinds == [AlertKind.LATE, AlertKind.ACCOUNT_PAUSED]
    assert shown.sentence == "ops: alerts of kind late, account paused, by json"
    assert await list_alert_targets() == [shown]


async def test_no_person_and_no_password_is_told_or_reaches_prefect(
    spec: CampaignSpec, audience, account, listener, server, prefect_database: Path, event
):
    audience(f"{PERSON}@example.org", f"{PERSON}.two@example.org")
    await add_alert_target("ops", {"url": f"{listener.url}?+token={PASSWORD}"})
    mailto = f"mailto://news:{PASSWORD}@127.0.0.1:{server.port}/{PERSON}@example.org?from=a@example.org"
    await add_alert_target("mail", {"url": mailto})  # the sandbox takes no login: it fails
    gossip = ScriptedSmtp({"MAIL": says(f"550 5.7.1 {PERSON}@example.org may not send, {PASSWORD}")})
    async with gossip.running():
        await account(gossip.port)
        with pytest.raises(AccountError):
            await launch_campaign(spec)

    [posted] = listener.posted
    assert "cannot go on" in posted["message"]
    await event("outflow.account.paused", "outflow.account.smtp-account/main")
    with contextlib.closing(sqlite3.connect(prefect_database)) as connection:
        async with asyncio.timeout(60):
            is_there = "SELECT EXISTS (SELECT 1 FROM log WHERE message LIKE 'alert target mail was told%')"
            while not connection.execute(is_there).fetchone()[0]:  # noqa: ASYNC110 - another process writes
                await asyncio.sleep(0.3)
    everything = b"".join(file.read_bytes() for file in sorted(prefect_database.parent.iterdir()))
    everything += json.dumps(listener.posted).encode()
    assert b"cannot go on" in everything  # or this looks into the wrong place
    assert {word for word in (PERSON, PASSWORD) if word.encode() in everything} == set()


def test_every_kind_of_alert_is_an_event_of_its_own():
    assert {event_of(kind) for kind in AlertKind} == {
        "outflow.account.paused",
        "outflow.campaign.approval",
        "outflow.campaign.crashed",
        "outflow.campaign.finished",
        "outflow.campaign.late",
        "outflow.campaign.paused",
        "outflow.campaign.skipped",
    }
