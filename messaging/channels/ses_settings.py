"""What it takes to reach Amazon SES in one region of one AWS account."""

import re
from dataclasses import dataclass
from typing import ClassVar

from messaging.channels.aws import AwsAccess
from messaging.errors import InputError

_CONFIGURATION_SET = re.compile(r"[A-Za-z0-9_-]{1,64}")  # as the console and CreateConfigurationSet take it


@dataclass(frozen=True, slots=True)
class SesSettings(AwsAccess):
    """One AWS account's SES in one region.

    After `read_timeout` seconds without an answer a message is `unknown`; SES usually takes a tenth of one.
    """

    service: ClassVar[str] = "Amazon SES"

    sender: str = ""
    """The bare address that mail comes from; only `verify` asks SES about it."""
    configuration_set: str | None = None
    """Decides where SES reports deliveries, bounces and complaints."""

    def __post_init__(self) -> None:
        """Refuse what can never work."""
        AwsAccess.__post_init__(self)
        if self.configuration_set is not None and not _CONFIGURATION_SET.fullmatch(self.configuration_set):
            raise InputError("Amazon SES: configuration_set has 1 to 64 letters, digits, - or _")
