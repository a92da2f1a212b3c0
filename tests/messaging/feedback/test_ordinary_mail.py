"""Mail of people, lists and shops is no bounce, whatever it speaks of; each in `ordinary.txt`."""

from pathlib import Path

import pytest

from messaging.feedback.bounces import read_bounces
from schemas.bounces import BounceClass

HARMLESS = {BounceClass.NOT_A_BOUNCE, BounceClass.AUTO_REPLY, BounceClass.CHALLENGE}
CHAPTERS = (Path(__file__).parent / "ordinary.txt").read_text("utf-8").split("=== ")[1:]
BOUNCE = (Path(__file__).parent / "mails" / "postfix-unknown.eml").read_bytes()


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.partition("\n")[0])
def test_ordinary_mail_says_nothing_about_anybody(chapter: str):
    found = read_bounces(chapter.partition("\n")[2].encode())

    assert {finding.bounce_class for finding in found} <= HARMLESS


def test_a_bounce_that_a_person_passes_on_is_not_about_our_mail():
    for field in (b"message/rfc822", b"text/plain"):
        forwarded = (
            b"From: Joe <joe@corp.example>\nTo: help@shop.example\nSubject: Fwd: Undelivered Mail\n"
            b"Content-Type: multipart/mixed; boundary=forwarding\n\n--forwarding\n\nWhat is this?\n"
            b"--forwarding\nContent-Type: " + field + b"\n\n" + BOUNCE + b"\n--forwarding--\n"
        )

        assert len(read_bounces(forwarded)) == 0


def test_a_bounce_quoted_in_an_answer_is_not_about_our_mail():
    quoted = b"\n".join(b"> " + line for line in BOUNCE.splitlines())
    answer = (
        b"From: Joe <joe@corp.example>\nTo: help@shop.example\nSubject: Re: Undelivered Mail\n\nLook:\n"
        + quoted
    )

    assert len(read_bounces(answer)) == 0
