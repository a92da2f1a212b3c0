"""The Cloud API channel: what it asks of Meta, what it never sends, and what it makes of answers."""

import asyncio
import json
import socket
import ssl
import subprocess
import sys

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from messaging.channels.base import Message, Quota
from messaging.channels.whatsapp_cloud import WhatsAppCloudPool, _request, verify
from messaging.channels.whatsapp_cloud_spacing import Spacing
from messaging.errors import AccountError, InputError, NotSent, Unknown
from schemas.states import AccountState, Outcome
from tests.fakes.whatsapp_cloud import HOST, OWN_PHONE, CloudApi, Fault, Manner, Template, Words
from tests.messaging.channels.whatsapp_cloud_provider import settings_of

ADA, BOB = "+447400123456", "+447400123457"


def text(body="Hello", **more):
    return json.dumps({"type": "text", "text": {"body": body, **more}}, ensure_ascii=False).encode()


def template(*values, name="spring_offer", language="en_GB"):
    parameters = [{"type": "text", "text": value} for value in values]
    whole = {
        "name": name,
        "language": {"code": language},
        "components": [{"type": "body", "parameters": parameters}],
    }
    return json.dumps({"type": "template", "template": whole}).encode()


def a_message(recipient=ADA, content=None, callback="c0ffee"):
    return Message(7, "", recipient, text() if content is None else content, callback)


class Ledger:
    """Marks what is dispatched, and notes what had been received by then."""

    def __init__(self, server: CloudApi) -> None:
        self.server = server
        self.marks = 0
        self.received_before: list[int] = []

    async def dispatch(self) -> None:
        await asyncio.sleep(0.02)  # whoever did not wait would be there by now
        self.marks += 1
        self.received_before.append(self.server.requests)


@pytest.fixture
async def server():
    async with CloudApi().running() as running:
        yield running


@pytest.fixture
def ledger(server):
    return Ledger(server)


async def sent(server, *messages, ledger=None, **settings):
    ledger = ledger or Ledger(server)
    async with WhatsAppCloudPool(settings_of(server, **settings)) as pool, pool.sender() as sender:
        return [await sender.send(message, ledger.dispatch) for message in messages]


async def test_a_text_goes_as_meta_documents_it(server, ledger):
    [receipt] = await sent(server, a_message(content=text("Grüße 👋", preview_url=True)), ledger=ledger)
    [taken] = server.taken

    assert json.loads(server.bodies[0]) == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "447400123456",
        "biz_opaque_callback_data": "c0ffee",
        "type": "text",
        "text": {"body": "Grüße 👋", "preview_url": True},
    }
    assert (receipt.outcome, receipt.code) == (Outcome.ACCEPTED, 200)
    assert receipt.provider_message_id == taken.wamid
    assert (ledger.marks, ledger.received_before) == (1, [0])


async def test_a_template_goes_with_its_parameters(server):
    [receipt] = await sent(server, a_message(content=template("Ada")))

    assert receipt.outcome is Outcome.ACCEPTED
    assert server.taken[0].content["template"]["components"][0]["parameters"] == [
        {"type": "text", "text": "Ada"}
    ]


@given(token=st.text(max_size=40), body=st.text(min_size=1, max_size=200))
def test_whatever_the_message_holds_the_request_is_json_that_holds_it(token, body):
    request = json.loads(_request(a_message(content=text(body), callback=token)))

    assert request["text"] == {"body": body}
    assert request.get("biz_opaque_callback_data", "") == token
    assert request["to"] == ADA[1:]


async def test_a_message_without_a_token_has_no_callback(server):
    await sent(server, a_message(callback=""))

    assert "biz_opaque_callback_data" not in json.loads(server.bodies[0])


@pytest.mark.parametrize("status", ["paused", "held_for_quality_assessment"])
async def test_a_message_that_meta_holds_is_accepted_and_says_so(server, status):
    server.deed = Manner(message_status=status)

    [receipt] = await sent(server, a_message())

    assert (receipt.outcome, receipt.reply) == (Outcome.ACCEPTED, status)


