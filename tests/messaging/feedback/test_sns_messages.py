"""Posts of Amazon SNS are read strictly: what is signed is exactly what is used."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.feedback.sns_messages import (
    SnsKind,
    is_certificate_url,
    is_subscribe_url,
    read_message,
)

TOPIC = "arn:aws:sns:eu-west-1:123456789012:ses-events"
CERTIFICATE = (
    "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-60eadc530605d63b8e62a523676ef735.pem"
)
SUBSCRIBE = (
    f"https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37"
)


def notification(**more: object) -> bytes:
    usual = {
        "Type": "Notification", "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", "TopicArn": TOPIC,
        "Message": "Hello", "Timestamp": "2026-11-22T10:00:00.123Z", "SignatureVersion": "1",
        "Signature": "AAAA", "SigningCertURL": CERTIFICATE, "UnsubscribeURL": "https://example.org",
    }  # fmt: skip
    return json.dumps({name: value for name, value in (usual | more).items() if value is not None}).encode()


def subscription(**more: object) -> bytes:
    usual = {"Type": "SubscriptionConfirmation", "SubscribeURL": SUBSCRIBE, "Token": "2336412f37"}
    return notification(**(usual | more))


def signed_text(raw: bytes) -> bytes:
    """Join a notification's fields as the guide says, whatever is in them."""
    found = json.loads(raw)
    names = ("Message", "MessageId", "Timestamp", "TopicArn", "Type")
    return "".join(f"{name}\n{found[name]}\n" for name in names).encode()


def test_what_is_signed_of_a_notification_is_in_the_order_of_the_guide():
    plain, with_subject = read_message(notification()), read_message(notification(Subject="Hi"))

    assert plain.signed == (
        b"Message\nHello\nMessageId\n22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324\n"
        b"Timestamp\n2026-11-22T10:00:00.123Z\nTopicArn\n" + TOPIC.encode() + b"\nType\nNotification\n"
    )
    assert with_subject.signed == plain.signed.replace(b"Timestamp\n", b"Subject\nHi\nTimestamp\n")
    assert (plain.kind, plain.topic, plain.text) == (SnsKind.NOTIFICATION, TOPIC, "Hello")
    assert plain.at == datetime(2026, 11, 22, 10, 0, 0, 123000, UTC)


@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
def test_what_is_signed_of_a_request_holds_its_url_and_its_token(kind: str):
    found = read_message(subscription(Type=kind))

    assert found.signed.decode().split("\n")[::2] == [
        "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type", "",
    ]  # fmt: skip
    assert (found.kind, found.subscribe_url) == (kind, SUBSCRIBE)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[]", b"7", b"{}", b"\xff", b"[" * 100_000, b"null", b"1" * 5000,
        notification(Type=None), notification(Type="Hello"), notification(Type=7),
        notification(Message=None), notification(Message={"a": 1}), notification(Message="\ud800"),
        notification(Timestamp=None), notification(Timestamp="2026-13-01T00:00:00Z"),
        notification(Timestamp="2026-11-22T10:00:00"), notification(Timestamp="2026-11-22"),
        notification(TopicArn="arn:aws:sqs:eu-west-1:123456789012:x"), notification(TopicArn=f"{TOPIC}\n"),
        notification(MessageId="1\nTimestamp"), notification(MessageId=None),
        notification(Signature="not base64!"), notification(Signature=None),
        notification(SignatureVersion="3"), notification(SignatureVersion=1),
        notification(SigningCertURL=None), notification(SigningCertURL="https://example.org/a.pem"),
        subscription(SubscribeURL=None), subscription(Token=None),
        subscription(SubscribeURL="https://example.org/?Action=ConfirmSubscription"),
    ],
)  # fmt: skip
def test_what_amazon_would_not_send_is_nothing(raw: bytes):
    assert read_message(raw) is None


