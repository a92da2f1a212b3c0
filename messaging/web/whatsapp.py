"""Meta's webhooks of the WhatsApp Cloud API: what became of messages, and who wrote to us."""

import asyncio
import json
import logging
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Final

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from messaging.channels.whatsapp_cloud_webhooks import (
    confirm,
    read_inbound,
    read_statuses,
    read_stops,
    verify_signature,
)
from messaging.errors import AccountError, MessagingError
from messaging.feedback import whatsapp_statuses
from messaging.feedback.evidence import Evidence
from messaging.feedback.whatsapp_stops import stop
from messaging.storage.service_windows import open_windows
from messaging.web.bodies import read_body
from messaging.web.keeping import keep
from messaging.web.services import LoadWhatsApp, Services, WhatsAppSecrets
from schemas.states import EventKind

_log = logging.getLogger(__name__)

MOST_BYTES: Final = 3 * 1024 * 1024
"""The most that Meta posts at once, many reports together
(https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/overview)."""
_FRESH_SECONDS: Final = 60.0  # how long accounts are believed to be as they were read
_SOONEST_SECONDS: Final = 5.0  # between two readings: strangers make up signatures faster
_READ_SECONDS: Final = 10.0
_AGAIN_SECONDS: Final = 30


def routes(services: Services) -> list[Route]:
    """Return the webhook's routes; none when no webhooks of WhatsApp are taken."""
    if services.load_whatsapp is None:
        return []
    hook = _Hook(services, _Accounts(services.load_whatsapp))
    return [
        Route("/hooks/whatsapp", hook.confirm, methods=["GET"]),
        Route("/hooks/whatsapp", hook.take, methods=["POST"]),
    ]


class _Accounts:
    """The accounts' secrets, read again now and then."""

    def __init__(self, load: LoadWhatsApp) -> None:
        self._load = load
        self._known: Sequence[WhatsAppSecrets] | None = None
        self._failure: MessagingError | None = None
        self._read_at = -math.inf
        self._reading = asyncio.Lock()

    async def known(self, *, older_than: float = _FRESH_SECONDS) -> Sequence[WhatsAppSecrets]:
        """Return the accounts; those read before when they cannot be read now.

        Raises:
            MessagingError: They could not be read yet.
        """
        if self._known is None or self._is_older_than(older_than):
            async with self._reading:
                # Another request may have read them meanwhile, or failed to.
                if self._is_older_than(_SOONEST_SECONDS if self._known is None else older_than):
                    await self._read()
        if self._known is None:
            raise (self._failure or AccountError("they are being read")).with_traceback(None)
        return self._known

    def _is_older_than(self, seconds: float) -> bool:
        return time.monotonic() - self._read_at >= seconds

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                self._known = await self._load()
        except TimeoutError:
            self._failure = AccountError(f"Prefect has not named them within {_READ_SECONDS:.0f} seconds")
        except MessagingError as error:
            self._failure = error
        else:
            self._failure = None
        self._read_at = time.monotonic()
        if self._known is not None and self._failure is not None:
            _log.warning("the WhatsApp accounts could not be read anew: %s", self._failure)

    async def signed(self, raw: bytes, signature: str | None) -> list[WhatsAppSecrets]:
        """Return the accounts whose app made a signature; several numbers may belong to one app.

        Raises:
            MessagingError: The accounts could not be read yet.
        """
        found = _signers(await self.known(), raw, signature)
        return found or _signers(await self.known(older_than=_SOONEST_SECONDS), raw, signature)


def _signers(accounts: Sequence[WhatsAppSecrets], raw: bytes, signature: str | None) -> list[WhatsAppSecrets]:
    good = {
        secret
        for secret in {account.app_secret for account in accounts}
        if verify_signature(secret, raw, signature)
    }
    return [account for account in accounts if account.app_secret in good]


@dataclass(slots=True)
class _Told:
    """What one post tells."""

    evidence: list[Evidence] = field(default_factory=list)
    wrote: dict[str, dict[str, datetime]] = field(default_factory=lambda: defaultdict(dict))
    """Account → phone number → when they wrote last."""
    strange: int = 0
    """Of numbers that are no account of ours, or of statuses that we do not know."""


class _Hook:
    def __init__(self, services: Services, accounts: _Accounts) -> None:
        self._services = services
        self._accounts = accounts
        self._unreadable = 0

    async def confirm(self, request: Request) -> Response:
        """Answer Meta's question whether this webhook is ours."""
        try:
            accounts = await self._accounts.known(older_than=_SOONEST_SECONDS)
        except MessagingError as error:
            return _away(error)
        for account in accounts:
            if (challenge := confirm(account.verify_token, request.query_params)) is not None:
                return PlainTextResponse(challenge)
        return PlainTextResponse("this is not the verify token of an account", HTTPStatus.FORBIDDEN)

    async def take(self, request: Request) -> Response:
        """Answer a post of Meta's: 200 once its content is committed; whatever else is, Meta repeats."""
        raw = await read_body(request, MOST_BYTES)
        try:
            signers = await self._accounts.signed(raw, request.headers.get("x-hub-signature-256"))
        except MessagingError as error:
            return _away(error)
        if not signers:
            return PlainTextResponse("the signature is of no account's app", HTTPStatus.UNAUTHORIZED)
        try:
            payload = await asyncio.to_thread(json.loads, raw)
        except (ValueError, RecursionError):
            self._unreadable += 1
            _log.warning("what Meta posted is not JSON, %d times since the start", self._unreadable)
            return Response()
        told = await asyncio.to_thread(_read, payload, signers)
        if told.strange:
            _log.warning("%d reports of Meta's are of a phone number that is no account of its app here, "
                         "or of a kind that is not known", told.strange)  # fmt: skip
        if told.wrote:
            await self._services.ledger.transaction(partial(_open_windows, told))
        wishes = [piece for piece in told.evidence if piece.kind is EventKind.UNSUBSCRIBED]
        if wishes:
            await self._services.ledger.transaction(partial(_stop, wishes))
        if refused := await keep(self._services.ledger, told.evidence):
            _log.warning("%d reports of Meta's could not be recorded", refused)
        return Response()


def _read(payload: object, accounts: Iterable[WhatsAppSecrets]) -> _Told:
    """Read a post; an account's app speaks for the account's own number only."""
    by_number = {account.phone_number_id: account.account for account in accounts}
    told = _Told()
    for status in read_statuses(payload):
        account = by_number.get(status.phone_number_id)
        found = whatsapp_statuses.of_status(status, account) if account else None
        if found is None:
            told.strange += 1
        else:
            told.evidence.append(found)
    for inbound in read_inbound(payload):
        if account := by_number.get(inbound.phone_number_id):
            wrote = told.wrote[account]
            wrote[inbound.phone] = max(inbound.at, wrote.get(inbound.phone, inbound.at))
            if wish := whatsapp_statuses.of_inbound(inbound, account):
                told.evidence.append(wish)
        else:
            told.strange += 1
    for stopped in read_stops(payload):
        if account := by_number.get(stopped.phone_number_id):
            told.evidence.append(whatsapp_statuses.of_stop(stopped, account))
        else:
            told.strange += 1
    return told


def _stop(wishes: Sequence[Evidence], connection: Connection) -> None:
    stop(connection, wishes)


def _open_windows(told: _Told, connection: Connection) -> None:
    for account, wrote in sorted(told.wrote.items()):
        open_windows(connection, account, wrote)


def _away(error: MessagingError) -> Response:
    _log.warning("the WhatsApp accounts cannot be read: %s", error)
    return PlainTextResponse("not now", HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": str(_AGAIN_SECONDS)})