@pytest.mark.parametrize(
    "recipient",
    [
        "447400123456", "+0447400123456", "+44 7400 123456", "+12345", "+1234567890123456", "",
        "120363025246125486@g.us", "ada@example.org", "+4474001234५६", "+447400123456\n",
    ],
)  # fmt: skip
async def test_who_is_no_phone_number_is_refused_without_a_request(server, ledger, recipient):
    [receipt] = await sent(server, a_message(recipient), ledger=ledger)

    assert (receipt.outcome, receipt.unreachable) == (Outcome.REJECTED, True)
    assert (ledger.marks, server.requests) == (0, 0)


@pytest.mark.parametrize("letter", ["a", "ü", "👋", '"'])
async def test_a_text_of_4096_characters_goes_and_a_longer_one_is_refused_without_a_request(
    server, ledger, letter
):
    just, longer = (a_message(content=text(letter * length)) for length in (4096, 4097))

    [accepted, refused] = await sent(server, just, longer, ledger=ledger)

    assert accepted.outcome is Outcome.ACCEPTED
    assert (refused.outcome, refused.unreachable) == (Outcome.REJECTED, False)
    assert "4,097 characters" in refused.reply
    assert (ledger.marks, server.requests) == (1, 1)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"Subject: hello\r\n\r\nHello\r\n", b"null"])
async def test_content_of_another_channel_is_refused_without_a_request(server, ledger, content):
    [receipt] = await sent(server, a_message(content=content), ledger=ledger)

    assert receipt.outcome is Outcome.REJECTED
    assert (ledger.marks, server.requests) == (0, 0)


async def test_a_person_gets_no_second_message_within_the_pair_rate(server, ledger):
    server.pair_seconds = 6.0

    [first, second, other] = await sent(
        server, a_message(), a_message(), a_message(BOB), ledger=ledger, pair_seconds=6.0
    )

    assert first.outcome is other.outcome is Outcome.ACCEPTED
    assert (second.outcome, second.throttled) == (Outcome.DEFERRED, False)
    assert 0 < second.retry_after <= 6.0
    assert (ledger.marks, server.refused) == (2, {})


async def test_two_pools_of_one_number_share_what_they_know(server):
    [first] = await sent(server, a_message(), pair_seconds=6.0)
    [second] = await sent(server, a_message(), pair_seconds=6.0)

    assert (first.outcome, second.outcome) == (Outcome.ACCEPTED, Outcome.DEFERRED)


async def test_at_the_same_moment_a_person_gets_one_message(server):
    async with WhatsAppCloudPool(settings_of(server, pair_seconds=6.0, connections=4)) as pool:

        async def send():
            async with pool.sender() as sender:
                return await sender.send(a_message(), Ledger(server).dispatch)

        receipts = await asyncio.gather(*(send() for _ in range(4)))

    assert sorted(receipt.outcome for receipt in receipts) == ["accepted", "deferred", "deferred", "deferred"]
    assert len(server.taken) == 1


async def test_after_the_pair_rate_the_next_message_goes(server):
    async with WhatsAppCloudPool(settings_of(server, pair_seconds=0.3)) as pool, pool.sender() as sender:
        await sender.send(a_message(), Ledger(server).dispatch)
        await asyncio.sleep(0.35)
        receipt = await sender.send(a_message(), Ledger(server).dispatch)

    assert receipt.outcome is Outcome.ACCEPTED


async def test_who_was_written_to_is_forgotten_with_the_pair_rate():
    spacing = Spacing(0.05)
    for number in range(1000):
        spacing.take(f"+4474{number:08d}")
    await asyncio.sleep(0.06)
    spacing.take(ADA)

    assert spacing._times.keys() == {ADA}  # noqa: SLF001 - memory is what it is about


async def test_what_did_not_go_leaves_no_gap(server):
    class NoError(Exception):
        pass

    async def no():
        raise NoError

    throttle = Fault(429, 130429, headers={"Retry-After": "1"})
    server.faults = [throttle, Fault(401, 190)]
    async with WhatsAppCloudPool(settings_of(server, pair_seconds=6.0)) as pool, pool.sender() as sender:
        with pytest.raises(NoError):
            await sender.send(a_message(), no)
        throttled = await sender.send(a_message(), Ledger(server).dispatch)
        with pytest.raises(AccountError):
            await sender.send(a_message(), Ledger(server).dispatch)
        receipt = await sender.send(a_message(), Ledger(server).dispatch)

    assert (throttled.throttled, receipt.outcome) == (True, Outcome.ACCEPTED)


