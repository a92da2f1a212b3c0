"""Mail from anybody: no exception, no long thought, no address suppressed for nothing."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messaging.feedback.bounces import read_bounces
from schemas.bounces import BounceClass

HEAD = b"From: MAILER-DAEMON@x.example\nTo: a@b.example\nSubject: Undelivered Mail Returned to Sender\n"
MAILS = [path.read_bytes() for path in sorted((Path(__file__).parent / "mails").glob("*.eml"))]
LONG = 20  # seconds; the worst of these takes a third of one


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail when what is inside takes much longer than it ever should, on a busy machine too."""

    def late(*_: object) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def nested(depth: int) -> bytes:
    body = b"could not be delivered\n<u@x.example>: 550 user unknown\n"
    for number in range(depth):
        body = b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n%b\n--b%d--\n" % (
            number,
            number,
            body,
            number,
        )
    return HEAD + body


def report(fields: bytes) -> bytes:
    return HEAD + b"Content-Type: message/delivery-status\n\n" + fields


BOMBS = {
    "ten thousand parts": HEAD
    + b"Content-Type: multipart/report; boundary=B\n\n"
    + b"--B\nContent-Type: text/plain\n\nx\n" * 10_000,
    "two thousand levels": nested(2_000),
    "boundaries that are none": HEAD
    + b'Content-Type: multipart/mixed; boundary="-"\n\n'
    + b"\n---" * 200_000,
    "only at signs": HEAD + b"\n" + b"@" * 2_000_000,
    "only addresses": HEAD + b"\n" + b"a@b.example " * 100_000,
    "only line ends": HEAD + b"\n" * 1_000_000,
    "only blanks": HEAD + b"\n" + b" " * 1_000_000,
    "only blanks and line ends": HEAD + b"\n" + b"\t \n" * 300_000,
    "only angle brackets": HEAD + b"Content-Type: text/html\n\n" + b"<" * 1_000_000,
    "styles without end": HEAD + b"Content-Type: text/html\n\n" + b"<style" * 200_000,
    "tags without end": HEAD + b"Content-Type: text/html\n\n" + b"<br " * 300_000,
    "a header without end": HEAD + b"X: y\n" * 300_000,
    "a folded header without end": HEAD + b"X: y\n" + b" z\n" * 300_000,
    "encoded words without end": b"Subject: " + b"=?utf-8?B?W0NJ?= " * 100_000 + b"\n" + HEAD,
    "quoted-printable of nothing": HEAD
    + b"Content-Transfer-Encoding: quoted-printable\n\n"
    + b"=" * 1_000_000,
    "base64 of nothing": HEAD + b"Content-Transfer-Encoding: base64\n\n" + b"A" * 1_000_001,
    "only digits": HEAD + b"\n" + b"5" * 1_000_000,
    "only codes": HEAD + b"\n" + b"550 5.1.1 " * 100_000,
    "thirty thousand recipients": report(b"Final-Recipient: rfc822; a@b.example\n\n" * 30_000),
    "fields without values": report(b"A:\n " * 200_000),
    "only subjects": HEAD + b"\n" + b"Subject: x\n y\n" * 80_000,
    "message ids without end": HEAD + b"\n" + b"Message-ID: <aaaa\n" * 60_000,
    "only hexadecimal digits": HEAD + b"\n" + b"0123456789abcdef" * 60_000,
    "only said": HEAD + b"\n" + b"said: " * 100_000,
    "original messages": HEAD + b"\n" + b"original message \n" * 60_000,
    "JSON that nests": b"From: x@sns.amazonaws.com\n\n" + b'{"a":' * 100_000,
    "only null bytes": HEAD + b"\n" + b"\0" * 1_000_000,
    "sixty megabytes": HEAD + b"\n" + b"z" * 60_000_000,
    "nothing": b"",
    "one line end": b"\n",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_read_in_little_time_and_suppresses_nobody(bomb: bytes):
    with within(LONG):
        found = read_bounces(bomb)

    assert not any(note.startswith("could not be read") for note in found.notes)
    assert not any(f.recipient and f.bounce_class is BounceClass.HARD for f in found)


def test_what_was_not_read_is_said():
    assert read_bounces(BOMBS["ten thousand parts"]).notes == ("parts after the first 200 were not read",)
    assert read_bounces(BOMBS["two thousand levels"]).notes == ("parts nested deeper than 10 were not read",)
    assert read_bounces(BOMBS["sixty megabytes"]).notes[0].startswith("only the first 1,048,576 of ")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=3000))
def test_any_bytes_are_read(mail: bytes):
    assert not any(note.startswith("could not be read") for note in read_bounces(mail).notes)


@settings(max_examples=300, deadline=None)
@given(
    mail=st.sampled_from(MAILS),
    edits=st.lists(
        st.tuples(st.integers(0, 4000), st.integers(0, 200), st.binary(max_size=30)), min_size=1, max_size=8
    ),
)
def test_a_damaged_report_is_read(mail: bytes, edits: list[tuple[int, int, bytes]]):
    for start, length, content in edits:
        mail = mail[:start] + content + mail[start + length :]

    assert not any(note.startswith("could not be read") for note in read_bounces(mail).notes)


@settings(max_examples=100, deadline=None)
@given(mail=st.sampled_from(MAILS), length=st.integers(0, 2500))
def test_a_report_cut_short_never_turns_harder(mail: bytes, length: int):
    whole = {finding.recipient: finding.bounce_class for finding in read_bounces(mail)}

    for finding in read_bounces(mail[:length]):
        if finding.bounce_class is BounceClass.HARD and finding.recipient in whole:
            assert whole[finding.recipient] is BounceClass.HARD
