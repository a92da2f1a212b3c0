"""Asking Amazon SES through boto3, whose own repeats are off: a repeated SendEmail is a second message."""

import time
from typing import Any, Final

from messaging.channels.aws import AwsClient
from messaging.channels.base import Receipt
from messaging.channels.ses_replies import judge, silence
from messaging.channels.ses_settings import SesSettings
from messaging.errors import AccountError, NotSent

_TRIES: Final = 5  # of a question that SES finds too early
_BETWEEN_TRIES: Final = 1.1  # seconds; all actions but sending may be asked once a second (SES quotas)


class Refused(NotSent):
    """SES refused this question alone: asked again, it says the same; another may be answered."""

    retryable = False


class SesClient(AwsClient):
    """boto3's client for one account; it may be used by several threads at once. All its calls block."""

    def __init__(self, settings: SesSettings) -> None:
        """Make boto3's client, as `AwsClient` does; nothing connects yet."""
        self._settings = settings
        super().__init__(settings, "sesv2")

    def send(self, request: dict[str, Any], recipient: str) -> Any:  # noqa: ANN401 - boto3 has no types
        """Return SES's answer to SendEmail, or the receipt of a refusal.

        Raises:
            NotSent: SES could not be reached.
            Unknown: The request may have reached it, and it gave no answer.
            AccountError: The account cannot go on; nothing was handed over.
        """
        settings = self._settings
        try:
            return self._client.send_email(**request)
        except self._exceptions.ClientError as error:
            answer = judge(error.response, settings.region, settings.configuration_set, recipient)
        except self._exceptions.BotoCoreError as error:
            answer = silence(error, settings.region)
        if isinstance(answer, Receipt):
            return answer
        raise answer

    def ask(self, action: str, **parameters: object) -> dict[str, Any] | None:
        """Return the answer to an action that may be repeated, or None when SES has no such thing.

        Raises:
            NotSent: SES gave no answer.
            Refused: It refused this question alone.
            AccountError: The account cannot go on.
        """
        tries = 0
        while True:
            try:
                return dict(getattr(self._client, action)(**parameters))
            except self._exceptions.ClientError as error:
                if error.response["Error"]["Code"] == "NotFoundException":
                    return None
                answer = judge(error.response, self._settings.region, self._settings.configuration_set)
            except self._exceptions.BotoCoreError as error:
                answer = silence(error, self._settings.region)
            if isinstance(answer, AccountError):
                raise answer
            tries += 1
            if not isinstance(answer, Receipt):
                raise NotSent(str(answer))  # a question never hands anything over
            said = f"Amazon SES in {self._settings.region}: {action} was answered {answer.code}"
            if not answer.throttled:
                raise Refused(said)
            if tries == _TRIES:
                raise NotSent(said)
            time.sleep(answer.retry_after or _BETWEEN_TRIES)
