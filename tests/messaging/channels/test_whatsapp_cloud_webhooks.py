"""Reports by webhook: only Meta's are believed, and what is odd in one keeps no other from being read."""

import asyncio
import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from messaging.channels.base import Message
from messaging.channels.whatsapp_cloud import WhatsAppCloudPool
from messaging.channels.whatsapp_cloud_webhooks import (
    Inbound,
    Status,
    Stop,
    confirm,
    read_inbound,
    read_statuses,
    read_stops,
    verify_signature,
)
from tests.fakes.whatsapp_cloud import APP_SECRET, HOST, CloudApi
from tests.messaging.channels.whatsapp_cloud_provider import settings_of

BODY = b'{"object":"whatsapp_business_account"}'
AT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


def signature(body=BODY, secret=APP_SECRET):
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def posted(*values, field="messages"):
    metadata = {"display_phone_number": "15550783881", "phone_number_id": "1065"}
    changes = [{"field": field, "value": {"metadata": metadata} | value} for value in values]
    return {"object": "whatsapp_business_account", "entry": [{"id": "1022", "changes": changes}]}


def report(**more):
    seconds = str(int(AT.timestamp()))
    return {"id": "wamid.1", "status": "sent", "timestamp": seconds, "recipient_id": "447400123456"} | more


def test_metas_signature_is_known():
    assert verify_signature(APP_SECRET, BODY, signature())
    assert verify_signature(APP_SECRET, BODY, "sha256=" + signature()[7:].upper())


def test_the_signature_of_a_known_text():
    """RFC 4231, test case 2: made by nobody here."""
    digest = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"

    assert verify_signature("Jefe", b"what do ya want for nothing?", f"sha256={digest}")


@pytest.mark.parametrize(
    "header",
    [None, "", "sha256=", signature()[7:], "sha1=" + signature()[7:], signature()[:-1], signature() + "0",
     signature(BODY + b" "), signature(secret="another"), "sha256=ü", "sha256=\udcff"],
)  # fmt: skip
def test_another_signature_is_refused(header):
    assert not verify_signature(APP_SECRET, BODY, header)


def test_without_a_secret_nothing_is_metas():
    assert not verify_signature("", BODY, signature(secret=""))


def test_meta_may_set_the_webhook_up_with_the_word_that_we_chose():
    query = {"hub.mode": "subscribe", "hub.verify_token": "our word", "hub.challenge": "1158201444"}

    assert confirm("our word", query) == "1158201444"
    assert confirm("another", query) is None
    assert confirm("", query | {"hub.verify_token": ""}) is None
    assert confirm("our word", query | {"hub.mode": "unsubscribe"}) is None
    assert confirm("our word", {}) is None


def test_a_report_is_read():
    failed = report(
        status="failed",
        biz_opaque_callback_data="c0ffee",
        errors=[
            {"code": 131026, "title": "Message undeliverable", "message": "x", "error_data": {"details": "y"}}
        ],
    )

    assert read_statuses(posted({"statuses": [failed]})) == [
        Status("1065", "wamid.1", "failed", AT, "+447400123456", "c0ffee", 131026, "Message undeliverable")
    ]


def test_several_reports_come_in_one_request_in_any_order():
    first = {"statuses": [report(status="read"), report(status="delivered")]}
    second = {"statuses": [report(id="wamid.2", pricing={"billable": True}, conversation={"id": "c"})]}

    found = read_statuses(posted(first, second))

    assert [(each.message_id, each.status) for each in found] == [
        ("wamid.1", "read"), ("wamid.1", "delivered"), ("wamid.2", "sent"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "odd",
    [
        7, None, [], {}, report(id=None), report(id=""), report(status=7), report(timestamp="soon"),
        report(timestamp=None), report(timestamp="99999999999999999999"), report(timestamp="999999999999"),
    ],
)  # fmt: skip
def test_an_odd_report_does_not_hide_the_next(odd):
    assert len(read_statuses(posted({"statuses": [odd, report()]}))) == 1


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"recipient_id": "120363025246125486"}, ("", "", None)),
        ({"recipient_id": None}, ("", "", None)),
        ({"biz_opaque_callback_data": 7}, ("+447400123456", "", None)),
        ({"biz_opaque_callback_data": "x" * 900}, ("+447400123456", "x" * 512, None)),
        ({"errors": [{"code": "131026"}]}, ("+447400123456", "", None)),
        ({"errors": [{"code": True}]}, ("+447400123456", "", None)),
        ({"errors": {"code": 1}}, ("+447400123456", "", None)),
        ({"timestamp": int(AT.timestamp())}, ("+447400123456", "", None)),
    ],
)
def test_what_is_odd_in_a_report_is_left_out(more, told):
    [found] = read_statuses(posted({"statuses": [report(**more)]}))

    assert (found.recipient, found.token, found.code) == told


