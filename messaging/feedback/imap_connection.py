"""A connection to an IMAP server whose answers are bounded in bytes and in time.

The standard library's reads a literal of any size that a server announces, keeps whatever untagged answers
come, and waits as long as a byte comes now and then. Here every command has an allowance of bytes and a
deadline; a server that exceeds one of them loses the connection.
"""

import contextlib
import imaplib
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any, Final

from imapclient import IMAPClient

CONNECT_SECONDS: Final = 30.0
SILENCE_SECONDS: Final = 60.0  # between two bytes of an answer
GREETING_BYTES: Final = 1 << 18


class TooMuchError(Exception):
    """The server sends more than the command can need."""


class Connection(imaplib.IMAP4):
    """The standard library's connection, within bounds."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        """Connect and read the greeting."""
        self._tls = tls
        self._plug: socket.socket | None = None
        self.allowance = GREETING_BYTES
        """How many bytes the server may still send in answer to this command."""
        try:
            with self.deadline(CONNECT_SECONDS):
                super().__init__(host, port, CONNECT_SECONDS)
        except BaseException:
            self._unplug()
            raise
        self.sock.settimeout(SILENCE_SECONDS)

    @contextlib.contextmanager
    def deadline(self, seconds: float) -> Iterator[None]:
        """Cut the connection when the block lasts longer; what waits in it then fails."""
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def read(self, size: int) -> bytes:
        """Read a literal of the size that the server announces, if that is allowed."""
        self._take(size)
        return super().read(size)

    def readline(self) -> bytes:
        """Read a line, which is allowed a million bytes by the standard library."""
        line = super().readline()
        self._take(len(line))
        return line

    def shutdown(self) -> None:
        """Close the connection without a word."""
        self._unplug()
        with contextlib.suppress(OSError, AttributeError):  # the latter: it was never open
            super().shutdown()

    def _create_socket(self, timeout: float | None) -> socket.socket:
        plain = socket.create_connection((self.host, self.port), timeout)
        self._plug = plain.dup()
        try:
            return self._tls.wrap_socket(plain, server_hostname=self.host) if self._tls else plain
        except BaseException:
            plain.close()
            raise

    def _take(self, size: int) -> None:
        self.allowance -= size
        if self.allowance < 0:
            raise TooMuchError

    def _cut(self) -> None:
        """Break the connection under whoever waits for it, at a handshake or at an answer."""
        if (plug := self._plug) is not None:
            with contextlib.suppress(OSError):
                plug.shutdown(socket.SHUT_RDWR)

    def _unplug(self) -> None:
        plug, self._plug = self._plug, None
        if plug is not None:
            plug.close()


class Client(IMAPClient):  # type: ignore[misc] # its package has no types
    """IMAPClient over such a connection."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        """Connect and read the greeting."""
        self._context = tls
        super().__init__(host, port, ssl=tls is not None, ssl_context=tls, timeout=SILENCE_SECONDS)
        self.normalise_times = False  # with their time zones
        self.connection.debug = 0  # else it writes every line, mails too, for a log that nobody has asked for

    @property
    def connection(self) -> Connection:
        """The connection."""
        found: Connection = self._imap
        return found

    def _create_IMAP4(self) -> Connection:  # noqa: N802 - IMAPClient calls it so
        return Connection(self.host, self.port, self._context)


def number(said: Any) -> int:  # noqa: ANN401 - a server says what it likes
    """Return what should be a number; 0 when it is none."""
    if isinstance(said, list | tuple) and said:
        said = said[0]
    return said if isinstance(said, int) else 0
