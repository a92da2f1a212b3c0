"""Certificates are verified, passwords stay secret, and nothing falls back to plaintext."""

import asyncio
import base64
import datetime as dt
import ssl

import pytest
import trustme

from messaging.channels.base import Message
from messaging.channels.smtp import SmtpPool, SmtpSettings, verify
from messaging.errors import AccountError, NotSent
from schemas.states import Outcome
from tests.fakes.scripted_smtp import HOST, ScriptedSmtp, hangs_up, says

USERNAME = "ada@example.org"
PASSWORD = "correct horse"
LOGINS = {USERNAME: PASSWORD}
MESSAGE = Message(7, "bounce@example.com", "bob@example.org", b"Subject: hello\r\n\r\nHello\r\n")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def trusted(authority, tmp_path, monkeypatch):
    """Make the test's authority the machine's, as an operator with a private one does."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


def a_context(authority, *names, **dates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or (HOST,)), **dates).configure_cert(context)
    return context


def an_account(server, security="none", **others):
    logins = {"username": USERNAME, "password": PASSWORD, "command_timeout": 5, "final_timeout": 5}
    return SmtpSettings(HOST, server.port, security, **(logins | others))


async def dispatched():
    """Agree, as the ledger does."""


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_mail_goes_through_tls(authority, security):
    async with ScriptedSmtp(**{security: a_context(authority)}, logins=LOGINS).running() as server:
        facts = await verify(an_account(server, security))
        async with SmtpPool(an_account(server, security)) as pool, pool.sender() as sender:
            receipt = await sender.send(MESSAGE, dispatched)
            long = Message(8, "a@example.com", "b@example.com", b"a long line\r\n" * 200_000)
            long_receipt = await sender.send(long, dispatched)

    assert facts.tls_version == "TLSv1.3"
    assert facts.authenticated
    assert receipt.outcome is long_receipt.outcome is Outcome.ACCEPTED
    assert [stored.content for stored in server.stored] == [MESSAGE.content, long.content]
    if security == "starttls":
        assert server.verbs()[:4] == ["EHLO", "STARTTLS", "EHLO", "AUTH"]


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("security", ["tls", "starttls"])
@pytest.mark.parametrize("fault", ["expired", "self-signed", "wrong host"])
async def test_a_bad_certificate_sees_no_password(authority, security, fault):
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=2)
    context = {
        "expired": lambda: a_context(authority, not_before=past, not_after=past + dt.timedelta(days=1)),
        "self-signed": lambda: a_context(trustme.CA()),
        "wrong host": lambda: a_context(authority, "other.example"),
    }[fault]()
    async with ScriptedSmtp(**{security: context}, logins=LOGINS).running() as server:
        with pytest.raises(AccountError, match="certificate was refused"):
            await verify(an_account(server, security))

    assert "AUTH" not in server.verbs()
    assert "MAIL" not in server.verbs()


@pytest.mark.usefixtures("trusted")
async def test_an_old_tls_is_refused(authority):
    context = a_context(authority)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = context.minimum_version = ssl.TLSVersion.TLSv1_1
    async with ScriptedSmtp(tls=context, logins=LOGINS).running() as server:
        with pytest.raises((AccountError, NotSent)):
            await verify(an_account(server, "tls"))

    assert server.commands == []


async def test_tls_on_a_port_without_it_is_a_fault_of_the_account():
    async with ScriptedSmtp(logins=LOGINS).running() as server:
        with pytest.raises(AccountError, match="no TLS as we ask for it"):
            await verify(an_account(server, "tls"))


async def test_a_stripped_starttls_is_refused():
    async with ScriptedSmtp(logins=LOGINS).running() as server:
        with pytest.raises(AccountError, match="does not offer STARTTLS"):
            await verify(an_account(server, "starttls"))

    assert server.verbs() == ["EHLO"]


@pytest.mark.parametrize(
    ("step", "error"),
    [(says("454 4.7.0 TLS is away"), NotSent), (says("554 5.7.3 no"), AccountError), (hangs_up(), NotSent)],
)
async def test_a_refused_starttls_never_goes_on_without(authority, step, error):
    script = {"STARTTLS": step}
    async with ScriptedSmtp(script, starttls=a_context(authority), logins=LOGINS).running() as server:
        with pytest.raises(error, match="STARTTLS"):
            await verify(an_account(server, "starttls"))

    assert server.verbs() == ["EHLO", "STARTTLS"]


@pytest.mark.parametrize("methods", ["PLAIN LOGIN", "LOGIN", "SCRAM-SHA-1 PLAIN"])
async def test_a_password_logs_in(methods):
    async with ScriptedSmtp(logins=LOGINS, auth_methods=methods).running() as server:
        facts = await verify(an_account(server))

    assert facts.authenticated
    assert server.verbs().count("AUTH") == 1


async def test_a_method_that_is_offered_and_unknown_is_passed_over():
    script = {"AUTH": [says("504 5.5.4 what?")]}
    async with ScriptedSmtp(script, logins=LOGINS).running() as server:
        assert (await verify(an_account(server))).authenticated


@pytest.mark.parametrize(
    ("script", "error", "text"),
    [
        ({"AUTH": says(f"534 5.7.9 {USERNAME} no")}, AccountError, "AUTH: answered 534 5.7.9"),
        ({"AUTH": says(f"454 4.7.0 {USERNAME} later")}, NotSent, "AUTH: answered 454 4.7.0"),
        ({"AUTH": says(f"421 4.7.0 {USERNAME} closing")}, NotSent, "AUTH: answered 421"),
        ({"AUTH": hangs_up()}, NotSent, "AUTH: the server closed"),
        ({}, AccountError, "AUTH: answered 535 5.7.8"),
    ],
)  # fmt: skip
async def test_a_refused_login_says_why_and_names_nobody(script, error, text):
    async with ScriptedSmtp(script, logins=LOGINS).running() as server:
        account = an_account(server, password="a wrong one")
        with pytest.raises(error, match=text) as caught:
            await verify(account)

    for secret in (USERNAME, "a wrong one"):
        assert secret not in str(caught.value)
    assert caught.value.__suppress_context__
    assert "a wrong one" not in repr(account)


async def test_a_server_that_offers_no_login_is_a_fault_of_the_account():
    async with ScriptedSmtp().running() as server:
        with pytest.raises(AccountError, match="does not offer to log in"):
            await verify(an_account(server))


async def test_a_wrong_password_is_tried_once_by_a_whole_pool():
    async with ScriptedSmtp(logins={}).running() as server, SmtpPool(an_account(server)) as pool:

        async def send_one():
            async with pool.sender() as sender:
                await sender.send(MESSAGE, dispatched)

        results = await asyncio.gather(*(send_one() for _ in range(20)), return_exceptions=True)

    assert {type(result) for result in results} == {AccountError}
    assert server.verbs().count("AUTH") == 1


async def test_a_server_that_is_away_is_waited_for_once_by_a_whole_pool():
    async with ScriptedSmtp({"CONNECT": [hangs_up()]}).running() as server:
        account = SmtpSettings(HOST, server.port, "none", connections=5)
        async with SmtpPool(account) as pool:

            async def send_one():
                async with pool.sender() as sender:
                    return await sender.send(MESSAGE, dispatched)

            results = await asyncio.gather(*(send_one() for _ in range(5)), return_exceptions=True)
            assert {type(result) for result in results} == {NotSent}
            assert server.opened == 1
            assert (await send_one()).outcome is Outcome.ACCEPTED


async def test_a_password_never_leaves_this_machine_without_tls():
    with pytest.raises(AccountError, match="never sent without TLS"):
        await verify(SmtpSettings("mail.example.org", 25, "none", username=USERNAME, password=PASSWORD))


async def a_token():
    return PASSWORD


async def a_stale_token():
    return "a stale one"


def by_token(server, token, security="none"):
    return SmtpSettings(HOST, server.port, security, username=USERNAME, access_token=token)


@pytest.mark.usefixtures("trusted")
async def test_an_access_token_logs_in(authority):
    server = ScriptedSmtp(starttls=a_context(authority), logins=LOGINS, auth_methods="PLAIN XOAUTH2")
    async with server.running():
        assert (await verify(by_token(server, a_token, "starttls"))).authenticated

    [login] = [command for command in server.commands if command.startswith("AUTH")]
    assert base64.b64decode(login.split()[2]) == f"user={USERNAME}\1auth=Bearer {PASSWORD}\1\1".encode()


async def test_a_refused_token_is_tried_once_and_told_to_nobody():
    async with ScriptedSmtp(logins=LOGINS, auth_methods="XOAUTH2").running() as server:
        account = by_token(server, a_stale_token)
        with pytest.raises(AccountError, match=r"AUTH: answered 535 5\.7\.8$") as caught:
            await verify(account)

    assert server.verbs().count("AUTH") == 1
    assert caught.value.__suppress_context__
    for secret in (USERNAME, "a stale one", "a_stale_token"):
        assert secret not in str(caught.value)
    assert "a_stale_token" not in repr(account)


async def test_each_connection_asks_for_a_token():
    asked = []

    async def token():
        asked.append(1)
        return PASSWORD

    async with ScriptedSmtp(logins=LOGINS, auth_methods="XOAUTH2").running() as server:
        for _ in range(2):
            await verify(by_token(server, token))

    assert len(asked) == 2


async def test_a_token_is_not_shown_to_a_server_that_does_not_take_one():
    async with ScriptedSmtp(logins=LOGINS).running() as server:
        with pytest.raises(AccountError, match="XOAUTH2"):
            await verify(by_token(server, a_token))
    with pytest.raises(AccountError, match="never sent without TLS"):
        await verify(SmtpSettings("mail.example.org", 25, "none", username=USERNAME, access_token=a_token))

    assert "AUTH" not in server.verbs()
