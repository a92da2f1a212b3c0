"""WhatsApp Web: texts from a phone's own WhatsApp account, one at a time, at a person's pace.

Off unless its owner turns it on: bulk and automated messages break WhatsApp's terms, whatever the pace.
"""

import asyncio
import contextlib
import importlib.util
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import datetime
from typing import Final, Self

from sqlalchemy import Engine

from messaging.channels.base import Dispatch, Message, Quota, Receipt
from messaging.channels.whatsapp_web_numbers import Numbers
from messaging.channels.whatsapp_web_replies import NOT_FOUND, NOT_REGISTERED, answer, ended
from messaging.channels.whatsapp_web_reports import Reports
from messaging.channels.whatsapp_web_session import Group, Reported, Said, Step, WhatsAppWebSession
from messaging.channels.whatsapp_web_settings import WhatsAppWebSettings
from messaging.errors import AccountError, InputError, MessagingError, NotSent, Unknown
from schemas.states import AccountState, Outcome

__all__ = ["WhatsAppWebPool", "WhatsAppWebSender", "WhatsAppWebSettings", "groups", "pairing", "verify"]

FASTEST: Final = 0.1
"""Messages per second: the shortest pause of human pacing, which WhatsApp Web campaigns have, is 10 s."""
PAIRING_SECONDS: Final = 180.0
"""WhatsApp gives six codes, the first for a minute and the others for 20 seconds (whatsmeow's qrchan.go)."""
_GROUP: Final = re.compile(r"[\d-]+@g\.us")


class WhatsAppWebSender:
    """The one connection of an account, opened with the first message."""

    def __init__(self, pool: "WhatsAppWebPool") -> None:
        """Connect nothing yet."""
        self._pool = pool

    async def send(self, message: Message, dispatch: Dispatch, following: Message | None = None) -> Receipt:
        """Hand over one text and return WhatsApp's answer.

        A number is checked before, together with that of `following`: one without an account is refused
        without being written to. Groups (…@g.us) are written to as they are. The library itself hands over
        again what a lost connection left unanswered, under the same id, which WhatsApp takes once.

        Raises:
            NotSent: Nothing was handed over; calling again is safe, and connects again when needed.
            Unknown: The message may have been handed over.
            AccountError: The account cannot go on, or the message is no text; nothing was handed over.
        """
        text = _text(message)
        try:
            session = await self._pool.session()
            address = await self._address(session, message, following)
            if isinstance(address, Receipt):
                return address
            await session.ready()
        except Said as said:
            return self._pool.heard(said, sent=False)
        except (AccountError, InputError) as error:
            raise self._pool.refused(error) from None
        await dispatch()
        try:
            message_id = await session.send(address, text)
        except Said as said:
            return self._pool.heard(said)
        except (Unknown, asyncio.CancelledError):
            self._pool.doubt()
            raise
        return Receipt(Outcome.ACCEPTED, provider_message_id=message_id)

    async def _address(
        self, session: WhatsAppWebSession, message: Message, following: Message | None
    ) -> str | Receipt:
        if _GROUP.fullmatch(message.recipient):
            return message.recipient
        asked = [message.recipient]
        if following is not None and not _GROUP.fullmatch(following.recipient):
            asked.append(following.recipient)
        known = await self._pool.numbers.addresses(session, asked)
        if message.recipient not in known:
            return Receipt(Outcome.DEFERRED, reply="WhatsApp did not say whether the number is registered")
        address = known[message.recipient]
        if address is None:
            return Receipt(Outcome.REJECTED, NOT_FOUND, reply=NOT_REGISTERED, unreachable=True)
        return address


