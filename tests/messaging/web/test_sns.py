"""Amazon SNS's posts: only Amazon's are believed, of topics that an operator has confirmed."""

import asyncio
import base64
import contextlib
import http.client
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

import aiohttp
import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from sqlalchemy import Engine
from typer.testing import CliRunner

from messaging.errors import InputError, NotSent
from messaging.feedback.amazon_pages import Absent
from messaging.feedback.sns_confirming import confirm_topic, list_topics
from messaging.storage import sns_topics
from messaging.storage.engine import open_engine
from messaging.web import sns
from messaging.web.sns import MOST_BYTES
from outflow import hooks
from tests.faults.wire import wire_to_database
from tests.messaging.web.hooked import HOST, hooked, mailed, post, rows

ADA = "ada@example.org"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:ses-events"
OTHER = "arn:aws:sns:eu-west-1:999999999999:ses-events"
AMAZON = "https://sns.eu-west-1.amazonaws.com"
NAMES = ("Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
HOOK = "/hooks/sns"
EVENTS = "SELECT kind, source FROM events WHERE attempt_id IS NOT NULL ORDER BY kind"
SUPPRESSED = "SELECT address_key, reason FROM suppressions"


@dataclass
class Amazon:
    """Signs as SNS does, by a key whose certificate lies at Amazon's."""

    key: rsa.RSAPrivateKey
    valid: tuple[timedelta, timedelta] = (timedelta(days=-1), timedelta(days=1))
    name: str = field(default_factory=lambda: uuid4().hex)

    @property
    def url(self) -> str:
        return f"{AMAZON}/SimpleNotificationService-{self.name}.pem"

    def certificate(self, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None = None) -> bytes:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
        now, (since, until) = datetime.now(UTC), self.valid
        made = x509.CertificateBuilder(
            name, name, (key or self.key).public_key(), x509.random_serial_number(), now + since, now + until
        )
        return made.sign(key or self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def signed(self, version: str = "2", **fields: str | None) -> bytes:
        usual = {"MessageId": str(uuid4()), "TopicArn": TOPIC, "Timestamp": stamp()}
        found = {name: value for name, value in (usual | fields).items() if value is not None}
        text = "".join(f"{name}\n{found[name]}\n" for name in NAMES if name in found)
        digest = hashes.SHA256() if version == "2" else hashes.SHA1()  # noqa: S303 - what Amazon uses
        signature = base64.b64encode(self.key.sign(text.encode(), padding.PKCS1v15(), digest)).decode()
        more = {"SignatureVersion": version, "Signature": signature, "SigningCertURL": self.url}
        return json.dumps(found | more).encode()

    def notification(self, event: object, **fields: str | None) -> bytes:
        message = event if isinstance(event, str) else json.dumps(event)
        return self.signed(**({"Type": "Notification", "Message": message} | fields))

    def request(
        self, kind: str = "SubscriptionConfirmation", topic: str = TOPIC, **fields: str | None
    ) -> bytes:
        token = uuid4().hex
        url = f"{AMAZON}/?Action=ConfirmSubscription&TopicArn={topic}&Token={token}"
        usual = {"Type": kind, "Message": "You have chosen …", "Token": token, "SubscribeURL": url}
        return self.signed(**(usual | {"TopicArn": topic} | fields))


def stamp(before: timedelta = timedelta()) -> str:
    return (datetime.now(UTC) - before).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event(token: UUID, kind: str = "Delivery", **more: object) -> dict[str, object]:
    mail = {
        "timestamp": stamp(), "messageId": "0100-1", "destination": [ADA],
        "tags": {"attempt": [token.hex], "campaign": ["1"]},
    }  # fmt: skip
    part = {"timestamp": stamp(), "recipients": [ADA]} | more
    return {"eventType": kind, "mail": mail, kind.lower(): part}


def bounce(token: UUID) -> dict[str, object]:
    gone = {"emailAddress": ADA, "action": "failed", "status": "5.1.1", "diagnosticCode": "smtp; 550 5.1.1"}
    return event(token, "Bounce", bounceType="Permanent", bounceSubType="NoEmail", bouncedRecipients=[gone])


@pytest.fixture(scope="module")
def keys() -> list[rsa.RSAPrivateKey]:
    return [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]


@pytest.fixture
def amazon(keys: list[rsa.RSAPrivateKey]) -> Amazon:
    return Amazon(keys[0])


@dataclass
class Place:
    """Where certificates lie, in place of Amazon's hosts; counts what is asked for."""

    pages: dict[str, bytes | OSError] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        found = self.pages.get(url, Absent("answered 404"))
        if isinstance(found, OSError):
            raise found
        return found


@pytest.fixture
def place(amazon: Amazon) -> Place:
    return Place({amazon.url: amazon.certificate()})


@contextlib.asynccontextmanager
async def served(ledger: Engine, fetch: Callable[[str], bytes]) -> AsyncIterator[str]:
    async with hooked(ledger, mounts=[partial(sns.routes, fetch=fetch)]) as url:
        yield url + HOOK


@pytest.fixture
async def hook(ledger: Engine, place: Place) -> AsyncIterator[str]:
    async with served(ledger, place.fetch) as url:
        yield url


@pytest.fixture
def token(ledger: Engine) -> UUID:
    """A mail that was sent, and a topic that is confirmed."""
    confirmed(ledger, TOPIC)
    return mailed(ledger, ADA)


def confirmed(ledger: Engine, topic: str) -> None:
    with ledger.begin() as connection:
        sns_topics.ask(connection, topic, "https://example.org")
        sns_topics.confirm(connection, topic)


def topics(ledger: Engine) -> dict[str, str]:
    return {topic.topic: topic.state for topic in list_topics(ledger)}


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("subject", [None, "Amazon SES Email Event Notification"])
async def test_what_amazon_has_signed_is_recorded(
    ledger: Engine, token: UUID, hook: str, amazon: Amazon, version: str, subject: str | None
):
    body = amazon.notification(bounce(token), version=version, Subject=subject)

    assert await post(hook, body) == 200
    assert rows(ledger, EVENTS) == [("bounced", "sns:ses-events")]
    assert rows(ledger, SUPPRESSED) == [(ADA, "bounced")]


async def test_a_report_settles_what_nobody_knew(ledger: Engine, hook: str, amazon: Amazon):
    confirmed(ledger, TOPIC)
    token = mailed(ledger, ADA, "unknown")

    assert await post(hook, amazon.notification(event(token))) == 200
    assert rows(ledger, "SELECT state, provider_message_id FROM attempts") == [("accepted", "0100-1")]


async def test_the_same_again_is_one_event_and_one_look_at_the_certificate(
    ledger: Engine, token: UUID, hook: str, amazon: Amazon, place: Place
):
    body = amazon.notification(event(token))

    assert await asyncio.gather(*(post(hook, body) for _ in range(8))) == [200] * 8
    assert rows(ledger, EVENTS) == [("delivered", "sns:ses-events")]
    assert place.asked == [amazon.url]


async def test_the_requests_of_strangers_leave_no_certificates_behind(
    token: UUID, hook: str, amazon: Amazon, place: Place
):
    """Anybody may have Amazon, in any region, ask us to listen to a topic of theirs."""
    assert await post(hook, amazon.notification(event(token))) == 200
    for n in range(9):
        elsewhere = Amazon(amazon.key)
        place.pages[elsewhere.url] = elsewhere.certificate()
        assert await post(hook, elsewhere.request(topic=f"{OTHER}-{n}")) == 200
    place.asked.clear()
    assert await post(hook, amazon.notification(event(token, "Open"))) == 200
    assert place.asked == []


async def test_what_is_changed_or_signed_by_another_is_refused(
    ledger: Engine, token: UUID, hook: str, amazon: Amazon, keys: list[rsa.RSAPrivateKey]
):
    good = json.loads(amazon.notification(bounce(token), Subject="Hi"))
    another = Amazon(keys[1], name=amazon.name)  # names Amazon's certificate, has another key
    own = Amazon(keys[1])  # names a certificate that is not at Amazon's
    confirmed(ledger, OTHER)
    no_subject = {name: value for name, value in good.items() if name != "Subject"}
    forged = [
        good | {"Message": json.dumps(bounce(uuid4()))},
        good | {"Subject": "Ho"},
        no_subject,
        good | {"MessageId": "another"},
        good | {"Timestamp": stamp(timedelta(minutes=1))},
        good | {"TopicArn": OTHER},
        good | {"SignatureVersion": "1"},
        good | {"Signature": ""},
        good | {"Signature": base64.b64encode(b"x" * 256).decode()},
        json.loads(another.notification(bounce(token))),
        json.loads(own.notification(bounce(token))),
    ]

    assert [await post(hook, json.dumps(each).encode()) for each in forged] == [403] * len(forged)
    assert (rows(ledger, "SELECT * FROM events"), rows(ledger, SUPPRESSED)) == ([], [])
    assert await post(hook, json.dumps(good).encode()) == 200


@pytest.mark.parametrize(
    "url",
    [
        f"http://{AMAZON[8:]}/SimpleNotificationService-a.pem",
        "https://sns.eu-west-1.amazonaws.com.evil.org/SimpleNotificationService-a.pem",
        "https://sns.s3-eu-west-1.amazonaws.com/SimpleNotificationService-a.pem",
        f"{AMAZON}/SimpleNotificationService-a.pem?x=.pem",
        "https://127.0.0.1/SimpleNotificationService-a.pem",
    ],
)
async def test_no_certificate_is_fetched_from_elsewhere(
    token: UUID, hook: str, amazon: Amazon, place: Place, url: str
):
    body = json.loads(amazon.notification(event(token))) | {"SigningCertURL": url}

    assert await post(hook, json.dumps(body).encode()) == 400
    assert place.asked == []


@pytest.mark.parametrize("days", [(-2, -1), (1, 2)])
async def test_a_certificate_is_good_for_its_time(
    token: UUID, hook: str, keys: list[rsa.RSAPrivateKey], place: Place, days: tuple[int, int]
):
    old = Amazon(keys[0], (timedelta(days=days[0]), timedelta(days=days[1])))
    place.pages[old.url] = old.certificate()

    assert await post(hook, old.notification(event(token))) == 403


async def test_what_is_no_certificate_of_such_a_key_is_refused(
    token: UUID, hook: str, amazon: Amazon, place: Place
):
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - to be refused
    pages = [b"", b"<html>", amazon.certificate(ec.generate_private_key(ec.SECP256R1())),
             amazon.certificate(small)]  # fmt: skip
    answers = []
    for page in pages:
        place.pages[amazon.url] = page
        answers.append(await post(hook, amazon.notification(event(token))))

    assert answers == [403] * len(pages)


async def test_a_certificate_that_cannot_be_had_now_is_had_later(
    token: UUID, hook: str, amazon: Amazon, place: Place
):
    body = amazon.notification(event(token))
    place.pages[amazon.url] = TimeoutError()
    assert await post(hook, body) == 503

    place.pages[amazon.url] = amazon.certificate()
    assert await post(hook, body) == 200


@pytest.mark.usefixtures("token")
async def test_without_the_packages_for_signatures_nothing_is_believed_and_a_sentence_says_so(
    hook: str, amazon: Amazon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    body = amazon.notification("{}")
    monkeypatch.setitem(sys.modules, "cryptography", None)

    assert await post(hook, body) == 503
    assert "pip install 'outflow[ses]'" in caplog.text


@pytest.mark.parametrize(
    ("before", "status"),
    [
        (timedelta(minutes=70), 403),
        (timedelta(days=30), 403),
        (timedelta(minutes=-10), 403),
        (timedelta(minutes=55), 200),
        (timedelta(minutes=-2), 200),
    ],
)
async def test_what_was_kept_for_later_is_refused(
    ledger: Engine, token: UUID, hook: str, amazon: Amazon, before: timedelta, status: int
):
    """Amazon repeats for at most an hour."""
    assert await post(hook, amazon.notification(event(token), Timestamp=stamp(before))) == status
    assert len(rows(ledger, EVENTS)) == (status == 200)


async def test_a_topic_is_listened_to_once_an_operator_says_so(
    ledger: Engine, token: UUID, hook: str, amazon: Amazon, place: Place
):
    assert await post(hook, amazon.notification(event(token), TopicArn=OTHER)) == 403
    assert place.asked == []

    request = amazon.request(topic=OTHER)
    assert await post(hook, request) == 200
    assert topics(ledger) == {TOPIC: "confirmed", OTHER: "waits to be confirmed"}
    assert place.asked == [amazon.url]  # what the request asks to open was not opened
    assert await post(hook, amazon.notification(event(token), TopicArn=OTHER)) == 403

    opened: list[str] = []
    confirm_topic(ledger, OTHER, lambda url: opened.append(url) or b"<ConfirmSubscriptionResponse/>")
    assert opened == [json.loads(request)["SubscribeURL"]]
    assert await post(hook, request) == 200  # Amazon repeats what it is not sure of
    assert topics(ledger)[OTHER] == "confirmed"
    assert await post(hook, amazon.notification(event(token), TopicArn=OTHER)) == 200
    assert rows(ledger, EVENTS) == [("delivered", "sns:ses-events")]


async def test_a_forged_request_is_not_kept(
    ledger: Engine, hook: str, amazon: Amazon, keys: list[rsa.RSAPrivateKey]
):
    request = json.loads(amazon.request())
    url = request["SubscribeURL"].replace("amazonaws.com", "amazonaws.com.evil.org")
    forged = [
        Amazon(keys[1], name=amazon.name).request(),
        json.dumps(request | {"Token": "another"}).encode(),
        amazon.request(SubscribeURL=url),
        amazon.request(Timestamp=stamp(timedelta(hours=2))),
        json.dumps(request | {"Type": "UnsubscribeConfirmation"}).encode(),
    ]

    assert [await post(hook, each) for each in forged] == [403, 403, 400, 403, 403]
    assert topics(ledger) == {}


@pytest.mark.usefixtures("token")
async def test_a_topic_that_goes_may_come_back(ledger: Engine, hook: str, amazon: Amazon):
    assert await post(hook, amazon.request("UnsubscribeConfirmation")) == 200
    assert topics(ledger) == {TOPIC: "asks again"}
    assert await post(hook, amazon.request("UnsubscribeConfirmation", OTHER)) == 403


@pytest.mark.usefixtures("token")
async def test_strangers_fill_no_table(ledger: Engine):
    for number in range(sns_topics.MOST_WAITING + 20):
        with ledger.begin() as connection:
            sns_topics.ask(connection, f"{OTHER}{number}", "https://example.org")

    kept = topics(ledger)
    assert len(kept) == sns_topics.MOST_WAITING + 1
    assert (kept[TOPIC], f"{OTHER}0" in kept, f"{OTHER}119" in kept) == ("confirmed", False, True)


def asked(
    ledger: Engine, url: str = f"{AMAZON}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=a1"
) -> None:
    with ledger.begin() as connection:
        sns_topics.ask(connection, TOPIC, url)


@pytest.mark.parametrize(
    ("answer", "error"), [(Absent("answered 404"), InputError), (TimeoutError(), NotSent)]
)
@pytest.mark.parametrize("before", [True, False])
def test_what_amazon_does_not_confirm_stays_as_it_was(
    ledger: Engine, answer: OSError, error: type[Exception], *, before: bool
):
    if before:
        confirmed(ledger, TOPIC)
    asked(ledger)
    was = topics(ledger)

    with pytest.raises(error):
        confirm_topic(ledger, TOPIC, raising(answer))
    assert topics(ledger) == was


def raising(error: OSError) -> Callable[[str], bytes]:
    def fetch(_: str) -> bytes:
        raise error

    return fetch


def test_nothing_but_a_confirmation_is_opened(ledger: Engine):
    asked(ledger, "https://169.254.169.254/latest/meta-data/")
    place = Place()

    with pytest.raises(InputError):
        confirm_topic(ledger, TOPIC, place.fetch)
    assert place.asked == []


def test_what_is_taken_while_amazon_confirms_is_listened_to_already(ledger: Engine):
    """What Amazon posts right after it was told would be refused otherwise, and not be repeated."""
    asked(ledger)
    seen = []

    def fetch(_: str) -> bytes:
        with ledger.begin() as connection:
            seen.append(sns_topics.is_confirmed(connection, TOPIC))
        return b""

    confirm_topic(ledger, TOPIC, fetch)
    assert seen == [True]


@pytest.mark.parametrize(
    "message", ["Successfully validated SNS topic for Amazon SES event publishing.", "{}", "[" * 5000, "\x00"]
)
@pytest.mark.usefixtures("token")
async def test_what_says_nothing_is_not_asked_for_again(
    ledger: Engine, hook: str, amazon: Amazon, message: str
):
    assert await post(hook, amazon.notification(message)) == 200
    assert rows(ledger, "SELECT * FROM events") == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"Type":"Notification"}'])
async def test_what_is_no_post_of_amazons_is_refused(hook: str, body: bytes):
    assert await post(hook, body) == 400


async def test_a_post_that_is_too_large_is_refused_unread(hook: str):
    assert await post(hook, b" " * (MOST_BYTES + 1)) == 413


async def test_other_methods_are_refused(hook: str):
    async with aiohttp.ClientSession() as session, session.get(hook) as response:
        assert response.status == 405


async def test_while_the_ledger_is_away_amazon_is_asked_to_come_again(
    ledger: Engine, database_url: str, token: UUID, amazon: Amazon, place: Place
):
    body = amazon.notification(event(token))
    async with wire_to_database(database_url) as (_, url):
        engine = open_engine(url)
        away = contextlib.AsyncExitStack()
        hook = await away.enter_async_context(served(engine, place.fetch))
    engine.dispose()
    async with away:  # the wire to the database is gone
        assert await post(hook, body) == 503

    async with served(ledger, place.fetch) as hook:
        assert await post(hook, body) == 200
    assert rows(ledger, EVENTS) == [("delivered", "sns:ses-events")]


async def test_no_person_is_in_the_log(
    token: UUID, hook: str, amazon: Amazon, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    request = amazon.request(topic=OTHER)
    unknown = event(token, f"New {ADA}")
    for body in (
        amazon.notification(bounce(token)),
        amazon.notification(unknown),
        amazon.notification(f"{{ {ADA}"),
        amazon.notification(event(token))[:-1] + b" ",
        request,
        amazon.request("UnsubscribeConfirmation"),
    ):
        await post(hook, body)

    assert "asks to post here" in caplog.text
    assert ADA not in caplog.text
    assert json.loads(request)["Token"] not in caplog.text


@contextlib.contextmanager
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    try:
        yield "{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


def from_moto(where: str, url: str) -> bytes:
    """Fetch a certificate where moto keeps it: it tells its services apart by the signature's scope."""
    scope = "Credential=x/20261122/eu-west-1/sns/aws4_request, SignedHeaders=host, Signature=x"
    connection = http.client.HTTPConnection(where, timeout=10)
    connection.request(
        "GET", url.removeprefix(AMAZON), headers={"Authorization": f"AWS4-HMAC-SHA256 {scope}"}
    )
    with contextlib.closing(connection):
        return connection.getresponse().read()


async def test_motos_signature_is_believed_and_what_it_says_recorded(ledger: Engine):
    """A second implementation signs and posts: a topic of moto's with our webhook subscribed to it."""
    token = mailed(ledger, ADA)
    with moto() as where:
        credentials = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "eu-west-1"}
        client = boto3.client("sns", endpoint_url=f"http://{where}", **credentials)
        topic = client.create_topic(Name=f"outflow-{uuid4().hex[:8]}")["TopicArn"]
        confirmed(ledger, topic)
        async with served(ledger, partial(from_moto, where)) as hook:
            client.subscribe(TopicArn=topic, Protocol="http", Endpoint=hook)
            publish = partial(client.publish, TopicArn=topic)
            await asyncio.to_thread(publish, Message=json.dumps(bounce(token)))
            # moto leaves the subject out of what it signs, which Amazon does not
            await asyncio.to_thread(publish, Message=json.dumps(event(token)), Subject="Hi")
        client.close()

    assert [kind for kind, _ in rows(ledger, EVENTS)] == ["bounced"]


def test_an_operator_lists_and_confirms_topics(ledger: Engine, monkeypatch: pytest.MonkeyPatch):
    asked(ledger)
    opened: list[str] = []
    monkeypatch.setattr("messaging.storage.engine.engine", lambda: ledger)
    monkeypatch.setattr(confirm_topic, "__defaults__", (lambda url: opened.append(url) or b"",))

    def run(*words: str) -> str:
        result = CliRunner().invoke(hooks.topics_app, list(words), catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    assert f"{TOPIC}  waits to be confirmed" in run("list")
    assert "is confirmed" in run("confirm", TOPIC)
    assert json.loads(run("confirm", TOPIC, "--json")) == {"topic": TOPIC, "state": "confirmed"}
    [listed] = json.loads(run("list", "--json"))["topics"]
    assert (listed["topic"], listed["state"]) == (TOPIC, "confirmed")
    assert len(opened) == 2
    with pytest.raises(InputError, match="has not asked"):
        CliRunner().invoke(hooks.topics_app, ["confirm", OTHER], catch_exceptions=False)


FIELDS = st.dictionaries(
    st.sampled_from([*NAMES, "Signature", "SignatureVersion", "SigningCertURL"]),
    st.text(max_size=10) | st.none() | st.integers() | st.lists(st.integers(), max_size=1),
    max_size=3,
)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
KINDS = [
    "Delivery",
    "Bounce",
    "Complaint",
    "Open",
    "Click",
    "Send",
    "Reject",
    "DeliveryDelay",
    "Subscription",
]


async def test_nothing_that_anybody_could_post_breaks_the_webhook(token: UUID, hook: str, amazon: Amazon):
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession() as session:

        async def answer(body: bytes) -> int:
            async with session.post(hook, data=body) as response:
                return response.status

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
        @given(
            FIELDS,
            st.sampled_from(KINDS),
            st.dictionaries(st.sampled_from(["timestamp", "recipients", "bouncedRecipients", "link"]), ODD),
        )
        def check(forged: dict[str, object], kind: str, part: dict[str, object]) -> None:
            fields = json.loads(amazon.notification(event(token))) | forged
            bodies = (json.dumps(fields).encode(), amazon.notification(event(token, kind, **part)))
            answers = [asyncio.run_coroutine_threadsafe(answer(body), loop).result() for body in bodies]
            assert answers[0] in {200, 400, 403}
            assert answers[1] == 200

        await asyncio.to_thread(check)
