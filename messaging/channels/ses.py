"""Amazon SES by its API, version 2: ready messages, one recipient each, over a few HTTPS connections."""

import asyncio
import re
import time
from typing import Any, Final

from messaging.channels.base import Dispatch, Message, Quota, Receipt
from messaging.channels.ses_client import SesClient
from messaging.channels.ses_facts import SesFacts, account_in_order, quota_of, verify
from messaging.channels.ses_settings import SesSettings
from messaging.channels.threads import Calls, ThreadedPool
from messaging.errors import AccountError, Unknown
from schemas.states import AccountState, Outcome

__all__ = ["SesFacts", "SesPool", "SesSender", "SesSettings", "verify"]

_QUOTA_SECONDS: Final = 60.0  # GetAccount may be asked once a second, by all processes together
_UNWRITABLE: Final = re.compile(r"[^!-~]")  # SES has no SMTPUTF8: an address is printable ASCII
_LARGEST: Final = 40_000_000  # bytes after base64 (SES quotas, version 2 of the API)


class SesSender:
    """One request to SES at a time."""

    def __init__(self, calls: Calls, account: "_Account") -> None:
        """Connect nothing yet."""
        self._calls = calls
        self._account = account

    async def send(self, message: Message, dispatch: Dispatch, following: Message | None = None) -> Receipt:  # noqa: ARG002 - nothing can be announced
        """Hand over one message and return SES's answer.

        SES takes whom it cannot reach too: bounces, its suppression list included, come back as events.

        Raises:
            NotSent: Nothing was handed over, even when `dispatch` was awaited; calling again is safe.
            Unknown: The request was made and no answer of SES came.
            AccountError: The account cannot go on; nothing was handed over.
        """
        if (refusal := _refusal(message)) is not None:
            return refusal
        client = await self._account.client()
        request = self._account.request(message)
        await dispatch()
        # Sent to ourselves, an address that is not verified says nothing of the sandbox.
        recipient = message.recipient if message.recipient != message.envelope_sender else ""
        try:
            answer = await self._calls.run(client.send, request, recipient)
        except AccountError:
            self._account.refused = True
            raise
        self._account.refused = False
        self._account.proven = True
        if isinstance(answer, Receipt):
            return answer
        if not (message_id := answer.get("MessageId")):
            raise Unknown(f"{self._account.where}: an answer without a message id")
        return Receipt(
            Outcome.ACCEPTED, answer["ResponseMetadata"]["HTTPStatusCode"], provider_message_id=message_id
        )


class SesPool(ThreadedPool[SesSender]):
    """The connections of one SES account, at most `connections` at once; use it with `async with`."""

    def __init__(self, settings: SesSettings) -> None:
        """Connect nothing yet."""
        self._account = _Account(settings, self)
        super().__init__(settings.connections, lambda calls: SesSender(calls, self._account))
        self._quota: tuple[float, Quota] | None = None

    async def __aexit__(self, *_: object) -> None:
        """Wait some seconds for requests on their way, and close the connections."""
        await super().__aexit__()
        self._account.close()

    @property
    def identity(self) -> str:
        """The region, and the key once it is known."""
        return self._account.where

    @property
    def state(self) -> AccountState:
        """Connected, once SES has answered."""
        if self._account.refused:
            return AccountState.AUTHENTICATION_FAILED
        return AccountState.CONNECTED if self._account.proven else AccountState.DISCONNECTED

    async def quota(self) -> Quota:
        """Return what SES allows the account in its region (GetAccount), a minute old at most.

        Raises:
            NotSent: SES did not say.
            AccountError: Sending is paused, or the key may not ask.
        """
        if self._quota is not None and time.monotonic() < self._quota[0]:
            return self._quota[1]
        client = await self._account.client()
        try:
            account = await self.ask(account_in_order, client, self._account.region)
        except AccountError:
            self._account.refused = True
            raise
        self._account.proven = True
        quota = quota_of(account)
        self._quota = (time.monotonic() + _QUOTA_SECONDS, quota)
        return quota


class _Account:
    """What the senders of one account have in common: the client, and what was learnt."""

    def __init__(self, settings: SesSettings, pool: SesPool) -> None:
        self._settings = settings
        self._pool = pool
        self._client: SesClient | None = None
        self._making = asyncio.Lock()
        self._fixed = (
            {"ConfigurationSetName": settings.configuration_set} if settings.configuration_set else {}
        )
        self.region = settings.region
        self.proven = False
        self.refused = False

    @property
    def where(self) -> str:
        key = f", key …{self._client.key}" if self._client is not None else ""
        return f"Amazon SES in {self.region}{key}"

    async def client(self) -> SesClient:
        """Return the client, made by whoever comes first."""
        if self._client is None:
            async with self._making:
                if self._client is None:
                    self._client = await self._pool.ask(SesClient, self._settings)
        return self._client

    def request(self, message: Message) -> dict[str, Any]:
        """Return the parameters of SendEmail.

        No FromEmailAddress: it would take the place of our From header, with its name. Where bounces are
        mailed, when somebody wants them by mail, is the envelope sender; the MAIL FROM is SES's own.
        """
        tags = [{"Name": "campaign", "Value": str(message.campaign_id)}]
        if message.token:
            tags.append({"Name": "attempt", "Value": message.token})
        return {
            "Destination": {"ToAddresses": [message.recipient]},
            "FeedbackForwardingEmailAddress": message.envelope_sender,
            "Content": {"Raw": {"Data": message.content}},
            "EmailTags": tags,
            **self._fixed,
        }

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def _refusal(message: Message) -> Receipt | None:
    """Say why SES would not take a message, when that can be told without it."""
    if not message.recipient or _UNWRITABLE.search(message.recipient):
        return Receipt(
            Outcome.REJECTED,
            reply="Amazon SES takes addresses of printable ASCII only",
            unreachable=True,
        )
    if len(message.content) * 4 // 3 > _LARGEST:
        return Receipt(Outcome.REJECTED, reply="the message is larger than Amazon SES takes: 40 MB in base64")
    return None
