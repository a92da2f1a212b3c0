"""HTTP for Google's clients: whatever happens, a request is made once."""

import contextlib
import http.client
import ipaddress
import selectors
import socket
import ssl
import time
import urllib.request
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from messaging.errors import AccountError, BrokenOff, NotSent, Unknown

if TYPE_CHECKING:
    import httplib2

LONGEST_IDLE: Final = 60.0  # seconds; older than that a connection is opened anew rather than trusted

_PROXY_PORT: Final = 80


class Http:
    """One connection to one server, in the form that Google's clients take instead of an `httplib2.Http`.

    httplib2's own asks a second time by itself, and so would mail twice: when a connection breaks (its
    `RETRIES`), when one is closed without an answer (`BadStatusLine`, whatever `RETRIES` is), and after the
    redirects 303 and 308 (`Http._conn_request` and `Http._request` of httplib2 0.32).
    """

    def __init__(self, url: str, patience: float) -> None:
        """Connect nothing yet; `patience` is how many seconds connecting, each write and each read may take.

        Raises:
            AccountError: Tokens would travel unprotected.
        """
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port
        self._encrypted = parts.scheme == "https"
        if not self._encrypted and not _is_loopback(self._host):
            raise AccountError(f"{self._host or 'a server'} is asked over https:// only: mend the account")
        self._patience = patience
        self._tls: ssl.SSLContext | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._has_answered = False
        self._is_asking = False
        self._used_at = 0.0

    @property
    def where(self) -> str:
        """The server, as error texts name it."""
        return f"{self._host}:{self._port}" if self._port else self._host

    def open(self) -> None:
        """Connect, unless there is a connection that the server has not closed.

        Raises:
            NotSent: The server cannot be reached.
            AccountError: The server cannot be trusted.
        """
        if self._connection is not None:
            # Before the first answer TLS has tickets to tell (RFC 8446 4.6.1), which look like a farewell.
            farewell = self._has_answered and _is_readable(self._connection.sock)
            if time.monotonic() - self._used_at < LONGEST_IDLE and not farewell:
                return
            self.close()
        connection = self._new()
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise AccountError(
                f"{self.where}: the server's certificate was refused: {error.verify_message}"
            ) from None
        except OSError as error:
            connection.close()
            raise NotSent(f"{self.where}, connecting: {_why(error)}") from None
        self._connection = connection
        self._has_answered = False
        self._used_at = time.monotonic()

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: dict[str, str] | None = None,
        **_: Any,  # noqa: ANN401 - what httplib2 takes besides: redirections, connection_type
    ) -> "tuple[httplib2.Response, bytes]":
        """Ask once and return the answer, whatever its status.

        Raises:
            NotSent: Nothing was asked; `BrokenOff`, when the connection broke before the request's end.
            Unknown: The whole request was written and no answer came.
        """
        self._is_asking = True
        try:
            return self._ask(uri, method, body, headers or {})
        finally:
            self._is_asking = False

    def _ask(
        self, uri: str, method: str, body: bytes | str | None, headers: dict[str, str]
    ) -> "tuple[httplib2.Response, bytes]":
        import httplib2  # noqa: PLC0415 - of an extra

        self.open()
        assert self._connection is not None  # noqa: S101 - opened above
        parts = urlsplit(uri)
        try:
            self._connection.request(
                method,
                parts._replace(scheme="", netloc="").geturl(),
                body,
                headers | {"accept-encoding": "identity"},  # nobody unpacks it here
            )
        except (OSError, http.client.HTTPException) as error:
            # Less than Content-Length was written: nothing that a server could have acted on.
            self.close()
            raise BrokenOff(f"{self.where}, before the request's end: {_why(error)}") from None
        try:
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unknown(f"{self.where}, after the request's end: {_why(error)}") from None
        if response.will_close:
            self.close()
        self._has_answered = True
        self._used_at = time.monotonic()
        return httplib2.Response(response), content

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def end(self) -> None:
        """Close the connection, from any thread; one that waits for an answer hears that there is none."""
        connection = self._connection
        if not self._is_asking:
            self.close()
        elif connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                # The plain socket's: that of TLS would pull the session from under the other thread.
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def _new(self) -> http.client.HTTPConnection:
        if not self._encrypted:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._patience)
        if self._tls is None:
            self._tls = ssl.create_default_context()  # SSL_CERT_FILE adds a private CA
        proxy = urlsplit("" if _is_loopback(self._host) else _proxy_for(self._host))
        if proxy.hostname is None:
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=self._patience, context=self._tls
            )
        connection = http.client.HTTPSConnection(
            proxy.hostname, proxy.port or _PROXY_PORT, timeout=self._patience, context=self._tls
        )
        login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}" if proxy.username else ""
        said = {"Proxy-Authorization": f"Basic {b64encode(login.encode()).decode()}"} if login else {}
        connection.set_tunnel(self._host, self._port, said)  # TLS is with the server, through the proxy
        return connection


def _proxy_for(host: str) -> str:
    """Return the proxy that the environment names (HTTPS_PROXY, NO_PROXY), empty for none."""
    return "" if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get("https", "")


def _is_readable(sock: socket.socket | None) -> bool:
    """Say whether an idle connection has something to tell: that it is closed, as nobody was asked."""
    if sock is None:
        return True
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(timeout=0))


def _why(error: Exception) -> str:
    """Say what is wrong with a connection, without what was said on it."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the server closed the connection"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
