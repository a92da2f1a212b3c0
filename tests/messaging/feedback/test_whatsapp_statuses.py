"""What Meta's reports tell: who has a message, who is not reached, and what is our own fault."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from messaging.channels.whatsapp_cloud_errors import RULES
from messaging.channels.whatsapp_cloud_webhooks import Inbound, Status, Stop
from messaging.feedback.evidence import Evidence
from messaging.feedback.whatsapp_statuses import of_inbound, of_status, of_stop
from schemas.bounces import BounceClass, BounceReason, Suppress
from schemas.states import Channel, EventKind

AT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
SOURCE = "whatsapp-cloud-account/main"
PHONE = "+447400123456"
TOKEN = "0123456789abcdef0123456789abcdef"


def report(status: str, code: int | None = None, title: str = "", **more: object) -> Status:
    usual = {"phone_number_id": "1065", "message_id": "wamid.1", "at": AT, "recipient": PHONE, "token": TOKEN}
    return Status(**(usual | {"status": status, "code": code, "title": title} | more))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("sent", EventKind.SENT),
        ("delivered", EventKind.DELIVERED),
        ("read", EventKind.OPENED),
        ("played", EventKind.OPENED),
    ],
)
def test_a_report_names_its_message_and_its_attempt(status: str, kind: EventKind):
    assert of_status(report(status), SOURCE) == Evidence(
        kind, Channel.WHATSAPP, SOURCE, f"wamid.1 {status}", AT,
        token=UUID(TOKEN), provider_message_id="wamid.1", recipient=PHONE,
    )  # fmt: skip


@pytest.mark.parametrize(
    "token", ["", "c0ffee", TOKEN.upper(), f"{{{TOKEN}}}", TOKEN + "0", "x" * 32, TOKEN[:-1] + "\n"]
)
def test_what_is_no_token_of_ours_is_none(token: str):
    found = of_status(report("sent", token=token), SOURCE)

    assert found is not None
    assert found.token is None


@pytest.mark.parametrize("status", ["warning", "deleted", "", "Sent"])
def test_a_status_that_nobody_knows_says_nothing(status: str):
    assert of_status(report(status), SOURCE) is None


@pytest.mark.parametrize("message_id", ["w" * 257, "wamid\x00", "wamid\ud800", "wamid\n"])
def test_what_cannot_be_the_name_of_a_message_says_nothing(message_id: str):
    assert of_status(report("sent", message_id=message_id), SOURCE) is None


def test_who_is_not_on_whatsapp_bounces_but_not_yet_for_good():
    """131026 is also said of who has an old version of the app, or has not agreed to its terms yet."""
    found = of_status(report("failed", 131026, "Message undeliverable"), SOURCE)

    assert (found.kind, found.source_id, found.details) == (
        EventKind.BOUNCED,
        "wamid.1 failed",
        {"code": 131026},
    )
    assert found.bounce.bounce_class is BounceClass.HARD
    assert found.bounce.suppress is Suppress.SECOND_TIME
    assert found.bounce.diagnostic == "(#131026) Message undeliverable"


def test_who_has_said_stop_is_unsubscribed_and_has_not_bounced():
    found = of_status(report("failed", 131050, "User stopped marketing"), SOURCE)

    assert (found.kind, found.everywhere, found.bounce) == (EventKind.UNSUBSCRIBED, True, None)


@pytest.mark.parametrize("code", [*sorted(RULES.keys() - {131026, 131050}), None, 999999])
def test_every_other_failure_is_ours_and_suppresses_nobody(code: int | None):
    found = of_status(report("failed", code), SOURCE)

    assert (found.kind, found.bounce.suppress) == (EventKind.FAILED, Suppress.NEVER)
    assert found.bounce.bounce_class in {BounceClass.BLOCK, BounceClass.SOFT}


@pytest.mark.parametrize(
    ("code", "bounce_class", "reason"),
    [
        (131049, BounceClass.BLOCK, BounceReason.TOO_MANY),
        (130429, BounceClass.BLOCK, BounceReason.TOO_MANY),
        (131048, BounceClass.BLOCK, BounceReason.REPUTATION),
        (131047, BounceClass.BLOCK, BounceReason.POLICY),
        (131042, BounceClass.BLOCK, BounceReason.SENDER_REFUSED),
        (131053, BounceClass.BLOCK, BounceReason.CONTENT),
        (131000, BounceClass.SOFT, BounceReason.SYSTEM),
        (None, BounceClass.BLOCK, BounceReason.UNKNOWN),
    ],
)
def test_a_failure_says_why(code: int | None, bounce_class: BounceClass, reason: BounceReason):
    found = of_status(report("failed", code), SOURCE)

    assert (found.bounce.bounce_class, found.bounce.reason) == (bounce_class, reason)


def test_metas_words_are_kept_without_the_number_in_them():
    found = of_status(report("failed", 131049, f"Not to {PHONE}\x00\ud800 now"), SOURCE)

    assert found.bounce.diagnostic == "(#131049) Not to [number]   now"
    found.bounce.diagnostic.encode()


@pytest.mark.parametrize(
    "words", ["STOP", "stop", " Stop\n", "Unsubscribe", "UNSUBSCRIBE", "Stop promotions"]
)
def test_one_word_is_enough_to_stop(words: str):
    found = of_inbound(Inbound("1065", PHONE, AT, "wamid.in", words), SOURCE)

    assert (found.kind, found.channel, found.recipient) == (EventKind.UNSUBSCRIBED, Channel.WHATSAPP, PHONE)
    assert (found.everywhere, found.occurred_at) == (True, AT)
    assert PHONE[1:] not in found.source_id


@pytest.mark.parametrize("words", ["", "Hello", "do not stop", "stop it", "bus stop", "sto p"])
def test_other_words_stop_nothing(words: str):
    assert of_inbound(Inbound("1065", PHONE, AT, "wamid.in", words), SOURCE) is None


def test_who_stops_in_whatsapps_settings_is_unsubscribed():
    found = of_stop(Stop("1065", PHONE, AT), SOURCE)

    assert (found.kind, found.recipient, found.everywhere) == (EventKind.UNSUBSCRIBED, PHONE, True)
    assert found.source_id != of_stop(Stop("1065", "+447400123457", AT), SOURCE).source_id
    assert PHONE[1:] not in found.source_id