async def test_an_unknown_counts_as_a_message(server):
    server.deed = Manner(hangs_up=True)
    async with WhatsAppCloudPool(settings_of(server, pair_seconds=6.0)) as pool, pool.sender() as sender:
        with pytest.raises(Unknown, match="connection was lost"):
            await sender.send(a_message(), Ledger(server).dispatch)
        receipt = await sender.send(a_message(), Ledger(server).dispatch)

    assert (receipt.outcome, server.requests) == (Outcome.DEFERRED, 1)


async def test_a_dispatch_that_is_refused_keeps_its_connection(server):
    class Refused(OSError):
        """Of a kind that the HTTP client wraps in its own."""

    async def no():
        raise Refused

    async with WhatsAppCloudPool(settings_of(server)) as pool, pool.sender() as sender:
        for _ in range(3):
            with pytest.raises(Refused):
                await sender.send(a_message(), no)
        receipt = await sender.send(a_message(), Ledger(server).dispatch)

    assert receipt.outcome is Outcome.ACCEPTED
    assert (server.requests, server.connections) == (1, 1)


async def test_a_dispatch_that_takes_long_is_waited_for(server):
    async def slow():
        await asyncio.sleep(0.6)

    settings = settings_of(server, connect_timeout=0.4, total_timeout=0.4)
    async with WhatsAppCloudPool(settings) as pool, pool.sender() as sender:
        receipt = await sender.send(a_message(), slow)

    assert receipt.outcome is Outcome.ACCEPTED


async def test_a_connection_that_closes_while_the_ledger_marks_is_replaced():
    """A server that closes idle connections may do so just then; nothing has been written yet."""
    opened: list[asyncio.StreamWriter] = []
    requests: list[bytes] = []

    async def serve(reader, writer):
        opened.append(writer)
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
            requests.append(await reader.readexactly(int(length.split(b":")[1])))
            body = b'{"messages":[{"id":"wamid.1"}]}'
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async def quiet(reader, writer):
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    marks = []

    async def dispatch():
        marks.append(True)
        opened[-1].close()
        await asyncio.sleep(0.2)

    listening = await asyncio.start_server(quiet, HOST, 0)
    async with listening:
        server = CloudApi(port=listening.sockets[0].getsockname()[1])
        async with WhatsAppCloudPool(settings_of(server)) as pool, pool.sender() as sender:
            receipts = [await sender.send(a_message(), dispatch) for _ in range(2)]

    assert [receipt.outcome for receipt in receipts] == [Outcome.ACCEPTED, Outcome.ACCEPTED]
    assert (len(marks), len(requests), len(opened)) == (2, 2, 3)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{", b"what?\r\n\r\n"]
)
async def test_half_an_answer_is_unknown(answer):
    async def serve(reader, writer):
        await reader.readuntil(b"}}")
        writer.write(answer)
        writer.close()

    listening = await asyncio.start_server(serve, HOST, 0)
    async with listening:
        server = CloudApi(port=listening.sockets[0].getsockname()[1])
        with pytest.raises(Unknown, match=rf"{HOST}:{server.port}: the connection was lost"):
            await sent(server, a_message())


async def test_a_server_that_takes_no_connection_in_time_has_nothing():
    """A full backlog: the kernel answers no further connection."""
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.settimeout(0)
            each.connect_ex((HOST, port))
        server = CloudApi(port=port)
        ledger = Ledger(server)
        with pytest.raises(NotSent, match="no answer in time"):
            await sent(server, a_message(), ledger=ledger, connect_timeout=0.5)
        for each in waiting:
            each.close()

    assert ledger.marks == 0