def test_who_wrote_to_us_is_read():
    seconds = str(int(AT.timestamp()))
    messages = [
        {
            "from": "447400123456",
            "id": "wamid.in",
            "timestamp": seconds,
            "type": "text",
            "text": {"body": "Hi"},
        },
        {"from": "447400123457", "timestamp": seconds, "group_id": "120363@g.us", "type": "text"},
        {"from": "CH.US.1A2B3C", "timestamp": seconds, "type": "text"},
        {"from": "447400123458", "timestamp": "soon"},
    ]

    assert read_inbound(posted({"messages": messages})) == [
        Inbound("1065", "+447400123456", AT, "wamid.in", "Hi")
    ]


def test_what_somebody_wrote_is_read_also_when_it_stands_on_a_button():
    """Meta: Button messages webhook."""
    common = {"from": "447400123456", "id": "wamid.in", "timestamp": str(int(AT.timestamp()))}
    button = {"type": "button", "button": {"payload": "7", "text": "Stop promotions"}}
    image = {"type": "image", "image": {"id": "1"}, "text": {"body": "not this"}}
    odd = {"type": "text", "text": "not an object"}

    found = read_inbound(posted({"messages": [common | button, common | image, common | odd]}))

    assert [each.text for each in found] == ["Stop promotions", "", ""]


def wish(**more):
    usual = {"wa_id": "447400123456", "category": "marketing_messages", "value": "stop"}
    return usual | {"timestamp": int(AT.timestamp()), "detail": "User requested to stop"} | more


def test_who_stops_marketing_in_whatsapps_settings_is_read():
    wishes = [
        wish(), wish(value="resume"), wish(category="other"), wish(wa_id="x"), wish(timestamp=None), 7,
    ]  # fmt: skip

    assert read_stops(posted({"user_preferences": wishes}, field="user_preferences")) == [
        Stop("1065", "+447400123456", AT)
    ]
    assert read_stops(posted({"user_preferences": wishes})) == []


def test_other_reports_are_passed_over():
    other = {"statuses": [report()], "messages": [{"from": "447400123456", "timestamp": "1"}]}

    assert read_statuses(posted(other, field="message_template_status_update")) == []
    assert read_inbound(posted(other, field="message_template_status_update")) == []
    assert read_statuses(posted(other) | {"object": "page"}) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["entry", "changes", "value", "statuses", "messages", "metadata", "errors", "field", "id"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_no_request_breaks_the_reader(found):
    for payload in (
        found,
        {"object": "whatsapp_business_account", "entry": found},
        posted({"statuses": found}),
    ):
        assert isinstance(read_statuses(payload), list)
        assert isinstance(read_inbound(payload), list)
        assert isinstance(read_stops(payload), list)


async def test_what_was_sent_is_reported_back_to_its_attempt():
    """The whole way: a message, its statuses over HTTP, signed, and the attempt's token in them."""
    heard: list[Status] = []
    wrote: list[Inbound] = []

    async def receive(request: web.BaseRequest) -> web.Response:
        raw = await request.read()
        if not verify_signature(APP_SECRET, raw, request.headers.get("X-Hub-Signature-256")):
            return web.Response(status=403)
        payload = json.loads(raw)
        heard.extend(read_statuses(payload))
        wrote.extend(read_inbound(payload))
        return web.Response()

    async def dispatched() -> None:
        await asyncio.sleep(0)

    receiver = web.ServerRunner(web.Server(receive))
    await receiver.setup()
    await web.TCPSite(receiver, HOST, 0).start()
    async with CloudApi(webhook=f"http://{HOST}:{receiver.addresses[0][1]}/").running() as server:
        async with WhatsAppCloudPool(settings_of(server)) as pool, pool.sender() as sender:
            content = b'{"type":"text","text":{"body":"Hello"}}'
            receipts = [
                await sender.send(
                    Message(number, "", f"+44740012345{number}", content, f"{number:032x}"), dispatched
                )
                for number in (1, 2)
            ]
        ada, bob = server.taken
        answered = await server.tell(
            server.status(ada, "delivered"),
            server.status(bob, "failed", 131049, "Not delivered to keep the ecosystem healthy"),
            server.status(ada, "read"),
            inbound=(server.inbound(ada.to),),
        )
        server.app_secret = "forged"
        forged = await server.tell(server.status(ada, "failed", 131026, "x"))
    await receiver.cleanup()

    assert (answered, forged) == (200, 403)
    assert [(each.message_id, each.status, each.token, each.code) for each in heard] == [
        (receipts[0].provider_message_id, "delivered", f"{1:032x}", None),
        (receipts[1].provider_message_id, "failed", f"{2:032x}", 131049),
        (receipts[0].provider_message_id, "read", f"{1:032x}", None),
    ]
    assert [each.phone for each in wrote] == ["+447400123451"]
    assert {each.phone_number_id for each in heard} == {server.phone_number_id}
