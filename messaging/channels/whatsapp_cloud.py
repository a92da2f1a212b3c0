"""WhatsApp's Cloud API: templates and text to people, from one phone number of a business, over HTTPS.

Requests: https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/send-messages.
The API has no idempotency key, so that nothing is ever sent twice by itself: a request without an answer is
an unknown, which a status webhook may resolve (`whatsapp_cloud_webhooks`).
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from messaging.channels.base import Dispatch, Message, Quota, Receipt
from messaging.channels.whatsapp_cloud_errors import (
    Kind,
    account_error,
    answer_to,
    answer_without_error,
    is_passing,
    read_refusal,
    rule_of,
)
from messaging.channels.whatsapp_cloud_settings import WhatsAppCloudSettings
from messaging.channels.whatsapp_cloud_spacing import spacing_of
from messaging.errors import AccountError, InputError, NotSent
from schemas.states import AccountState, Outcome

if TYPE_CHECKING:
    from messaging.channels.whatsapp_cloud_http import Answer, Graph

__all__ = ["NumberFacts", "WhatsAppCloudPool", "WhatsAppCloudSender", "WhatsAppCloudSettings", "verify"]

LONGEST_TEXT: Final = 4096  # characters (Meta: Text messages)
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")  # E.164 has at most 15 digits; Meta takes no fewer than 7
_PLAIN = re.compile(r"[\w.:-]*", re.ASCII)  # what JSON writes as it is
_OK = 200
_USUAL = "accepted"
_FIELDS = "verified_name,display_phone_number,quality_rating,throughput,code_verification_status,name_status"
_LIMIT = "whatsapp_business_manager_messaging_limit"  # the portfolio's; API versions before 2025-10 lack it
_NO_SUCH_FIELD = 100


@dataclass(frozen=True, slots=True)
class NumberFacts:
    """What Meta says of a phone number of ours; empty: it did not say."""

    verified_name: str
    display_phone_number: str
    quality_rating: str
    """GREEN, YELLOW, RED or UNKNOWN."""
    messaging_limit: str
    """Of the portfolio: TIER_250, TIER_2K, TIER_10K, TIER_100K or TIER_UNLIMITED."""
    throughput: str
    """STANDARD: 80 messages a second; HIGH: 1,000."""
    code_verification_status: str
    name_status: str


class WhatsAppCloudSender:
    """One place for a request at a time; the connections are the pool's."""

    def __init__(self, number: "_Number", graph: "Graph") -> None:
        """Send nothing yet."""
        self._number = number
        self._graph = graph

    async def send(self, message: Message, dispatch: Dispatch, following: Message | None = None) -> Receipt:  # noqa: ARG002 - HTTP has nothing to announce
        """Hand over one message and return Meta's answer: accepted is not delivered.

        A recipient that is no phone number and a text of more than 4,096 characters are refused here, and
        whoever got a message from this process less than six seconds ago is deferred; `dispatch` is not
        awaited then.

        Raises:
            NotSent: There is no connection; nothing was handed over.
            Unknown: The request left and no answer came.
            AccountError: The token, the phone number, the account or the campaign's template was refused;
                nothing was handed over.
        """
        phone = message.recipient
        if not _PHONE.fullmatch(phone):
            return Receipt(
                Outcome.REJECTED, reply="not a phone number in international form", unreachable=True
            )
        if fault := _fault(message.content):
            return Receipt(Outcome.REJECTED, reply=fault)
        number = self._number
        if (wait := number.spacing.take(phone)) > 0:
            reply = f"was sent a message less than {number.settings.pair_seconds:g} seconds ago"
            return Receipt(Outcome.DEFERRED, reply=reply, retry_after=wait)
        dispatched = False

        async def dispatch_and_note() -> None:
            nonlocal dispatched
            await dispatch()
            dispatched = True

        try:
            answer = await self._graph.post_message(_request(message), dispatch_and_note)
            receipt = number.heard(answer)
        except BaseException as error:
            if isinstance(error, NotSent):
                number.state = AccountState.DISCONNECTED
            if not dispatched or isinstance(error, (NotSent, AccountError)):
                number.spacing.give_back(phone)
            raise
        if receipt.throttled:
            number.spacing.give_back(phone)
        return receipt


