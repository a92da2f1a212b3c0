"""A folder of a mailbox, over IMAP (RFC 3501); its server is believed nothing without need."""

import contextlib
import ipaddress
import math
import os
import ssl
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from imaplib import IMAP4
from typing import Any, Final, Literal

from messaging.channels.smtp_login import tls_context
from messaging.errors import AccountError, InputError, MessagingError, NotSent
from messaging.feedback.imap_connection import Client, Connection, TooMuchError, number
from messaging.feedback.mail import MAX_BYTES

_COMMAND_SECONDS = 300.0  # for all of an answer; what is fetched at once needs 28 kB a second
_LOGIN_SECONDS = 60.0
_FAREWELL_SECONDS = 5.0

_FEW_BYTES = 1 << 18  # of a login, a list of capabilities, an answer to STORE
_BYTES_PER_MAIL = 2048  # what a server may say of a mail besides its text
_MOST_FOUND = 50_000  # UIDs asked for at once: imaplib takes no line of more than a million bytes
_BYTES_PER_UID = 12
_INEXACT = 1.25  # some servers only guess how large a mail is
_MOST_QUESTIONS = 2000
_LAST_UID = 2**32 - 1
_LARGEST = 2**31 - 1  # of a size, in the ledger

# RFC 5530, 3: what a server says with a refused login. The words after it may name the user.
_REFUSALS: Final[dict[str, str]] = {
    "AUTHENTICATIONFAILED": "username or password is wrong, or it wants an app password or OAuth",
    "AUTHORIZATIONFAILED": "this user may not use that mailbox",
    "EXPIRED": "the password has expired",
    "PRIVACYREQUIRED": "it wants an encrypted connection: set security to tls or starttls",
    "CONTACTADMIN": "it says to ask the administrator of the mailbox",
    "": "see to username and password; some providers want an app password or OAuth, or IMAP switched on",
}
_CONNECTING, _STARTTLS = "connecting", "STARTTLS"
_NO_HOST = "there is no such host"
_HANDSHAKES = {_CONNECTING, _STARTTLS}
_NOT_NOW: Final = ("UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG")

# What IMAPClient raises at an answer that is none, besides its own error.
_NONSENSE = (IMAP4.error, TooMuchError, ValueError, TypeError, LookupError, AttributeError, AssertionError)

AccessToken = Callable[[], str]
"""Returns an OAuth 2 access token that is good for some minutes; may block."""


@dataclass(frozen=True, slots=True)
class MailboxSettings:
    """One folder of one mailbox, and what becomes of what was read there."""

    host: str
    port: int
    security: Literal["none", "starttls", "tls"]
    username: str
    password: str = field(default="", repr=False)
    access_token: AccessToken | None = field(default=None, repr=False)
    """Asked before each connection, instead of a password."""
    folder: str = "INBOX"
    processed_folder: str = ""
    """Where bounces are moved when they have been read; empty: they stay, marked as seen."""
    opened_too: bool = False
    """Read also new mail that somebody has opened already."""
    mark_others: bool = False
    """Mark also what is no bounce as seen."""

    def __post_init__(self) -> None:
        """Refuse what can never work."""
        if bool(self.password) == (self.access_token is not None):
            raise InputError("a mailbox needs either a password or what an access token comes from, not both")
        if self.processed_folder == self.folder:
            raise InputError("processed_folder must be another folder than the one that is read")

    @property
    def where(self) -> str:
        """The server, as error texts name it."""
        return f"{self.host}:{self.port}"

    @property
    def numbered_by(self) -> str:
        """What the numbers of its mails belong to: another account's folder may have the same UIDVALIDITY."""
        return f"{self.username}@{self.where}/{self.folder}"


class UnreadableError(MessagingError):
    """The server's answer cannot be used; the connection is closed."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What a server says of a mail that was not fetched yet."""

    size: int
    received_at: datetime


