"""Reports that Exim 4.96 and Postfix 3.7 wrote for mail to a server of ours, and others' words."""

from pathlib import Path

import pytest

from messaging.feedback.bounces import read_bounces
from schemas.bounces import BounceClass, BounceReason, Suppress

HERE = Path(__file__).parent
ENVELOPE_ID = "0123456789abcdef0123456789abcdef"


def captured(name: str) -> bytes:
    return (HERE / "mails" / f"{name}.eml").read_bytes()


def reports() -> list[tuple[str, str]]:
    """The class and the mail of each report in `reports.txt`."""
    chapters = (HERE / "reports.txt").read_text("utf-8").split("=== ")[1:]
    return [(chapter.partition("\n")[0], chapter.partition("\n")[2]) for chapter in chapters]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exim-lines", [("multi@example.com", "hard", "user unknown", "5.1.1")]),
        ("exim-full", [("full@example.com", "soft", "mailbox full", "4.2.2")]),
        (
            "exim-two",
            [
                ("unknown@example.com", "hard", "user unknown", "5.1.1"),
                ("full5@example.com", "soft", "mailbox full", "5.2.2"),
            ],
        ),
        ("exim-unrouteable", [("who@nodomain.example", "hard", "user unknown", "5.0.0")]),
        ("exim-alias", [("x@alias.example.com", "hard", "user unknown", "5.1.1")]),
        ("opensmtpd-unknown", [("unknown@example.net", "hard", "user unknown", "5.1.1")]),
        ("opensmtpd-full", [("full@example.net", "soft", "mailbox full", "5.2.2")]),
        ("opensmtpd-grey", [("grey@example.net", "soft", "greylisted", "4.7.1")]),
        ("dma-unknown", [("unknown@example.net", "hard", "user unknown", "5.1.1")]),
        ("dma-blocked", [("block@example.net", "block", "blocked", "5.7.1")]),
        ("postfix-unknown", [("unknown@example.com", "hard", "user unknown", "5.1.1")]),
        ("postfix-spam", [("spam@example.com", "block", "spam", "5.7.1")]),
        ("postfix-alias", [("x@alias.example.com", "hard", "user unknown", "5.1.1")]),
        ("postfix-grey", [("grey@example.com", "soft", "greylisted", "4.7.1")]),
        ("postfix-success", [("ok@example.com", "delivered", "success", "2.0.0")]),
    ],
)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_a_captured_report_says_who_failed_and_why(name: str, expected: list, line_end: bytes):
    found = read_bounces(captured(name).replace(b"\n", line_end))

    assert [(f.recipient, f.bounce_class, f.reason, f.status) for f in found] == expected
    assert found.notes == ()


@pytest.mark.parametrize("name", ["exim-lines", "exim-two", "postfix-unknown", "postfix-grey"])
def test_a_captured_report_leads_back_to_its_campaign(name: str):
    for finding in read_bounces(captured(name)):
        assert finding.campaign_id == 18
        assert finding.origin.message_id == "<0123456789abcdef0123456789abcdef.18@example.org>"
        assert finding.reporting_mta == "mail.example.org"


def test_the_envelope_id_comes_back_as_the_token():
    [finding] = read_bounces(captured("postfix-success"))

    assert finding.origin.token == ENVELOPE_ID


def test_where_mail_was_forwarded_to_is_an_alias_and_not_the_recipient():
    [finding] = read_bounces(captured("postfix-alias"))

    assert (finding.recipient, finding.aliases) == ("x@alias.example.com", ("unknown@example.com",))


@pytest.mark.parametrize(("meaning", "mail"), reports(), ids=lambda value: " ".join(value.split()[1:5]))
@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_a_report_in_the_words_of_a_mail_system_is_understood(meaning: str, mail: str, line_end: str):
    found = read_bounces(mail.replace("\n", line_end).encode())

    assert [finding.bounce_class for finding in found] == [meaning]
    assert found.findings[0].recipient in mail
    assert not found.findings[0].recipient.endswith("shop.example")


def dsn(**fields: str) -> bytes:
    lines = "\n".join(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())
    return (
        "From: MAILER-DAEMON@mx.example\nTo: news@shop.example\nSubject: Undelivered Mail\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=B\n\n"
        "--B\nContent-Type: text/plain\n\nYour message could not be delivered.\n"
        f"--B\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n\n{lines}\n--B--\n"
    ).encode()


