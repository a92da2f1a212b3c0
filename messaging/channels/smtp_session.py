"""Transactions on one open connection, each announced with the content of the one before."""

import asyncio
import contextlib
import time
from enum import Enum, auto

from messaging.channels.base import Dispatch, Message, Receipt
from messaging.channels.smtp_connection import PIECE, QUIT_SECONDS, Connection, Lost
from messaging.channels.smtp_envelope import Envelope, Offers, dot_stuffed, write_envelope
from messaging.channels.smtp_replies import Phase, Reply, Verdict, failure, judge, receipt, silence
from messaging.channels.smtp_settings import SmtpSettings
from messaging.errors import AccountError

_COMPLETED = 250
_START_INPUT = 354
_CLOSING = 421
IDLE_SECONDS = 30.0  # less than the patience of any server that is not under stress
_PROBE_SECONDS = 10.0


class Stale(Exception):
    """The connection, or an announcement on it, came to nothing before `dispatch`: take a fresh one."""


class ChunksRefused(Exception):
    """The server offers BDAT and does not know it; nothing was taken: take DATA."""


class _Way(Enum):
    """How transactions are written."""

    STEPS = auto()
    """One command at a time."""
    GROUPS = auto()
    """MAIL, RCPT and DATA in one write, which the content of the message before may begin (RFC 2920 3.1)."""
    CHUNKS = auto()
    """The same with BDAT and the content instead of DATA (RFC 3030)."""


_TO_DATA = (Phase.MAIL, Phase.RCPT, Phase.DATA)
_TO_RCPT = (Phase.MAIL, Phase.RCPT)
_USUAL = {_TO_DATA: (_COMPLETED, _COMPLETED, _START_INPUT), _TO_RCPT: (_COMPLETED, _COMPLETED)}
_NO_RECEIPT = (Verdict.NOT_SENT, Verdict.ACCOUNT, Verdict.NONSENSE)