class WhatsAppWebPool:
    """The one connection of a WhatsApp Web account; use it with `async with`."""

    connections = 1

    def __init__(self, settings: WhatsAppWebSettings, engine: Callable[[], Engine]) -> None:
        """Connect nothing yet; `engine` returns the ledger's, where the session is kept too."""
        self._settings = settings
        self._make_engine = engine
        self._engine: Engine
        self._reports: Reports
        self.numbers: Numbers
        self._free = asyncio.Semaphore(1)
        self._session: WhatsAppWebSession | None = None
        self._refused: AccountError | None = None
        self._in_doubt = False
        self._last_state = AccountState.DISCONNECTED
        self._banned_until: datetime | None = None

    async def __aenter__(self) -> Self:
        """Open the ledger.

        Raises:
            InputError: The library is not installed.
            DatabaseError: The ledger is away.
        """
        self._engine = await _opened(self._make_engine)
        self.numbers = Numbers(self._engine, self._settings.check_days)
        self._reports = Reports(self._engine, self._settings.account)
        await self._reports.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect, and record what was still reported."""
        await self._close()
        await self._reports.__aexit__()

    @property
    def identity(self) -> str:
        """The account's own number, once it was connected."""
        number = self._session.number if self._session is not None else ""
        return f"{number or self._settings.account} at WhatsApp Web"

    @property
    def state(self) -> AccountState:
        """Where the session stands."""
        return self._session.state if self._session is not None else self._last_state

    @property
    def paused_until(self) -> datetime | None:
        """When the ban ends that WhatsApp has put on the account for a while."""
        return self._session.banned_until if self._session is not None else self._banned_until

    async def quota(self) -> Quota:
        """Return our own limits: WhatsApp names none, and bans."""
        return Quota(FASTEST, self._settings.per_day)

    @contextlib.asynccontextmanager
    async def sender(self) -> AsyncIterator[WhatsAppWebSender]:
        """Borrow the sender, waiting until it is free."""
        async with self._free:
            yield WhatsAppWebSender(self)

    async def session(self) -> WhatsAppWebSession:
        """Return the session, ready; a new one when the last broke off or left a message without an answer.

        Raises:
            NotSent: WhatsApp cannot be reached.
            AccountError: The account cannot be used.
            InputError: A library is missing.
        """
        if self._refused is not None:
            raise AccountError(str(self._refused))
        over = self._session.over if self._session is not None else None
        if over is not None and not isinstance(over, NotSent):
            raise over
        if over is not None or self._in_doubt:
            await self._close()
        if self._session is None:
            session = _session(self._settings, self._engine, on_receipt=self._reports.hear)
            self._session = await session.__aenter__()
            self._in_doubt = False
        await self._session.ready()
        return self._session

    def heard(self, said: Said, *, sent: bool = True) -> Receipt:
        """Return the receipt of what the library said; `sent`: of a message, else of a question before it.

        Raises:
            MessagingError: It is no answer about the message.
        """
        try:
            return answer(str(said), self._settings.account)
        except AccountError as error:
            raise self.refused(error) from None
        except Unknown as error:
            if sent:
                raise
            raise NotSent(str(error)) from None

    def refused(self, error: MessagingError) -> AccountError:
        """Note that the account cannot go on, so that nothing more is tried."""
        self._refused = AccountError(str(error))
        return self._refused

    def doubt(self) -> None:
        """Note that a message is without an answer: the next goes by a new connection, not behind it."""
        self._in_doubt = True

    async def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._last_state = session.state if session.over is not None else AccountState.DISCONNECTED
            self._banned_until = session.banned_until
            await session.__aexit__()


async def verify(settings: WhatsAppWebSettings, engine: Callable[[], Engine]) -> str:
    """Resume the session as a campaign would, send nothing, and return the account's own number in E.164.

    Raises:
        NotSent: WhatsApp cannot be reached.
        AccountError: The account is not paired any more, or in use.
        InputError: A library is missing.
    """
    async with _session(settings, await _opened(engine)) as session:
        await session.ready()
        return session.number


async def groups(settings: WhatsAppWebSettings, engine: Callable[[], Engine]) -> list[Group]:
    """Return the groups that a linked account is in, by name; nothing is sent.

    Raises:
        NotSent: WhatsApp cannot be reached, or did not tell.
        AccountError: The account is not paired any more, or in use.
        InputError: A library is missing.
    """
    async with _session(settings, await _opened(engine)) as session:
        await session.ready()
        try:
            found = await session.groups()
        except Said:  # its words may name people
            raise NotSent("WhatsApp did not say which groups there are: try again later") from None
    return sorted(found, key=lambda group: (group.name.casefold(), group.address))


async def pairing(
    settings: WhatsAppWebSettings, engine: Callable[[], Engine], seconds: float = PAIRING_SECONDS
) -> AsyncGenerator[Step, None]:
    """Link the account to a phone, yielding each state and each code to scan, until it is ready.

    An account that is linked already shows no code. Close the iterator, as with `contextlib.aclosing`.

    Raises:
        AccountError: It was refused, or nobody scanned within `seconds`.
        NotSent: WhatsApp cannot be reached.
        InputError: A library is missing.
    """
    opened = await _opened(engine)
    deadline = asyncio.get_running_loop().time() + seconds
    async with _session(settings, opened, pairs=True) as session:
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    step = await session.steps.get()
            except TimeoutError:
                scanned = session.state is not AccountState.SCAN_QR
                what = "WhatsApp did not let the account in" if scanned else "nobody scanned a code"
                raise AccountError(
                    f"{what} in time: try again with: outflow whatsapp pair {settings.account}"
                ) from None
            if session.over is not None:
                raise session.over
            yield step
            if step.state is AccountState.READY:
                return


async def _opened(engine: Callable[[], Engine]) -> Engine:
    if importlib.util.find_spec("neonize") is None:
        raise ended("no library", "")
    return await asyncio.to_thread(engine)


def _session(
    settings: WhatsAppWebSettings,
    engine: Engine,
    *,
    pairs: bool = False,
    on_receipt: Callable[[Reported], None] = lambda _: None,
) -> WhatsAppWebSession:
    database = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    return WhatsAppWebSession(settings, database, pairs=pairs, on_receipt=on_receipt)


def _text(message: Message) -> str:
    """Return the text of a message.

    Raises:
        AccountError: It is none: every other recipient would get the same answer.
    """
    content = json.loads(message.content)
    if content.get("type") != "text":
        raise AccountError(
            "WhatsApp Web carries plain text only: give the campaign a text, or send its template through a "
            "whatsapp-cloud-account"
        )
    return str(content["text"]["body"])
