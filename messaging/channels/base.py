"""The one protocol that every channel speaks."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from schemas.states import AccountState, Outcome

Dispatch = Callable[[], Awaitable[None]]
"""Commits `dispatched` to the ledger; awaited once, connected, before the message can be accepted."""


# Neither of these is frozen, though nobody changes one: freezing costs a quarter of a microsecond a field,
# and there is one of each for every message.


@dataclass(slots=True)
class Message:
    """One message, ready to be handed over."""

    attempt_id: int
    envelope_sender: str
    recipient: str
    """An e-mail address, or a phone number in E.164; WhatsApp Web takes the JID of a group too."""
    content: bytes
    """Email: RFC 5322 bytes, lines ended by CRLF. WhatsApp: the Cloud API's message object as JSON, without
    `to` and `messaging_product`, as in {"type": "text", "text": {"body": "Hello"}}."""
    token: str = ""
    """The attempt's, in printable ASCII, for the provider to give back with what it reports later: SMTP's
    ENVID (RFC 3461), a tag at Amazon SES, `biz_opaque_callback_data` at the Cloud API."""
    campaign_id: int = 0


@dataclass(slots=True)
class Receipt:
    """A provider's definite answer to one message."""

    outcome: Outcome
    code: int | None = None
    """SMTP reply code or HTTP status."""
    status: str | None = None
    """RFC 3463 enhanced status, as in 5.1.1; Meta's code, of what is not about the recipient."""
    reply: str = ""
    """The provider's words, on one line."""
    throttled: bool = False
    """For a deferral: it is about the server or about us, whoever the recipient."""
    retry_after: float | None = None
    """Seconds the provider asked us to wait, when it said so."""
    provider_message_id: str | None = None
    unreachable: bool = False
    """For a refusal: this address leads to nobody, so that another channel may be tried."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What the provider allows an account; None: it names no limit."""

    rate: float | None = None
    """Messages per second."""
    per_day: int | None = None
    """Messages in any 24 hours."""


class Sender(Protocol):
    """One connection to one provider; one message at a time can be accepted on it."""

    async def send(self, message: Message, dispatch: Dispatch, following: Message | None = None) -> Receipt:
        """Hand over one message and return the provider's answer.

        A refusal is an answer, so it comes back as a receipt. Whatever `dispatch` raises passes through,
        with nothing handed over and the sender ready for the next message.

        `following` is the message of the next call, the same object, when the caller knows it already: a
        sender may announce it with this one, which saves a round trip. It is not handed over before that
        call's own `dispatch`; when that call never comes, or is for another message, the announcement is
        taken back.

        Raises:
            NotSent: Nothing was handed over; calling again is safe, and connects again when needed.
            Unknown: The message may have been handed over; never send it again by itself.
            AccountError: The account cannot go on; nothing was handed over.
        """
        ...


class SenderPool(Protocol):
    """The connections of one account, at most `connections` at once; used with `async with`."""

    connections: int

    @property
    def identity(self) -> str:
        """Who we are to the provider, as in `news at smtp.example.org:587`; no secret."""
        ...

    @property
    def state(self) -> AccountState:
        """Where the connection stands, as far as the pool itself knows."""
        ...

    async def quota(self) -> Quota:
        """Return what the provider allows now; asked when a campaign begins and every few minutes.

        Raises:
            NotSent: The provider did not say; what it said before stands.
            AccountError: The account cannot go on.
        """
        ...

    def sender(self) -> AbstractAsyncContextManager[Sender]:
        """Borrow a sender, waiting for a free one; it is given back on exit, connected if it still is."""
        ...
