"""Asking Amazon SES through boto3, whose own repeats are off: a repeated SendEmail is a second message."""

import importlib
import time
from typing import Any, Final

from messaging.channels.base import Receipt
from messaging.channels.ses_replies import judge, silence
from messaging.channels.ses_settings import SesSettings
from messaging.errors import AccountError, InputError, NotSent

_TRIES: Final = 5  # of a question that SES finds too early
_BETWEEN_TRIES: Final = 1.1  # seconds; all actions but sending may be asked once a second (SES quotas)


class Refused(NotSent):
    """SES refused this question alone: asked again, it says the same; another may be answered."""

    retryable = False


class SesClient:
    """boto3's client for one account; it may be used by several threads at once. All its calls block."""

    def __init__(self, settings: SesSettings) -> None:
        """Make boto3's client, which takes some tenths of a second; nothing connects yet.

        Raises:
            InputError: boto3 is not installed.
            AccountError: There are no credentials, or they cannot be used.
            NotSent: Whoever keeps the credentials did not answer.
        """
        self._settings = settings
        boto3, config, self._exceptions = _libraries()
        try:
            session = settings.make_session() if settings.make_session else self._session(boto3)
            credentials = session.get_credentials()
            if credentials is None:
                raise self._exceptions.NoCredentialsError
            self.key = str(credentials.get_frozen_credentials().access_key)[-4:]
            self._client = session.client(
                "sesv2",
                region_name=settings.region,
                endpoint_url=settings.endpoint,
                config=config.Config(
                    max_pool_connections=settings.connections + 1,
                    retries={"total_max_attempts": 1},
                    connect_timeout=settings.connect_timeout,
                    read_timeout=settings.read_timeout,
                    tcp_keepalive=True,
                    user_agent="outflow",  # boto3 spells its own out anew for each request
                ),
            )
        except self._exceptions.ClientError as error:
            code = error.response["Error"]["Code"]
            raise AccountError(f"the AWS role could not be assumed ({code}): see its trust policy") from None
        except self._exceptions.BotoCoreError as error:
            failure = silence(error, settings.region)
            raise failure if isinstance(failure, AccountError) else NotSent(str(failure)) from None
        except ValueError:
            raise InputError("Amazon SES: endpoint is no URL such as https://host") from None

    def _session(self, boto3: Any) -> Any:  # noqa: ANN401 - boto3 has no types
        settings = self._settings
        return boto3.Session(settings.access_key_id, settings.secret_access_key, settings.session_token)

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

    def close(self) -> None:
        """Close idle connections."""
        self._client.close()


def _libraries() -> tuple[Any, Any, Any]:
    try:
        return (
            importlib.import_module("boto3"),
            importlib.import_module("botocore.config"),
            importlib.import_module("botocore.exceptions"),
        )
    except ImportError:
        raise InputError("Amazon SES needs more packages: pip install 'outflow[ses]'") from None