class Session:
    """The messages of one connection; whatever leaves it in doubt about where it is, drops it."""

    def __init__(self, connection: Connection, settings: SmtpSettings, *, chunking: bool) -> None:
        """Take over a connection that is ready for MAIL FROM."""
        self._connection = connection
        self._settings = settings
        self._offers = Offers.of(connection.extensions)
        self._way = _Way.STEPS
        if self._offers.groups:
            self._way = _Way.CHUNKS if chunking and self._offers.chunks else _Way.GROUPS
        self._phases = _TO_RCPT if self._way is _Way.CHUNKS else _TO_DATA  # what an envelope has replies to
        self._usual = _USUAL[self._phases]
        self._behind_rcpt = b"DATA\r\n" if self._way is _Way.GROUPS else b""
        self._grouped = self._way is not _Way.STEPS
        self._end = Phase.CHUNK if self._way is _Way.CHUNKS else Phase.DOT
        self._used_at = time.monotonic()
        self._carried = 0
        self._announced: Envelope | None = None
        self._unread: tuple[Phase, ...] = ()  # replies to a refused envelope: nothing is written before them
        self._must_reset = False
        # Of the message at hand:
        self._phase = Phase.MAIL
        self._used = False  # the connection has carried another
        self._dispatched = False
        self._torn = False  # we cannot say where the server is

    def awaits(self, message: Message) -> bool:
        """Say whether this message was announced here, not long ago."""
        announced = self._announced
        return announced is not None and announced.message is message and not self._idle()

    async def ready(self) -> bool:
        """Say whether a message that is not awaited can go here; when it cannot, the connection is closed.

        After a long silence the server is asked: it may have gone, or what is between us may have forgotten.
        """
        idle = self._idle()
        self.take_back()
        if self._carried >= self._settings.messages_per_connection:
            await self.quit()
        elif idle and self._connection.alive:
            await self._probe()
        return self._connection.alive

    async def transact(self, message: Message, dispatch: Dispatch, following: Message | None) -> Receipt:
        """Hand over a message that is awaited, or when this is `ready`; announce the following one if we can.

        Raises:
            Stale: Nothing was dispatched; a fresh connection may do.
            ChunksRefused: Dispatched, and not taken; the same on a session without chunking may do.
            NotSent: As `Sender.send`, and so are the others.
        """
        envelope, self._announced = self._announced, None
        announced = envelope is not None
        if envelope is None:
            written = write_envelope(message, self._offers)
            if isinstance(written, Receipt):
                return written
            envelope = written
        self._used, self._carried = self._carried > 0, self._carried + 1
        self._phase, self._dispatched, self._torn = Phase.MAIL, False, True
        try:
            if not announced:
                await self._open(envelope)
            if not (self._grouped and self._connection.as_usual(self._usual)):
                refusal = await self._first_refusal(envelope, dispatch)
                if refusal is not None:
                    return self._refused(refusal)
            if not self._dispatched:
                await self._dispatch(dispatch)
            return await self._hand_over(envelope, following)
        except Lost as lost:
            if self._used and not self._dispatched:
                raise Stale from None
            raise silence(self._phase, f"{self._settings.where}, {self._phase}: {lost}") from None
        finally:
            self._used_at = time.monotonic()
            if self._torn:
                self._connection.drop()

    def take_back(self) -> None:
        """Forget what was announced; what it has opened at the server delivers nothing."""
        if self._announced is None:
            return
        self._announced = None
        if self._way is _Way.GROUPS:
            self._connection.drop()  # DATA is on its way: nothing else ends it without a dot
        else:
            self._unread, self._must_reset = (Phase.MAIL, Phase.RCPT), True

    async def quit(self) -> None:
        """Say goodbye and close; the server's answer to that changes nothing."""
        self.take_back()
        with contextlib.suppress(Lost, TimeoutError):
            async with asyncio.timeout(QUIT_SECONDS):
                await self._read_rest()
        await self._connection.quit()

    def drop(self) -> None:
        """Close without a word."""
        self._connection.drop()

    def _idle(self) -> bool:
        return time.monotonic() - self._used_at > IDLE_SECONDS

    async def _probe(self) -> None:
        with contextlib.suppress(Lost):
            await self._read_rest()
            patience = min(_PROBE_SECONDS, self._settings.command_timeout)
            if (await self._connection.ask(b"NOOP\r\n", patience)).code == _COMPLETED:
                return
        self._connection.drop()

    async def _open(self, envelope: Envelope) -> None:
        """Write as much of an envelope as goes in one write, behind a reset when one is due."""
        patience = self._settings.command_timeout
        await self._read_rest()
        resetting, self._must_reset = self._must_reset, False
        if self._grouped:
            group = (b"RSET\r\n" if resetting else b"") + envelope.mail_rcpt + self._behind_rcpt
            self._connection.write(group, resetting + len(self._phases))
        elif resetting:
            self._connection.write(b"RSET\r\n")
        if resetting and (reply := await self._connection.reply(patience)).code != _COMPLETED:
            raise Lost(f"RSET was answered {reply.code}")

    async def _read_rest(self) -> None:
        """Read the replies to what was grouped behind a refused command."""
        patience = self._settings.command_timeout
        while self._unread:
            reply = await self._connection.reply(patience)
            phase, *rest = self._unread
            self._unread = tuple(rest)
            if phase is Phase.DATA and reply.code == _START_INPUT:
                # It waits for a message to nobody: a lone dot, which it should refuse (RFC 2920 3.1).
                reply = await self._connection.ask(b".\r\n", patience)
            if reply.code == _CLOSING:
                raise Lost("the server closed the connection")

    async def _first_refusal(self, envelope: Envelope, dispatch: Dispatch) -> Reply | None:
        """Return the first reply that does not say to go on; what comes behind it says nothing."""
        patience = self._settings.command_timeout
        steps = (
            (*envelope.mail_rcpt.splitlines(keepends=True), b"DATA\r\n") if self._way is _Way.STEPS else ()
        )
        for number, phase in enumerate(self._phases):
            self._phase = phase
            if steps:
                if phase is Phase.DATA:
                    await self._dispatch(dispatch)
                self._connection.write(steps[number])
            reply = await self._connection.reply(patience)
            if judge(phase, reply) is not Verdict.GO_ON:
                if not steps:
                    self._unread = self._phases[number + 1 :]
                return reply
        return None

    async def _dispatch(self, dispatch: Dispatch) -> None:
        try:
            await dispatch()
        except Exception:
            if self._way is not _Way.GROUPS:  # DATA has not been written: a reset is enough
                self._torn, self._must_reset = False, True
            raise
        self._dispatched = True

    async def _hand_over(self, envelope: Envelope, following: Message | None) -> Receipt:
        """Write the content, with the following envelope in the same write, and return the answer to it."""
        self._phase = Phase.CONTENT
        announcing = self._announceable(following)
        behind, replies = b"", 0
        if announcing is not None:
            behind, replies = announcing.mail_rcpt + self._behind_rcpt, len(self._phases)
        end = self._end
        if end is Phase.DOT:
            content = dot_stuffed(envelope.content) + b".\r\n"
        else:
            content = b"BDAT %d LAST\r\n%b" % (len(envelope.content), envelope.content)
        if len(content) <= PIECE:
            self._connection.write(content + behind, 1 + replies)
            self._phase, self._announced = end, announcing
        elif await self._connection.write_long(content, behind, replies, self._settings.content_timeout):
            self._phase, self._announced = end, announcing
        reply = await self._connection.reply(self._settings.final_timeout)
        if reply.code == _COMPLETED and self._phase is end:  # as nearly always
            self._torn = False
            return receipt(Verdict.ACCEPTED, reply)
        verdict = judge(self._phase, reply)
        if verdict is Verdict.NO_CHUNKS:
            raise ChunksRefused
        return self._answered(verdict, reply)

    def _announceable(self, following: Message | None) -> Envelope | None:
        """Return the envelope to write behind this content, unless its own turn has to decide something."""
        full = self._carried >= self._settings.messages_per_connection
        if following is None or full or not self._grouped:
            return None
        try:
            written = write_envelope(following, self._offers)
        except AccountError:
            return None
        return written if isinstance(written, Envelope) and written.fits else None

    def _refused(self, reply: Reply) -> Receipt:
        if self._used and reply.closes and not self._dispatched:
            raise Stale
        self._must_reset = self._phase is not Phase.MAIL
        return self._answered(judge(self._phase, reply), reply)

    def _answered(self, verdict: Verdict, reply: Reply) -> Receipt:
        """Return the receipt of a definite answer, or raise what the reply means instead."""
        if not reply.closes and verdict is not Verdict.NONSENSE:
            self._torn = False
        if verdict in _NO_RECEIPT:
            raise failure(verdict, self._settings.where, self._phase, reply)
        return receipt(verdict, reply)
