"""Signing in at Google: access tokens that last an hour, fetched with what a person or a domain allowed."""

import asyncio
import base64
import contextlib
import importlib
import json
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from messaging.channels.gmail_http import Http
from messaging.channels.threads import Calls
from messaging.errors import AccountError, BrokenOff, InputError, NotSent, Unknown

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

_log = logging.getLogger(__name__)

GMAIL: Final = "https://gmail.googleapis.com"
TOKEN_URI: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - where tokens come from

SEND: Final = "https://www.googleapis.com/auth/gmail.send"
"""May send, and can read nothing (developers.google.com/workspace/gmail/api/auth/scopes)."""
SCOPES: Final = ("openid", "https://www.googleapis.com/auth/userinfo.email", SEND)
"""Asked of a person: the first two only make Google say, with each token, whose account it is."""

_LIBRARIES: Final = (
    "google.oauth2.credentials",
    "google.oauth2.service_account",
    "google_auth_oauthlib.flow",
    "googleapiclient.discovery",
)

_SPARE: Final = timedelta(minutes=5)  # a token that ends sooner is not used any more
_BUSY: Final = 429
_FAULTS: Final = 500

# RFC 6749 5.2 and developers.google.com/identity/protocols/oauth2/native-app. Without the description that
# comes with it, which may name people.
_OF_A_PERSON: Final[dict[str, str]] = {
    "invalid_grant": "the consent was withdrawn or has expired: run {login}",
    "invalid_client": "Google does not know the client, or its secret is wrong: run {login} --client-secrets "
    "FILE with the file of an OAuth client of type Desktop app",
    "deleted_client": "the OAuth client was deleted: make another of type Desktop app and run {login} "
    "--client-secrets FILE",
    "unauthorized_client": "the OAuth client may not do this: make one of type Desktop app and run {login} "
    "--client-secrets FILE",
    "admin_policy_enforced": "the domain's administrators do not let this program use Gmail: they can trust "
    "it in the Admin console under Security, API controls",
    "": "Google refuses the login: run {login}",
}
_OF_A_DOMAIN: Final[dict[str, str]] = {
    "invalid_grant": "Google refuses the service account's key, or knows nobody named in subject: look "
    "whether the key was deleted, subject is misspelt, or the clock of this machine is wrong",
    "unauthorized_client": "the service account may not act for subject: in the Admin console, under "
    "Security, API controls, Domain-wide delegation, add its client id with the scope " + SEND,
    "": "Google refuses the service account: see to its key, to subject and to domain-wide delegation",
}


@dataclass(frozen=True, slots=True)
class Tokens:
    """What Google gave out."""

    refresh_token: str = field(default="", repr=False)
    """Lasts until it is withdrawn; Google changes it hardly ever."""
    access_token: str = field(default="", repr=False)
    expires_at: datetime | None = None
    """When the access token ends."""

    @property
    def is_fresh(self) -> bool:
        """Whether the access token can be used for some minutes more."""
        return bool(self.access_token and self.expires_at and self.expires_at - datetime.now(UTC) > _SPARE)


class TokenStore(Protocol):
    """Where an account's tokens are kept, for other processes and for later."""

    async def load(self) -> Tokens:
        """Return what is stored now: somebody may have signed in anew."""
        ...

    async def save(self, tokens: Tokens, before: Tokens) -> None:
        """Store new tokens in place of `before`; nothing, when something else is stored by now."""
        ...


@dataclass(frozen=True, slots=True)
class Grant:
    """An answer of Google's token endpoint."""

    tokens: Tokens
    address: str
    """Whose mailbox it is; empty when Google did not say."""
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signs in: a person, by a client and what they allowed; or a service account in somebody's name."""

    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    tokens: Tokens = Tokens()
    service_account: str = field(default="", repr=False)
    """The key file that Google made, as its JSON text."""
    subject: str = ""
    """Whose mailbox the service account uses."""
    token_uri: str = TOKEN_URI
    login: str = "outflow gmail login NAME"
    """The command that signs in, for error texts."""
    patience: float = 30.0

    def fetch(self, tokens: Tokens) -> Grant:
        """Fetch an access token; blocks.

        Raises:
            ConsentGoneError: Google does not honour the refresh token.
            AccountError: The account cannot sign in; the text says what to do.
            NotSent: Google did not say.
        """
        from google.auth.exceptions import GoogleAuthError, RefreshError  # noqa: PLC0415 - of an extra

        signed_in = self._of_the_domain() if self.service_account else self._of_the_person(tokens)
        ask = _Asking(self.patience)
        try:
            signed_in.refresh(ask)  # type: ignore[no-untyped-call]
        except RefreshError as refused:
            raise self._explained(refused) from None
        except GoogleAuthError as error:
            raise AccountError(f"no login at Google: {type(error).__name__}") from None
        expiry = signed_in.expiry  # in UTC, without saying so
        renewed = Tokens(
            getattr(signed_in, "refresh_token", None) or "",
            str(signed_in.token),
            expiry.replace(tzinfo=UTC) if expiry else None,
        )
        address = self.subject if self.service_account else id_token_address(ask.said.get("id_token"))
        return Grant(renewed, address, frozenset(str(ask.said.get("scope", "")).split()))

    def _of_the_person(self, tokens: Tokens) -> "Credentials":
        from google.oauth2 import credentials  # noqa: PLC0415 - of an extra

        if not tokens.refresh_token:
            raise AccountError(f"nobody has signed in for this account yet: run {self.login}")
        return credentials.Credentials(  # type: ignore[no-untyped-call]
            None,
            refresh_token=tokens.refresh_token,
            token_uri=self.token_uri,
            client_id=self.client_id,
            client_secret=self.client_secret,
        )

    def _of_the_domain(self) -> "Credentials":
        from google.oauth2 import service_account  # noqa: PLC0415 - of an extra

        if not self.subject:
            raise AccountError("a service account has no mailbox of its own: name one in subject")
        try:
            key = json.loads(self.service_account)
            made = service_account.Credentials.from_service_account_info
            return cast("Credentials", made(key, scopes=[SEND], subject=self.subject))  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, KeyError, AttributeError):
            # `from None`: what the library says of a bad key may hold some of it.
            raise AccountError(
                "service_account is not the JSON key of a service account: "
                "give the file that Google made, as in service_account=@file:key.json"
            ) from None

    def _explained(self, refused: Exception) -> AccountError:
        said = refused.args[1] if len(refused.args) > 1 else None
        error = str(said.get("error", "")) if isinstance(said, dict) else ""
        table = _OF_A_DOMAIN if self.service_account else _OF_A_PERSON
        kind = ConsentGoneError if error == "invalid_grant" else AccountError
        code = f" ({error})" if error in _OF_A_PERSON else ""
        return kind(f"no login at Google{code}: {table.get(error, table['']).format(login=self.login)}")


