"""Amazon SES: what a request says, what each answer makes of a message, what SES allows an account."""

import asyncio
import ssl
import subprocess
import sys
from dataclasses import replace

import pytest
import trustme

from messaging.channels.base import Quota
from messaging.channels.ses import SesPool, SesSettings, verify
from messaging.errors import AccountError, InputError, NotSent, Unknown
from schemas.states import AccountState, Outcome
from tests.fakes.ses import KEY_ID, REGION, SECRET, FakeSes, Fault, Refusal
from tests.messaging.channels.ses_provider import a_message, settings


@pytest.fixture
async def fake():
    async with FakeSes().running() as running:
        yield running


async def marked() -> None:
    return None


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the stand-in signals nothing
            await asyncio.sleep(0.01)


async def sent(fake: FakeSes, message=None, **values):
    async with SesPool(settings(fake, **values)) as pool, pool.sender() as sender:
        return await sender.send(message or a_message(), marked)


async def test_a_request_keeps_our_message_and_carries_our_tags(fake: FakeSes):
    content = (
        b"From: =?utf-8?q?Sh=C3=B6p?= <news@shop.example.org>\r\nTo: ada@example.org\r\nSubject: Hi\r\n"
        b"List-Unsubscribe: <https://shop.example.org/u/x>\r\n"
        b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\nHello\r\n"
    )
    message = replace(a_message("ada+spring@example.org", token="0f" * 16, campaign_id=18), content=content)

    receipt = await sent(fake, message)

    [taken] = fake.sent
    assert taken.content == content
    assert taken.recipients == ["ada+spring@example.org"]
    assert taken.tags == {"campaign": "18", "attempt": "0f" * 16}
    assert taken.configuration_set == "outflow"
    assert taken.feedback == "news@shop.example.org"
    assert taken.from_parameter is None  # it would take the place of From, with its name
    assert (receipt.outcome, receipt.code) == (Outcome.ACCEPTED, 200)
    assert receipt.provider_message_id == taken.message_id


async def test_without_token_and_configuration_set_nothing_is_said_of_them(fake: FakeSes):
    await sent(fake, a_message(token=""), configuration_set=None)

    assert fake.sent[0].tags == {"campaign": "7"}
    assert fake.sent[0].configuration_set is None


async def test_messages_of_one_sender_go_over_one_connection(fake: FakeSes):
    async with SesPool(settings(fake)) as pool:
        for _ in range(3):
            async with pool.sender() as sender:
                await sender.send(a_message(), marked)

    assert (len(fake.sent), fake.connections) == (3, 1)


async def test_connections_send_at_once(fake: FakeSes):
    fake.faults["SendEmail"] = Fault(after_seconds=0.5)
    most = 0

    async def one(pool: SesPool) -> None:
        nonlocal most
        async with pool.sender() as sender:
            sending = asyncio.create_task(sender.send(a_message(), marked))
            while not sending.done():
                most = max(most, len(fake.sent))
                await asyncio.sleep(0.02)
            await sending

    async with SesPool(settings(fake, connections=3)) as pool:
        await asyncio.gather(*(one(pool) for _ in range(6)))

    assert fake.connections == 3
    assert most >= 3  # taken before the first was answered
    assert len(fake.sent) == 6


@pytest.mark.parametrize(
    "recipient", ["jürgen@example.org", "ada@exämple.org", "ada lovelace@example.org", ""]
)
async def test_an_address_that_ses_cannot_take_is_refused_here(fake: FakeSes, recipient: str):
    receipt = await sent(fake, a_message(recipient))

    assert (receipt.outcome, receipt.unreachable) == (Outcome.REJECTED, True)
    assert fake.asked["SendEmail"] == 0


async def test_an_address_without_a_domain_is_refused_by_ses(fake: FakeSes):
    receipt = await sent(fake, a_message("ada"))

    assert (receipt.outcome, receipt.unreachable, receipt.status) == (Outcome.REJECTED, True, "5.1.3")
    assert "Missing final '@domain'" in receipt.reply


@pytest.mark.parametrize(
    "fault",
    [
        Fault(silent=True),
        Fault(silent=True, hangs_up=True),
        Fault(body=b"<html><body>502 Bad Gateway</body></html>", status=502),
        Fault(body=b"", status=504),
        Fault(body=b"{}", status=200),
        Fault(body=b"not JSON", status=200),
    ],
    ids=["silence", "hangs up", "a load balancer's page", "nothing", "no id", "no JSON"],
)
async def test_no_answer_of_ses_is_unknown_and_asked_once(fake: FakeSes, fault: Fault):
    fake.faults["SendEmail"] = fault

    with pytest.raises(Unknown):
        await sent(fake, read_timeout=0.5)

    assert fake.asked["SendEmail"] == 1  # boto3 asks five times when it is not told


async def test_a_throttle_is_asked_once(fake: FakeSes):
    fake.faults["SendEmail"] = Fault(Refusal("ThrottlingException", "Maximum sending rate exceeded.", 400))

    receipt = await sent(fake)

    assert (receipt.outcome, receipt.throttled, receipt.retry_after) == (Outcome.DEFERRED, True, None)
    assert fake.asked["SendEmail"] == 1


