"""What Meta's error codes mean: a data table from code to what we do.

Codes: https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes, and for
0 to 299 https://developers.facebook.com/docs/graph-api/guides/error-handling. Meta recommends to go by the
code; the HTTP status decides about codes that we do not know.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any, Final

from messaging.channels.base import Receipt
from messaging.errors import AccountError, Unknown
from schemas.states import AccountState, Outcome

_MINUTE: Final = 60.0
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_REPLY_LENGTH = 500
_REDIRECTED = 300
_SERVER_ERROR = 500
_NOT_NOW = {408, 425, 429}  # RFC 9110, 15.5.9; RFC 8470; RFC 6585


class Kind(Enum):
    """What an error is about."""

    ACCOUNT = auto()
    """Nobody can be written to until somebody mends something."""
    THROTTLE = auto()
    """Our number, account or app is too fast."""
    LATER = auto()
    """This person can be written to later."""
    RECIPIENT = auto()
    """This person cannot be written to."""
    MESSAGE = auto()
    """The message is wrong, so that it may be wrong for everybody."""
    TRANSIENT = auto()
    """Meta is out of order for now."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What one code makes us do."""

    kind: Kind
    wait: float | None = None
    """Seconds, when the answer names no time."""
    unreachable: bool = False
    advice: str = ""
    """For `ACCOUNT`: what is wrong and what to do, in words of ours that name nobody."""
    state: AccountState = AccountState.CONNECTED
    """Where it leaves the account."""


def _account(advice: str, state: AccountState = AccountState.AUTHENTICATION_FAILED) -> Rule:
    return Rule(Kind.ACCOUNT, advice=advice, state=state)


_NEW_TOKEN = "make a new one for a system user and store it in the account"  # noqa: S105 - advice
_PERMISSIONS = _account(
    "the access token may not do this: give its system user the WhatsApp account with full control, and the "
    "token whatsapp_business_messaging and whatsapp_business_management"
)
_WRONG_NUMBER = _account(
    "Meta knows no such phone number, or the access token may not use it: compare phone_number_id with the "
    "Phone number ID in WhatsApp Manager"
)
_EXPIRED = _account(f"the access token has expired: {_NEW_TOKEN}")
_REVOKED = _account(f"the access token is not valid any more: {_NEW_TOKEN}")
_SUSPENDED = _account(
    "Meta has restricted or locked the WhatsApp account: see Account quality in Meta's Business Support, and "
    "ask for a review there",
    AccountState.BANNED,
)
_TEMPLATE = AccountState.CONNECTED  # the account is well