def test_words_beat_the_code():
    [finding] = read_bounces(
        dsn(
            Final_Recipient="rfc822; joe@corp.example",
            Action="failed",
            Status="5.0.0",
            Diagnostic_Code="smtp; 552 5.2.2 mailbox full",
        )
    )

    assert (finding.bounce_class, finding.status) == (BounceClass.SOFT, "5.2.2")


def test_words_that_say_what_the_code_says_beat_longer_ones():
    [finding] = read_bounces(
        dsn(
            Final_Recipient="rfc822; joe@corp.example",
            Action="failed",
            Status="5.2.2",
            Diagnostic_Code="smtp; 550 5.2.2 Invalid address error: mailbox full",
        )
    )

    assert finding.reason is BounceReason.MAILBOX_FULL


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        ("5.1.1", "hard"),
        ("5.2.2", "soft"),
        ("5.7.26", "block"),
        ("5.4.4", "hard"),
        ("4.4.4", "soft"),
        ("4.4.7", "soft"),
    ],
)
def test_without_words_the_code_decides(status: str, meaning: str):
    [finding] = read_bounces(dsn(Final_Recipient="rfc822; joe@corp.example", Action="failed", Status=status))

    assert finding.bounce_class == meaning
    assert finding.rule == status


def test_a_failure_that_nothing_explains_is_never_hard():
    [finding] = read_bounces(dsn(Final_Recipient="rfc822; joe@corp.example", Action="failed", Status="5.0.0"))

    assert (finding.bounce_class, finding.reason) == (BounceClass.SOFT, BounceReason.UNKNOWN)
    assert finding.suppress is Suppress.WHEN_IT_LASTS


def test_a_delay_is_never_hard():
    [finding] = read_bounces(
        dsn(
            Final_Recipient="rfc822; joe@corp.example",
            Action="delayed",
            Status="4.4.4",
            Diagnostic_Code="smtp; domain does not accept mail (nullMX)",
        )
    )

    assert (finding.bounce_class, finding.action) == (BounceClass.SOFT, "delayed")
    assert finding.suppress is Suppress.WHEN_IT_LASTS


def test_a_domain_that_was_not_found_just_now_is_no_dead_domain():
    fields = {"Final_Recipient": "rfc822; joe@corp.example", "Action": "failed"}
    said = "smtp; DNS type 'mx' lookup responded with code NXDOMAIN Domain name not found"

    [now] = read_bounces(dsn(**fields, Status="4.0.0", Diagnostic_Code=said))
    [for_good] = read_bounces(dsn(**fields, Status="5.4.4", Diagnostic_Code=said))

    assert (now.bounce_class, for_good.bounce_class) == (BounceClass.SOFT, BounceClass.HARD)


def test_the_original_recipient_is_the_one():
    [finding] = read_bounces(
        dsn(
            Original_Recipient="rfc822; joe@corp.example",
            Final_Recipient="rfc822; joe.bloggs@internal.example",
            Action="failed",
            Status="5.1.1",
        )
    )

    assert (finding.recipient, finding.aliases) == ("joe@corp.example", ("joe.bloggs@internal.example",))


def arf(kind: str) -> bytes:
    return (
        "From: fbl@provider.example\nTo: news@shop.example\nSubject: complaint\n"
        "Content-Type: multipart/report; report-type=feedback-report; boundary=B\n\n"
        "--B\nContent-Type: text/plain\n\nThis is an email abuse report.\n"
        f"--B\nContent-Type: message/feedback-report\n\nFeedback-Type: {kind}\nVersion: 1\n"
        "Original-Rcpt-To: <joe@corp.example>\n\n"
        "--B\nContent-Type: message/rfc822\n\nFrom: news@shop.example\nTo: joe@corp.example\n"
        "Message-ID: <0123456789abcdef0123456789abcdef.7@shop.example>\n\nHello\n--B--\n"
    ).encode()


@pytest.mark.parametrize(
    ("kind", "reason", "suppress"),
    [
        ("abuse", "abuse", "at once"),
        ("fraud", "fraud", "at once"),
        ("opt-out", "opt-out", "at once"),
        ("auth-failure", "authentication report", "never"),
    ],
)
def test_a_feedback_report_is_a_complaint_of_its_kind(kind: str, reason: str, suppress: str):
    [finding] = read_bounces(arf(kind))

    assert (finding.recipient, finding.bounce_class) == ("joe@corp.example", BounceClass.COMPLAINT)
    assert (finding.reason, finding.suppress, finding.campaign_id) == (reason, suppress, 7)


