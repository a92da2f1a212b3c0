"""What the Gmail API's words mean: data tables from reason and status to what we do."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any, Final

from messaging.channels.base import Receipt
from messaging.errors import AccountError
from schemas.states import Outcome


class Verdict(Enum):
    """What an answer makes us do."""

    THROTTLED = auto()
    USED_UP = auto()
    """What may be sent in a day was sent: wait for the time named, else for a day."""
    FAULT = auto()
    """Out of order for now, and nothing was taken."""
    REFUSED = auto()
    NOBODY = auto()
    """Refused, as the address leads to nobody."""
    TOKEN = auto()
    """The access token is not good any more; nothing was taken."""
    ACCOUNT = auto()
    SILENCE = auto()
    """No answer to what we asked: as good as silence."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer that is no success."""

    code: int
    reason: str
    """Google's word for it, as in userRateLimitExceeded; empty when the body is not Google's."""
    words: str
    """Google's sentence, on one line; it may hold addresses."""
    wait: float | None
    """Seconds that it asks us to wait, when it names a time."""


_LONGEST_WAIT: Final = 24 * 3600.0
_A_DAY: Final = 24 * 3600.0
_WORDS_LENGTH: Final = 500

# developers.google.com/workspace/gmail/api/guides/handle-errors; the words in capitals are the newer
# google.rpc.ErrorInfo and status of the same (cloud.google.com/apis/design/errors).
_BY_REASON: Final[dict[str, Verdict]] = {
    "rateLimitExceeded": Verdict.THROTTLED,  # 403 and 429: of the project, or of requests at the same time
    "userRateLimitExceeded": Verdict.THROTTLED,
    "RATE_LIMIT_EXCEEDED": Verdict.THROTTLED,
    "RESOURCE_EXHAUSTED": Verdict.THROTTLED,
    "dailyLimitExceeded": Verdict.USED_UP,  # of the project
    "quotaExceeded": Verdict.USED_UP,
    "backendError": Verdict.FAULT,
    "UNAVAILABLE": Verdict.FAULT,
    "authError": Verdict.TOKEN,
    "UNAUTHENTICATED": Verdict.TOKEN,
    "insufficientPermissions": Verdict.ACCOUNT,
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": Verdict.ACCOUNT,
    "domainPolicy": Verdict.ACCOUNT,
    "accessNotConfigured": Verdict.ACCOUNT,
    "SERVICE_DISABLED": Verdict.ACCOUNT,
    "failedPrecondition": Verdict.ACCOUNT,  # 400 "Mail service not enabled", "Precondition check failed."
    "forbidden": Verdict.ACCOUNT,  # "Delegation denied for …"
    "FAILED_PRECONDITION": Verdict.ACCOUNT,
    "PERMISSION_DENIED": Verdict.ACCOUNT,
    "badRequest": Verdict.REFUSED,
    "invalidArgument": Verdict.REFUSED,  # "Recipient address required": there is no To
    "INVALID_ARGUMENT": Verdict.REFUSED,
    "uploadTooLarge": Verdict.REFUSED,
}

# Said under reasons that mean less: userRateLimitExceeded, invalidArgument.
_BY_WORDS: Final = [
    (re.compile(r"\(mail sending\)|limit for sending|sending limit", re.IGNORECASE), Verdict.USED_UP),
    (re.compile(r"\binvalid (to|cc|bcc) header", re.IGNORECASE), Verdict.NOBODY),
]

# When the body is not Google's, or has no reason that we know: 4xx takes nothing (RFC 9110 15.5).
_BY_CODE: Final[dict[int, Verdict]] = dict.fromkeys(range(400, 500), Verdict.ACCOUNT) | {
    401: Verdict.TOKEN,
    408: Verdict.SILENCE,
    413: Verdict.REFUSED,
    429: Verdict.THROTTLED,
}

# Definite only with the reasons that say so: 504 and INTERNAL may follow a message that was sent.
_FAULT_CODES: Final = {500, 503}

