"""Meta's webhooks: only Meta's are believed, what they tell is committed before they are thanked."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from messaging.campaign.planning import plan_campaign
from messaging.campaign.sending import CampaignRun, send_batch
from messaging.channels.whatsapp_cloud import WhatsAppCloudPool
from messaging.errors import AccountError
from messaging.reports.numbers import batch_totals
from messaging.storage import suppressions
from messaging.storage.engine import open_engine
from messaging.web.services import WhatsAppSecrets
from messaging.web.whatsapp import MOST_BYTES, _Accounts
from schemas.campaign import CampaignSpec
from schemas.states import Channel
from tests.fakes.whatsapp_cloud import APP_SECRET, CloudApi, Manner
from tests.faults.wire import wire_to_database
from tests.messaging.channels.whatsapp_cloud_provider import settings_of
from tests.messaging.web.hooked import hooked, people, post, rows

ACCOUNT = "whatsapp-cloud-account/shop"
PHONES = ("+447700900001", "+447700900002", "+447700900003")
ADA, BO, CY = PHONES
VERIFY = "our-own-word"
HOOK = "/hooks/whatsapp"
ATTEMPTS = "SELECT address, state, provider_message_id FROM attempts ORDER BY id"
EVENTS = """
    SELECT a.address, e.kind FROM events e JOIN attempts a ON a.id = e.attempt_id
    WHERE e.kind <> 'resolved' ORDER BY a.id, e.id