async def test_a_used_up_day_is_a_long_throttle(fake: FakeSes):
    fake.faults["SendEmail"] = Fault(
        Refusal("TooManyRequestsException", "Daily message quota exceeded.", 429)
    )

    receipt = await sent(fake)

    assert (receipt.outcome, receipt.throttled, receipt.retry_after) == (Outcome.DEFERRED, True, 3600.0)


async def test_an_endpoint_that_nobody_listens_at_is_not_sent():
    away = settings(FakeSes(port=1))
    async with SesPool(away) as pool, pool.sender() as sender:
        with pytest.raises(NotSent, match="cannot be reached"):
            await sender.send(a_message(), marked)


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_certificate_is_verified_before_anything_is_said(monkeypatch, tmp_path, *, trusted: bool):
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    (authority if trusted else trustme.CA()).cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    async with FakeSes(tls=tls).running() as fake:
        if trusted:
            assert (await sent(fake)).outcome is Outcome.ACCEPTED
        else:
            with pytest.raises(AccountError, match="certificate was refused"):
                await sent(fake)

        assert len(fake.sent) == trusted


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"secret_access_key": "wrong"}, "does not belong to the key id"),
        ({"access_key_id": "AKIANOBODY"}, "does not know the access key"),
        ({"region": "us-east-1"}, "signs as us-east-1"),
        ({"configuration_set": "gone"}, "no configuration set gone in eu-west-1"),
    ],
)
async def test_wrong_settings_are_named(fake: FakeSes, values: dict, says: str):
    with pytest.raises(AccountError, match=says) as refused:
        await sent(fake, **values)

    assert SECRET not in str(refused.value)
    assert fake.sent == []


async def test_a_sender_that_is_not_verified_is_named_without_addresses(fake: FakeSes):
    fake.identities.clear()

    with pytest.raises(AccountError, match="not verified in eu-west-1") as refused:
        await sent(fake)

    assert "@" not in str(refused.value)


async def test_the_sandbox_is_told_apart_from_a_sender_that_is_not_verified(fake: FakeSes):
    fake.production = False

    with pytest.raises(AccountError, match="sandbox in eu-west-1") as refused:
        await sent(fake)
    simulated = await sent(fake, a_message("bounce+first@simulator.amazonses.com"))

    assert "@" not in str(refused.value)
    assert simulated.outcome is Outcome.ACCEPTED
    assert fake.sent[0].simulated == "bounce"


async def test_a_policy_without_sending_names_the_action(fake: FakeSes):
    fake.denied = {"SendEmail"}

    with pytest.raises(AccountError, match="does not allow ses:SendEmail in eu-west-1"):
        await sent(fake)


async def test_no_credentials_at_all_are_said_before_anything_is_marked(fake: FakeSes, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    marks = []

    async def mark() -> None:
        marks.append(1)

    without = settings(fake, access_key_id=None, secret_access_key=None)
    async with SesPool(without) as pool, pool.sender() as sender:
        with pytest.raises(AccountError, match="no AWS credentials found"):
            await sender.send(a_message(), mark)

    assert marks == []


async def test_keys_of_the_environment_serve_when_the_account_has_none(fake: FakeSes, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)

    receipt = await sent(fake, access_key_id=None, secret_access_key=None)

    assert receipt.outcome is Outcome.ACCEPTED


async def test_a_cancelled_send_is_not_made_twice(fake: FakeSes):
    fake.faults["SendEmail"] = Fault(after_seconds=0.5)
    async with SesPool(settings(fake)) as pool:
        async with pool.sender() as sender:
            sending = asyncio.create_task(sender.send(a_message(), marked))
            await until(lambda: fake.sent)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
        fake.faults.clear()
        async with asyncio.timeout(20), pool.sender() as sender:  # when the thread has its answer
            await sender.send(a_message(), marked)

    assert len(fake.sent) == 2
    assert fake.connections == 1


async def test_the_quota_is_what_ses_says_and_asked_once_a_minute(fake: FakeSes):
    async with SesPool(settings(fake)) as pool:
        first = await pool.quota()
        fake.rate = 50.0
        second = await pool.quota()

    assert first == second == Quota(rate=14.0, per_day=50_000)
    assert fake.asked["GetAccount"] == 1


async def test_an_account_without_a_daily_quota_has_none(fake: FakeSes):
    fake.per_day = -1.0
    async with SesPool(settings(fake)) as pool:
        assert await pool.quota() == Quota(rate=14.0, per_day=None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sending_enabled": False}, "sending is paused for this account"),
        ({"enforcement": "SHUTDOWN"}, "Amazon has stopped sending"),
        ({"denied": {"GetAccount"}}, "does not allow ses:GetAccount"),
    ],
)
async def test_an_account_that_may_not_send_says_so_with_its_quota(fake: FakeSes, changes: dict, says: str):
    vars(fake).update(changes)
    async with SesPool(settings(fake)) as pool:
        with pytest.raises(AccountError, match=says):
            await pool.quota()

        assert pool.state is AccountState.AUTHENTICATION_FAILED