_TO_DO: Final[dict[str, str]] = {
    "authError": "Google refuses the access token that it has just given: run {login}",
    "insufficientPermissions": "the login may not send mail: run {login} and allow everything it asks for",
    "domainPolicy": "the domain's administrators do not let this program use Gmail: they can trust it in the "
    "Admin console under Security, API controls",
    "accessNotConfigured": "the Gmail API is switched off in the Google Cloud project: enable it there and "
    "wait some minutes",
    "failedPrecondition": "there is no Gmail mailbox behind the login, or a service account names nobody in "
    "subject",
    "forbidden": "the login may not act for this mailbox: run {login}, or grant the service account "
    "domain-wide delegation",
    "": "Gmail does not serve this account: outflow account verify says more",
}
_SAME_AS: Final = {
    "UNAUTHENTICATED": "authError",
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": "insufficientPermissions",
    "SERVICE_DISABLED": "accessNotConfigured",
    "FAILED_PRECONDITION": "failedPrecondition",
    "PERMISSION_DENIED": "forbidden",
}

# Gmail gives none; these say whose fault it was to whoever counts (RFC 3463, 3.2 and 3.7).
_STATUSES: Final = {Verdict.NOBODY: "5.1.3", Verdict.REFUSED: "5.6.0"}

_WHEN = re.compile(r"retry after (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)", re.IGNORECASE)


def read(code: int, headers: Mapping[str, str], content: bytes) -> Reply:
    """Return what an answer says; `headers` have lower-case names."""
    error = _error(content)
    listed = [item for item in _list(error, "errors") + _list(error, "details") if isinstance(item, dict)]
    reasons = [str(item["reason"]) for item in listed if item.get("reason")]
    reasons += [str(error["status"])] if error.get("status") else []
    reason = next((found for found in reasons if found in _BY_REASON), reasons[0] if reasons else "")
    words = " ".join(str(error.get("message", "")).split())
    words = "".join(letter if letter.isprintable() else " " for letter in words)[:_WORDS_LENGTH]
    return Reply(code, reason, words, _wait(headers, words))


def judge(reply: Reply) -> Verdict:
    """Say what an answer makes us do."""
    if reply.code not in _BY_CODE:
        is_fault = reply.code in _FAULT_CODES and _BY_REASON.get(reply.reason) is Verdict.FAULT
        return Verdict.FAULT if is_fault else Verdict.SILENCE
    for pattern, verdict in _BY_WORDS:
        if pattern.search(reply.words):
            return verdict
    return _BY_REASON.get(reply.reason) or _BY_CODE[reply.code]


def receipt(verdict: Verdict, reply: Reply) -> Receipt:
    """Return the receipt of a definite answer about the message or about the pace."""
    said = ": ".join(filter(None, (reply.reason, reply.words)))
    if verdict in _STATUSES:
        nobody = verdict is Verdict.NOBODY
        return Receipt(Outcome.REJECTED, reply.code, _STATUSES[verdict], said, unreachable=nobody)
    wait = _A_DAY if verdict is Verdict.USED_UP and reply.wait is None else reply.wait
    return Receipt(Outcome.DEFERRED, reply.code, reply=said, throttled=True, retry_after=wait)


def refusal(reply: Reply, login: str) -> AccountError:
    """Return the error of an answer about the account; `login` is the command that signs in.

    Its text has Google's reason only: the sentence names projects and addresses.
    """
    reason = _SAME_AS.get(reply.reason, reply.reason)
    if judge(reply) is Verdict.TOKEN:
        reason = "authError"
    said = " ".join(filter(None, (str(reply.code), reply.reason if reply.reason in _BY_REASON else "")))
    return AccountError(f"Gmail ({said}): {_TO_DO.get(reason, _TO_DO['']).format(login=login)}")


def _error(content: bytes) -> dict[str, Any]:
    """Return the error object of a body, empty when it is not one of Google's."""
    try:
        body = json.loads(content)
    except ValueError:
        return {}
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def _list(error: dict[str, Any], key: str) -> list[Any]:
    found = error.get(key)
    return found if isinstance(found, list) else []


def _wait(headers: Mapping[str, str], words: str) -> float | None:
    """Return the seconds to wait that an answer names, by the clock of whoever named them."""
    now = _date(headers.get("date", "")) or datetime.now(UTC)
    asked = headers.get("retry-after", "").strip()
    if asked.isascii() and asked.isdigit():
        seconds = float(asked)
    else:
        match = _WHEN.search(words)
        then = _iso(match[1]) if match else _date(asked)
        if then is None:
            return None
        seconds = (then - now).total_seconds()
    return min(max(math.ceil(seconds), 0.0), _LONGEST_WAIT)


def _date(value: str) -> datetime | None:
    """Read a date of a header (RFC 9110 5.6.7)."""
    try:
        found = parsedate_to_datetime(value)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _iso(value: str) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None
