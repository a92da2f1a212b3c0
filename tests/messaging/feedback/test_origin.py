"""Which of our messages came back, by whatever survived."""

import base64
import quopri

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messaging.feedback.mail import Mail
from messaging.feedback.origin import Origin, read_origin
from messaging.tokens import LinkKey, Purpose, sign

TOKEN = "00112233445566778899aabbccddeeff"
UUID = "00112233-4455-6677-8899-aabbccddeeff"
SIGNED = sign(LinkKey(1, b"k" * 32), Purpose.CLICK, bytes.fromhex(TOKEN), "https://shop.example/")
OURS = f"<{TOKEN}.42@shop.example>"


def bounce(returned: str = "", *fields: str, encoding: str = "7bit") -> bytes:
    body = f"Your message could not be delivered.\n\n{returned}\n".encode()
    if encoding == "base64":
        body = base64.encodebytes(body)
    if encoding == "quoted-printable":
        body = quopri.encodestring(body)
    head = ["From: MAILER-DAEMON@mx.example", *fields, f"Content-Transfer-Encoding: {encoding}", "", ""]
    return "\n".join(head).encode() + body


def origin(mail: bytes, envelope_id: str = "") -> Origin:
    return read_origin(Mail(mail), envelope_id)


@pytest.mark.parametrize("field", ["To", "Delivered-To", "X-Original-To", "Envelope-To"])
def test_the_address_a_bounce_was_sent_to_names_the_attempt(field: str):
    assert origin(bounce("", f"{field}: <bounce+{TOKEN}@shop.example>")).token == TOKEN


@pytest.mark.parametrize("given", [TOKEN, TOKEN.upper(), UUID, f"rfc822; {TOKEN}"])
def test_the_envelope_id_names_the_attempt(given: str):
    assert origin(bounce(), given).token == TOKEN


def test_anothers_envelope_id_names_nothing():
    assert origin(bounce(), "QQ12345;batch-7") == Origin()


@pytest.mark.parametrize(
    "link",
    [
        f"List-Unsubscribe: <https://shop.example/u/{SIGNED}>, <mailto:a@shop.example>",
        f"List-Unsubscribe:\n <https://shop.example/mail/u/{SIGNED}>",
        f"List-Unsubscribe: <https://shop.example/u/{SIGNED[:20]}\n\t{SIGNED[20:]}>",
        f'Hello\n<a href=3D"https://shop.example/c/{SIGNED[:9]}=\n{SIGNED[9:]}?to=3Dhttps://shop.example/">',
        f'Hello\n<a href=3D"https://shop.example/=\nc=\n/{SIGNED}?to=3Dhttps://shop.example/">',
        f'<img src=3D"https://shop.example/o/{SIGNED}.gif" width=3D"1" height=3D"1" alt=3D"">',
        f"> https://shop.example/p/{SIGNED}",
        f"List-Unsubscribe: <https://shop.example/u/{UUID}>",  # of versions before links were signed
        f"List-Unsubscribe: <https://shop.example/u/{TOKEN}>",
    ],
)
@pytest.mark.parametrize("encoding", ["7bit", "base64", "quoted-printable"])
def test_a_link_of_ours_names_the_attempt(link: str, encoding: str):
    assert origin(bounce(link, encoding=encoding)).token == TOKEN


@pytest.mark.parametrize(
    "link",
    [
        "https://www.reddit.example/u/somebody",
        f"https://shop.example/u/{SIGNED}x",
        f"https://shop.example/u/{SIGNED[:-1]}",
        f"https://shop.example/c/{SIGNED[:20]} {SIGNED[20:]}",
        f"https://shop.example/x/{SIGNED}",
        "https://shop.example/u/",
    ],
)
def test_a_link_of_somebody_elses_names_nothing(link: str):
    assert origin(bounce(link)) == Origin()


@given(attempt=st.binary(min_size=16, max_size=16), bound=st.text(max_size=50), cut=st.integers(1, 43))
@settings(max_examples=50, deadline=None)
def test_whoever_signed_a_link_its_attempt_is_known(attempt: bytes, bound: str, cut: int):
    token = sign(LinkKey(200, b"k" * 32), Purpose.CLICK, attempt, bound.encode("utf-8", "replace").decode())
    folded = f"X: https://shop.example/c/{token[:cut]}\n {token[cut:]}?to=x"

    assert origin(bounce(folded)).token == attempt.hex()


@pytest.mark.parametrize("encoding", ["7bit", "base64"])
def test_our_message_id_names_campaign_and_message(encoding: str):
    found = origin(bounce(f"Message-ID: {OURS}", encoding=encoding))

    assert (found.campaign_id, found.message_id) == (42, OURS)


def test_what_a_bounce_answers_names_the_message_when_nothing_is_returned():
    found = origin(bounce("", f"In-Reply-To: {OURS}"))

    assert (found.campaign_id, found.message_id) == (42, OURS)


def test_a_message_id_of_another_program_is_kept():
    assert origin(bounce("Message-ID: <abc@other.example>")).message_id == "<abc@other.example>"


@pytest.mark.parametrize(
    "subject",
    [
        "[CID:18] Offer",
        "Offer [CID:18]",
        "=?utf-8?B?W0NJRDoxOF0gT2ZmZXI=?=",
        "=?utf-8?Q?=5BCID=3A18=5D_Offer?=",
        "A long subject\n [CID:18]",
    ],
)
@pytest.mark.parametrize("encoding", ["7bit", "base64"])
def test_the_tag_in_the_subject_names_the_campaign(subject: str, encoding: str):
    assert origin(bounce(f"To: a@b.example\nSubject: {subject}", encoding=encoding)).campaign_id == 18


def test_the_tag_in_the_subject_of_the_bounce_itself_names_the_campaign():
    assert origin(bounce("", "Subject: Undeliverable: [CID:18] Offer")).campaign_id == 18


@pytest.mark.parametrize(
    "field", ["X-Campaign-ID: 18", "X-Shop-Campaign: 18", "x-cid: 18", "X-Campaign_Id:18"]
)
def test_a_field_of_our_own_names_the_campaign(field: str):
    assert origin(bounce(f"From: news@shop.example\n{field}\nSubject: Offer")).campaign_id == 18


def test_a_mail_that_tells_nothing_leaves_everything_open():
    assert origin(bounce("Subject: Offer")) == Origin()