RULES: Final[dict[int, Rule]] = {
    # who we are
    0: _REVOKED,
    3: _PERMISSIONS,
    10: _PERMISSIONS,
    33: _WRONG_NUMBER,
    102: _REVOKED,
    190: _REVOKED,
    368: _SUSPENDED,
    131005: _PERMISSIONS,
    131031: _SUSPENDED,
    131037: _account(
        "the number's display name is not approved: have it approved in WhatsApp Manager, Phone numbers"
    ),
    131042: _account(
        "Meta cannot bill the WhatsApp account: see Billing & payments in Business Manager for the payment "
        "method, the credit line, the currency and the time zone",
        AccountState.PAUSED,
    ),
    131045: _account("the phone number is not registered for the Cloud API: register it in WhatsApp Manager"),
    133010: _account("the phone number is not registered for the Cloud API: register it in WhatsApp Manager"),
    # the campaign's template: it would be the same for everyone
    132001: _account(
        "Meta has no approved template of this name in this language: compare name and language with "
        "WhatsApp Manager, Message templates",
        _TEMPLATE,
    ),
    132015: _account(
        "Meta has paused the template for its low quality: wait until it is active again, or edit it in "
        "WhatsApp Manager",
        _TEMPLATE,
    ),
    132016: _account(
        "Meta has disabled the template for its low quality: write the campaign with another one", _TEMPLATE
    ),
    # too fast
    4: Rule(Kind.THROTTLE, 5 * _MINUTE),
    17: Rule(Kind.THROTTLE, 5 * _MINUTE),
    80007: Rule(Kind.THROTTLE, 5 * _MINUTE),
    130429: Rule(Kind.THROTTLE, 5.0),
    131048: Rule(Kind.THROTTLE, 6 * _HOUR),  # too many people have blocked or reported us
    131064: Rule(Kind.THROTTLE, _HOUR),  # the portfolio's people of the last 24 hours
    132069: Rule(Kind.THROTTLE, _HOUR),  # ten messages of this flow in an hour
    133016: Rule(Kind.THROTTLE, _HOUR),
    # this person, later
    131049: Rule(Kind.LATER, _DAY),  # has had enough marketing for now; sooner makes it worse
    131056: Rule(Kind.LATER, 6.0),  # the pair rate
    # this person, never
    130472: Rule(Kind.RECIPIENT),  # in one of Meta's experiments: gets no marketing
    130497: Rule(Kind.RECIPIENT),  # in a country that we may not write to
    131021: Rule(Kind.RECIPIENT, unreachable=True),  # our own number
    131026: Rule(Kind.RECIPIENT, unreachable=True),  # not on WhatsApp, or not able to receive this
    131030: Rule(Kind.RECIPIENT, unreachable=True),  # not in the list of a test number
    131050: Rule(Kind.RECIPIENT),  # has said stop
    131062: Rule(Kind.RECIPIENT),  # not a recipient for this kind of message
    # this message
    100: Rule(Kind.MESSAGE),
    131008: Rule(Kind.MESSAGE),
    131009: Rule(Kind.MESSAGE),
    131047: Rule(Kind.MESSAGE),  # text, more than 24 hours after the person wrote to us
    131051: Rule(Kind.MESSAGE),
    131052: Rule(Kind.MESSAGE),
    131053: Rule(Kind.MESSAGE),
    131063: Rule(Kind.MESSAGE),
    132000: Rule(Kind.MESSAGE),
    132005: Rule(Kind.MESSAGE),
    132007: Rule(Kind.MESSAGE),
    132008: Rule(Kind.MESSAGE),
    132012: Rule(Kind.MESSAGE),
    132068: Rule(Kind.MESSAGE),
    # Meta is out of order
    1: Rule(Kind.TRANSIENT),
    2: Rule(Kind.TRANSIENT),
    131000: Rule(Kind.TRANSIENT),
    131016: Rule(Kind.TRANSIENT),
    131057: Rule(Kind.TRANSIENT, 5 * _MINUTE),  # the account is being moved to more throughput
    135000: Rule(Kind.TRANSIENT),
}  # fmt: skip
RULES.update(dict.fromkeys(range(200, 300), _PERMISSIONS))

_BY_SUBCODE: Final[dict[tuple[int, int], Rule]] = {
    (100, 33): _WRONG_NUMBER,
    (190, 458): _account("the app was removed from the business that made the access token: add it again"),
    (190, 459): _account(
        "Meta asks the person who made the access token to log in: do so at facebook.com, or make a new token"
    ),
    (190, 463): _EXPIRED,
    (190, 464): _account(
        "Meta asks the person who made the access token to log in: do so at facebook.com, or make a new token"
    ),
}

# What HTTP makes of a code that we do not know.
_BY_STATUS: Final[dict[int, Rule]] = {
    401: _REVOKED,
    403: _PERMISSIONS,
    429: Rule(Kind.THROTTLE, _MINUTE),
}
_OTHER = Rule(Kind.MESSAGE)
_OUT_OF_ORDER = Rule(Kind.TRANSIENT)

