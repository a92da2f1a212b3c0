"""What Amazon SES's answers mean: a data table from error code and words to what we do.

Codes: API reference of SES version 2, SendEmail and Common Errors; words and waits: developer guide, "Errors
related to the sending quotas" and "Amazon SES email sending errors". RFC 3463 statuses are ours: SES names
none here, and everything that reads receipts knows them from SMTP.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from messaging.channels.base import Receipt
from messaging.errors import AccountError, MessagingError, NotSent, Unknown
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
    Rule(
        "InvalidClientTokenId|UnrecognizedClientException|InvalidAccessKeyId|MissingAuthenticationToken"
        "(Exception)?|OptInRequired|SubscriptionRequiredException|InvalidToken",
        None,
        sentence="AWS does not know the access key in {region}: it was deleted or switched off, or is "
        "another partition's; make a new one and save the account again",
    ),
    Rule(
        "ExpiredToken(Exception)?|RequestExpired|TokenRefreshRequired",
        None,
        sentence="the temporary AWS credentials have expired: fetch new ones and save the account again",
    ),
    Rule(
        "InvalidSignatureException|SignatureDoesNotMatch|IncompleteSignature(Exception)?",
        None,
        r"signature expired|not yet current|clock",
        sentence="AWS refuses our signature for its time: this machine's clock is wrong, set it",
    ),
    Rule(
        "RequestTimeTooSkewed|AuthFailure",
        None,
        sentence="AWS refuses our signature: this machine's clock is wrong, or the key is",
    ),
    Rule(
        "InvalidSignatureException|SignatureDoesNotMatch|IncompleteSignature(Exception)?",
        None,
        sentence="AWS refuses our signature: the secret access key does not belong to the key id, or the "
        "account's region or endpoint is not the one that signs as {region}",
    ),
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

# Exceptions of boto3 without an answer of SES, by the name of the class or one of its bases.
_NO_ANSWER: Final[dict[str, tuple[type[MessagingError], str]]] = {
    "EndpointConnectionError": (NotSent, "cannot be reached"),
    "ConnectTimeoutError": (NotSent, "cannot be reached: no connection in time"),
    "ProxyConnectionError": (NotSent, "cannot be reached through the proxy"),
    "ReadTimeoutError": (Unknown, "no answer in time"),
    "ConnectionClosedError": (Unknown, "the connection closed without an answer"),
    "NoCredentialsError": (
        AccountError,
        "no AWS credentials found: give the account keys, or this machine a role",
    ),
    "PartialCredentialsError": (AccountError, "the AWS credentials found on this machine are incomplete"),
    "CredentialRetrievalError": (
        AccountError,
        "the AWS credentials could not be fetched: see their provider",
    ),
    "ProfileNotFound": (AccountError, "the AWS profile is not on this machine: see ~/.aws/config"),
    "SSOError": (AccountError, "the AWS single sign-on has ended: sign in again with aws sso login"),
    "TokenRetrievalError": (
        AccountError,
        "the AWS single sign-on has ended: sign in again with aws sso login",
    ),
    "InvalidEndpointDiscoveryConfigurationError": (AccountError, "the AWS configuration cannot be used"),
    "NoRegionError": (AccountError, "no region: give the account one such as eu-west-1"),
    "InvalidRegionError": (AccountError, "that is no region: give the account one such as eu-west-1"),
    "ClientError": (Unknown, "an answer that is not SES's"),
}
_UNTRUSTED: Final = "its certificate was refused: set AWS_CA_BUNDLE when your network has its own authority"


def judge(
    response: Mapping[str, Any], region: str, configuration_set: str | None, recipient: str = ""
) -> Receipt | MessagingError:
    """Return what an error answer of SES means: a receipt, or the error to raise.

    `response` is that of botocore's ClientError. Errors have our words only: SES's name people and keys.
    """
    error = response.get("Error", {})
    metadata = response.get("ResponseMetadata", {})
    code, said = str(error.get("Code", "")), str(error.get("Message", ""))
    http_status = int(metadata.get("HTTPStatusCode", 0))
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
        retry_after=_retry_after(metadata) or rule.wait,
        unreachable=rule.unreachable,
    )


def silence(error: BaseException, region: str) -> MessagingError:
    """Return our error for one of boto3's that holds no answer; whatever it is not sure of is `Unknown`."""
    where = f"Amazon SES in {region}"
    for kind in type(error).__mro__:
        if (found := _NO_ANSWER.get(kind.__name__)) is not None:
            return found[0](f"{where}: {found[1]}")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):  # in the handshake, hence before the request
        return AccountError(f"{where}: {_UNTRUSTED}")
    return Unknown(f"{where}: {type(error).__name__} instead of an answer")


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