class WhatsAppCloudPool:
    """Requests of one phone number, at most `connections` on their way at once; use it with `async with`."""

    def __init__(self, settings: WhatsAppCloudSettings) -> None:
        """Connect nothing yet."""
        self.connections = settings.connections
        self._number = _Number(settings)
        self._free = asyncio.Semaphore(settings.connections)
        self._graph: Graph | None = None

    async def __aenter__(self) -> Self:
        """Load the HTTP client.

        Raises:
            InputError: It is not installed.
        """
        client = await asyncio.to_thread(_client)  # takes a while, and reads a hundred certificates
        self._graph = client(self._number.settings)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections; requests on their way break off."""
        graph, self._graph = self._graph, None
        if graph is not None:
            await graph.close()

    @property
    def identity(self) -> str:
        """The phone number's id and the server; the verified name, once `verify` has told it."""
        return self._number.identity

    @property
    def state(self) -> AccountState:
        """As the last answer leaves it."""
        return self._number.state

    @property
    def portfolio(self) -> str:
        """Whose numbers share one limit of people in 24 hours; without a name, it is this number's own."""
        settings = self._number.settings
        return settings.portfolio or settings.phone_number_id

    @property
    def portfolio_limit(self) -> int | None:
        """Different people that the portfolio may write to in any 24 hours; None: no limit."""
        return self._number.settings.portfolio_limit or None

    async def quota(self) -> Quota:
        """Return the rate that the account names; the API does not say it before it is passed."""
        return Quota(rate=self._number.settings.messages_per_second)

    async def verify(self) -> NumberFacts:
        """Ask Meta about the phone number; nothing is sent.

        Raises:
            NotSent: Meta is away, out of order or wants to be left alone.
            AccountError: The token or the phone number id is wrong, or the account restricted.
        """
        graph = self._opened()
        for fields in (f"{_FIELDS},{_LIMIT}", _FIELDS):
            answer = await graph.get_number(fields)
            body = _json(answer.body)
            refusal = read_refusal(body)
            if refusal is None or refusal.code != _NO_SUCH_FIELD or refusal.subcode is not None:
                break
        return self._number.told(answer.status, body)

    @contextlib.asynccontextmanager
    async def sender(self) -> AsyncIterator[WhatsAppCloudSender]:
        """Borrow a sender, waiting for a free one."""
        async with self._free:
            yield WhatsAppCloudSender(self._number, self._opened())

    def _opened(self) -> "Graph":
        if self._graph is None:
            raise RuntimeError("a pool is opened by `async with`")
        return self._graph


