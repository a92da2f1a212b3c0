"""What Gmail says, in the forms that its documentation and its users show, and what it makes of a message."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from messaging.channels.gmail_replies import Verdict, judge, read, receipt, refusal
from schemas.states import Outcome

DAY = 24 * 3600.0


def body(code: int, reason: str, message: str = "Said", **more: object) -> bytes:
    problem = {"message": message, "domain": "global", "reason": reason}
    return json.dumps({"error": {"code": code, "message": message, "errors": [problem]} | more}).encode()


@pytest.mark.parametrize(
    ("code", "reason", "message", "verdict"),
    [
        (403, "rateLimitExceeded", "Rate Limit Exceeded", Verdict.THROTTLED),
        (403, "userRateLimitExceeded", "User Rate Limit Exceeded", Verdict.THROTTLED),
        (429, "rateLimitExceeded", "Too many concurrent requests for user", Verdict.THROTTLED),
        (429, "userRateLimitExceeded", "User-rate limit exceeded.", Verdict.THROTTLED),
        (429, "rateLimitExceeded", "User-rate limit exceeded.  (Mail sending)", Verdict.USED_UP),
        (400, "failedPrecondition", "You have reached a limit for sending mail", Verdict.USED_UP),
        (403, "dailyLimitExceeded", "Daily Limit Exceeded", Verdict.USED_UP),
        (403, "quotaExceeded", "Quota exceeded for quota metric 'Queries'", Verdict.USED_UP),
        (400, "invalidArgument", "Invalid To header", Verdict.NOBODY),
        (400, "invalidArgument", "Invalid to header", Verdict.NOBODY),
        (400, "invalidArgument", "Recipient address required", Verdict.REFUSED),
        (400, "badRequest", "The attachment is invalid", Verdict.REFUSED),
        (413, "uploadTooLarge", "Request is too large.", Verdict.REFUSED),
        (400, "failedPrecondition", "Mail service not enabled", Verdict.ACCOUNT),
        (400, "failedPrecondition", "Precondition check failed.", Verdict.ACCOUNT),
        (401, "authError", "Invalid Credentials", Verdict.TOKEN),
        (403, "insufficientPermissions", "Insufficient Permission", Verdict.ACCOUNT),
        (403, "domainPolicy", "The domain administrators have disabled Gmail apps.", Verdict.ACCOUNT),
        (403, "accessNotConfigured", "Gmail API has not been used in project 1", Verdict.ACCOUNT),
        (403, "forbidden", "Delegation denied for news@example.com", Verdict.ACCOUNT),
        (404, "notFound", "Requested entity was not found.", Verdict.ACCOUNT),
        (400, "somethingNew", "Said", Verdict.ACCOUNT),
        (500, "backendError", "Backend Error", Verdict.FAULT),
        (503, "backendError", "Backend Error", Verdict.FAULT),
        (500, "internalError", "Internal error encountered.", Verdict.SILENCE),
        (504, "backendError", "The service took too long", Verdict.SILENCE),
        (503, "rateLimitExceeded", "Said", Verdict.SILENCE),
    ],
)
def test_googles_reasons(code: int, reason: str, message: str, verdict: Verdict):
    reply = read(code, {}, body(code, reason, message))

    assert (judge(reply), reply.reason) == (verdict, reason)


@pytest.mark.parametrize(
    ("code", "status", "reason", "verdict"),
    [
        (429, "RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED", Verdict.THROTTLED),
        (403, "PERMISSION_DENIED", "SERVICE_DISABLED", Verdict.ACCOUNT),
        (403, "PERMISSION_DENIED", "ACCESS_TOKEN_SCOPE_INSUFFICIENT", Verdict.ACCOUNT),
        (401, "UNAUTHENTICATED", "ACCESS_TOKEN_EXPIRED", Verdict.TOKEN),
        (400, "INVALID_ARGUMENT", "", Verdict.REFUSED),
        (400, "FAILED_PRECONDITION", "", Verdict.ACCOUNT),
        (503, "UNAVAILABLE", "", Verdict.FAULT),
        (504, "DEADLINE_EXCEEDED", "", Verdict.SILENCE),
        (500, "INTERNAL", "", Verdict.SILENCE),
    ],
)
def test_the_newer_form_without_a_list_of_errors(code: int, status: str, reason: str, verdict: Verdict):
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}] if reason else []
    error = {"code": code, "message": "Said", "status": status, "details": details}

    assert judge(read(code, {}, json.dumps({"error": error}).encode())) is verdict


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (302, Verdict.SILENCE),
        (400, Verdict.ACCOUNT),
        (401, Verdict.TOKEN),
        (403, Verdict.ACCOUNT),
        (408, Verdict.SILENCE),
        (413, Verdict.REFUSED),
        (429, Verdict.THROTTLED),
        (500, Verdict.SILENCE),
        (502, Verdict.SILENCE),
        (503, Verdict.SILENCE),
    ],
)
@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"\xff", b"[]", b'{"error": "x"}', b'{"error": {"errors": 1}}']
)
def test_an_answer_of_another_server(code: int, verdict: Verdict, content: bytes):
    assert judge(read(code, {}, content)) is verdict


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("User-rate limit exceeded.  Retry after 2026-11-22T10:15:00.000Z (Mail sending)", 300.0),
        ("User-rate limit exceeded.  Retry after 2026-11-22T10:15:00Z", 300.0),
        ("Retry after 2026-11-22T10:10:00.250Z", 1.0),
        ("Retry after 2026-11-22T09:00:00Z", 0.0),
        ("Retry after 2027-11-22T09:00:00Z", DAY),
        ("Retry after 2026-99-99T09:00:00Z", None),
        ("User-rate limit exceeded.", None),
    ],
)
def test_the_time_that_is_named_counts_by_googles_clock(words: str, seconds: float | None):
    date = format_datetime(datetime(2026, 11, 22, 10, 10, tzinfo=UTC), usegmt=True)

    assert read(429, {"date": date}, body(429, "rateLimitExceeded", words)).wait == seconds


def test_without_a_clock_of_googles_ours_counts():
    then = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    reply = read(429, {}, body(429, "rateLimitExceeded", f"Retry after {then}"))

    assert reply.wait == pytest.approx(3600, abs=60)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("17", 17.0), ("999999", DAY), ("Sun, 22 Nov 2026 10:10:30 GMT", 30.0), ("soon", None), ("²", None)],
)
def test_retry_after_is_heard(value: str, seconds: float | None):
    headers = {"date": "Sun, 22 Nov 2026 10:10:00 GMT", "retry-after": value}

    assert read(429, headers, b"").wait == seconds


@pytest.mark.parametrize(
    ("message", "wait"),
    [("Daily Limit Exceeded", DAY), ("Retry after 2026-11-22T10:15:00Z (Mail sending)", 300.0)],
)
def test_a_used_up_day_waits_for_the_time_named_or_a_day(message: str, wait: float):
    headers = {"date": "Sun, 22 Nov 2026 10:10:00 GMT"}
    reply = read(403, headers, body(403, "dailyLimitExceeded", message))

    answer = receipt(judge(reply), reply)

    assert (answer.outcome, answer.throttled, answer.retry_after) == (Outcome.DEFERRED, True, wait)


def test_a_receipt_holds_googles_words_on_one_line():
    reply = read(400, {}, body(400, "invalidArgument", "Invalid\r\nTo\x00 header" + "x" * 1000))

    answer = receipt(judge(reply), reply)

    assert (answer.outcome, answer.code, answer.unreachable) == (Outcome.REJECTED, 400, False)
    assert answer.reply.startswith("invalidArgument: Invalid To")
    assert answer.reply.isprintable()
    assert len(answer.reply) < 600


@pytest.mark.parametrize(
    ("code", "reason", "sentence"),
    [
        (401, "authError", "Gmail (401 authError): Google refuses the access token that it has just given"),
        (401, "authError", "run LOGIN"),
        (403, "SERVICE_DISABLED", "the Gmail API is switched off"),
        (403, "domainPolicy", "can trust it in the Admin console"),
        (400, "FAILED_PRECONDITION", "no Gmail mailbox behind the login"),
        (403, "madeUpByAnAddress@example.org", "Gmail (403): Gmail does not serve this account"),
    ],
)
def test_a_refusal_of_the_account_says_what_to_do_and_names_nobody(code: int, reason: str, sentence: str):
    reply = read(code, {}, body(code, reason, "for ada@example.org in project 4711"))

    said = str(refusal(reply, "LOGIN"))

    assert sentence in said
    assert "example.org" not in said
    assert "4711" not in said