def test_a_report_that_it_was_not_spam_asks_for_nothing():
    assert read_bounces(arf("not-spam")).bounce_class is BounceClass.NOT_A_BOUNCE


def test_a_complaint_without_a_recipient_field_is_of_whom_the_returned_message_went_to():
    mail = arf("abuse").replace(b"Original-Rcpt-To: <joe@corp.example>\n", b"")

    assert [finding.recipient for finding in read_bounces(mail)] == ["joe@corp.example"]


def test_a_junk_mail_report_of_outlook_is_a_complaint():
    mail = (
        b"From: staff@hotmail.com\nTo: fbl@shop.example\nSubject: complaint about message from 192.0.2.1\n"
        b"Content-Type: multipart/mixed; boundary=B\n\n--B\nContent-Type: message/rfc822\n\n"
        b"X-HmXmrOriginalRecipient: joe@hotmail.example\nFrom: a@shop.example\nSubject: Offer\n\nx\n--B--\n"
    )

    [finding] = read_bounces(mail)
    assert (finding.recipient, finding.reason) == ("joe@hotmail.example", BounceReason.ABUSE)


def test_a_notice_of_amazon_ses_by_mail_is_read():
    notice = (
        '{"notificationType":"Bounce","bounce":{"bounceType":"Transient","bouncedRecipients":'
        '[{"emailAddress":"joe@corp.example","action":"failed","status":"5.2.2",'
        '"diagnosticCode":"smtp; 552 5.2.2 mailbox full"}],"reportingMTA":"dsn; a.amazonses.com"}}'
    )
    mail = f"From: SNS <no-reply@sns.amazonaws.com>\nSubject: AWS Notification Message\n\n{notice}\n"

    [finding] = read_bounces(mail.encode())
    assert (finding.recipient, finding.reason) == ("joe@corp.example", BounceReason.MAILBOX_FULL)


def test_dovecots_refusal_in_a_notice_is_a_bounce_and_a_persons_deletion_is_not():
    notice = (
        "Content-Type: multipart/report; report-type=disposition-notification; boundary=B\n\n"
        "--B\nContent-Type: text/plain\n\nYour message to <joe@corp.example> was automatically rejected:\n"
        "Quota exceeded\n--B\nContent-Type: message/disposition-notification\n\n"
        "Final-Recipient: rfc822; joe@corp.example\n"
        "Disposition: automatic-action/MDN-sent-automatically; deleted\n--B--\n"
    )

    [refusal] = read_bounces(f"From: Mail Delivery Subsystem <postmaster@corp.example>\n{notice}".encode())
    assert (refusal.recipient, refusal.reason) == ("joe@corp.example", BounceReason.MAILBOX_FULL)
    assert len(read_bounces(f"From: Joe <joe@corp.example>\nSubject: Not read: x\n{notice}".encode())) == 0


def test_a_report_within_another_mail_of_a_gateway_is_read():
    inner = captured("postfix-unknown")
    mail = (
        b"From: postmaster@gateway.example\nTo: news@example.org\nSubject: Undelivered Mail\n"
        b"Content-Type: multipart/mixed; boundary=gateway\n\n--gateway\nContent-Type: message/rfc822\n\n"
        + inner
        + b"\n--gateway--\n"
    )

    assert [finding.recipient for finding in read_bounces(mail)] == ["unknown@example.com"]


@pytest.mark.parametrize(
    "address", ["\u6d4b\u8bd5@\u4f8b\u5b50.example", "=?utf-8?B?8J+QiA==?=@corp.example"]
)
def test_an_address_beyond_ascii_is_kept_whole(address: str):
    [finding] = read_bounces(
        dsn(Final_Recipient=f"utf-8; {address}", Action="failed", Status="5.1.1", Remote_MTA="dns; x")
    )

    assert finding.recipient == address


def test_an_address_ends_where_another_script_begins():
    mail = (
        "From: MAILER-DAEMON@x.example\nSubject: \u914d\u4fe1\u4e0d\u80fd\n\n"
        "\u5b9b\u5148taro@corp.example\u3078\u306e\u914d\u4fe1\u306b\u5931\u6557\u3057\u307e\u3057\u305f\n"
    )

    assert [finding.recipient for finding in read_bounces(mail.encode())] == ["taro@corp.example"]
