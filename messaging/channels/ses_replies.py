"""What Amazon SES's answers mean: a data table from error code and words to what we do.

Codes: API reference of SES version 2, SendEmail and Common Errors; words and waits: developer guide, "Errors
related to the sending quotas" and "Amazon SES email sending errors". RFC 3463 statuses are ours: SES names
none here, and everything that reads receipts knows them from SMTP.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from messaging.channels import aws
from messaging.channels.aws import CREDENTIALS, error_of
from messaging.channels.base import Receipt
from messaging.errors import AccountError, MessagingError, Unknown
from schemas.states import Outcome

_POLICY: Final = "docs/channels/ses.md has the whole policy"
_REPLY_LENGTH: Final = 500
_SERVER_FAULT: Final = 500
_WHOLE_DAY: Final = (
    3600.0  # of a rolling 24 hours some messages leave every hour; see `answering.MOST_DELAYS`
)


@dataclass(frozen=True, slots=True)
class Rule:
    """What we do about an answer whose code, and words if any are named, fit."""

    code: str
    """A pattern for the whole of it."""
    outcome: Outcome | None
    """None: it is about the account, and `sentence` says what to do."""
    words: str = ""
    """A pattern to find in the message; case does not matter."""
    status: str | None = None
    throttled: bool = False
    wait: float | None = None
    """Seconds; None: our own growing waits. SES sends no Retry-After, but a proxy's is heard."""
    unreachable: bool = False
    sentence: str = ""
    """May name {region}, {action} and {configuration_set}."""


SUSPENDED: Final = (
    "Amazon has stopped sending for this account in {region}: see the messages in the AWS Health Dashboard "
    "and answer Amazon's case"
)
NO_CONFIGURATION_SET: Final = (
    "there is no configuration set {configuration_set} in {region}: make it there, or correct the account"
)
_SANDBOX: Final = (
    "the account is in the SES sandbox in {region}, which sends to verified addresses only: request "
    "production access in the SES console, or send to the mailbox simulator"
)
_THROTTLE: Final = r"TooManyRequestsException|Throttling(Exception)?|RequestThrottled(Exception)?|SlowDown"

# The first that fits counts.
_RULES: Final = [
    Rule(_THROTTLE, Outcome.DEFERRED, r"daily (message|sending) quota", throttled=True, wait=_WHOLE_DAY),
    Rule("LimitExceededException", Outcome.DEFERRED, throttled=True, wait=_WHOLE_DAY),
    Rule(_THROTTLE, Outcome.DEFERRED, throttled=True),
    Rule(
        "MessageRejected",
        None,
        r"not verified",
        sentence="the sender's address is not verified in {region}: verify it or its domain there, under "
        "Identities in the SES console",
    ),
    Rule("MessageRejected", Outcome.REJECTED, status="5.6.0"),
    Rule(
        "MailFromDomainNotVerifiedException",
        None,
        sentence="the custom MAIL FROM domain has no valid MX record in {region}: mend it under Identities, "
        "or let SES fall back to its own",
    ),
    Rule(
        "AccountSuspendedException",
        None,
        sentence=SUSPENDED,
    ),
    Rule(
        "SendingPausedException",
        None,
        sentence="sending is paused in {region}, for the account or for configuration set "
        "{configuration_set}: mend what the SES console shows, and resume it there",
    ),
    Rule(
        "NotFoundException|ConfigurationSetDoesNotExist(Exception)?",
        None,
        sentence=NO_CONFIGURATION_SET,
    ),
    Rule(
        "AccessDenied(Exception)?|NotAuthorized(Exception)?|UnauthorizedOperation",
        None,
        sentence=f"the key's policy does not allow {{action}} in {{region}}: add it; {_POLICY}",
    ),
    *(Rule(about.codes, None, about.words, sentence=about.sentence) for about in CREDENTIALS),
    # What SES says at once of a recipient is syntax only; who does not exist bounces later.
    Rule(
        "BadRequestException|InvalidParameterValue|ValidationException",
        Outcome.REJECTED,
        r"illegal address|invalid email address|missing (final|local|domain)|"
        r"(local address|domain) (contains|starts|ends)|domain is too long|too long",
        status="5.1.3",
        unreachable=True,
    ),
    Rule("BadRequestException|InvalidParameterValue|ValidationException", Outcome.REJECTED, status="5.6.0"),
    Rule("RequestEntityTooLarge(Exception)?|413", Outcome.REJECTED, status="5.3.4"),
    Rule(
        "RequestTimeout(Exception)?", Outcome.DEFERRED, throttled=True
    ),  # SES did not get all of our request
]
# Of codes that are in no rule.
_BY_STATUS: Final = {
    429: Rule("", Outcome.DEFERRED, throttled=True),
    401: Rule("", None, sentence="AWS refuses the credentials in {region}: save the account with others"),
    403: Rule(
        "", None, sentence=f"AWS refuses what we ask of SES in {{region}}: check the policy; {_POLICY}"
    ),
    404: Rule(
        "", None, sentence="what answers for {region} is not SES version 2: check the account's endpoint"
    ),
}
_FAULT: Final = Rule("", Outcome.DEFERRED, throttled=True)
_REFUSAL: Final = Rule("", Outcome.REJECTED, status="5.6.0")