class ConsentGoneError(AccountError):
    """Google does not honour the refresh token any more."""


class _Asking:
    """How Google's library asks the token endpoint, which it does up to three times by itself if it may."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self.said: dict[str, Any] = {}
        """The last answer."""

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        **_: Any,  # noqa: ANN401 - Google's interface
    ) -> SimpleNamespace:
        http = Http(url, self._patience)
        try:
            response, content = http.request(url, method, body, headers)
        except (BrokenOff, Unknown) as error:
            raise NotSent(str(error)) from None  # no message was there; a token not heard of harms nobody
        finally:
            http.close()
        if response.status >= _FAULTS or response.status == _BUSY:
            raise NotSent(f"{http.where}: answered {response.status} to the login")
        with contextlib.suppress(ValueError):
            said = json.loads(content)
            self.said = said if isinstance(said, dict) else {}
        if not self.said:
            raise NotSent(f"{http.where}: answered {response.status} to the login, with something else")
        return SimpleNamespace(status=response.status, headers=response, data=content)


class Access:
    """The access token of one account, shared by its connections."""

    def __init__(self, identity: Identity, store: TokenStore | None = None) -> None:
        """Fetch nothing yet."""
        self._identity = identity
        self._store = store
        self._tokens = identity.tokens
        self._one_at_a_time = asyncio.Lock()

    async def token(self, calls: Calls, refused: str = "") -> str:
        """Return an access token that lasts some minutes more, and is not the one that was `refused`.

        Raises:
            AccountError: The account cannot sign in.
            NotSent: Google did not say.
        """
        async with self._one_at_a_time:
            if not self._tokens.is_fresh or self._tokens.access_token == refused:
                await self._renew(calls)
            return self._tokens.access_token

    async def renewed(self, calls: Calls) -> Grant:
        """Fetch a new access token, whatever is known, and return all that Google says with it.

        Raises:
            AccountError: The account cannot sign in.
            NotSent: Google did not say.
        """
        async with self._one_at_a_time:
            return await self._renew(calls)

    async def _renew(self, calls: Calls) -> Grant:
        before = self._tokens
        try:
            grant = await calls.run(self._identity.fetch, before)
        except ConsentGoneError:
            # Perhaps somebody has signed in anew since this process read the account.
            stored = await self._stored()
            if stored is None or stored.refresh_token == before.refresh_token:
                raise
            before = stored
            grant = await calls.run(self._identity.fetch, before)
        self._tokens = grant.tokens
        if self._store is not None:
            try:
                await self._store.save(grant.tokens, before)
            except Exception as error:  # noqa: BLE001 - the next process fetches its own
                _log.warning("a new access token could not be stored (%s)", type(error).__name__)
        return grant

    async def _stored(self) -> Tokens | None:
        if self._store is None:
            return None
        try:
            return await self._store.load()
        except Exception as error:  # noqa: BLE001 - then what we have stands
            _log.warning("the stored login could not be read (%s)", type(error).__name__)
            return None


def load_libraries() -> None:
    """Import Google's clients, which takes a second or two.

    Raises:
        InputError: They are not installed.
    """
    try:
        for module in _LIBRARIES:
            importlib.import_module(module)
    except ImportError:
        raise InputError("Gmail accounts need more packages: pip install 'outflow[gmail]'") from None


def id_token_address(id_token: object) -> str:
    """Return whose account an ID token is about.

    It came straight from Google over TLS, which stands for its signature (OpenID Connect Core 1.0 3.1.3.7).
    """
    try:
        payload = str(id_token).split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims["email"])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
