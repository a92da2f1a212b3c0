"""What the services of AWS have in common: credentials, boto3's client, and what refusals of a key mean.

boto3's own repeats are off: what is repeated, and when, is decided here.
"""

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from messaging.errors import AccountError, InputError, MessagingError, NotSent, Unknown

_REGION: Final = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What to do about an answer whose code, and words if any are named, fit."""

    codes: str
    """A pattern for the whole of the error code."""
    sentence: str
    """May name {region}, and what the service adds."""
    words: str = ""
    """A pattern to find in the message; case does not matter."""

    def fits(self, code: str, said: str) -> bool:
        """Whether an answer is this one."""
        return re.fullmatch(self.codes, code) is not None and (
            re.search(self.words, said, re.IGNORECASE) is not None
        )


# Of the credentials; the first that fits counts.
CREDENTIALS: Final = (
    Refusal(
        "InvalidClientTokenId|UnrecognizedClientException|InvalidAccessKeyId|MissingAuthenticationToken"
        "(Exception)?|OptInRequired|SubscriptionRequiredException|InvalidToken",
        "AWS does not know the access key in {region}: it was deleted or switched off, or is another "
        "partition's; make a new one and save the account again",
    ),
    Refusal(
        "ExpiredToken(Exception)?|RequestExpired|TokenRefreshRequired",
        "the temporary AWS credentials have expired: fetch new ones and save the account again",
    ),
    Refusal(
        "InvalidSignatureException|SignatureDoesNotMatch|IncompleteSignature(Exception)?",
        "AWS refuses our signature for its time: this machine's clock is wrong, set it",
        r"signature expired|not yet current|clock",
    ),
    Refusal(
        "RequestTimeTooSkewed|AuthFailure",
        "AWS refuses our signature: this machine's clock is wrong, or the key is",
    ),
    Refusal(
        "InvalidSignatureException|SignatureDoesNotMatch|IncompleteSignature(Exception)?",
        "AWS refuses our signature: the secret access key does not belong to the key id, or the account's "
        "region or endpoint is not the one that signs as {region}",
    ),
)

# Exceptions of boto3 without an answer, by the name of the class or one of its bases.
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
    "ClientError": (Unknown, "an answer that is not its own"),
}
_UNTRUSTED: Final = "its certificate was refused: set AWS_CA_BUNDLE when your network has its own authority"


@dataclass(frozen=True, slots=True)
class AwsAccess:
    """How to reach one service in one region of one AWS account."""

    service: ClassVar[str] = "AWS"
    """As people call it."""

    region: str
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    """Of temporary keys. Without keys boto3 looks for some: environment, ~/.aws, the role of this machine."""
    make_session: Callable[[], Any] | None = field(default=None, repr=False)
    """Returns a boto3 session that has the credentials, in place of keys; it may block."""
    endpoint: str | None = None
    """A URL in place of Amazon's, such as a VPC endpoint's."""
    connections: int = 8
    connect_timeout: float = 5.0
    read_timeout: float = 15.0

    def __post_init__(self) -> None:
        """Refuse what can never work."""
        if not _REGION.fullmatch(self.region):
            raise InputError(f"{self.service}: region is one such as eu-west-1")
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise InputError(f"{self.service}: give both an access key id and its secret, or neither")
        if self.session_token is not None and self.access_key_id is None:
            raise InputError(f"{self.service}: a session token goes with the temporary keys it came with")
        if self.make_session is not None and self.access_key_id is not None:
            raise InputError(f"{self.service}: give keys or credentials kept elsewhere, not both")
        if self.connections < 1:
            raise InputError(f"{self.service}: connections must be at least 1")

    @property
    def where(self) -> str:
        """The service and its region."""
        return f"{self.service} in {self.region}"


class AwsClient:
    """boto3's client for one service; it may be used by several threads at once. All its calls block."""

    def __init__(self, access: AwsAccess, api: str) -> None:
        """Make boto3's client, which takes some tenths of a second; nothing connects yet.

        Raises:
            InputError: boto3 is not installed.
            AccountError: There are no credentials, or they cannot be used.
            NotSent: Whoever keeps the credentials did not answer.
        """
        boto3, config, self._exceptions = _libraries(access.service)
        try:
            session = (
                access.make_session()
                if access.make_session
                else boto3.Session(access.access_key_id, access.secret_access_key, access.session_token)
            )
            credentials = session.get_credentials()
            if credentials is None:
                raise self._exceptions.NoCredentialsError
            self.key = str(credentials.get_frozen_credentials().access_key)[-4:]
            self._client = session.client(
                api,
                region_name=access.region,
                endpoint_url=access.endpoint,
                config=config.Config(
                    max_pool_connections=access.connections + 1,
                    retries={"total_max_attempts": 1},
                    connect_timeout=access.connect_timeout,
                    read_timeout=access.read_timeout,
                    tcp_keepalive=True,
                    user_agent="outflow",  # boto3 spells its own out anew for each request
                ),
            )
        except self._exceptions.ClientError as error:
            code = error.response["Error"]["Code"]
            raise AccountError(f"the AWS role could not be assumed ({code}): see its trust policy") from None
        except self._exceptions.BotoCoreError as error:
            failure = silence(error, access.where)
            raise failure if isinstance(failure, AccountError) else NotSent(str(failure)) from None
        except ValueError:
            raise InputError(f"{access.service}: endpoint is no URL such as https://host") from None

    def close(self) -> None:
        """Close idle connections."""
        self._client.close()


def silence(error: BaseException, where: str) -> MessagingError:
    """Return our error for one of boto3's that holds no answer; whatever it is not sure of is `Unknown`."""
    for kind in type(error).__mro__:
        if (found := _NO_ANSWER.get(kind.__name__)) is not None:
            return found[0](f"{where}: {found[1]}")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):  # in the handshake, hence before the request
        return AccountError(f"{where}: {_UNTRUSTED}")
    return Unknown(f"{where}: {type(error).__name__} instead of an answer")


def error_of(response: Mapping[str, Any]) -> tuple[str, str, int]:
    """Return code, message and HTTP status of an error answer; `response` is botocore's ClientError's."""
    error = response.get("Error", {})
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return str(error.get("Code", "")), str(error.get("Message", "")), status


def _libraries(service: str) -> tuple[Any, Any, Any]:
    try:
        return (
            importlib.import_module("boto3"),
            importlib.import_module("botocore.config"),
            importlib.import_module("botocore.exceptions"),
        )
    except ImportError:
        raise InputError(f"{service} needs more packages: pip install 'outflow[ses]'") from None
