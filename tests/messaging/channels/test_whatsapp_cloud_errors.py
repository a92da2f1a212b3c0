"""Every code of Meta's means what the table says, in the words of whoever must mend it."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from messaging.channels.whatsapp_cloud_errors import RULES, Kind, Refusal, answer_to, read_refusal, rule_of
from messaging.errors import AccountError
from schemas.states import AccountState, Outcome

DAY = 86400.0
# As our notes on the channel list them: kept apart from the table, so that an edit of one shows in the other.
ACCOUNT = [
    0,
    3,
    10,
    33,
    190,
    200,
    230,
    299,
    368,
    131005,
    131031,
    131037,
    131042,
    131045,
    132001,
    132015,
    132016,
]
THROTTLE = {4: 300, 80007: 300, 130429: 5, 133016: 3600, 132069: 3600, 131048: 6 * 3600, 131064: 3600}
TRANSIENT = [1, 2, 131000, 131016, 131057, 135000]
NOBODY = [131026, 131030, 131021]
UNWILLING = [131050, 130472, 130497, 131062]
MESSAGE = [
    100, 131008, 131009, 131047, 131051, 131052, 131053, 131063,
    132000, 132005, 132007, 132008, 132012, 132068,
]  # fmt: skip


def refusal(code, subcode=None, words="", *, transient=False):
    return Refusal(code, subcode, words, transient)


def answered(code, http=400, headers=None, **more):
    return answer_to(http, refusal(code, **more), headers or {})


@pytest.mark.parametrize("code", ACCOUNT)
def test_a_fault_of_the_account_says_what_to_do(code):
    with pytest.raises(AccountError, match=rf"Meta's code {code}\)$") as refused:
        answered(code)

    assert re.match(r"(the|Meta) ", str(refused.value))
    assert ": " in str(refused.value)


@pytest.mark.parametrize(
    ("code", "subcode", "words"),
    [
        (190, 463, "expired.*190/463"),
        (190, 460, "not valid any more.*system user"),
        (190, 458, "app was removed"),
        (190, 459, "log in"),
        (190, None, "not valid any more"),
        (100, 33, "phone_number_id.*100/33"),
        (131031, None, "restricted or locked.*ask for a review"),
        (131042, None, "bill"),
        (132015, None, "paused the template"),
        (132016, None, "disabled the template"),
    ],
)
def test_faults_of_the_account_are_told_apart(code, subcode, words):
    with pytest.raises(AccountError, match=words):
        answered(code, subcode=subcode)


def test_a_suspended_account_is_banned():
    assert rule_of(400, refusal(131031)).state is rule_of(400, refusal(368)).state is AccountState.BANNED
    assert rule_of(401, refusal(190)).state is AccountState.AUTHENTICATION_FAILED


@pytest.mark.parametrize(("code", "seconds"), THROTTLE.items())
def test_a_throttle_waits(code, seconds):
    receipt = answered(code)

    assert (receipt.outcome, receipt.throttled, receipt.retry_after) == (Outcome.DEFERRED, True, seconds)
    assert (receipt.code, receipt.status) == (400, str(code))


@pytest.mark.parametrize("code", TRANSIENT)
@pytest.mark.parametrize("http", [400, 500, 503])
def test_a_fault_of_metas_is_no_fault_of_the_recipient(code, http):
    receipt = answered(code, http)

    assert (receipt.outcome, receipt.throttled, receipt.code) == (Outcome.DEFERRED, True, http)


@pytest.mark.parametrize(("code", "seconds"), [(131056, 6), (131049, DAY)])
def test_one_person_has_had_enough_for_now(code, seconds):
    receipt = answered(code, headers={"Retry-After": "1"})

    assert (receipt.outcome, receipt.throttled, receipt.retry_after) == (Outcome.DEFERRED, False, seconds)


@pytest.mark.parametrize("code", NOBODY + UNWILLING)
def test_one_person_cannot_be_written_to(code):
    receipt = answered(code)

    assert (receipt.outcome, receipt.unreachable) == (Outcome.REJECTED, code in NOBODY)
    assert receipt.status is None  # else twenty such people in a row would stop the campaign
    assert receipt.reply == f"(#{code})"


@pytest.mark.parametrize("code", MESSAGE)
def test_a_wrong_message_is_refused(code):
    receipt = answered(code)

    assert (receipt.outcome, receipt.unreachable, receipt.status) == (Outcome.REJECTED, False, str(code))
    assert receipt.retry_after is None


def test_every_code_is_expected_here():
    listed = {*ACCOUNT, *THROTTLE, *TRANSIENT, *NOBODY, *UNWILLING, *MESSAGE, 131056, 131049}

    assert set(RULES) - listed - set(range(200, 300)) == {17, 102, 133010}


@pytest.mark.parametrize(
    ("http", "transient", "kind"),
    [
        (400, False, Kind.MESSAGE),
        (404, False, Kind.MESSAGE),
        (400, True, Kind.TRANSIENT),
        (500, False, Kind.TRANSIENT),
        (503, False, Kind.TRANSIENT),
        (429, False, Kind.THROTTLE),
        (401, False, Kind.ACCOUNT),
        (403, False, Kind.ACCOUNT),
    ],
)
def test_a_code_that_nobody_knows_goes_by_its_http_status(http, transient, kind):
    assert rule_of(http, refusal(199999, transient=transient)).kind is kind


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "30"}, 30),
        ({"Retry-After": "9999999"}, DAY),
        ({"Retry-After": "soon"}, 5),
        ({"Retry-After": "-1"}, 5),
        ({"Retry-After": ""}, 5),
        ({}, 5),
        (
            {"X-Business-Use-Case-Usage": '{"1022":[{"type":"x","estimated_time_to_regain_access":3}]}'},
            180,
        ),
        ({"X-Business-Use-Case-Usage": '{"1022":[{"estimated_time_to_regain_access":0}]}'}, 5),
        ({"X-Business-Use-Case-Usage": "[1, 2]"}, 5),
        ({"X-Business-Use-Case-Usage": '{"1022":[7]}'}, 5),
        ({"X-Business-Use-Case-Usage": '{"1022":[{"estimated_time_to_regain_access":null}]}'}, 5),
    ],
)
def test_a_named_wait_is_heard_and_bounded(headers, seconds):
    assert answered(130429, 429, headers).retry_after == seconds


def test_a_wait_may_be_a_date():
    at = datetime.now(UTC) + timedelta(minutes=10)

    wait = answered(130429, 429, {"Retry-After": format_datetime(at, usegmt=True)}).retry_after

    assert wait == pytest.approx(600, abs=30)


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        ("(#131026) Message undeliverable", "(#131026) Message undeliverable"),
        ("Message undeliverable", "(#131026) Message undeliverable"),
        ("two\nlines\x00", "(#131026) two lines"),
        ("to +44 7400 123456.", "(#131026) to [number]."),
        ("to 447400123456", "(#131026) to [number]"),
        ("to +1 (555) 078-3881", "(#131026) to [number]"),
        ("5 of 12 on 2026-01", "(#131026) 5 of 12 on 2026-01"),
    ],
)
def test_metas_words_are_kept_on_one_line_without_numbers(words, reply):
    assert answered(131026, words=words).reply.rstrip() == reply


def test_an_error_is_read_from_an_answer():
    read = read_refusal(
        {
            "error": {
                "message": "(#132000) Number of parameters does not match",
                "type": "OAuthException",
                "code": 132000,
                "error_subcode": 2494073,
                "error_data": {"messaging_product": "whatsapp", "details": "body: 1 of 2"},
                "is_transient": False,
                "fbtrace_id": "A",
            }
        }
    )

    assert read == refusal(132000, 2494073, "(#132000) Number of parameters does not match: body: 1 of 2")


@pytest.mark.parametrize("code", ["131056", 131056])
def test_a_code_may_be_a_string(code):
    assert read_refusal({"error": {"code": code}}) == refusal(131056)


@pytest.mark.parametrize(
    "body",
    [None, [], "error", {}, {"error": None}, {"error": "no"}, {"error": {}}, {"error": {"code": None}},
     {"error": {"code": True}}, {"error": {"code": "abc"}}, {"error": {"code": [1]}}],
)  # fmt: skip
def test_what_is_no_error_of_metas_is_told(body):
    assert read_refusal(body) is None