async def test_a_certificate_that_nobody_vouches_for_stops_the_account():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(HOST).configure_cert(context)
    listening = await asyncio.start_server(lambda _, writer: writer.close(), HOST, 0, ssl=context)
    async with listening:
        server = CloudApi(port=listening.sockets[0].getsockname()[1])
        ledger = Ledger(server)
        with pytest.raises(AccountError, match="certificate was refused"):
            await sent(server, a_message(), ledger=ledger, base_url=f"https://{HOST}:{server.port}")

    assert ledger.marks == 0


@pytest.mark.parametrize(
    "words", [Words(502), Words(500, ""), Words(504, '{"error":"upstream"}'), Words(200, "{}")]
)
async def test_an_answer_that_is_not_metas_is_unknown_when_meta_may_have_the_message(server, words):
    server.deed = words

    with pytest.raises(Unknown, match=rf"answered {words.http} without a word of Meta's"):
        await sent(server, a_message())


@pytest.mark.parametrize("http", [400, 403, 404, 413, 302, 308])
async def test_a_refusal_that_is_not_metas_stops_the_account_and_is_not_followed(server, http):
    server.deed = Words(http, headers={"Location": f"{server.url}/elsewhere"})

    with pytest.raises(AccountError, match=rf"answered {http}.*endpoint"):
        await sent(server, a_message())
    assert server.requests == 1


async def test_a_gateway_that_asks_to_wait_is_heard(server):
    server.deed = Words(429, headers={"Retry-After": "12"})

    [receipt] = await sent(server, a_message())

    assert (receipt.outcome, receipt.throttled, receipt.retry_after) == (Outcome.DEFERRED, True, 12)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (a_message(content=template("Ada", "Bob")), "132000"),
        (a_message(content=template("")), "131008"),
        (a_message(content=template("two\nlines")), "100"),
        (a_message(content=b'{"type":"template","template":{"name":"spring_offer"}}'), "100"),
        (a_message(content=b'{"text":{"body":"Hello"}}'), "131008"),
        (a_message(content=b'{"type":"text","text":{"body":""}}'), "131008"),
        (a_message(content=b'{"type":"image","image":{"link":"https://example.org/a.png"}}'), "131051"),
        (a_message(content=b'{"type":"text","text":{"body":"Hello"}'), "100"),
    ],
)
async def test_a_wrong_message_is_refused_with_metas_code_as_its_status(server, message, code):
    [receipt] = await sent(server, message)

    assert (receipt.outcome, receipt.code, receipt.status) == (Outcome.REJECTED, 400, code)
    assert not receipt.unreachable
    assert receipt.reply.startswith(f"(#{code})")


@pytest.mark.parametrize("content", [template("Ada", name="autumn"), template("Ada", language="en")])
async def test_a_template_that_meta_does_not_know_stops_the_account(server, content):
    with pytest.raises(AccountError, match=r"no approved template of this name in this language.*132001"):
        await sent(server, a_message(content=content))


async def test_a_template_with_every_part(server):
    server.templates["order", "de"] = Template(body=2, header="image", buttons=1)
    components = [
        {"type": "header", "parameters": [{"type": "image", "image": {"link": "https://example.org/a.png"}}]},
        {"type": "body", "parameters": [{"type": "text", "text": each} for each in ("Ada", "7")]},
        {"type": "button", "sub_type": "url", "index": "0", "parameters": [{"type": "text", "text": "x"}]},
    ]
    whole = {"name": "order", "language": {"code": "de"}, "components": components}

    [receipt] = await sent(
        server, a_message(content=json.dumps({"type": "template", "template": whole}).encode())
    )

    assert receipt.outcome is Outcome.ACCEPTED


async def test_a_test_number_writes_to_its_list_only(server):
    server.allowed = {ADA[1:]}

    [ada, bob, ourselves] = await sent(server, a_message(), a_message(BOB), a_message(f"+{OWN_PHONE}"))

    assert ada.outcome is Outcome.ACCEPTED
    assert (bob.outcome, bob.unreachable) == (Outcome.REJECTED, True)
    assert (ourselves.outcome, ourselves.unreachable) == (Outcome.REJECTED, True)