"""
SUPPRESSED = "SELECT address_key, reason, source FROM suppressions WHERE channel = 'whatsapp' ORDER BY 1"
WINDOWS = "SELECT account, phone, closes_at FROM service_windows ORDER BY phone"


def secrets(server: CloudApi, account: str = ACCOUNT) -> WhatsAppSecrets:
    return WhatsAppSecrets(account, server.phone_number_id, server.app_secret, VERIFY)


@pytest.fixture
async def meta() -> AsyncIterator[CloudApi]:
    async with CloudApi().running() as server:
        yield server


@contextlib.asynccontextmanager
async def told_to(
    ledger: Engine, *servers: CloudApi, accounts: Iterable[WhatsAppSecrets] | None = None
) -> AsyncIterator[str]:
    """Serve the application to the stand-ins, whose accounts it knows."""
    known = [secrets(server) for server in servers] if accounts is None else accounts
    async with hooked(ledger, known) as url:
        for server in servers:
            server.webhook = url + HOOK
        yield url + HOOK


@pytest.fixture
def offer() -> CampaignSpec:
    template = {"name": "spring_offer", "language": "en_GB", "body": {"1": "{{ name }}"}}
    return CampaignSpec(
        name="spring-offer", channel="whatsapp", account=ACCOUNT, audience="customers", template=template
    )


@pytest.fixture
async def sent(ledger: Engine, offer: CampaignSpec, meta: CloudApi) -> int:
    """A campaign that Meta has accepted for three people."""
    return await send(ledger, offer, meta)


async def send(ledger: Engine, offer: CampaignSpec, meta: CloudApi, patience: float = 10.0) -> int:
    people(ledger, *PHONES)
    campaign_id = plan_campaign(ledger, offer).campaign_id
    cloud = settings_of(meta, connections=3, connect_timeout=patience, total_timeout=patience)
    async with WhatsAppCloudPool(cloud) as pool, CampaignRun(ledger, campaign_id, "", pool, 0) as run:
        for batch in batch_totals(ledger, campaign_id):
            await send_batch(run, batch.number)
    return campaign_id


def signed(body: bytes, secret: str = APP_SECRET) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json"}


def posted(number: str, field: str = "messages", **value: object) -> bytes:
    change = {"field": field, "value": {"metadata": {"phone_number_id": number}} | value}
    entry = {"id": "102290129340398", "changes": [change]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


@pytest.mark.usefixtures("sent")
async def test_reports_of_several_people_come_at_once_and_in_any_order(ledger: Engine, meta: CloudApi):
    ada, bo, cy = meta.taken
    async with told_to(ledger, meta):
        answers = [
            await meta.tell(meta.status(ada, "read"), meta.status(bo, "delivered"), meta.status(cy, "sent")),
            await meta.tell(meta.status(ada, "sent"), meta.status(bo, "delivered")),
            await meta.tell(meta.status(ada, "delivered"), meta.status(ada, "delivered")),
        ]

    assert answers == [200, 200, 200]
    by_phone = {f"+{each.to}": each for each in meta.taken}
    kinds = {phone: [kind for to, kind in rows(ledger, EVENTS) if to == phone] for phone in by_phone}
    assert kinds[f"+{ada.to}"] == ["opened", "sent", "delivered"]
    assert (kinds[f"+{bo.to}"], kinds[f"+{cy.to}"]) == (["delivered"], ["sent"])
    sources = rows(ledger, "SELECT DISTINCT source FROM events WHERE campaign_id IS NULL")
    assert sources == [(ACCOUNT,)]
    assert rows(ledger, SUPPRESSED) == []


async def test_a_report_settles_what_nobody_knew(ledger: Engine, offer: CampaignSpec, meta: CloudApi):
    """The answers never came: Meta has the messages, as its reports say with the attempts' tokens."""
    meta.deed = Manner(silent=True)
    await send(ledger, offer, meta, patience=1.0)
    assert [state for _, state, _ in rows(ledger, ATTEMPTS)] == ["unknown"] * 3

    by_phone = {f"+{each.to}": each for each in meta.taken}
    async with told_to(ledger, meta):
        assert await meta.tell(meta.status(by_phone[ADA], "delivered")) == 200
        assert await meta.tell(meta.status(by_phone[BO], "failed", 131049, "Not now")) == 200
        assert rows(ledger, ATTEMPTS)[2] == (CY, "unknown", None)
        assert await meta.tell(meta.status(by_phone[CY], "failed", 131026, "Message undeliverable")) == 200

    assert rows(ledger, ATTEMPTS) == [
        (ADA, "accepted", by_phone[ADA].wamid),
        (BO, "rejected", by_phone[BO].wamid),
        (CY, "accepted", by_phone[CY].wamid),  # and has bounced since
    ]
    resolved = rows(
        ledger,
        """SELECT a.address, e.details ->> 'from', e.details ->> 'to' FROM events e
        JOIN attempts a ON a.id = e.attempt_id WHERE e.kind = 'resolved' ORDER BY a.id""",
    )
    assert resolved == [
        (ADA, "unknown", "accepted"),
        (BO, "unknown", "rejected"),
        (CY, "unknown", "accepted"),
    ]
    assert rows(ledger, EVENTS) == [(ADA, "delivered"), (BO, "failed"), (CY, "bounced")]


@pytest.mark.usefixtures("sent")
async def test_who_is_not_reached_once_is_not_given_up(ledger: Engine, meta: CloudApi):
    ada = next(each for each in meta.taken if f"+{each.to}" == ADA)
    async with told_to(ledger, meta):
        await meta.tell(meta.status(ada, "failed", 131026, "Message undeliverable"))

    assert rows(ledger, EVENTS) == [(ADA, "bounced")]
    assert rows(ledger, SUPPRESSED) == []


@pytest.mark.usefixtures("sent")
async def test_who_stopped_marketing_is_written_to_no_more(ledger: Engine, meta: CloudApi):
    by_phone = {f"+{each.to}": each for each in meta.taken}
    wish = {"wa_id": BO[1:], "category": "marketing_messages", "value": "stop", "timestamp": int(time.time())}
    settings_changed = posted(meta.phone_number_id, "user_preferences", user_preferences=[wish])
    async with told_to(ledger, meta) as hook:
        await meta.tell(meta.status(by_phone[ADA], "failed", 131050, "Unable to deliver the message"))
        assert await post(hook, settings_changed, signed(settings_changed)) == 200
        await meta.tell(inbound=(meta.inbound(CY[1:], "Stop"),))

    assert rows(ledger, SUPPRESSED) == [(phone, "unsubscribed", ACCOUNT) for phone in PHONES]