def judge(
    response: Mapping[str, Any], region: str, configuration_set: str | None, recipient: str = ""
) -> Receipt | MessagingError:
    """Return what an error answer of SES means: a receipt, or the error to raise.

    `response` is that of botocore's ClientError. Errors have our words only: SES's name people and keys.
    """
    code, said, http_status = error_of(response)
    rule = _rule(code, said, http_status)
    if rule is None:
        return Unknown(f"Amazon SES in {region}: {http_status} without a word of SES")
    if rule.outcome is None:
        known = {
            "region": region,
            "configuration_set": configuration_set or "(none is set)",
            "action": _action(said),
        }
        about_the_recipient = bool(recipient) and recipient.lower() in said.lower() and "verified" in said
        sentence = _SANDBOX if about_the_recipient else rule.sentence
        return AccountError(f"Amazon SES: {sentence.format(**known)}")
    return Receipt(
        rule.outcome,
        http_status,
        rule.status,
        _one_line(f"{code}: {said}"),
        throttled=rule.throttled,
        retry_after=_retry_after(response.get("ResponseMetadata", {})) or rule.wait,
        unreachable=rule.unreachable,
    )


def silence(error: BaseException, region: str) -> MessagingError:
    """Return our error for one of boto3's that holds no answer; whatever it is not sure of is `Unknown`."""
    return aws.silence(error, f"Amazon SES in {region}")


def _rule(code: str, said: str, http_status: int) -> Rule | None:
    for rule in _RULES:
        if re.fullmatch(rule.code, code) and re.search(rule.words, said, re.IGNORECASE):
            return rule
    if http_status in _BY_STATUS:
        return _BY_STATUS[http_status]
    if code.isdigit() or not code:  # botocore's, of a body that says nothing: a load balancer spoke, not SES
        return None
    return _FAULT if http_status >= _SERVER_FAULT else _REFUSAL


def _action(said: str) -> str:
    match = re.search(r"ses:\w+", said)
    return match[0] if match else "the request"


def _retry_after(metadata: Mapping[str, Any]) -> float | None:
    """Read Retry-After in seconds (RFC 9110, 10.2.3)."""
    value = str(metadata.get("HTTPHeaders", {}).get("retry-after", ""))
    return float(value) if re.fullmatch(r"\d{1,6}", value) else None


def _one_line(said: str) -> str:
    text = " ".join(said.split())[:_REPLY_LENGTH]
    return "".join(c if c.isprintable() else " " for c in text)
