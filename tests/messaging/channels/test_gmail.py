"""The Gmail API as we use it: what is asked, how often, and what each answer makes of a message."""

import asyncio
import base64
import contextlib
import http.client
import json
import logging
import os
import re
import ssl
import subprocess
import sys
import traceback
from dataclasses import replace

import httplib2
import pytest
import trustme

from messaging.channels import gmail_http
from messaging.channels.base import Quota
from messaging.channels.gmail import GmailPool
from messaging.errors import AccountError, BrokenOff, InputError, MessagingError, NotSent, Unknown
from schemas.states import AccountState, Outcome
from tests.fakes.gmail import HOST, Answer, FakeGoogle, error
from tests.messaging.channels.gmail_provider import CONTENT, a_message, dispatched, settings

SEND = "/gmail/v1/users/me/messages/send"
UPLOAD = f"/upload{SEND}"


@pytest.fixture
async def google():
    async with FakeGoogle().running() as running:
        yield running


@pytest.fixture
async def encrypted_google(monkeypatch: pytest.MonkeyPatch, tmp_path):
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST, "gmail.test").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with FakeGoogle().running(tls) as running:
        yield running


async def sent(google: FakeGoogle, message=None, dispatch=dispatched, tokens_from="", **others):
    there = settings(google, **others)
    if tokens_from:
        there = replace(there, identity=replace(there.identity, token_uri=f"{tokens_from}/token"))
    async with GmailPool(there) as pool, pool.sender() as sender:
        return await sender.send(message or a_message(), dispatch)


class Marks:
    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> None:
        self.count += 1


