"""A person's consent: the page that they open, and what their browser brings back (RFC 8252, RFC 7636)."""

import asyncio
import contextlib
import hmac
import json
import logging
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from messaging.channels.gmail_login import SCOPES, SEND, TOKEN_URI, Grant, Tokens, id_token_address
from messaging.errors import AccountError, InputError, NotSent

AUTH_URI: Final = "https://accounts.google.com/o/oauth2/auth"
_HOST: Final = "127.0.0.1"
_LONGEST_REQUEST: Final = 16_384

# They write codes and tokens to the log when it is at DEBUG.
_TALKATIVE: Final = ("requests_oauthlib", "requests_oauthlib.oauth2_session", "oauthlib")

_PAGE: Final = """HTTP/1.1 {status} {phrase}\r
Content-Type: text/plain; charset=utf-8\r
Referrer-Policy: no-referrer\r
Connection: close\r
\r
{text}"""
_DONE: Final = "Outflow has heard from Google. You can close this page and go back to the terminal."
_NOT_OURS: Final = "This is not an answer that Outflow waits for."


@dataclass(frozen=True, slots=True)
class Client:
    """An OAuth client of type Desktop app."""

    client_id: str
    client_secret: str = field(repr=False)
    auth_uri: str = AUTH_URI
    token_uri: str = TOKEN_URI


def read_client(text: str) -> Client:
    """Read the file of an OAuth client, as the Google Cloud console makes it.

    Raises:
        InputError: It is not one of type Desktop app; the text says what to do.
    """
    try:
        made = json.loads(text)["installed"]
        return Client(
            str(made["client_id"]),
            str(made["client_secret"]),
            str(made.get("auth_uri", AUTH_URI)),
            str(made.get("token_uri", TOKEN_URI)),
        )
    except (ValueError, KeyError, TypeError):
        raise InputError(
            "the file is not that of an OAuth client of type Desktop app: make one in the Google Cloud "
            "console under Clients, and download its JSON"
        ) from None


def is_service_account(text: str) -> bool:
    """Say whether a file is the key of a service account."""
    try:
        return bool(json.loads(text)["type"] == "service_account")
    except (ValueError, KeyError, TypeError):
        return False