def test_no_value_passes_for_other_fields():
    """Lines of a message that look like fields: the same signed text, read with other fields, is refused."""
    other = "arn:aws:sns:eu-west-1:999999999999:evil"
    tail = "\nMessageId\nm\nTimestamp\n2026-11-22T10:00:00Z\nTopicArn\n"
    evil = read_message(
        notification(Message=f"x{tail}{TOPIC}\nType\nNotification", TopicArn=other, MessageId="m",
                     Timestamp="2026-11-22T10:00:00Z")
    )  # fmt: skip
    rest = evil.signed.decode().partition("\nType\n")[2].removesuffix("\n")
    as_type = notification(Message="x", MessageId="m", Timestamp="2026-11-22T10:00:00Z", Type=rest)
    as_topic = notification(
        Message="x", MessageId="m", Timestamp="2026-11-22T10:00:00Z",
        TopicArn=f"{TOPIC}\nType\nNotification{tail}{other}",
    )  # fmt: skip

    assert evil.topic == other
    assert signed_text(as_type) == signed_text(as_topic) == evil.signed
    assert (read_message(as_type), read_message(as_topic)) == (None, None)


@pytest.mark.parametrize(
    "url",
    [
        CERTIFICATE,
        "https://sns.us-gov-west-1.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem",
        "https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-a1.pem",
    ],
)
def test_amazons_own_certificates_are_known(url: str):
    assert is_certificate_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        CERTIFICATE.replace("https", "http"),
        CERTIFICATE.replace("amazonaws.com", "amazonaws.com.evil.org"),
        CERTIFICATE.replace("sns.eu-west-1", "sns.s3-eu-west-1"),  # a bucket that anybody may name so
        CERTIFICATE.replace("sns.eu-west-1", "sns.s3"),
        CERTIFICATE.replace("sns.", "evil.sns."),
        CERTIFICATE.replace("sns.", "evil.org/sns."),
        CERTIFICATE.replace("sns.", "user@sns."),
        CERTIFICATE.replace(".com/", ".com:8443/"),
        CERTIFICATE.replace(".com/", ".com/folder/"),
        CERTIFICATE.replace(".pem", ".pem?Action=GetTopicAttributes"),
        CERTIFICATE.replace(".pem", ".pem#.pem"),
        CERTIFICATE.replace("Service-", "Service-x?y="),
        CERTIFICATE.replace("Service-", "Service-../"),
        CERTIFICATE + "\n",
        CERTIFICATE.upper(),
        "https://127.0.0.1/SimpleNotificationService-a.pem",
        "https://169.254.169.254/latest/meta-data/",
    ],
)
def test_other_places_for_certificates_are_refused(url: str):
    assert not is_certificate_url(url)


def test_a_confirmation_is_of_its_own_topic_at_amazon():
    assert is_subscribe_url(SUBSCRIBE, TOPIC)
    assert not is_subscribe_url(SUBSCRIBE, TOPIC + "2")


@pytest.mark.parametrize(
    "url",
    [
        "",
        SUBSCRIBE.replace("https", "http"),
        SUBSCRIBE.replace("amazonaws.com", "amazonaws.com.evil.org"),
        SUBSCRIBE.replace("sns.eu-west-1", "sns.s3-eu-west-1"),
        SUBSCRIBE.replace("sns.", "user@sns."),
        SUBSCRIBE.replace("/?", ":22/?"),
        SUBSCRIBE.replace("/?", "/x?"),
        SUBSCRIBE.replace("ConfirmSubscription", "DeleteTopic"),
        SUBSCRIBE + "&Action=DeleteTopic",
        SUBSCRIBE + "&" * 20,
        SUBSCRIBE + "\r\nX: y",
        SUBSCRIBE + "ü",
        "https://[",
    ],
)
def test_other_urls_confirm_nothing(url: str):
    assert not is_subscribe_url(url, TOPIC)


TEXTS = st.text(max_size=20) | st.none() | st.integers()


@given(
    st.dictionaries(
        st.sampled_from(
            ["Type", "Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Token", "SubscribeURL",
             "Signature", "SignatureVersion", "SigningCertURL"]
        ),
        TEXTS,
    ),
    st.booleans(),
)  # fmt: skip
def test_no_post_breaks_the_reader(more: dict[str, object], is_request: bool):  # noqa: FBT001 - hypothesis
    found = read_message((subscription if is_request else notification)(**more))

    assert found is None or found.signed.endswith(f"Type\n{found.kind}\n".encode())