async def test_who_writes_stop_without_a_message_of_ours_is_not_written_to_either(
    ledger: Engine, meta: CloudApi
):
    async with told_to(ledger, meta):
        await meta.tell(inbound=(meta.inbound(ADA[1:], "UNSUBSCRIBE"),))

    assert rows(ledger, SUPPRESSED) == [(ADA, "unsubscribed", ACCOUNT)]


async def test_a_wish_that_comes_again_after_it_was_lifted_is_an_old_one(ledger: Engine, meta: CloudApi):
    wish = meta.inbound(ADA[1:], "STOP") | {"timestamp": str(int(time.time()) - 60)}
    active = f"{SUPPRESSED.partition(' ORDER')[0]} AND expires_at IS NULL"
    async with told_to(ledger, meta):
        await meta.tell(inbound=(wish,))
        with ledger.begin() as connection:
            assert suppressions.lift(connection, Channel.WHATSAPP, [ADA], "Bo") == 1
        await meta.tell(inbound=(wish,))
        assert rows(ledger, active) == []
        await meta.tell(inbound=(wish | {"id": "wamid.new", "timestamp": str(int(time.time()) + 60)},))

    assert rows(ledger, active) == [(ADA, "unsubscribed", ACCOUNT)]


@pytest.mark.usefixtures("sent")
async def test_what_is_our_own_fault_is_kept_and_suppresses_nobody(ledger: Engine, meta: CloudApi):
    async with told_to(ledger, meta):
        await meta.tell(
            *(meta.status(each, "failed", 131049, "Healthy ecosystem engagement") for each in meta.taken)
        )

    assert rows(ledger, EVENTS) == [(phone, "failed") for phone in PHONES]
    assert rows(ledger, SUPPRESSED) == []


async def test_who_writes_to_us_opens_a_window_that_never_closes_earlier(ledger: Engine, meta: CloudApi):
    now = datetime.now(UTC).replace(microsecond=0)

    def wrote(phone: str, at: datetime) -> dict[str, object]:
        return meta.inbound(phone[1:]) | {"timestamp": str(int(at.timestamp()))}

    hour = timedelta(hours=1)
    async with told_to(ledger, meta):
        await meta.tell(
            inbound=(wrote(ADA, now - 2 * hour), wrote(ADA, now - hour), wrote(BO, now - 3 * hour))
        )
        await meta.tell(inbound=(wrote(ADA, now - 5 * hour), wrote(BO, now - 2 * hour)))
        future = wrote(CY, now) | {"timestamp": "253402300799"}  # the end of the year 9999
        assert await meta.tell(inbound=(future,)) == 200

    windows = {phone: closes_at for _, phone, closes_at in rows(ledger, WINDOWS)}
    assert (windows[ADA], windows[BO]) == (now + 23 * hour, now + 22 * hour)
    assert now + 24 * hour <= windows[CY] <= now + 25 * hour
    assert {account for account, _, _ in rows(ledger, WINDOWS)} == {ACCOUNT}


async def test_each_account_speaks_for_its_own_number(ledger: Engine, meta: CloudApi):
    """Two apps with their own secrets; two numbers of one app."""
    async with CloudApi(app_secret="another-secret").running() as other, CloudApi().running() as sister:
        accounts = [
            secrets(meta, ACCOUNT),
            secrets(other, "whatsapp-cloud-account/other"),
            secrets(sister, "whatsapp-cloud-account/sister"),
        ]
        async with told_to(ledger, meta, other, sister, accounts=accounts):
            for server, phone in ((meta, ADA), (other, BO), (sister, CY)):
                assert await server.tell(inbound=(server.inbound(phone[1:]),)) == 200
            other.phone_number_id = meta.phone_number_id  # signed, but by another's app
            assert await other.tell(inbound=(other.inbound("447700900009"),)) == 200

    assert [(phone, account) for account, phone, _ in rows(ledger, WINDOWS)] == [
        (ADA, ACCOUNT),
        (BO, "whatsapp-cloud-account/other"),
        (CY, "whatsapp-cloud-account/sister"),
    ]


