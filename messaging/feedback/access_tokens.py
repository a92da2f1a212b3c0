"""Access tokens for mailboxes that take no password: OAuth 2.0 (RFC 6749) at any provider's endpoint."""

import http.client
import ipaddress
import json
import ssl
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode, urlsplit

from messaging.channels.smtp_login import tls_context
from messaging.errors import AccountError, InputError, NotSent

_SECONDS: Final = 30.0
_MOST_BYTES: Final = 1 << 18  # an answer has some kilobytes
_BUSY: Final = (408, 429)
_FAULTS: Final = 500

# RFC 6749, 5.2. Without the description that comes with it, which may name people.
_REFUSALS: Final[dict[str, str]] = {
    "invalid_grant": "the refresh token was withdrawn or has expired: sign in anew for this mailbox",
    "invalid_client": "client_id or client_secret is wrong",
    "unauthorized_client": "the client may not do this: see to its permissions at the provider",
    "invalid_scope": "scope is wrong: see the provider's page on IMAP with OAuth",
    "": "see to client_id, client_secret, refresh_token, scope and token_url",
}


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where access tokens come from: with a refresh token in a person's name, without one in the client's."""

    token_url: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    scope: str = ""

    def __post_init__(self) -> None:
        """Refuse what would send secrets in the clear."""
        parts = urlsplit(self.token_url)
        if not parts.hostname or (parts.scheme != "https" and not _is_loopback(parts.hostname)):
            raise InputError("token_url must begin with https://")
        if not self.client_id or not (self.refresh_token or self.client_secret):
            raise InputError("an access token comes from client_id and refresh_token, or client_secret")

    def fetch(self) -> str:
        """Fetch a token (RFC 6749, 6 and 4.4); blocks.

        Raises:
            AccountError: It is refused; the text says what to do.
            NotSent: There is no answer.
        """
        status, said = self._ask()
        token = said.get("access_token")
        if isinstance(token, str) and token:
            return token
        where = urlsplit(self.token_url).hostname
        if status >= _FAULTS or status in _BUSY:
            raise NotSent(f"{where}: answered {status} to the request for an access token")
        error = str(said.get("error", ""))
        code = f" ({error})" if error in _REFUSALS and error else ""
        raise AccountError(f"{where} gives no access token{code}: {_REFUSALS.get(error, _REFUSALS[''])}")

    def _ask(self) -> tuple[int, dict[str, object]]:
        parts = urlsplit(self.token_url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, parts.port, timeout=_SECONDS, context=tls_context()
            )
        else:
            connection = http.client.HTTPConnection(host, parts.port, timeout=_SECONDS)
        form = {
            "grant_type": "refresh_token" if self.refresh_token else "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "refresh_token": self.refresh_token,
            "scope": self.scope,
        }
        body = urlencode({name: value for name, value in form.items() if value})
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        path = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            content = answer.read(_MOST_BYTES)
        except ssl.SSLCertVerificationError as error:
            raise AccountError(
                f"{host}: the server's certificate was refused: {error.verify_message}"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise NotSent(
                f"{host}: no answer to the request for an access token ({type(error).__name__})"
            ) from None
        finally:
            connection.close()
        try:
            said = json.loads(content)
        except ValueError:
            said = None
        return answer.status, said if isinstance(said, dict) else {}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