async def test_a_message_arrives_as_it_was_made(google: FakeGoogle):
    more = (
        b"\r\nList-Unsubscribe: <https://example.com/u>"
        b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    content = CONTENT.replace(b"\r\n\r\n", more).replace(b"Hello Ada", "Grüße, Ada ✓ ".encode() * 500)

    receipt = await sent(google, a_message(content))

    [message] = google.messages
    assert receipt.outcome is Outcome.ACCEPTED
    assert receipt.provider_message_id
    assert message["To"] == "Ada <ada@example.org>"
    assert message["List-Unsubscribe"] == "<https://example.com/u>"
    assert message.get_content().count("Grüße, Ada ✓") == 500


async def test_many_messages_over_two_connections_need_one_access_token(google: FakeGoogle):
    async with GmailPool(settings(google)) as pool:
        async with pool.sender() as one, pool.sender() as other:
            for sender in (one, other) * 3:
                await sender.send(a_message(), dispatched)
        assert pool.state is AccountState.CONNECTED

    assert (google.asked("/token"), google.asked(SEND), len(google.messages)) == (1, 6, 6)
    assert google.connections == 1 + 2


async def test_a_refused_token_is_renewed_and_the_message_sent_once(google: FakeGoogle):
    marks = Marks()
    async with GmailPool(settings(google)) as pool, pool.sender() as sender:
        await sender.send(a_message(), dispatched)
        google.access_tokens.clear()  # as when it was withdrawn
        receipt = await sender.send(a_message(), marks)

    assert (receipt.outcome, marks.count) == (Outcome.ACCEPTED, 1)
    assert (google.asked("/token"), google.asked(SEND), len(google.messages)) == (2, 3, 2)


async def test_a_token_that_is_refused_when_new_is_the_accounts_trouble(google: FakeGoogle):
    google.always = error(401, "authError", "Invalid Credentials")

    with pytest.raises(AccountError, match="run outflow gmail login news"):
        await sent(google)

    assert (google.asked("/token"), google.asked(SEND)) == (2, 2)


@pytest.mark.parametrize(
    ("said", "expected"),
    [((400, {"error": "invalid_grant"}), AccountError), ((503, b"busy"), NotSent)],
    ids=["consent withdrawn", "away"],
)
async def test_a_token_that_cannot_be_renewed_leaves_the_message_unsent(google: FakeGoogle, said, expected):
    async with GmailPool(settings(google)) as pool, pool.sender() as sender:
        await sender.send(a_message(), dispatched)
        google.access_tokens.clear()
        google.token_answer = said
        with pytest.raises(expected):
            await sender.send(a_message(), dispatched)

    assert len(google.messages) == 1


async def test_when_gmail_is_away_nothing_is_marked():
    marks = Marks()
    async with FakeGoogle().running() as tokens:
        async with FakeGoogle().running() as gone:
            pass
        with pytest.raises(NotSent, match="connecting: Connection refused"):
            await sent(tokens, dispatch=marks, endpoint=gone.url)

    assert marks.count == 0


async def test_when_tokens_cannot_be_had_nothing_is_marked(google: FakeGoogle):
    marks = Marks()
    google.token_answer = (500, b"")

    with pytest.raises(NotSent, match="answered 500"):
        await sent(google, dispatch=marks)

    assert (marks.count, google.asked("/token")) == (0, 1)  # Google's library would ask three times


@pytest.mark.parametrize("status", [303, 308])
async def test_a_redirect_is_not_followed(google: FakeGoogle, status: int):
    google.always = Answer(status, b"", {"location": f"{google.url}{SEND}"})

    with pytest.raises(Unknown):
        await sent(google)

    assert google.asked(SEND) == 1


@pytest.mark.parametrize("retries", [2, 1])
async def test_httplib2s_own_connection_would_mail_twice(google: FakeGoogle, monkeypatch, retries: int):
    """Why there is a connection of our own; when this fails it may no longer be needed."""
    monkeypatch.setattr(httplib2, "RETRIES", retries)
    google.access_tokens.add("token")
    google.always = Answer(keeps=True, silent=True, hangs_up=True)
    raw = base64.urlsafe_b64encode(CONTENT).decode()

    def post() -> None:
        connection = httplib2.Http(timeout=10)
        headers = {"authorization": "Bearer token", "content-type": "application/json"}
        with pytest.raises(http.client.RemoteDisconnected):
            connection.request(f"{google.url}{SEND}", "POST", json.dumps({"raw": raw}), headers)
        connection.close()

    await asyncio.to_thread(post)

    assert len(google.messages) >= 2


async def test_an_answer_that_breaks_off_is_unknown(google: FakeGoogle):
    google.always = Answer(headers={"content-length": "5000"}, hangs_up=True)

    with pytest.raises(Unknown, match="IncompleteRead"):
        await sent(google)

    assert len(google.messages) == 1


async def test_a_connection_that_idled_for_long_is_not_trusted(google: FakeGoogle, monkeypatch):
    monkeypatch.setattr(gmail_http, "LONGEST_IDLE", 0.0)
    async with GmailPool(settings(google)) as pool, pool.sender() as sender:
        for _ in range(2):
            assert (await sender.send(a_message(), dispatched)).outcome is Outcome.ACCEPTED

    assert len(google.messages) == 2
    assert google.connections >= 1 + 2


async def test_one_connection_carries_many_messages_over_tls(encrypted_google: FakeGoogle):
    async with GmailPool(settings(encrypted_google)) as pool, pool.sender() as sender:
        for _ in range(5):
            await sender.send(a_message(), dispatched)

    assert (encrypted_google.connections, len(encrypted_google.messages)) == (1 + 1, 5)


async def test_a_large_message_is_uploaded(encrypted_google: FakeGoogle):
    content = CONTENT + b"x" * 3_000_000

    receipt = await sent(encrypted_google, a_message(content))

    [message] = encrypted_google.messages
    assert receipt.outcome is Outcome.ACCEPTED
    assert (encrypted_google.asked(UPLOAD), encrypted_google.asked(SEND)) == (1, 0)
    assert len(message.get_content()) > 3_000_000


@pytest.mark.parametrize("size", [700_000, 700_001])
async def test_what_goes_as_json_fits_into_what_google_takes(encrypted_google: FakeGoogle, size: int):
    receipt = await sent(encrypted_google, a_message(CONTENT.ljust(size, b"x")))

    assert receipt.outcome is Outcome.ACCEPTED
    assert encrypted_google.asked(SEND if size == 700_000 else UPLOAD) == 1


async def test_a_message_that_broke_off_before_its_end_was_not_handed_over(encrypted_google: FakeGoogle):
    encrypted_google.breaks_after = 50_000

    with pytest.raises(BrokenOff, match="before the request's end"):
        await sent(encrypted_google, a_message(CONTENT + b"x" * 20_000_000))

    assert encrypted_google.messages == []


async def test_a_message_larger_than_gmail_takes_is_refused_here(google: FakeGoogle):
    receipt = await sent(google, a_message(CONTENT.ljust(36_700_161, b"x")))

    assert (receipt.outcome, receipt.code) == (Outcome.REJECTED, None)
    assert "36,700,160 bytes" in receipt.reply
    assert google.requests == []


@pytest.mark.parametrize(
    "header",
    [
        b"To: Bo <bo@example.org>",
        b"To: Ada <ada@example.org>\r\nCc: bo@example.org",
        b"To: Ada <ada@example.org>\r\nbcc:\r\n bo@example.org",
        b"To: Ada <ada@example.org>\r\nTo: bo@example.org",
        b"X-To: ada@example.org",
    ],
)
async def test_nobody_but_the_recipient_is_sent_to(google: FakeGoogle, header: bytes):
    receipt = await sent(google, a_message(CONTENT.replace(b"To: Ada <ada@example.org>", header)))

    assert (receipt.outcome, google.requests) == (Outcome.REJECTED, [])


async def test_a_long_name_is_no_other_recipient(google: FakeGoogle):
    folded = b"To: =?utf-8?q?Ada?=\r\n <ada@example.org>"

    receipt = await sent(google, a_message(CONTENT.replace(b"To: Ada <ada@example.org>", folded)))

    assert receipt.outcome is Outcome.ACCEPTED


async def test_a_server_that_nobody_vouches_for_is_told_nothing(encrypted_google: FakeGoogle, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")

    with pytest.raises(AccountError, match="certificate was refused"):
        await sent(encrypted_google)

    assert encrypted_google.requests == []


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch):
    """A proxy of a company's network that asks for a login, and what it was asked for."""
    asked = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        asked.append(head[0])
        if f"Proxy-Authorization: Basic {base64.b64encode(b'me:pass word').decode()}" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            writer.close()
            return
        there, back = await asyncio.open_connection(HOST, int(head[0].split()[1].rpartition(":")[2]))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pump(reader, back), pump(there, writer))

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(2**16):
                target.write(data)
        target.close()

    async with await asyncio.start_server(serve, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:pass%20word@{HOST}:{port}")
        monkeypatch.delenv("https_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        yield asked


async def test_a_proxy_of_the_environment_is_used_and_does_not_see_inside(encrypted_google, proxy: list[str]):
    named = f"https://gmail.test:{encrypted_google.port}"

    receipt = await sent(encrypted_google, endpoint=named, tokens_from=named)

    assert receipt.outcome is Outcome.ACCEPTED
    assert proxy == [f"CONNECT gmail.test:{encrypted_google.port} HTTP/1.0"] * 2


async def test_a_proxy_that_refuses_us_sends_nothing(encrypted_google, proxy: list[str], monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", re.sub("me:[^@]+", "canary:canary", os.environ["HTTPS_PROXY"]))

    with pytest.raises(NotSent, match=r"gmail\.test, connecting") as refused:
        await sent(encrypted_google, tokens_from="https://gmail.test")

    assert "canary" not in str(refused.value)
    assert len(proxy) == 1


async def test_tokens_never_travel_unprotected(google: FakeGoogle):
    with pytest.raises(AccountError, match=r"gmail\.example is asked over https:// only"):
        await sent(google, endpoint="http://gmail.example")


async def test_the_quota_is_that_of_the_settings(google: FakeGoogle):
    async with (
        GmailPool(settings(google)) as new,
        GmailPool(settings(google, units_per_minute=15_000)) as old,
    ):
        assert await new.quota() == Quota(1.0, 2000)
        assert await old.quota() == Quota(2.5, 2000)


async def test_verifying_asks_gmail_to_send_nothing(google: FakeGoogle):
    async with GmailPool(settings(google)) as pool:
        assert await pool.verify() == "news@example.com"

    assert (google.asked(SEND), google.messages) == (1, [])


@pytest.mark.parametrize(
    ("answer", "expected", "sentence"),
    [
        (error(403, "accessNotConfigured", "Gmail API has not been used"), AccountError, "switched off"),
        (error(400, "failedPrecondition", "Mail service not enabled"), AccountError, "no Gmail mailbox"),
        (error(429, "rateLimitExceeded", "Too many"), NotSent, "asks to wait"),
        (Answer(502, b"<html>"), NotSent, "502"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_verifying_says_what_is_wrong(google: FakeGoogle, answer, expected, sentence):
    google.always = answer
    async with GmailPool(settings(google)) as pool:
        with pytest.raises(expected, match=sentence):
            await pool.verify()


async def test_verifying_a_login_that_may_not_send_says_so(google: FakeGoogle):
    google.granted = "openid https://www.googleapis.com/auth/userinfo.email"
    async with GmailPool(settings(google)) as pool:
        with pytest.raises(AccountError, match="may not send mail: run outflow gmail login news"):
            await pool.verify()

    assert google.asked(SEND) == 0


BREAKDOWNS = [
    Answer(),
    Answer(keeps=True, silent=True, hangs_up=True),
    Answer(200, b"not Gmail"),
    Answer(502, b"<html>"),
    error(400, "invalidArgument", "Invalid To header: ada@example.org"),
    error(401, "authError", "Invalid Credentials ya29.canary-echo"),
    error(403, "forbidden", "Delegation denied for ada@example.org"),
    error(429, "userRateLimitExceeded", "User Rate Limit Exceeded"),
]


async def test_no_token_secret_or_address_shows(google: FakeGoogle, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    there = settings(google)
    shown = [repr(there)]
    for answer in BREAKDOWNS:
        google.always = answer
        async with GmailPool(there) as pool, pool.sender() as sender:
            shown += [repr(vars(pool)), repr(vars(sender)), pool.identity]
            try:
                await sender.send(a_message(), dispatched)
            except MessagingError as problem:
                shown.append("".join(traceback.format_exception(problem)))
    for said in ((400, {"error": "invalid_grant", "error_description": "canary-refresh"}), (500, b"canary")):
        google.token_answer = said
        async with GmailPool(there) as pool, pool.sender() as sender:
            with pytest.raises(MessagingError) as refused:
                await sender.send(a_message(), dispatched)
            shown.append("".join(traceback.format_exception(refused.value)))

    everything = "\n".join(shown) + caplog.text
    assert len(shown) > 20
    assert "canary" not in everything
    assert "ada@example.org" not in everything


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "googleapiclient.discovery", None)

    async def opened() -> None:
        async with GmailPool(settings(FakeGoogle(), refresh_token="r")):
            pass

    with pytest.raises(InputError, match=r"pip install 'outflow\[gmail\]'"):
        asyncio.run(opened())


def test_the_module_does_not_pay_for_googles_packages():
    ours = "messaging.channels.gmail, messaging.channels.gmail_consent"
    absent = {"google.auth", "googleapiclient", "httplib2", "oauthlib", "requests"}
    code = f"import sys, {ours}; sys.exit(' '.join({absent} & sys.modules.keys()) or None)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")

    assert done.stderr == ""