@pytest.mark.usefixtures("sent")
async def test_a_number_that_is_no_account_is_passed_over(ledger: Engine, meta: CloudApi):
    number, meta_number = "999999999999999", meta.phone_number_id
    async with told_to(ledger, meta):
        meta.phone_number_id = number
        answer = await meta.tell(meta.status(meta.taken[0], "read"), inbound=(meta.inbound(ADA[1:]),))
        meta.phone_number_id = meta_number

    assert answer == 200
    assert (rows(ledger, EVENTS), rows(ledger, WINDOWS)) == ([], [])


@pytest.mark.usefixtures("sent")
async def test_what_meta_has_not_signed_changes_nothing(ledger: Engine, meta: CloudApi):
    body = posted(meta.phone_number_id, statuses=[meta.status(meta.taken[0], "read")])
    forged = [
        {},
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": "sha256="},
        {"X-Hub-Signature": "sha1=" + hmac.new(APP_SECRET.encode(), body, hashlib.sha1).hexdigest()},
        signed(body, "another"),
        signed(body, ""),
        signed(body + b" "),
    ]
    async with told_to(ledger, meta) as hook:
        answers = [await post(hook, body, headers) for headers in forged]
        answers += [await post(hook, body + b" ", signed(body))]

    assert answers == [401] * 8
    assert rows(ledger, EVENTS) == []


async def test_an_account_without_a_secret_believes_nobody(ledger: Engine, meta: CloudApi):
    meta.app_secret = ""
    async with told_to(ledger, meta):
        assert await meta.tell(inbound=(meta.inbound(ADA[1:]),)) == 401
    assert rows(ledger, WINDOWS) == []


@pytest.mark.usefixtures("sent")
async def test_the_same_post_again_changes_nothing(ledger: Engine, meta: CloudApi):
    body = posted(meta.phone_number_id, statuses=[meta.status(each, "read") for each in meta.taken])
    async with told_to(ledger, meta) as hook:
        answers = await asyncio.gather(*(post(hook, body, signed(body)) for _ in range(5)))

    assert answers == [200] * 5
    assert rows(ledger, EVENTS) == [(phone, "opened") for phone in PHONES]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 100_000, b"\xff", b"null", b"7", b'"x"', b"[]", b"1" * 5000, b'{"entry": 7}']
)
async def test_what_is_signed_but_says_nothing_is_not_asked_for_again(
    ledger: Engine, meta: CloudApi, body: bytes
):
    async with told_to(ledger, meta) as hook:
        assert await post(hook, body, signed(body)) == 200


async def test_a_post_that_is_too_large_is_refused_unread(ledger: Engine, meta: CloudApi):
    body = b" " * (MOST_BYTES + 1)

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    async with told_to(ledger, meta) as hook, aiohttp.ClientSession() as session:
        assert await post(hook, body, signed(body)) == 413
        with contextlib.suppress(aiohttp.ClientConnectionError):  # it may hang up before all was written
            async with session.post(hook, data=in_pieces(), headers=signed(body)) as response:
                assert response.status == 413
        largest = posted(meta.phone_number_id, padding="x" * 1_000_000)
        assert await post(hook, largest, signed(largest)) == 200


@pytest.mark.usefixtures("sent")
async def test_while_the_ledger_is_away_meta_is_asked_to_come_again(
    ledger: Engine, database_url: str, meta: CloudApi
):
    report = meta.status(meta.taken[0], "read")
    async with wire_to_database(database_url) as (_, url):
        engine = open_engine(url)
        away = contextlib.AsyncExitStack()
        await away.enter_async_context(told_to(engine, meta))
    engine.dispose()
    async with away:  # the wire to the database is gone
        assert await meta.tell(report) == 503
        assert await meta.tell(inbound=(meta.inbound(ADA[1:]),)) == 503
    assert rows(ledger, EVENTS) == []

    async with told_to(ledger, meta):
        assert await meta.tell(report) == 200
    assert [kind for _, kind in rows(ledger, EVENTS)] == ["opened"]