class Folder:
    """The selected folder of an open connection."""

    def __init__(self, settings: MailboxSettings, client: Client, said: Mapping[bytes, Any]) -> None:
        """Use `open_folder` instead; `said` is the answer to SELECT.

        Raises:
            AccountError: The server gives its mails no lasting numbers.
        """
        self._settings = settings
        self._client = client
        self.uid_validity = number(said.get(b"UIDVALIDITY"))
        if not self.uid_validity:
            raise AccountError(f"{settings.where} gives the mails of this folder no lasting numbers (UIDs)")
        self.mails = number(said.get(b"EXISTS"))
        self._next_uid = number(said.get(b"UIDNEXT")) or _LAST_UID + 1

    @property
    def encryption(self) -> str:
        """The version of TLS, or nothing."""
        version = getattr(self._client.connection.sock, "version", None)
        return str(version()) if version else ""

    def newest(self) -> int:
        """Return a UID up to which `find` sees every mail; 0: there is none.

        A mail that came since the folder was selected is above it.

        Raises:
            NotSent: The connection is gone.
            UnreadableError: The answer is none.
        """
        if not self.mails:
            return 0
        with self._asking("SEARCH", _FEW_BYTES):
            last = max((uid for uid in self._client.search(["UID", "*"]) if uid <= _LAST_UID), default=0)
        return min(last, self._next_uid - 1)

    def find(self, after: int = 0, *, unseen: bool = True) -> "array[int]":
        """Return the UIDs above one in ascending order, of mails that nobody has opened or of all.

        Raises:
            NotSent: The connection is gone.
            UnreadableError: The answer is none.
        """
        found: array[int] = array("L")
        for uids in self._ranges(after):
            with self._asking("SEARCH", _MOST_FOUND * _BYTES_PER_UID + _FEW_BYTES):
                answer = self._client.search(["UID", uids, *(["UNSEEN"] if unseen else [])])
            # A range that ends with * has the last mail even when its number is below (RFC 3501, 6.4.8).
            found.extend(uid for uid in answer if after < uid <= _LAST_UID)
        return array("L", sorted(set(found)))

    def _ranges(self, after: int) -> Iterator[str]:
        if self.mails <= _MOST_FOUND:
            yield from [f"{after + 1}:*"][: self.mails]  # none in an empty folder, where * is nobody's number
            return
        width = max(_MOST_FOUND, math.ceil((self._next_uid - after) / _MOST_QUESTIONS))
        for first in range(after + 1, self._next_uid, width):
            yield f"{first}:{first + width - 1}"

    def listed(self, uids: Sequence[int]) -> dict[int, Listed]:
        """Return size and time of mails; those that are gone are missing.

        Raises:
            NotSent: The connection is gone.
            UnreadableError: The answer is none.
        """
        with self._asking("FETCH", len(uids) * _BYTES_PER_MAIL + _FEW_BYTES):
            answer = self._client.fetch(list(uids), ["RFC822.SIZE", "INTERNALDATE"])
            return {uid: _listed(said) for uid, said in answer.items()}

    def contents(self, sizes: Mapping[int, int], *, careful: bool = False) -> dict[int, bytes]:
        """Return mails by UID, without marking them, of a large one the beginning; those gone are missing.

        Args:
            sizes: As the server has listed them.
            careful: Believe none of the sizes, but ask of each mail for the beginning only.

        Raises:
            NotSent: The connection is gone.
            UnreadableError: The server sends more than it said, or something else.
        """
        whole = [uid for uid, size in sizes.items() if size <= MAX_BYTES and not careful]
        large = sizes.keys() - whole
        found = self._bodies(whole, "BODY.PEEK[]", int(sum(sizes[uid] for uid in whole) * _INEXACT))
        return found | self._bodies(sorted(large), f"BODY.PEEK[]<0.{MAX_BYTES}>", len(large) * MAX_BYTES)

    def _bodies(self, uids: list[int], item: str, announced: int) -> dict[int, bytes]:
        if not uids:
            return {}
        with self._asking("FETCH", announced + len(uids) * _BYTES_PER_MAIL + _FEW_BYTES):
            answer = self._client.fetch(uids, [item])
            bodies = {uid: _body(said) for uid, said in answer.items()}
        return {uid: body[:MAX_BYTES] for uid, body in bodies.items() if body is not None}

    def mark_seen(self, uids: Sequence[int]) -> None:
        """Mark mails as seen.

        Raises:
            NotSent: The connection is gone.
            UnreadableError: The server refuses.
        """
        with self._asking("STORE", len(uids) * _BYTES_PER_MAIL + _FEW_BYTES):
            self._client.add_flags(list(uids), [b"\\Seen"], silent=True)

    def move(self, uids: Sequence[int], folder: str) -> None:
        """Move mails to another folder, which is made when it is not there.

        Raises:
            NotSent: The connection is gone.
            UnreadableError: The server refuses.
        """
        with self._asking("MOVE", len(uids) * _BYTES_PER_MAIL + _FEW_BYTES):
            if not self._client.folder_exists(folder):
                self._client.create_folder(folder)
            if self._client.has_capability("MOVE"):
                self._client.move(list(uids), folder)
                return
            self._client.copy(list(uids), folder)
            self._client.add_flags(list(uids), [b"\\Deleted"], silent=True)
            # Without UIDPLUS an EXPUNGE would delete for good what others have marked (RFC 4315, 2.1).
            if self._client.has_capability("UIDPLUS"):
                self._client.uid_expunge(list(uids))

    def _asking(self, command: str, allowance: int) -> contextlib.AbstractContextManager[None]:
        return _talking(self._settings, self._client.connection, command, allowance, _COMMAND_SECONDS)


