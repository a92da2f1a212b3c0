"""One account's WhatsApp Web session: a process of its own, seen from here."""

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

from messaging.channels.whatsapp_web_replies import ENDINGS, ended
from messaging.channels.whatsapp_web_settings import WhatsAppWebSettings
from messaging.errors import MessagingError, NotSent, Unknown
from schemas.states import AccountState, EventKind

_CHILD: Final = "messaging.channels.whatsapp_web_process"
_CLOSE_SECONDS: Final = 5.0
_LONGEST_LINE: Final = 2**22


@dataclass(frozen=True, slots=True)
class Reported:
    """WhatsApp told what became of a message."""

    message_id: str
    kind: EventKind
    """Delivered, or opened: read, or played."""
    at: datetime


@dataclass(frozen=True, slots=True)
class Step:
    """A change of a session's state."""

    state: AccountState
    code: str = field(default="", repr=False)
    """What the QR code to scan says; whoever has it has the account."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group that an account is in."""

    address: str
    """As a campaign names it, and messages are sent to it: 120363025246125486@g.us."""
    name: str
    members: int


class Said(Exception):
    """The library's text of an error; it may quote numbers, and stays in this channel."""


class WhatsAppWebSession:
    """The session of one account, for `async with`: one owner at a time, wherever.

    It resumes without a code what was paired, and connects again by itself when the connection is lost.
    """

    def __init__(
        self,
        settings: WhatsAppWebSettings,
        database: str,
        *,
        pairs: bool = False,
        on_receipt: Callable[[Reported], None] = lambda _: None,
    ) -> None:
        """Start nothing yet; `pairs` lets a new device show codes to scan."""
        self.state = AccountState.DISCONNECTED
        self.number = ""
        """The account's own number, in E.164, once it is ready."""
        self.epoch = 0
        """How often the session became ready."""
        self.banned_until: datetime | None = None
        """When a ban ends, if it does."""
        self.steps: asyncio.Queue[Step] = asyncio.Queue()
        self._settings = settings
        self._order: dict[str, object] = {
            "database": database,
            "account": settings.account,
            "proxy": settings.proxy,
            "pairs": pairs,
        }
        self._on_receipt = on_receipt
        self._process: Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._ending: MessagingError | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._orders = 0

    async def __aenter__(self) -> Self:
        """Start the process; `ready` waits for what comes of it."""
        self._process = await asyncio.create_subprocess_exec(
            # -P: no folder of the person's shadows a library.
            *(sys.executable, "-P", "-m", _CHILD),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            limit=_LONGEST_LINE,
            start_new_session=True,  # Ctrl-C is for us, who let messages in flight finish
        )
        self._write(self._order)
        self._listening = asyncio.create_task(self._listen(self._process))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect, and end the process; a message without an answer stays without."""
        process, listening = self._process, self._listening
        if process is None or listening is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await listening

    @property
    def over(self) -> MessagingError | None:
        """Why the session cannot go on, if it cannot."""
        return self._ending

    async def ready(self) -> None:
        """Wait until messages can be sent.

        Raises:
            NotSent: WhatsApp cannot be reached, or not in time; calling again is safe.
            AccountError: The account cannot be used; the text says what to do.
            InputError: A library is missing.
        """
        try:
            async with asyncio.timeout(self._settings.connecting):
                await self._settled.wait()
        except TimeoutError:
            raise NotSent("WhatsApp Web did not connect in time") from None
        if self._ending is not None:
            raise self._ending

    async def check(self, numbers: Sequence[str]) -> dict[str, tuple[str, bool]]:
        """Ask whether numbers in E.164 have an account; return each one's address and the answer.

        Raises:
            Said: WhatsApp did not tell; nothing is known.
            NotSent: There was no answer in time.
        """
        try:
            found = await self._ask(do="check", numbers=list(numbers))
        except TimeoutError:
            raise NotSent("WhatsApp Web did not say whether numbers are registered") from None
        except ConnectionError:
            raise NotSent(str(self._ending)) from None
        return {number: (address, registered) for number, address, registered in found}

    async def groups(self) -> list[Group]:
        """Ask for the groups that the account is in.

        Raises:
            Said: WhatsApp did not tell.
            NotSent: There was no answer in time.
        """
        try:
            found = await self._ask(do="groups")
        except TimeoutError:
            raise NotSent("WhatsApp Web did not say which groups there are") from None
        except ConnectionError:
            raise NotSent(str(self._ending)) from None
        return [Group(*group) for group in found]

    async def send(self, to: str, text: str) -> str:
        """Send a text and return the message's id.

        Raises:
            Said: It was not taken, or nobody knows; `whatsapp_web_replies.answer` reads the text.
            Unknown: There was no answer in time, or the session ended meanwhile.
        """
        try:
            return str(await self._ask(do="send", to=to, text=text))
        except TimeoutError:
            raise Unknown("WhatsApp Web did not answer for a message in time") from None
        except ConnectionError:
            raise Unknown(f"WhatsApp Web did not answer for a message: {self._ending}") from None

    async def _ask(self, **order: object) -> Any:  # noqa: ANN401 - JSON
        if self._ending is not None:
            raise ConnectionError
        self._orders += 1
        number = self._orders
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._write(order | {"id": number})
            async with asyncio.timeout(self._settings.patience):
                return await answer
        finally:
            del self._waiting[number]

    def _write(self, order: dict[str, object]) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")

    async def _listen(self, process: Process) -> None:
        if process.stdout is None:
            return
        async for line in process.stdout:
            self._hear(json.loads(line))
        if self._ending is None:
            self._end("broken", detail="it ended by itself")

    def _hear(self, said: dict[str, Any]) -> None:
        if "id" in said:
            self._answer(said)
            return
        match said["event"]:
            case "state":
                self._become(Step(AccountState(said["state"])))
            case "code":
                self._become(Step(AccountState.SCAN_QR, said["code"]))
            case "ready":
                self.number = said["number"]
                self.epoch += 1
                self._become(Step(AccountState.READY))
            case "receipt":
                at = datetime.fromtimestamp(said["at"], UTC)
                for message_id in said["ids"]:
                    self._on_receipt(Reported(message_id, EventKind(said["kind"]), at))
            case "ended":
                if (seconds := said.get("seconds")) is not None:
                    self.banned_until = datetime.now(UTC) + timedelta(seconds=seconds)
                until = f"{self.banned_until:%F %H:%M} UTC" if self.banned_until else ""
                self._end(said["why"], until, said.get("detail", ""))

    def _answer(self, said: dict[str, Any]) -> None:
        answer = self._waiting.get(said["id"])
        if answer is None or answer.done():
            return
        if "error" in said:
            answer.set_exception(Said(said["error"]))
        else:
            answer.set_result(said["result"])

    def _become(self, step: Step) -> None:
        if self._ending is not None:
            return
        self.state = step.state
        if step.state is AccountState.READY:
            self._settled.set()
        else:
            self._settled.clear()
        self.steps.put_nowait(step)

    def _end(self, why: str, until: str = "", detail: str = "") -> None:
        if self._ending is not None:
            return
        self._ending = ended(why, self._settings.account, until, detail)
        self.state = ENDINGS[why].state
        self._settled.set()
        self.steps.put_nowait(Step(self.state))
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ConnectionError())