class Consent:
    """One asking for one person's consent."""

    def __init__(self, client: Client, redirect_uri: str, hint: str = "") -> None:
        """Make the address of the page; `hint` is the mailbox that the page proposes.

        Raises:
            InputError: Google's packages are not installed.
        """
        try:
            from google_auth_oauthlib.flow import InstalledAppFlow  # noqa: PLC0415 - of an extra
        except ImportError:
            raise InputError("Gmail accounts need more packages: pip install 'outflow[gmail]'") from None
        config = {
            "client_id": client.client_id,
            "client_secret": client.client_secret,
            "auth_uri": client.auth_uri,
            "token_uri": client.token_uri,
        }
        self._flow: Any = InstalledAppFlow.from_client_config(
            {"installed": config}, scopes=SCOPES, redirect_uri=redirect_uri, autogenerate_code_verifier=True
        )
        # Without `prompt` Google gives a refresh token the first time only.
        hints = {"login_hint": hint} if hint else {}
        self.url, self._state = self._flow.authorization_url(access_type="offline", prompt="consent", **hints)

    def is_answered_by(self, address: str) -> bool:
        """Say whether an address that a browser was sent to answers this asking, and no other."""
        state = _first(address, "state")
        return bool(state) and hmac.compare_digest(state.encode(), self._state.encode())

    def grant(self, address: str) -> Grant:
        """Return what the person allowed, from the address that their browser was sent to; blocks.

        Raises:
            InputError: It is not the address that Google sent this browser to.
            AccountError: The person, or Google, refused.
            NotSent: Google cannot be reached.
        """
        if not self.is_answered_by(address):
            raise InputError(
                "that is not the address that Google sent the browser to after this consent: copy all of it, "
                "from http:// to its end"
            )
        if refused := _first(address, "error"):
            why = "access_denied" if refused == "access_denied" else "an error"
            raise AccountError(f"Google sent the browser back with {why}: nothing was changed")
        if not (code := _first(address, "code")):
            raise InputError("there is no code in that address: copy all of it, from http:// to its end")
        said = self._exchanged(code)
        scopes = frozenset(_words(said.get("scope")))
        if SEND not in scopes:
            raise AccountError(
                "the consent does not allow sending mail: sign in again and allow everything it asks for"
            )
        if not said.get("refresh_token"):
            raise AccountError("Google gave no refresh token: sign in again")
        expires_at = said.get("expires_at")
        tokens = Tokens(
            str(said["refresh_token"]),
            str(said["access_token"]),
            datetime.fromtimestamp(float(expires_at), UTC) if expires_at else None,
        )
        return Grant(tokens, id_token_address(said.get("id_token")), scopes)

    def _exchanged(self, code: str) -> dict[str, Any]:
        """Give the code, and the proof that it was us who asked for it, for tokens."""
        import requests  # noqa: PLC0415 - of an extra, as are the next
        from oauthlib.oauth2 import InsecureTransportError, OAuth2Error  # noqa: PLC0415

        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            return dict(self._flow.fetch_token(code=code, timeout=30))
        except Warning as changed:  # oauthlib's way to say that other scopes were granted than asked for
            return dict(changed.token)  # type: ignore[attr-defined]
        except InsecureTransportError:
            raise AccountError("the client's token_uri must be https://: see to its file") from None
        except OAuth2Error as error:
            known = error.error if error.error in {"invalid_grant", "invalid_client"} else "an error"
            raise AccountError(f"Google did not take the code ({known}): sign in again") from None
        except requests.RequestException as error:
            raise NotSent(f"Google's token endpoint cannot be reached ({type(error).__name__})") from None


class Redirects:
    """Waits on this machine for the browser to come back from Google."""

    def __init__(self) -> None:
        """Listen to nothing yet."""
        self.uri = ""
        self._consent: Consent | None = None
        self._came: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def answer_to(self, consent: Consent) -> str:
        """Return the address at which the browser came back with an answer to this consent."""
        self._consent = consent
        return await self._came

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request of a browser, or of anybody else on this machine."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            words = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split(" ")
            address = self.uri + words[1].lstrip("/") if len(words) > 1 else ""
            ours = self._consent is not None and self._consent.is_answered_by(address)
            status = HTTPStatus.OK if ours else HTTPStatus.NOT_FOUND
            text = _DONE if ours else _NOT_OURS
            writer.write(_PAGE.format(status=int(status), phrase=status.phrase, text=text).encode())
            await writer.drain()
            if ours and not self._came.done():
                self._came.set_result(address)
        writer.close()


@contextlib.asynccontextmanager
async def redirects() -> AsyncIterator[Redirects]:
    """Listen on a free port of this machine, on loopback only (RFC 8252 7.3)."""
    waiting = Redirects()
    server = await asyncio.start_server(waiting.serve, _HOST, 0, limit=_LONGEST_REQUEST)
    waiting.uri = f"http://{_HOST}:{server.sockets[0].getsockname()[1]}/"
    async with server:
        yield waiting


def unheard_uri() -> str:
    """Return an address of this machine on which nobody listens, for a browser on another one."""
    with socket.socket() as free:
        free.bind((_HOST, 0))
        return f"http://{_HOST}:{free.getsockname()[1]}/"


def _first(address: str, name: str) -> str:
    try:
        return parse_qs(urlsplit(address.strip()).query).get(name, [""])[0]
    except ValueError:
        return ""


def _words(scope: object) -> list[str]:
    """Read scopes, which are a list or words in one text."""
    return [str(word) for word in scope] if isinstance(scope, list) else str(scope or "").split()