class _Number:
    """What the senders of one phone number have in common: what was learnt of it."""

    def __init__(self, settings: WhatsAppCloudSettings) -> None:
        self.settings = settings
        self.spacing = spacing_of(settings.phone_number_id, settings.pair_seconds)
        self.identity = f"phone number id {settings.phone_number_id} at {settings.where}"
        self.state = AccountState.DISCONNECTED

    def heard(self, answer: "Answer") -> Receipt:
        """Return the receipt of an answer to a message.

        Raises:
            Unknown: It does not say whether Meta has the message.
            AccountError: It would be the same for everyone.
        """
        body = _json(answer.body)
        if answer.status == _OK and (receipt := _accepted(body)) is not None:
            self.state = AccountState.CONNECTED
            return receipt
        refusal = read_refusal(body)
        if refusal is None:
            return answer_without_error(self.settings.where, answer.status, answer.headers)
        self.state = rule_of(answer.status, refusal).state
        return answer_to(answer.status, refusal, answer.headers)

    def told(self, status: int, body: object) -> NumberFacts:
        """Read what Meta says of the number.

        Raises:
            NotSent: It does not say, for now.
            AccountError: It refuses to.
        """
        where = self.settings.where
        if (refusal := read_refusal(body)) is not None:
            rule = rule_of(status, refusal)
            self.state = rule.state
            if rule.kind is Kind.ACCOUNT:
                raise account_error(rule, refusal)
            if rule.kind in {Kind.THROTTLE, Kind.TRANSIENT}:
                raise NotSent(f"{where} answered (#{refusal.code})")
            raise AccountError(f"{where} does not tell about the phone number: it answered (#{refusal.code})")
        if status != _OK or not isinstance(body, dict):
            raise (NotSent if is_passing(status) else AccountError)(
                f"{where} answered {status} without a word of Meta's"
            )
        throughput = body.get("throughput")
        facts = NumberFacts(
            **{name: _text(body.get(name)) for name in _FIELDS.split(",") if name != "throughput"},
            messaging_limit=_text(body.get(_LIMIT)),
            throughput=_text(throughput.get("level") if isinstance(throughput, dict) else None),
        )
        self.state = AccountState.CONNECTED
        if facts.verified_name:
            self.identity = f"{facts.verified_name} (phone number id {self.settings.phone_number_id})"
        return facts


async def verify(settings: WhatsAppCloudSettings) -> NumberFacts:
    """Ask Meta about a phone number as a campaign's account would; nothing is sent.

    Raises:
        InputError: The HTTP client is not installed.
        NotSent: Meta is away, out of order or wants to be left alone.
        AccountError: The token or the phone number id is wrong, or the account restricted.
    """
    async with WhatsAppCloudPool(settings) as pool:
        return await pool.verify()


def _client() -> "type[Graph]":
    try:
        from messaging.channels.whatsapp_cloud_http import Graph  # noqa: PLC0415 - aiohttp is an extra
    except ModuleNotFoundError:
        raise InputError(
            "the WhatsApp Cloud API needs more packages: pip install 'outflow[whatsapp-cloud]'"
        ) from None
    return Graph


def _request(message: Message) -> bytes:
    """Return the request's body: what every message has, then the content's own fields, as they are."""
    token = message.token
    quoted = f'"{token}"' if _PLAIN.fullmatch(token) else json.dumps(token)
    callback = f'"biz_opaque_callback_data":{quoted},' if token else ""
    head = '{"messaging_product":"whatsapp","recipient_type":"individual","to":"%s",%s'
    return (head % (message.recipient[1:], callback)).encode() + message.content[1:]


def _fault(content: bytes) -> str:
    """Say what is wrong with a message that Meta would never take; empty: nothing that we can see."""
    if not content.startswith(b'{"'):
        return "the message is not one of WhatsApp's"
    if len(content) <= LONGEST_TEXT:  # JSON has no fewer bytes than its strings have characters
        return ""
    text = _json(content)
    text = text.get("text") if isinstance(text, dict) else None
    body = text.get("body") if isinstance(text, dict) else None
    if isinstance(body, str) and len(body) > LONGEST_TEXT:
        return f"the text has {len(body):,} characters: WhatsApp takes {LONGEST_TEXT:,}"
    return ""


def _accepted(body: Any) -> Receipt | None:  # noqa: ANN401 - anything that JSON can hold
    try:
        told = body["messages"][0]
        name = told["id"]
    except (TypeError, KeyError, IndexError):
        return None
    if not isinstance(name, str) or not name:
        return None
    return Receipt(
        Outcome.ACCEPTED, _OK, reply=_text(told.get("message_status")) or _USUAL, provider_message_id=name
    )


def _json(body: bytes) -> Any:  # noqa: ANN401 - anything that JSON can hold
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _text(value: object) -> str:
    return value[:200] if isinstance(value, str) else ""
