"""Amazon SNS's notifications over HTTPS: what Amazon SES reports of messages."""

import logging
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from messaging.errors import MessagingError
from messaging.feedback import amazon_pages
from messaging.feedback.ses_events import Unreadable, read_ses_event
from messaging.feedback.sns_certificates import Certificates, Fetch
from messaging.feedback.sns_messages import SnsKind, SnsMessage, read_message
from messaging.storage import sns_topics
from messaging.web.bodies import read_body
from messaging.web.keeping import keep
from messaging.web.services import Services

_log = logging.getLogger(__name__)

MOST_BYTES: Final = 1024 * 1024
"""A message has at most 256 KiB (Amazon SNS, Quotas), which JSON may write in twice as many bytes or more."""
OLDEST: Final = timedelta(minutes=65)
"""SNS repeats a message for at most an hour ("Message delivery retries"); clocks differ."""
_AHEAD: Final = timedelta(minutes=5)
_AGAIN_SECONDS: Final = 20


def routes(services: Services, fetch: Fetch = amazon_pages.fetch) -> list[Route]:
    """Return the webhook's route; `fetch` gets the certificates, whose URLs it need not check."""
    return [Route("/hooks/sns", _Hook(services, fetch).take, methods=["POST"])]


class _Hook:
    def __init__(self, services: Services, fetch: Fetch) -> None:
        self._services = services
        self._certificates = Certificates(fetch)

    async def take(self, request: Request) -> Response:
        """Answer a post of SNS: 200 once its content is committed; 5xx is repeated by SNS, 4xx is not."""
        message = read_message(await read_body(request, MOST_BYTES))
        if message is None:
            return _answer(HTTPStatus.BAD_REQUEST, "no message of Amazon SNS")
        if not -_AHEAD <= datetime.now(UTC) - message.at <= OLDEST:
            return _answer(HTTPStatus.FORBIDDEN, "too old")
        # First what costs least: of topics that nobody has confirmed no certificate is fetched.
        if message.kind is not SnsKind.SUBSCRIPTION and not await self._is_confirmed(message.topic):
            return _answer(HTTPStatus.FORBIDDEN, "this topic is not listened to")
        try:
            if not await self._certificates.vouch_for(message):
                return _answer(HTTPStatus.FORBIDDEN, "the signature is not Amazon's")
        except MessagingError as error:
            _log.warning("a message of Amazon SNS is put off: %s", error)
            return _answer(HTTPStatus.SERVICE_UNAVAILABLE, "the signature cannot be checked now")
        if message.kind is SnsKind.NOTIFICATION:
            await self._record(message)
        else:
            await self._keep_request(message)
        return _answer(HTTPStatus.OK, "thank you")

    async def _is_confirmed(self, topic: str) -> bool:
        return await self._services.ledger.transaction(
            lambda connection: sns_topics.is_confirmed(connection, topic)
        )

    async def _record(self, message: SnsMessage) -> None:
        """Record what a notification says; one that cannot be read would be no better the next time."""
        name = message.topic.rpartition(":")[2]
        try:
            evidence = read_ses_event(message.text, f"sns:{name}")
        except Unreadable as error:
            _log.warning("a notification of the topic %s says nothing that can be used: %s", name, error)
            return
        if refused := await keep(self._services.ledger, evidence):
            _log.warning("%d reports of the topic %s could not be recorded", refused, name)

    async def _keep_request(self, message: SnsMessage) -> None:
        """Keep what an operator may confirm; nothing is confirmed by itself."""
        if message.kind is SnsKind.UNSUBSCRIPTION:
            _log.warning("the topic %s posts here no more; to take it up again, confirm it", message.topic)
        else:
            _log.warning(
                "the topic %s asks to post here; to agree: outflow topics confirm ARN", message.topic
            )
        await self._services.ledger.transaction(
            lambda connection: sns_topics.ask(connection, message.topic, message.subscribe_url)
        )


def _answer(status: HTTPStatus, words: str) -> Response:
    headers = {"Retry-After": str(_AGAIN_SECONDS)} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
    return PlainTextResponse(words, status, headers)