@contextlib.contextmanager
def open_folder(settings: MailboxSettings) -> Iterator[Folder]:
    """Connect, log in and select the folder; the connection is closed on exit.

    Raises:
        NotSent: The server cannot be reached, or has no time for us now.
        AccountError: The server cannot be trusted, does not let us in, or has no such folder.
        UnreadableError: It does not speak IMAP.
    """
    token = settings.access_token() if settings.access_token is not None else None
    client = _connected(settings)
    try:
        _log_in(settings, client, token)
        folder = Folder(settings, client, _selected(settings, client))
        yield folder
    except BaseException:
        client.connection.shutdown()  # LOGOUT would wait for a server that may not answer
        raise
    with contextlib.suppress(*_NONSENSE, OSError), client.connection.deadline(_FAREWELL_SECONDS):
        client.logout()
    client.connection.shutdown()


def verify(settings: MailboxSettings) -> str:
    """Connect, log in, select, and say in one line what was met; nothing is marked.

    Raises:
        NotSent: The server cannot be reached.
        AccountError: The mailbox cannot be used as it is; the text says why.
        UnreadableError: It does not speak IMAP.
    """
    with open_folder(settings) as folder:
        unseen = len(folder.find())
        return (
            f"{settings.where} answers, {folder.encryption or 'not encrypted'}, logged in as "
            f"{settings.username}; {settings.folder} holds {folder.mails:,} mails, {unseen:,} of them unseen"
        )


def _connected(settings: MailboxSettings) -> Client:
    where = settings.where
    with _explained(where, _CONNECTING):
        client = Client(settings.host, settings.port, tls_context() if settings.security == "tls" else None)
    if settings.security != "starttls":
        return client
    try:
        with _talking(settings, client.connection, _STARTTLS, _FEW_BYTES, _LOGIN_SECONDS):
            offered = client.has_capability(_STARTTLS)
            if offered:
                client.starttls(tls_context())
    except BaseException:
        client.connection.shutdown()
        raise
    if not offered:
        client.connection.shutdown()
        raise AccountError(f"{where} does not offer STARTTLS; nothing was sent without it")
    return client


def _log_in(settings: MailboxSettings, client: Client, token: str | None) -> None:
    where = settings.where
    if settings.security == "none" and not _is_near(client.connection):
        raise AccountError(f"{where}: a password is not sent over the internet without TLS; set security")
    with _talking(settings, client.connection, "LOGIN", _FEW_BYTES, _LOGIN_SECONDS):
        try:
            if token is not None:
                _with_token(client, settings.username, token)
            elif client.has_capability("AUTH=PLAIN"):  # takes any letter, LOGIN takes ASCII
                client.plain_login(settings.username, settings.password)
            else:
                client.login(settings.username, settings.password)
        except UnicodeEncodeError:
            raise AccountError(f"{where} takes no user name or password beyond ASCII") from None
        except IMAP4.abort:
            raise
        except IMAP4.error as refusal:
            if isinstance(refusal.__context__, IMAP4.abort):  # IMAPClient calls that a refusal too
                raise NotSent(f"{where}, LOGIN: the connection was closed") from None
            # Without its words, which may name the user or repeat the password.
            code = next(
                (code for code in (*_REFUSALS, *_NOT_NOW) if code and f"[{code}]" in str(refusal)), ""
            )
            if code in _NOT_NOW:
                raise NotSent(f"{where}, LOGIN: not now ({code})") from None
            raise AccountError(f"{where} refused the login: {_REFUSALS[code]}") from None


