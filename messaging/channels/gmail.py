"""The Gmail API: messages sent from a mailbox of Google's, by a person's consent or a domain's."""

import base64
import re
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from typing import Any, Final, Self

from messaging.channels.base import Dispatch, Message, Quota, Receipt
from messaging.channels.gmail_http import Http
from messaging.channels.gmail_login import GMAIL, SEND, Access, Identity, TokenStore, load_libraries
from messaging.channels.gmail_replies import Reply, Verdict, judge, read, receipt, refusal
from messaging.channels.threads import Calls, ThreadedPool
from messaging.errors import AccountError, NotSent, Unknown
from schemas.states import AccountState, Outcome

UNITS_PER_MESSAGE: Final = 100
"""Quota units of one messages.send (developers.google.com/workspace/gmail/api/reference/quota)."""

# Google takes 36,700,160 bytes of a message (`mediaUpload.maxSize` of the API's description), but only when
# it is uploaded: a JSON request may be 1,048,576 bytes long (googleapis/google-api-dotnet-client#856), and
# base64 makes four out of three.
_MAX_MESSAGE: Final = 36_700_160
_MAX_IN_JSON: Final = 700_000

_RECIPIENTS = re.compile(rb"^(?:to|cc|bcc):.*(?:\n[ \t].*)*", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class GmailSettings:
    """One mailbox at Gmail."""

    sender: str
    """The address in From: the mailbox's own, or one that it may send as."""
    identity: Identity
    units_per_minute: int = 6000
    """Of one user, as the Google Cloud project has it: 6,000, or 15,000 when it is older than May 2026."""
    messages_per_day: int = 2000
    connections: int = 2
    endpoint: str = GMAIL
    patience: float = 60.0
    """Seconds that connecting, each write and each read may take."""


class GmailSender:
    """One connection to the Gmail API, opened with the first message."""

    def __init__(self, calls: Calls, pool: "GmailPool") -> None:
        """Connect nothing yet."""
        self._calls = calls
        self._pool = pool
        self._http: Http | None = None

    async def send(self, message: Message, dispatch: Dispatch, following: Message | None = None) -> Receipt:  # noqa: ARG002 - nothing can be announced
        """Hand over one message and return Gmail's answer.

        Gmail sends to whoever stands in To, Cc and Bcc, and sets the envelope sender itself. A token that
        Google refuses is renewed, and the message handed over again, once: with a 401 it was not taken.

        Raises:
            NotSent: Nothing was handed over, even when `dispatch` was awaited; calling again is safe.
            Unknown: The message was written and no answer came.
            AccountError: The account cannot go on; nothing was handed over.
        """
        if (refused := _unfit(message)) is not None:
            return refused
        pool = self._pool
        token = await pool.token(self._calls)
        await self._calls.run(self._open)
        await dispatch()
        answer = await self._calls.run(self._post, message.content, token)
        if isinstance(answer, Reply) and judge(answer) is Verdict.TOKEN:
            token = await pool.token(self._calls, refused=token)
            answer = await self._calls.run(self._post, message.content, token)
        return pool.judged(answer)

    async def verify(self) -> str:
        """Sign in, ask Gmail to send nothing, and return whose mailbox it is; empty when Google did not say.

        Gmail refuses to send nothing for just that reason when all else is well.

        Raises:
            NotSent: Google cannot be reached, or asks to wait.
            AccountError: The account cannot send; the text says what to do.
        """
        pool = self._pool
        grant = await pool.access.renewed(self._calls)
        if grant.scopes and SEND not in grant.scopes:
            login = pool.settings.identity.login
            raise AccountError(f"the login may not send mail: run {login} and allow everything it asks for")
        await self._calls.run(self._open)
        try:
            answer = pool.judged(await self._calls.run(self._post, b"", grant.tokens.access_token))
        except Unknown as error:
            raise NotSent(str(error)) from None  # nothing was there to be sent
        if answer.outcome is Outcome.DEFERRED:
            raise NotSent(f"Gmail asks to wait ({answer.code})")
        return grant.address

    def close(self) -> None:
        """Close the connection, under whoever still waits for an answer on it."""
        if self._http is not None:
            self._http.end()

    def _open(self) -> None:
        if self._http is None:
            self._http = Http(self._pool.settings.endpoint, self._pool.settings.patience)
        self._http.open()

    def _post(self, content: bytes, token: str) -> Reply | str:
        """Hand over one message, in the thread; return the id that Gmail gave it, or what it said instead."""
        from googleapiclient.errors import HttpError  # noqa: PLC0415 - of an extra
        from googleapiclient.http import MediaIoBaseUpload  # noqa: PLC0415

        if len(content) > _MAX_IN_JSON:
            upload = MediaIoBaseUpload(BytesIO(content), mimetype="message/rfc822", resumable=False)
            request = self._pool.messages.send(userId="me", media_body=upload)
        else:
            body = {"raw": base64.urlsafe_b64encode(content).decode("ascii")} if content else {}
            request = self._pool.messages.send(userId="me", body=body)
        request.headers["authorization"] = f"Bearer {token}"
        try:
            return str(request.execute(http=self._http, num_retries=0)["id"])
        except HttpError as error:
            return read(int(error.status_code), error.resp, error.content)
        except (ValueError, KeyError, TypeError):
            # A success without Gmail's body was somebody else's answer.
            raise Unknown(f"{self._pool.settings.endpoint}: answered what Gmail does not") from None


class GmailPool(ThreadedPool[GmailSender]):
    """The connections of one mailbox, at most `connections` at once; use it with `async with`."""

    def __init__(self, settings: GmailSettings, store: TokenStore | None = None) -> None:
        """Connect nothing yet; `store` keeps tokens for other processes."""
        super().__init__(settings.connections, self._make)
        self.settings = settings
        self.access = Access(settings.identity, store)
        self.messages: Any = None
        """googleapiclient's `users().messages()`: made once, as it takes milliseconds."""
        self._senders: list[GmailSender] = []
        self._state = AccountState.DISCONNECTED

    async def __aenter__(self) -> Self:
        """Load Google's client.

        Raises:
            InputError: It is not installed.
        """
        self.messages = await self.ask(_messages, self.settings.endpoint)
        return self

    async def __aexit__(self, *raised: object) -> None:
        """Wait some seconds for messages on their way, then close every connection."""
        await super().__aexit__(*raised)
        for sender in self._senders:
            sender.close()

    @property
    def identity(self) -> str:
        """The address that we send as."""
        return f"{self.settings.sender} at Gmail"

    @property
    def state(self) -> AccountState:
        """What Gmail's last answer said of the account."""
        return self._state

    async def quota(self) -> Quota:
        """Return what the settings say: the API tells nobody its limits."""
        settings = self.settings
        return Quota(settings.units_per_minute / UNITS_PER_MESSAGE / 60, settings.messages_per_day)

    async def verify(self) -> str:
        """Sign in, ask Gmail to send nothing, and return whose mailbox it is; empty when Google did not say.

        Raises:
            NotSent: Google cannot be reached, or is busy.
            AccountError: The account cannot send; the text says what to do.
        """
        async with self.sender() as sender:
            return await sender.verify()

    async def token(self, calls: Calls, refused: str = "") -> str:
        """Return an access token that is not the one that was `refused`.

        Raises:
            AccountError: The account cannot sign in.
            NotSent: Google did not say.
        """
        try:
            return await self.access.token(calls, refused)
        except AccountError:
            self._state = AccountState.AUTHENTICATION_FAILED
            raise

    def judged(self, answer: Reply | str) -> Receipt:
        """Turn an answer, or the id of a message that was taken, into its receipt.

        Raises:
            Unknown: It is no answer to what was asked.
            AccountError: It is about the account.
        """
        if isinstance(answer, str):
            self._state = AccountState.CONNECTED
            return Receipt(Outcome.ACCEPTED, HTTPStatus.OK, provider_message_id=answer)
        verdict = judge(answer)
        if verdict is Verdict.SILENCE:
            raise Unknown(f"{self.settings.endpoint}: answered {answer.code}, which says nothing definite")
        if verdict in {Verdict.ACCOUNT, Verdict.TOKEN}:
            self._state = AccountState.AUTHENTICATION_FAILED
            raise refusal(answer, self.settings.identity.login)
        self._state = AccountState.CONNECTED
        return receipt(verdict, answer)

    def _make(self, calls: Calls) -> GmailSender:
        sender = GmailSender(calls, self)
        self._senders.append(sender)
        return sender


def _unfit(message: Message) -> Receipt | None:
    """Refuse a message that Gmail would not take, or would take to others than its recipient."""
    if len(message.content) > _MAX_MESSAGE:
        return Receipt(Outcome.REJECTED, reply=f"Gmail takes no message of more than {_MAX_MESSAGE:,} bytes")
    head = message.content.partition(b"\r\n\r\n")[0]
    named = _RECIPIENTS.findall(head)
    if len(named) != 1 or message.recipient.encode() not in named[0]:
        return Receipt(
            Outcome.REJECTED, reply="Gmail sends to To, Cc and Bcc: there must be one To, and no other"
        )
    return None


def _messages(endpoint: str) -> Any:  # noqa: ANN401 - made from the API's description, without types
    """Return the API's messages, from the description that is in the package."""
    load_libraries()
    from googleapiclient.discovery import build  # noqa: PLC0415 - of an extra

    service = build(
        "gmail",
        "v1",
        http=_Nowhere(),
        static_discovery=True,
        cache_discovery=False,
        client_options={"api_endpoint": endpoint},
    )
    return service.users().messages()


class _Nowhere:
    """Stands where googleapiclient wants a connection: each request is given its own."""
