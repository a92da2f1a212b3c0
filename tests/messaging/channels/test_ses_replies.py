"""Each error of Amazon SES, as botocore hands it on, and what it makes of a message."""

import botocore.exceptions
import pytest

from messaging.channels.base import Receipt
from messaging.channels.ses_replies import judge, silence
from messaging.errors import AccountError, NotSent, Unknown
from schemas.states import Outcome


def answer(code: str, message: str = "", status: int = 400, **headers: str) -> dict:
    """Return an error as botocore's ClientError holds it."""
    return {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
    }


def judged(*of: object, **headers: str):
    return judge(answer(*of, **headers), "eu-west-1", "outflow", "ada@example.org")


THROTTLES = [
    ("TooManyRequestsException", "Maximum sending rate exceeded.", 429, None),
    ("ThrottlingException", "Maximum sending rate exceeded.", 400, None),
    ("Throttling", "Rate exceeded", 400, None),
    ("ThrottlingException", "Daily message quota exceeded.", 400, 3600.0),
    ("TooManyRequestsException", "Daily sending quota exceeded", 429, 3600.0),
    ("LimitExceededException", "There are too many instances of the specified resource type.", 400, 3600.0),
    ("ServiceUnavailableException", "Service is unavailable", 503, None),
    ("InternalFailure", "", 500, None),
    ("InternalServiceErrorException", "try again", 500, None),
    ("RequestTimeoutException", "the body did not come in time", 408, None),
    ("SomethingNew", "slower", 429, None),
]


@pytest.mark.parametrize(("code", "message", "status", "wait"), THROTTLES)
def test_a_not_now_is_about_the_account(code: str, message: str, status: int, wait: float | None):
    receipt = judged(code, message, status)

    assert (receipt.outcome, receipt.throttled) == (Outcome.DEFERRED, True)
    assert (receipt.retry_after, receipt.code) == (wait, status)


def test_a_wait_that_is_named_counts():
    assert judged("TooManyRequestsException", "", 429, **{"retry-after": "120"}).retry_after == 120.0
    assert judged("TooManyRequestsException", "", 429, **{"retry-after": "soon"}).retry_after is None


@pytest.mark.parametrize(
    "message",
    [
        "Missing final '@domain'",
        "Missing domain",
        "Missing local name",
        "Illegal address",
        "Invalid email address ada@.",
        "Local address contains control or whitespace",
        "Local address contains illegal character",
        "Local address starts with dot",
        "Domain contains control or whitespace",
        "Domain contains illegal character",
        "Domain starts with dot",
        "Domain ends with dot",
    ],
)
def test_an_address_that_is_none_leads_to_nobody(message: str):
    receipt = judged("BadRequestException", message)

    assert (receipt.outcome, receipt.unreachable, receipt.status) == (Outcome.REJECTED, True, "5.1.3")


@pytest.mark.parametrize(
    ("code", "message", "status"),
    [
        ("MessageRejected", "Message content was rejected: virus found", "5.6.0"),
        ("BadRequestException", "Missing required header 'From'.", "5.6.0"),
        ("BadRequestException", "Duplicate header 'Subject'.", "5.6.0"),
        ("SomethingNew", "no", "5.6.0"),
        ("413", "Request Entity Too Large", "5.3.4"),
    ],
)
def test_a_message_that_ses_does_not_take_may_still_have_a_reader(code: str, message: str, status: str):
    receipt = judged(code, message)

    assert (receipt.outcome, receipt.unreachable, receipt.status) == (Outcome.REJECTED, False, status)
    assert receipt.reply == f"{code}: {message}"


