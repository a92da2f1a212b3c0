"""What it takes to reach Amazon SES in one region of one AWS account."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from messaging.errors import InputError

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")
_CONFIGURATION_SET = re.compile(r"[A-Za-z0-9_-]{1,64}")  # as the console and CreateConfigurationSet take it


@dataclass(frozen=True, slots=True)
class SesSettings:
    """One AWS account's SES in one region."""

    region: str
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    """Of temporary keys. Without keys boto3 looks for some: environment, ~/.aws, the role of this machine."""
    make_session: Callable[[], Any] | None = field(default=None, repr=False)
    """Returns a boto3 session that has the credentials, in place of keys; it may block."""
    sender: str = ""
    """The bare address that mail comes from; only `verify` asks SES about it."""
    configuration_set: str | None = None
    """Decides where SES reports deliveries, bounces and complaints."""
    connections: int = 8
    endpoint: str | None = None
    """A URL in place of Amazon's, such as a VPC endpoint's."""
    connect_timeout: float = 5.0
    read_timeout: float = 15.0
    """Seconds without an answer after which a message is `unknown`; SES usually takes a tenth of one."""

    def __post_init__(self) -> None:
        """Refuse what can never work."""
        if not _REGION.fullmatch(self.region):
            raise InputError(
                "Amazon SES: region is one such as eu-west-1; identities are verified per region"
            )
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise InputError("Amazon SES: give both an access key id and its secret, or neither")
        if self.session_token is not None and self.access_key_id is None:
            raise InputError("Amazon SES: a session token goes with the temporary keys it came with")
        if self.make_session is not None and self.access_key_id is not None:
            raise InputError("Amazon SES: give keys or credentials kept elsewhere, not both")
        if self.configuration_set is not None and not _CONFIGURATION_SET.fullmatch(self.configuration_set):
            raise InputError("Amazon SES: configuration_set has 1 to 64 letters, digits, - or _")
        if self.connections < 1:
            raise InputError("Amazon SES: connections must be at least 1")