# Seven digits or more with the marks that people write between them.
_PHONE = re.compile(r"\+?\d(?:[\s().-]{0,2}\d){6,}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """One error, as Meta told it."""

    code: int
    subcode: int | None
    words: str
    transient: bool


def read_refusal(body: object) -> Refusal | None:
    """Read the error object of an answer; None: there is none in it."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict) or not isinstance(code := _whole(error.get("code")), int):
        return None
    data = error.get("error_data")
    details = data.get("details") if isinstance(data, dict) else None
    told = [part for part in (error.get("message"), details) if isinstance(part, str) and part]
    return Refusal(
        code, _whole(error.get("error_subcode")), ": ".join(told), transient=error.get("is_transient") is True
    )


def rule_of(status: int, refusal: Refusal) -> Rule:
    """Say what an error makes us do."""
    found = _BY_SUBCODE.get((refusal.code, refusal.subcode or 0)) or RULES.get(refusal.code)
    if found is not None:
        return found
    if refusal.transient or status >= _SERVER_ERROR:
        return _OUT_OF_ORDER
    return _BY_STATUS.get(status, _OTHER)


def answer_to(status: int, refusal: Refusal, headers: Mapping[str, str]) -> Receipt:
    """Return the receipt of an error.

    Its code is HTTP's, as Meta's are too large for the ledger; its status is Meta's, but not when it is about
    one person: refusals with a status that are alike twenty times in a row stop a campaign, and only those
    about the message should.

    Raises:
        AccountError: It would be the same for everyone; nothing was handed over.
    """
    rule = rule_of(status, refusal)
    if rule.kind is Kind.ACCOUNT:
        raise account_error(rule, refusal)
    rejected = rule.kind in {Kind.RECIPIENT, Kind.MESSAGE}
    return Receipt(
        Outcome.REJECTED if rejected else Outcome.DEFERRED,
        code=status,
        status=None if rule.kind is Kind.RECIPIENT else str(refusal.code),
        reply=words_of(refusal),
        throttled=rule.kind in {Kind.THROTTLE, Kind.TRANSIENT},
        retry_after=None if rejected else _wait(rule, headers),
        unreachable=rule.unreachable,
    )


def account_error(rule: Rule, refusal: Refusal) -> AccountError:
    """Return the error that says what to do."""
    code = f"{refusal.code}/{refusal.subcode}" if refusal.subcode else str(refusal.code)
    return AccountError(f"{rule.advice} (Meta's code {code})")


def words_of(refusal: Refusal) -> str:
    """Return Meta's words on one line, with the code and without phone numbers."""
    words = " ".join(refusal.words.split())
    words = words if words.isprintable() else "".join(c if c.isprintable() else " " for c in words)
    code = f"(#{refusal.code})"
    words = _PHONE.sub("[number]", words.removeprefix(code).strip())
    return f"{code} {words}".strip()[:_REPLY_LENGTH]


def answer_without_error(where: str, status: int, headers: Mapping[str, str]) -> Receipt:
    """Return the receipt of an answer in which there is no word of Meta's, by its HTTP status.

    Raises:
        Unknown: Meta may have the message: a gateway's 5xx, or a success that names no message.
        AccountError: Somebody else than Meta refused the request.
    """
    said = f"answered {status} without a word of Meta's"
    if status in _NOT_NOW:
        return Receipt(
            Outcome.DEFERRED, status, reply=said, throttled=True, retry_after=_wait(_BY_STATUS[429], headers)
        )
    if _REDIRECTED <= status < _SERVER_ERROR:
        raise AccountError(f"{where} {said}: see the account's endpoint, and what is between it and us")
    raise Unknown(f"{where} {said}")


def is_passing(status: int) -> bool:
    """Say whether an HTTP status is about this moment only."""
    return status in _NOT_NOW or status >= _SERVER_ERROR


def _wait(rule: Rule, headers: Mapping[str, str]) -> float | None:
    named = [wait for wait in (_retry_after(headers), _regained_after(headers)) if wait is not None]
    if rule.kind is Kind.LATER:  # what a header says is about the account
        return rule.wait
    return min(max(named), _DAY) if named else rule.wait


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After: seconds or a date (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _regained_after(headers: Mapping[str, str]) -> float | None:
    """Read when the account may call again: minutes, for each kind of call (Graph API: Rate limits)."""
    try:
        usage = json.loads(headers.get("X-Business-Use-Case-Usage", ""))
        minutes = [
            float(use.get("estimated_time_to_regain_access", 0)) for uses in usage.values() for use in uses
        ]
    except (ValueError, AttributeError, TypeError):
        return None
    return max(minutes, default=0.0) * _MINUTE or None


def _whole(value: Any) -> int | None:  # noqa: ANN401 - anything that JSON can hold
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:10])
    return value if isinstance(value, int) and not isinstance(value, bool) else None