def _with_token(client: Client, username: str, token: str) -> None:
    # What follows the first answer holds why it was refused, and wants an empty line
    # (developers.google.com/workspace/gmail/imap/xoauth2-protocol).
    answers = iter([f"user={username}\1auth=Bearer {token}\1\1"])
    client.sasl_login("XOAUTH2", lambda _: next(answers, "").encode())


def _selected(settings: MailboxSettings, client: Client) -> Mapping[bytes, Any]:
    where, folder = settings.where, settings.folder
    with _talking(settings, client.connection, "SELECT", _FEW_BYTES, _LOGIN_SECONDS):
        try:
            said: Mapping[bytes, Any] = client.select_folder(folder)
        except IMAP4.readonly:
            raise AccountError(
                f"{where}: folder {folder!r} may only be read: give the login the right to mark mails there"
            ) from None
        except IMAP4.abort:
            raise
        except IMAP4.error:
            raise AccountError(f"{where} does not open folder {folder!r}: see to its spelling") from None
        return said


def _is_near(connection: Connection) -> bool:
    """Whether the server is on this machine or in a private network (RFC 1918, RFC 4193)."""
    return ipaddress.ip_address(_peer(connection)).is_private


def _peer(connection: Connection) -> str:
    return str(connection.sock.getpeername()[0]).partition("%")[0]


@contextlib.contextmanager
def _talking(
    settings: MailboxSettings,
    connection: Connection,
    command: str,
    allowance: int,
    seconds: float,
) -> Iterator[None]:
    """Bound what a command may bring, and replace what goes wrong by errors of ours."""
    connection.allowance = allowance
    with _explained(settings.where, command), connection.deadline(seconds):
        yield


@contextlib.contextmanager
def _explained(where: str, step: str) -> Iterator[None]:
    """Replace errors of the socket and of IMAPClient: the server's words in them may name people."""
    try:
        yield
    except MessagingError:
        raise
    except ssl.SSLError as error:
        raise _of_tls(error, where, step) from None
    except (OSError, IMAP4.abort) as error:
        raise NotSent(f"{where}, {step}: {_why(error)}") from None
    except TooMuchError:
        raise UnreadableError(f"{where}, {step}: the server sends more than it should") from None
    except IMAP4.error:
        raise UnreadableError(f"{where}, {step}: the server refuses, or says what is no IMAP") from None
    except _NONSENSE as error:
        if step == _CONNECTING and isinstance(error, UnicodeError):
            raise NotSent(f"{where}, {step}: {_NO_HOST}") from None
        said = type(error).__name__
        raise UnreadableError(f"{where}, {step}: the server says what is no IMAP ({said})") from None


def _of_tls(error: ssl.SSLError, where: str, step: str) -> MessagingError:
    match error:
        case ssl.SSLCertVerificationError():
            return AccountError(f"{where}: the server's certificate was refused: {error.verify_message}")
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return NotSent(f"{where}, {step}: the connection was closed")
        case _ if step in _HANDSHAKES:
            return AccountError(f"{where}: no TLS as we ask for it ({error.reason})")
        case _:
            return NotSent(f"{where}, {step}: the connection was damaged")


def _why(error: Exception) -> str:
    match error:
        case TimeoutError():
            return "no answer in time"
        case OSError(errno=int(code)) if code > 0:
            return os.strerror(code)
        case OSError():
            return _NO_HOST
        case _:
            return "the connection was closed"


def _listed(said: Mapping[bytes, Any]) -> Listed:
    now = datetime.now(UTC)
    at = said.get(b"INTERNALDATE")
    known = isinstance(at, datetime) and at.tzinfo is not None
    size = said.get(b"RFC822.SIZE")
    return Listed(
        min(max(size, 0), _LARGEST) if isinstance(size, int) else 0, min(at, now) if known and at else now
    )


def _body(said: Mapping[bytes, Any]) -> bytes | None:
    """Return a mail's text; partial or whole, it is the one that begins so."""
    found = next((body for name, body in said.items() if name.startswith(b"BODY[")), None)
    return found if isinstance(found, bytes) else None