async def test_no_error_tells_the_recipient_or_the_token(server):
    quoted = f"Bearer {server.token} may not write to {ADA} or (447) 400-123456"
    for fault in (Fault(401, 190, quoted), Fault(400, 131031, quoted, details=quoted)):
        server.deed = fault
        with pytest.raises(AccountError) as refused:
            await sent(server, a_message())
        assert not any(secret in str(refused.value) for secret in (server.token, "447400123456", "123456"))
    server.deed = Fault(400, 131026, quoted, details=quoted)
    [receipt] = await sent(server, a_message())
    assert not any(number in receipt.reply for number in ("447400123456", "400-123456"))


async def test_how_the_account_stands(server):
    async with WhatsAppCloudPool(settings_of(server)) as pool, pool.sender() as sender:
        dispatch = Ledger(server).dispatch
        assert pool.state is AccountState.DISCONNECTED
        await sender.send(a_message(), dispatch)
        assert pool.state is AccountState.CONNECTED
        for fault, state in (
            (Fault(401, 190, subcode=463), AccountState.AUTHENTICATION_FAILED),
            (Fault(400, 131031), AccountState.BANNED),
            (Fault(400, 131042), AccountState.PAUSED),
            (Fault(404, 132001), AccountState.CONNECTED),
        ):
            server.deed = fault
            with pytest.raises(AccountError):
                await sender.send(a_message(), dispatch)
            assert pool.state is state


async def test_what_it_may_send_and_with_whom_it_shares_that(server):
    async with (
        WhatsAppCloudPool(settings_of(server, messages_per_second=20)) as alone,
        WhatsAppCloudPool(settings_of(server, portfolio="shop", portfolio_limit=0)) as shared,
    ):
        assert await alone.quota() == Quota(rate=20, per_day=None)
        assert (alone.portfolio, alone.portfolio_limit) == (server.phone_number_id, 250)
        assert (shared.portfolio, shared.portfolio_limit) == ("shop", None)


async def test_it_is_known_by_its_verified_name_once_meta_has_told_it(server):
    async with WhatsAppCloudPool(settings_of(server)) as pool:
        before = pool.identity
        facts = await pool.verify()

        assert before == f"phone number id {server.phone_number_id} at {HOST}:{server.port}"
        assert pool.identity == f"Example Shop (phone number id {server.phone_number_id})"
    assert (facts.display_phone_number, facts.throughput) == ("+1 555-078-3881", "STANDARD")
    assert facts.messaging_limit == "TIER_2K"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(401, 190, subcode=463), AccountError),
        (Fault(400, 10), AccountError),
        (Fault(400, 131009), AccountError),
        (Fault(400, 80007), NotSent),
        (Fault(500, 1), NotSent),
    ],
)
async def test_verifying_tells_a_fault_of_the_account_from_one_that_passes(server, fault, error):
    server.deed = fault

    with pytest.raises(error):
        await verify(settings_of(server))


async def test_requests_go_at_the_same_time_over_as_many_connections(server):
    server.deed = Manner(after_seconds=0.3)
    async with WhatsAppCloudPool(settings_of(server, connections=4)) as pool:

        async def send(number):
            async with pool.sender() as sender:
                return await sender.send(a_message(f"+4474001234{number:02d}"), Ledger(server).dispatch)

        receipts = await asyncio.gather(*(send(number) for number in range(12)))

    assert {receipt.outcome for receipt in receipts} == {Outcome.ACCEPTED}
    assert len({receipt.provider_message_id for receipt in receipts}) == 12
    assert server.connections == 4


async def test_a_pool_that_is_not_open_says_so(server):
    with pytest.raises(RuntimeError, match="async with"):
        async with WhatsAppCloudPool(settings_of(server)).sender():
            pass


def test_the_http_client_is_loaded_with_the_first_pool_only():
    code = (
        "import sys, messaging.channels.whatsapp_cloud, messaging.channels.whatsapp_cloud_webhooks;"
        "sys.exit('aiohttp' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


async def test_without_the_http_client_the_command_that_installs_it_is_told(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "messaging.channels.whatsapp_cloud_http", raising=False)

    with pytest.raises(InputError, match=r"pip install 'outflow\[whatsapp-cloud\]'"):
        await sent(server, a_message())