async def test_a_quota_that_ses_does_not_tell_is_not_sent(fake: FakeSes):
    fake.faults["GetAccount"] = Fault(body=b"", status=502)
    async with SesPool(settings(fake)) as pool:
        with pytest.raises(NotSent):
            await pool.quota()


async def test_a_quota_is_told_while_every_connection_is_busy(fake: FakeSes):
    fake.faults["SendEmail"] = Fault(silent=True)
    async with SesPool(settings(fake, read_timeout=2.0)) as pool, pool.sender() as sender:
        sending = asyncio.create_task(sender.send(a_message(), marked))
        await until(lambda: fake.sent)
        assert (await pool.quota()).rate == 14.0
        assert not sending.done()
        with pytest.raises(Unknown):
            await sending


async def test_state_and_identity_tell_where_we_stand(fake: FakeSes):
    async with SesPool(settings(fake)) as pool, pool.sender() as sender:
        before = pool.state
        await sender.send(a_message(), marked)
        after, identity = pool.state, pool.identity
        fake.keys.clear()
        with pytest.raises(AccountError):
            await sender.send(a_message(), marked)

        assert (before, after) == (AccountState.DISCONNECTED, AccountState.CONNECTED)
        assert identity == "Amazon SES in eu-west-1, key …7EXA"
        assert pool.state is AccountState.AUTHENTICATION_FAILED


async def test_verifying_says_what_ses_has(fake: FakeSes):
    fake.sent_before = 1234
    fake.actions_per_second = 20.0  # it is asked four things in a row

    facts = await verify(settings(fake))

    assert facts.sentence == (
        "Amazon SES in eu-west-1, key …7EXA: shop.example.org is verified, production access, 14 a second, "
        "50,000 in 24 hours, 1,234 of them used, configuration set outflow"
    )
    assert fake.asked["SendEmail"] == 0


async def test_verifying_says_what_is_missing(fake: FakeSes):
    fake.production = False
    fake.destinations = {"to-sns": False}
    with_set = await verify(settings(fake))
    without_set = await verify(settings(fake, configuration_set=None))

    assert "in the sandbox" in with_set.sentence
    assert "missing: production access" in with_set.sentence
    assert "an event destination of configuration set outflow" in with_set.sentence
    assert "a configuration set, hence" in without_set.sentence


async def test_a_domain_above_the_senders_is_enough(fake: FakeSes):
    fake.identities = {"example.org": True}

    assert (await verify(settings(fake))).identity == "example.org"


@pytest.mark.parametrize(
    ("changes", "values", "says"),
    [
        (
            {"identities": {}},
            {},
            "neither the sender's address nor shop.example.org is an identity in eu-west-1",
        ),
        ({"identities": {"shop.example.org": False}}, {}, "shop.example.org is not verified yet"),
        ({"identities": {"news@shop.example.org": False}}, {}, "the sender's address is not verified yet"),
        ({}, {"configuration_set": "gone"}, "no configuration set gone"),
        ({"configuration_sets": {"outflow": False}}, {}, "paused for configuration set outflow"),
        ({"denied": {"GetEmailIdentity"}}, {}, "does not allow ses:GetEmailIdentity"),
        ({"sending_enabled": False}, {}, "sending is paused for this account"),
    ],
)
async def test_verifying_an_account_that_cannot_send(fake: FakeSes, changes: dict, values: dict, says: str):
    vars(fake).update(changes)

    with pytest.raises(AccountError, match=says) as refused:
        await verify(settings(fake, **values))

    assert "@" not in str(refused.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"region": "Ireland"}, "region"),
        ({"secret_access_key": None}, "both an access key id and its secret"),
        ({"access_key_id": None, "secret_access_key": None, "session_token": "x"}, "session token"),
        ({"make_session": lambda: None}, "not both"),
        ({"configuration_set": "out flow"}, "configuration_set"),
        ({"connections": 0}, "connections"),
    ],
)
def test_settings_that_can_never_work_are_refused(values: dict, says: str):
    usual = {"region": REGION, "access_key_id": KEY_ID, "secret_access_key": SECRET}
    with pytest.raises(InputError, match=says):
        SesSettings(**usual | values)


async def test_an_endpoint_that_is_no_url_is_refused(fake: FakeSes):
    with pytest.raises(InputError, match="endpoint"):
        await sent(fake, endpoint="not a url")


def test_secrets_show_nowhere():
    shown = repr(SesSettings(REGION, KEY_ID, SECRET, "a-session-token"))

    assert SECRET not in shown
    assert "a-session-token" not in shown


def test_the_channel_is_imported_without_boto3():
    code = "import messaging.channels.ses, sys; sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd="/").returncode == 0


def test_a_missing_extra_is_named():
    code = (
        "import sys; sys.modules['boto3'] = None\n"
        "from messaging.channels.ses_client import SesClient\n"
        "from messaging.channels.ses_settings import SesSettings\n"
        "SesClient(SesSettings('eu-west-1'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")

    assert "InputError: Amazon SES needs more packages: pip install 'outflow[ses]'" in done.stderr