NOT_VERIFIED = (
    "Email address is not verified. The following identities failed the check in region EU-WEST-1: "
)
ACCOUNT = [
    ("MessageRejected", f"{NOT_VERIFIED}news@shop.example.org", 400, "the sender's address is not verified"),
    ("MessageRejected", f"{NOT_VERIFIED}ada@example.org", 400, "in the SES sandbox in eu-west-1"),
    ("MessageRejected", f"{NOT_VERIFIED}ADA@example.org", 400, "in the SES sandbox in eu-west-1"),
    ("MailFromDomainNotVerifiedException", "", 400, "no valid MX record"),
    ("AccountSuspendedException", "", 400, "Amazon has stopped sending"),
    (
        "SendingPausedException",
        "",
        400,
        "paused in eu-west-1, for the account or for configuration set outflow",
    ),
    ("NotFoundException", "Configuration set <outflow> does not exist.", 404, "no configuration set outflow"),
    (
        "AccessDeniedException",
        "User: arn:aws:iam::123456789012:user/n is not authorized to perform: ses:SendRawEmail on x",
        403,
        "does not allow ses:SendRawEmail in eu-west-1",
    ),
    (
        "InvalidClientTokenId",
        "The security token included in the request is invalid",
        403,
        "know the access key",
    ),
    ("UnrecognizedClientException", "", 403, "know the access key"),
    ("ExpiredTokenException", "", 403, "credentials have expired"),
    ("ExpiredToken", "", 403, "credentials have expired"),
    ("SignatureDoesNotMatch", "The request signature we calculated does not match", 403, "secret access key"),
    (
        "InvalidSignatureException",
        "Signature expired: 20261122T100000Z is now earlier",
        403,
        "clock is wrong",
    ),
    ("InvalidSignatureException", "Signature not yet current: 20261122T100000Z", 403, "clock is wrong"),
    ("SomethingNew", "", 403, "check the policy"),
    ("SomethingNew", "", 401, "refuses the credentials"),
    ("404", "Not Found", 404, "is not SES version 2"),
]


@pytest.mark.parametrize(("code", "message", "status", "says"), ACCOUNT)
def test_an_account_that_cannot_go_on_says_what_to_do(code: str, message: str, status: int, says: str):
    error = judged(code, message, status)

    assert isinstance(error, AccountError)
    assert says in str(error)
    assert "{" not in str(error)
    assert not any(word in str(error) for word in ("@", "arn:", "example.org"))


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_error_without_a_word_of_ses_is_unknown(status: int):
    assert isinstance(judged(str(status), "Bad Gateway", status), Unknown)


def test_the_words_of_ses_are_kept_on_one_printable_line():
    receipt = judged("MessageRejected", "a\nb\x00c " + "d" * 1000)

    assert isinstance(receipt, Receipt)
    assert receipt.reply.startswith("MessageRejected: a b c ddd")
    assert len(receipt.reply) == 500


B = botocore.exceptions
SILENCES = [
    (B.EndpointConnectionError(endpoint_url="x", error="x"), NotSent),
    (B.ConnectTimeoutError(endpoint_url="x", error="x"), NotSent),
    (B.ProxyConnectionError(proxy_url="x", error="x"), NotSent),
    (B.ReadTimeoutError(endpoint_url="x", error="x"), Unknown),
    (B.ConnectionClosedError(endpoint_url="x", error="x"), Unknown),
    (B.HTTPClientError(error="x"), Unknown),
    (B.ResponseStreamingError(error="x"), Unknown),
    (
        B.SSLError(endpoint_url="x", error="[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"),
        AccountError,
    ),
    (B.SSLError(endpoint_url="x", error="EOF occurred in violation of protocol"), Unknown),
    (B.NoCredentialsError(), AccountError),
    (B.PartialCredentialsError(provider="env", cred_var="x"), AccountError),
    (B.CredentialRetrievalError(provider="x", error_msg="x"), AccountError),
    (B.ProfileNotFound(profile="x"), AccountError),
    (B.TokenRetrievalError(provider="sso", error_msg="x"), AccountError),
    (B.UnauthorizedSSOTokenError(), AccountError),
    (B.BotoCoreError(), Unknown),
]


@pytest.mark.parametrize(("error", "kind"), SILENCES, ids=lambda of: type(of).__name__)
def test_what_boto3_raises_without_an_answer(error: Exception, kind: type):
    ours = silence(error, "eu-west-1")

    assert type(ours) is kind
    assert "eu-west-1" in str(ours)
