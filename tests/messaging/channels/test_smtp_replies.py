"""Replies mean what the tables say."""

import pytest

from messaging.channels.smtp_replies import Phase, Reply, Verdict, judge, named_wait, receipt
from schemas.states import Outcome


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4.7.1 greylisted, try again in 5 minutes", 300),
        ("retry after 30 seconds", 30),
        ("You are greylisted for 300 seconds", 300),
        ("please wait 1 h", 3600),
        ("please come back in 00:05:00", 300),
        ("4.2.1 Retry-After: 30", 30),
        ("try again in at least 2 mins.", 120),
        ("try again in 1 second", 1),
        ("blocked for 30 days", 24 * 3600),
        ("greylisted, see https://example.org/in/5", None),
        ("4.2.2 mailbox full", None),
        ("", None),
    ],
)
def test_a_named_wait_is_read_and_bounded(text, seconds):
    assert named_wait(text) == seconds


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (550, "5.1.1 no such user", "5.1.1"),
        (550, "#5.1.0 Address rejected.", "5.1.0"),
        (550, "no such user (5.1.1)", "5.1.1"),
        (550, "user unknown.", None),
        (554, "blocked from 5.1.1.20 by Fake 4.1.2", None),
        (250, "2.0.0 Ok", "2.0.0"),
        (450, "5.1.1 and 4.7.1", "4.7.1"),
    ],
)
def test_the_enhanced_status_is_found(code, text, status):
    assert Reply(code, [text.encode()]).status == status


@pytest.mark.parametrize(
    ("phase", "code", "text", "verdict"),
    [
        (Phase.GREETING, 421, "", Verdict.NOT_SENT),
        (Phase.GREETING, 554, "", Verdict.ACCOUNT),
        (Phase.AUTH, 454, "", Verdict.NOT_SENT),
        (Phase.AUTH, 535, "", Verdict.ACCOUNT),
        (Phase.MAIL, 451, "", Verdict.NOT_SENT),
        (Phase.MAIL, 354, "", Verdict.NONSENSE),
        (Phase.RCPT, 251, "", Verdict.GO_ON),
        (Phase.RCPT, 530, "", Verdict.ACCOUNT),
        (Phase.RCPT, 550, "5.4.5 Daily user sending quota exceeded", Verdict.ACCOUNT),
        (Phase.RCPT, 421, "4.7.28", Verdict.NOT_SENT),
        (Phase.DATA, 250, "", Verdict.NONSENSE),
        (Phase.DATA, 503, "", Verdict.NOT_SENT),
        (Phase.CONTENT, 250, "", Verdict.NONSENSE),
        (Phase.DOT, 354, "", Verdict.NONSENSE),
        (Phase.DOT, 421, "", Verdict.DEFERRED),
        (Phase.DOT, 535, "", Verdict.ACCOUNT),
        (Phase.DOT, 500, "", Verdict.REJECTED),
        (Phase.CHUNK, 250, "", Verdict.ACCEPTED),
        (Phase.CHUNK, 502, "", Verdict.NO_CHUNKS),
        (Phase.CHUNK, 503, "", Verdict.NO_CHUNKS),
        (Phase.CHUNK, 554, "", Verdict.REJECTED),
        (Phase.CHUNK, 421, "", Verdict.DEFERRED),
    ],
)
def test_a_code_means_what_its_phase_makes_of_it(phase, code, text, verdict):
    assert judge(phase, Reply(code, [text.encode()])) is verdict


@pytest.mark.parametrize(
    ("code", "text", "throttled"),
    [
        (421, "4.7.0 closing", True),
        (454, "Throttling failure: Maximum sending rate exceeded.", True),
        (450, "4.7.28 unusual rate", True),
        (451, "4.3.2 busy", True),
        (450, "4.2.1 mailbox busy", False),
        (452, "4.2.2 mailbox full", False),
    ],
)
def test_a_not_now_about_everyone_is_told_from_one_about_the_recipient(code, text, throttled):
    assert receipt(Verdict.DEFERRED, Reply(code, [text.encode()])).throttled is throttled


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("2.0.0 Ok: queued as 4F3A", "4F3A"),
        ("OK id=1rAbCd-0003-XY", "1rAbCd-0003-XY"),
        ("Ok 0102018c-1234-abcd-0000-000000000001-000000", "0102018c-1234-abcd-0000-000000000001-000000"),
        ("2.0.0 3AMB1c Message accepted for delivery", "3AMB1c"),
        ("2.0.0 ok", None),
    ],
)
def test_the_servers_name_of_a_message_is_kept(text, name):
    assert receipt(Verdict.ACCEPTED, Reply(250, [text.encode()])).provider_message_id == name


def test_a_receipt_keeps_the_words_short_printable_and_on_one_line():
    reply = Reply(451, [b"gr\xfcn\x00long", b"  in 5 minutes " + b"x" * 1000])

    kept = receipt(Verdict.DEFERRED, reply)

    assert kept.outcome is Outcome.DEFERRED
    assert kept.retry_after == 300
    assert kept.reply.startswith("gr�n long in 5 minutes xxx")
    assert len(kept.reply) == 500
    assert kept.reply.isprintable()