async def test_meta_is_answered_when_the_webhook_is_set_up(ledger: Engine, meta: CloudApi):
    query = {"hub.mode": "subscribe", "hub.verify_token": VERIFY, "hub.challenge": "<b>1158201444</b>"}
    wrong = [
        query | {"hub.verify_token": "another"},
        query | {"hub.verify_token": ""},
        query | {"hub.mode": "unsubscribe"},
        {},
    ]
    async with told_to(ledger, meta) as hook, aiohttp.ClientSession() as session:
        async with session.get(hook, params=query) as response:
            said = response.status, response.content_type, await response.text()
        refused = []
        for each in wrong:
            async with session.get(hook, params=each) as response:
                refused.append(response.status)

    assert said == (200, "text/plain", "<b>1158201444</b>")
    assert refused == [403] * 4


async def test_an_account_that_is_new_is_known_without_a_restart(
    ledger: Engine, meta: CloudApi, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("messaging.web.whatsapp._SOONEST_SECONDS", 0.0)
    accounts: list[WhatsAppSecrets] = []
    async with told_to(ledger, meta, accounts=accounts):
        assert await meta.tell(inbound=(meta.inbound(ADA[1:]),)) == 401
        accounts.append(secrets(meta))
        assert await meta.tell(inbound=(meta.inbound(ADA[1:]),)) == 200


async def test_strangers_do_not_make_us_read_the_accounts_each_time(ledger: Engine, meta: CloudApi):
    class Counted(list):
        times = 0

        def __iter__(self):
            self.times += 1
            return super().__iter__()

    accounts = Counted([secrets(meta)])
    async with told_to(ledger, meta, accounts=accounts) as hook:
        assert {await post(hook, b"{}", signed(b"{}", "forged")) for _ in range(20)} == {401}

    assert accounts.times <= 2


async def test_while_the_accounts_cannot_be_read_meta_is_asked_to_come_again(
    ledger: Engine, meta: CloudApi, monkeypatch: pytest.MonkeyPatch
):
    """At first; later those that were read before are believed."""
    monkeypatch.setattr("messaging.web.whatsapp._SOONEST_SECONDS", 0.0)

    class Away(list):
        is_away = True

        def __iter__(self):
            if self.is_away:
                raise AccountError("Prefect does not answer")
            return super().__iter__()

    accounts = Away([secrets(meta)])
    async with told_to(ledger, meta, accounts=accounts) as hook, aiohttp.ClientSession() as session:
        async with session.get(hook) as response:
            answers = [response.status]
        for is_away in (True, False):
            accounts.is_away = is_away
            answers.append(await meta.tell(inbound=(meta.inbound(ADA[1:]),)))
        accounts.is_away = True
        answers.append(await post(hook, b"{}", signed(b"{}", "forged")))  # for which they are read anew
        answers.append(await meta.tell(inbound=(meta.inbound(ADA[1:]),)))

    assert answers == [503, 503, 200, 401, 200]


async def test_accounts_that_cannot_be_read_are_not_asked_for_by_each_who_waits():
    reads = 0

    async def load() -> list[WhatsAppSecrets]:
        nonlocal reads
        reads += 1
        await asyncio.sleep(0)
        raise AccountError("Prefect does not answer")

    accounts = _Accounts(load)
    failed = await asyncio.gather(*(accounts.known() for _ in range(20)), return_exceptions=True)
    assert [type(each) for each in failed] == [AccountError] * 20
    assert reads == 1


async def test_a_server_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("messaging.web.whatsapp._SOONEST_SECONDS", 0.0)
    ours = WhatsAppSecrets(ACCOUNT, "1", APP_SECRET, VERIFY)
    loads, hangs = asyncio.Event(), asyncio.Event()

    async def load() -> list[WhatsAppSecrets]:
        if loads.is_set():
            hangs.set()
            await asyncio.Event().wait()
        loads.set()
        return [ours]

    accounts = _Accounts(load)
    assert await accounts.known() == [ours]
    stranger = asyncio.create_task(accounts.signed(b"{}", "sha256=00"))
    await hangs.wait()
    assert await accounts.known() == [ours]  # while the stranger's look goes on
    assert not stranger.done()
    stranger.cancel()
    monkeypatch.setattr("messaging.web.whatsapp._READ_SECONDS", 0.05)
    assert await accounts.signed(b"{}", "sha256=00") == []
    with pytest.raises(AccountError, match="within 0 seconds"):
        await _Accounts(load).known()


@pytest.mark.usefixtures("sent")
async def test_no_person_and_no_secret_is_in_the_log(
    ledger: Engine, meta: CloudApi, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    meta.app_secret, number = "canary-secret-Zq9", meta.phone_number_id
    async with told_to(ledger, meta) as hook, aiohttp.ClientSession() as session:
        await meta.tell(
            meta.status(meta.taken[0], "failed", 131026, f"No {ADA}"),
            meta.status(meta.taken[0], "odd"),
            inbound=(meta.inbound(ADA[1:], "canary-words"),),
        )
        meta.phone_number_id = "999999999999999"
        await meta.tell(meta.status(meta.taken[1], "read"), inbound=(meta.inbound(BO[1:]),))
        await post(hook, ADA.encode(), signed(ADA.encode(), meta.app_secret))
        await post(hook, b"{" + BO.encode(), signed(b"{" + BO.encode(), meta.app_secret))
        await post(hook, b"{}", signed(b"{}"))
        async with session.get(hook, params={"hub.verify_token": VERIFY, "hub.mode": "x"}) as response:
            assert response.status == 403

    assert "not JSON" in caplog.text
    shown = caplog.text + repr(secrets(meta))
    digits = [phone[1:] for phone in PHONES]
    assert not any(word in shown for word in (*digits, "canary", VERIFY, number))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ODD = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
TEXT = st.fixed_dictionaries({"body": st.just("stop") | ODD})
STATUS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(max_size=300) | ODD,
        "status": st.sampled_from(["sent", "delivered", "read", "failed", "played", "x"]) | ODD,
        "timestamp": st.integers(0, 10**13).map(str) | ODD,
        "recipient_id": st.sampled_from([phone[1:] for phone in PHONES]) | ODD,
        "biz_opaque_callback_data": st.just("0" * 32) | ODD,
        "errors": st.lists(
            st.fixed_dictionaries({"code": st.sampled_from([131026, 131050, 0]) | ODD, "title": ODD}) | ODD,
            max_size=2,
        ),
    },
)
INBOUND = st.fixed_dictionaries(
    {"from": st.just(ADA[1:]) | ODD, "timestamp": st.integers(0, 10**13).map(str)},
    optional={"id": st.text() | ODD, "type": st.just("text"), "text": TEXT | ODD},
)
WISH = st.fixed_dictionaries(
    {"category": st.just("marketing_messages"), "value": st.just("stop"), "wa_id": st.just(BO[1:]) | ODD},
    optional={"timestamp": st.integers(0, 10**13) | ODD},
)


@pytest.mark.usefixtures("sent")
async def test_nothing_that_meta_could_post_breaks_the_webhook(ledger: Engine, meta: CloudApi):
    loop = asyncio.get_running_loop()
    async with told_to(ledger, meta) as hook, aiohttp.ClientSession() as session:

        async def answer(body: bytes) -> int:
            async with session.post(hook, data=body, headers=signed(body)) as response:
                return response.status

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
        @given(
            st.lists(STATUS | ODD, max_size=3) | ODD,
            st.lists(INBOUND | ODD, max_size=2) | ODD,
            st.lists(WISH | ODD, max_size=2) | ODD,
        )
        def check(statuses: object, messages: object, wishes: object) -> None:
            bodies = (
                posted(meta.phone_number_id, statuses=statuses, messages=messages),
                posted(meta.phone_number_id, "user_preferences", user_preferences=wishes),
            )
            for body in bodies:
                assert asyncio.run_coroutine_threadsafe(answer(body), loop).result() == 200

        await asyncio.to_thread(check)
