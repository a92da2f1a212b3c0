"""What Amazon SES's events say of our recipients, whatever is in them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.feedback.evidence import Evidence
from messaging.feedback.ses_events import Unreadable, read_ses_event
from schemas.bounces import BounceClass, BounceReason, Suppress
from schemas.states import Channel, EventKind
from tests.messaging.feedback.ses_samples import (
    ADA,
    BROWSER,
    LATER,
    MESSAGE,
    SENT_AT,
    TOKEN,
    bounce,
    complaint,
    enveloped,
    event,
    mail,
    of_all_kinds,
)

SOURCE = "ses-queue/events"
KINDS = {
    "Send": EventKind.SENT,
    "Delivery": EventKind.DELIVERED,
    "Bounce": EventKind.BOUNCED,
    "Complaint": EventKind.COMPLAINED,
    "DeliveryDelay": EventKind.DELAYED,
    "Reject": EventKind.FAILED,
    "Rendering Failure": EventKind.FAILED,
    "Open": EventKind.OPENED,
    "Click": EventKind.CLICKED,
    "Subscription": EventKind.UNSUBSCRIBED,
}


def read(notice: dict[str, Any] | str) -> list[Evidence]:
    return read_ses_event(notice if isinstance(notice, str) else json.dumps(notice), SOURCE)


@pytest.mark.parametrize("word", KINDS)
def test_each_kind_of_event_says_what_it_is_of_whom_and_when(word: str):
    [found] = read(of_all_kinds()[word])

    assert (found.kind, found.channel, found.source) == (KINDS[word], Channel.EMAIL, SOURCE)
    assert (found.token, found.campaign_id, found.provider_message_id) == (TOKEN, 18, MESSAGE)
    assert (found.recipient, found.aliases) == (ADA, ())
    times = of_all_kinds()[word]
    its_own = any(
        isinstance(part, dict) and "timestamp" in part for name, part in times.items() if name != "mail"
    )
    assert found.occurred_at == datetime.fromisoformat(LATER if its_own else SENT_AT).astimezone(UTC)


@pytest.mark.parametrize("word", KINDS)
def test_every_way_to_us_says_the_same(word: str):
    notice = of_all_kinds()[word]
    plain = read(notice)

    assert read(enveloped(notice)) == plain
    assert read(enveloped(notice, nested=True)) == plain
    assert read_ses_event(json.dumps(notice, indent=1).encode("utf-8-sig"), SOURCE) == plain


@pytest.mark.parametrize("word", ["Bounce", "Complaint", "Delivery"])
def test_a_notification_of_an_identity_has_no_tags_and_the_same_name(word: str):
    notice = of_all_kinds()[word]
    [with_tags] = read(notice)

    of_identity = {"notificationType": notice["eventType"], **notice, "mail": mail(tags=False)}
    del of_identity["eventType"]
    [without] = read(of_identity)

    assert (without.token, without.campaign_id) == (None, None)
    assert (without.kind, without.source_id) == (with_tags.kind, with_tags.source_id)


def test_names_of_evidence_tell_recipients_moments_and_links_apart_and_hold_no_address():
    same_moment = [
        event("Delivery", {"timestamp": LATER, "recipients": [ADA, "bob@example.org"]}),
        event("Delivery", {"timestamp": SENT_AT, "recipients": [ADA]}),
        event("Click", {"timestamp": LATER, "link": "https://shop.example.org/a", "userAgent": BROWSER}),
        event("Click", {"timestamp": LATER, "link": "https://shop.example.org/b", "userAgent": BROWSER}),
    ]
    names = [found.source_id for notice in same_moment for found in read(notice)]

    assert len(set(names)) == len(names) == 5
    assert not any("ada" in name or "@" in name for name in names)


BOUNCES = [
    # type, subtype, what was said -> class, reason, when to suppress
    ("Permanent", "General", "smtp; 550 5.1.1 user unknown", "hard", "user unknown", "at once"),
    ("Permanent", "General", None, "hard", "user unknown", "at once"),
    ("Permanent", "General", "smtp; 550 no", "hard", "user unknown", "at once"),
    ("Permanent", "General", "smtp; 550 5.7.1 rejected as spam", "block", "spam", "never"),
    ("Permanent", "General", "smtp; 552 5.2.2 mailbox full", "soft", "mailbox full", "when it lasts"),
    ("Permanent", "NoEmail", None, "hard", "user unknown", "at once"),
    ("Permanent", "Suppressed", "smtp; 550 5.1.1 user unknown", "hard", "user unknown", "at once"),
    (
        "Permanent",
        "OnAccountSuppressionList",
        "Amazon SES did not send it",
        "hard",
        "user unknown",
        "at once",
    ),
    ("Permanent", "OnTenantSuppressionList", None, "hard", "user unknown", "at once"),
    ("Permanent", "EmailValidationSuppressed", None, "hard", "inactive", "second time"),
    ("Transient", "General", "smtp; 550 5.1.1 user unknown", "soft", "user unknown", "when it lasts"),
    ("Transient", "General", "smtp; 451 later", "soft", "system", "when it lasts"),
    ("Transient", "MailboxFull", "smtp; 452 4.2.2 over quota", "soft", "mailbox full", "when it lasts"),
    ("Transient", "MessageTooLarge", None, "soft", "too big", "never"),
    ("Transient", "CustomTimeoutExceeded", None, "soft", "expired", "when it lasts"),
    ("Transient", "ContentRejected", "smtp; 554 5.6.0 no", "block", "content", "never"),
    ("Transient", "AttachmentRejected", None, "block", "content", "never"),
    ("Undetermined", "Undetermined", None, "soft", "unknown", "when it lasts"),
    ("Undetermined", "Undetermined", "smtp; 550 5.1.1 user unknown", "soft", "user unknown", "when it lasts"),
    ("SomethingNew", "SomethingNew", None, "soft", "unknown", "when it lasts"),
]


@pytest.mark.parametrize(("kind", "subtype", "said", "meaning", "reason", "suppress"), BOUNCES)
def test_a_bounce_means_what_ses_and_the_server_say(
    kind: str, subtype: str, said: str | None, meaning: str, reason: str, suppress: str
):
    [found] = read(event("Bounce", bounce(kind, subtype, said)))

    assert found.bounce is not None
    assert (found.bounce.bounce_class, found.bounce.reason, found.bounce.suppress) == (
        meaning,
        reason,
        suppress,
    )


def test_a_general_transient_bounce_without_code_or_words_is_an_automatic_reply():
    [found] = read(event("Bounce", bounce("Transient", "General")))
    [with_code] = read(event("Bounce", bounce("Transient", "General", status="4.4.7")))

    assert (found.kind, found.bounce, found.recipient) == (EventKind.AUTO_REPLIED, None, ADA)
    assert found.details == {"said": "Amazon SES: Transient/General"}
    assert with_code.kind is EventKind.BOUNCED


def test_a_bounce_keeps_what_was_said_and_what_decided():
    [found] = read(event("Bounce", bounce("Permanent", "General", "smtp; 550 5.1.1 user unknown")))
    [by_subtype] = read(event("Bounce", bounce("Permanent", "Suppressed", status="5.1.1")))

    assert found.bounce is not None
    assert by_subtype.bounce is not None
    assert (found.bounce.status, found.bounce.reply) == ("5.1.1", "550")
    assert (found.bounce.diagnostic, found.bounce.rule) == ("550 5.1.1 user unknown", "user unknown")
    assert (by_subtype.bounce.status, by_subtype.bounce.rule) == (
        "5.1.1",
        "Amazon SES: Permanent/Suppressed",
    )


def test_where_mail_was_forwarded_to_stands_for_who_was_written_to():
    notice = event("Bounce", bounce("Permanent", "General", "user unknown", "lost@forward.example.net"))
    [found] = read(notice)

    assert (found.recipient, found.aliases) == (ADA, ("lost@forward.example.net",))


def test_each_bounced_recipient_of_a_message_to_several_is_named():
    several = bounce("Permanent", "General", "user unknown")
    several["bouncedRecipients"].append(
        {"emailAddress": "Bob <bob@example.org>", "diagnosticCode": "mailbox full"}
    )
    found = read(event("Bounce", several, mail=mail(ADA, "bob@example.org", "eve@example.org")))

    assert [(one.recipient, one.bounce and one.bounce.bounce_class) for one in found] == [
        (ADA, BounceClass.HARD),
        ("bob@example.org", BounceClass.SOFT),
    ]


def test_who_has_left_a_list_at_ses_wants_no_more_of_the_audience():
    [found] = read(event("Bounce", bounce("Permanent", "UnsubscribedRecipient")))

    assert (found.kind, found.everywhere, found.bounce) == (EventKind.UNSUBSCRIBED, False, None)


@pytest.mark.parametrize(
    ("feedback", "reason", "suppress"),
    [
        ("abuse", BounceReason.ABUSE, Suppress.AT_ONCE),
        ("fraud", BounceReason.FRAUD, Suppress.AT_ONCE),
        ("virus", BounceReason.ABUSE, Suppress.AT_ONCE),
        ("other", BounceReason.ABUSE, Suppress.AT_ONCE),
        ("a new one", BounceReason.ABUSE, Suppress.AT_ONCE),
        (None, BounceReason.ABUSE, Suppress.AT_ONCE),
        ("auth-failure", BounceReason.AUTHENTICATION_REPORT, Suppress.NEVER),
    ],
)
def test_a_complaint_means_what_its_report_says(
    feedback: str | None, reason: BounceReason, suppress: Suppress
):
    [found] = read(event("Complaint", complaint(complaintFeedbackType=feedback)))

    assert found.bounce is not None
    assert (found.bounce.bounce_class, found.bounce.reason, found.bounce.suppress) == (
        BounceClass.COMPLAINT,
        reason,
        suppress,
    )


def test_not_spam_after_all_is_no_complaint():
    assert read(event("Complaint", complaint(complaintFeedbackType="not-spam"))) == []


def test_a_complaint_that_ses_remembered_is_one_and_says_so():
    remembered = complaint(complaintSubType="OnAccountSuppressionList", complaintFeedbackType=None)
    [found] = read(event("Complaint", remembered))

    assert found.bounce is not None
    assert found.bounce.suppress is Suppress.AT_ONCE
    assert found.bounce.rule == "Amazon SES: OnAccountSuppressionList"


@pytest.mark.parametrize(
    ("delay", "reason"),
    [
        ("MailboxFull", BounceReason.MAILBOX_FULL),
        ("SpamDetected", BounceReason.SPAM),
        ("TransientCommunicationFailure", BounceReason.NETWORK),
        ("General", BounceReason.UNKNOWN),
    ],
)
def test_a_delay_never_counts_against_the_address(delay: str, reason: BounceReason):
    delayed = {"timestamp": LATER, "delayType": delay, "delayedRecipients": [{"emailAddress": ADA}]}
    [found] = read(event("DeliveryDelay", delayed))

    assert found.bounce is not None
    assert (found.bounce.bounce_class, found.bounce.reason) == (BounceClass.SOFT, reason)
    assert found.bounce.suppress is Suppress.NEVER


@pytest.mark.parametrize("word", ["Reject", "Rendering Failure"])
def test_what_ses_gives_up_for_its_content_is_no_fault_of_the_recipient(word: str):
    [found] = read(of_all_kinds()[word])

    assert found.bounce is not None
    assert (found.bounce.bounce_class, found.bounce.suppress) == (BounceClass.BLOCK, Suppress.NEVER)
    assert found.bounce.diagnostic


def test_opens_and_clicks_keep_link_and_agent_and_not_whose_machine_it_was():
    [opened], [clicked] = (read(of_all_kinds()[word]) for word in ("Open", "Click"))

    assert opened.details == {"agent": BROWSER}
    assert clicked.details == {"agent": BROWSER, "url": "https://shop.example.org/spring"}
    assert "192.0.2.1" not in repr((opened, clicked))


def test_a_scanner_is_marked_and_so_is_who_clicks_within_seconds():
    soon = {"timestamp": "2025-03-20T09:00:03Z", "link": "https://shop.example.org", "userAgent": BROWSER}
    proxy = {"timestamp": LATER, "userAgent": "Mozilla/5.0 (via ggpht.com GoogleImageProxy)"}
    [clicked], [opened] = read(event("Click", soon)), read(event("Open", proxy))

    assert clicked.details["machine"] == "too soon"
    assert opened.details["machine"].startswith("proxy")


def test_who_of_several_opened_is_not_known():
    [found] = read(event("Open", {"timestamp": LATER}, mail=mail(ADA, "bob@example.org", tags=False)))

    assert found.recipient == ""


def topics(*left: str, everything: bool = False) -> dict[str, Any]:
    statuses = [{"topicName": name, "subscriptionStatus": "OptOut"} for name in left]
    statuses.append({"topicName": "kept", "subscriptionStatus": "OptIn"})  # codespell:ignore optin
    return {"unsubscribeAll": everything, "topicSubscriptionStatus": statuses}


@pytest.mark.parametrize(
    ("new", "old", "everywhere"),
    [
        (topics(everything=True), topics(), True),
        (topics("offers"), topics(), False),
        (topics("offers", "tips"), topics("tips"), False),
        (topics("offers"), topics("offers"), None),
        (topics(), topics("offers"), None),
        (topics(), topics(everything=True), None),
        ({}, {}, None),
    ],
)
def test_who_leaves_everything_or_a_topic_has_unsubscribed_and_who_comes_back_has_not(
    new: dict, old: dict, *, everywhere: bool | None
):
    found = read(
        event("Subscription", {"timestamp": LATER, "newTopicPreferences": new, "oldTopicPreferences": old})
    )

    assert [one.everywhere for one in found] == ([] if everywhere is None else [everywhere])
    assert all(one.kind is EventKind.UNSUBSCRIBED for one in found)


def test_the_message_id_that_we_gave_over_smtp_is_named():
    ours = "<0123456789abcdef0123456789abcdef.18@shop.example.org>"
    [found] = read(event("Send", mail=mail(tags=False, commonHeaders={"messageId": ours})))
    [theirs] = read(event("Send", mail=mail(commonHeaders={"messageId": MESSAGE})))

    assert (found.message_id, theirs.message_id) == (ours, None)


GREETING = "Successfully validated SNS topic for Amazon SES event publishing."


@pytest.mark.parametrize(
    "body",
    [
        GREETING,
        enveloped(GREETING),
        json.dumps({"notificationType": "AmazonSnsSubscriptionSucceeded", "message": "You have …"}),
    ],
)
def test_a_greeting_says_nothing(body: str):
    assert read(body) == []


UNREADABLE = [
    ("", "not JSON"),
    ("hello ada@example.org", "not JSON"),
    (b"\xff\xfe\x00", "not UTF-8"),
    ("[]", "JSON, but no object"),
    ("{}", "no event"),
    (json.dumps({"eventType": 7}), "no event"),
    (json.dumps(event("Sneeze")), "unknown kind: Sneeze"),
    (json.dumps(event("ada@example.org")), "unknown kind"),
    (
        json.dumps({"Type": "SubscriptionConfirmation", "SubscribeURL": "https://sns"}),
        "without a notification",
    ),
    (json.dumps({"Type": "Notification"}), "without a message"),
    (enveloped("{"), "not JSON"),
    (json.dumps(event("Send", mail={})), "without a time"),
    (json.dumps(event("Send", mail={"timestamp": SENT_AT})), "names no message"),
    (json.dumps(event("Bounce", {"timestamp": LATER})), "a bounce of nobody"),
    ("[" * 100_000, "nested too deeply"),
    ('{"eventType": "Send", "mail": ' + "9" * 10_000 + "}", "not JSON"),
]


@pytest.mark.parametrize(("body", "reason"), UNREADABLE)
def test_what_is_no_event_is_refused_with_a_reason_that_names_nobody(body: bytes | str, reason: str):
    with pytest.raises(Unreadable) as refusal:
        read_ses_event(body, SOURCE)

    assert reason in str(refusal.value)
    assert "@" not in str(refusal.value)


def test_text_that_postgresql_cannot_hold_is_mended():
    notice = json.loads(json.dumps(event("Bounce", bounce("Permanent", "General", "a\x00b \ud800"))))
    notice["mail"]["messageId"] = "x\x00y"
    [found] = read(notice)

    assert found.bounce is not None
    assert (found.bounce.diagnostic, found.provider_message_id) == ("ab ?", "xy")


def test_what_is_kept_of_long_texts_is_bounded():
    [found] = read(
        event("Bounce", bounce("Permanent", "General", "x" * 100_000, f"{'y' * 9000}@example.org"))
    )
    [clicked] = read(event("Click", {"timestamp": LATER, "link": "z" * 9000, "userAgent": "w" * 9000}))

    assert found.bounce is not None
    assert len(found.bounce.diagnostic) == 1000
    assert len("".join(found.aliases)) <= 320
    assert (len(clicked.details["url"]), len(clicked.details["agent"])) == (2000, 300)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)
NAMES = st.sampled_from(
    ["eventType", "notificationType", "mail", "bounce", "Type", "Message", "timestamp", "tags", "destination"]
)
SHAPED = st.dictionaries(NAMES, JSON | st.sampled_from([*KINDS, "Notification", SENT_AT]), max_size=8)


@given(JSON | SHAPED)
def test_whatever_json_comes_is_read_or_refused(value: object):
    try:
        found = read_ses_event(json.dumps(value), SOURCE)
    except Unreadable:
        return
    assert all(one.source_id and one.source == SOURCE for one in found)


@given(st.sampled_from(list(KINDS)), st.data())
def test_a_part_of_an_event_that_is_something_else_is_read_or_refused(word: str, data: st.DataObject):
    notice = of_all_kinds()[word]
    here = notice
    while True:  # go down some way and put anything in its place
        name = data.draw(st.sampled_from(sorted(here)))
        if isinstance(here[name], dict) and here[name] and data.draw(st.booleans()):
            here = here[name]
            continue
        here[name] = data.draw(JSON)
        break
    try:
        found = read(notice)
    except Unreadable:
        return
    stored = json.dumps([dict(one.details) for one in found])
    assert "\\u0000" not in stored
    assert all(one.occurred_at.tzinfo for one in found)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_whatever_bytes_come_are_refused(body: bytes | str):
    with pytest.raises(Unreadable):
        read_ses_event(body, SOURCE)
