"""Google on loopback, over real HTTP: consent page, token endpoint, and the Gmail API's messages.send."""

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import secrets
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import SMTP
from urllib.parse import parse_qsl, urlencode, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

HOST = "127.0.0.1"
SEND = "https://www.googleapis.com/auth/gmail.send"
EMAIL = "https://www.googleapis.com/auth/userinfo.email"
CLIENT_ID = "1234.apps.googleusercontent.com"
CLIENT_SECRET = "canary-client-secret"
MAILBOX = "news@example.com"
MOST_IN_JSON = 1_048_576
_STALLED = 3600.0
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API does with a message instead of taking it."""

    status: int = 200
    body: dict | bytes | None = None
    """None: that of a message that was taken."""
    headers: dict[str, str] = field(default_factory=dict)
    keeps: bool = False
    """Takes the message all the same."""
    hangs_up: bool = False
    """After what there is to say."""
    silent: bool = False
    stalls: bool = False
    after_seconds: float = 0.0


def error(status: int, reason: str, message: str, **headers: str) -> Answer:
    """Make an error as Google words it."""
    problem = {"message": message, "domain": "global", "reason": reason}
    return Answer(status, {"error": {"code": status, "message": message, "errors": [problem]}}, headers)


@dataclass(slots=True)
class Request:
    """One request, as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class FakeGoogle:
    """One Google with one OAuth client, one mailbox and one service account; use `running`."""

    def __init__(self) -> None:
        self.port = 0
        self.answers: list[Answer] = []
        """One by one; after them `always`."""
        self.always = Answer()
        self.token_answer: tuple[int, dict | bytes] | None = None
        """What the token endpoint says instead."""
        self.token_seconds = 3600
        self.rotates = False
        """Gives another refresh token with each access token; the one before is not good any more."""
        self.granted = f"openid {EMAIL} {SEND}"
        """The boxes that a person leaves ticked."""
        self.consents = True
        self.breaks_after: int | None = None
        """Reads so many bytes of a longer body and resets the connection."""
        self.connections = 0
        """That were opened so far."""
        self.requests: list[Request] = []
        self.messages: list[EmailMessage] = []
        self.access_tokens: set[str] = set()
        self.refresh_tokens: set[str] = set()
        self.delegated = {(MAILBOX, SEND)}
        self._codes: dict[str, tuple[str, str]] = {}
        self._key = rsa.generate_private_key(65537, 2048)
        self._scheme = "http"
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{self._scheme}://{HOST}:{self.port}"

    @property
    def client_file(self) -> str:
        """The file of an OAuth client of type Desktop app, as the Google Cloud console makes it."""
        client = {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "auth_uri": f"{self.url}/auth",
            "token_uri": f"{self.url}/token",
            "redirect_uris": ["http://localhost"],
        }
        return json.dumps({"installed": client})

    @property
    def key_file(self) -> str:
        """The key file of the service account."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return json.dumps(
            {
                "type": "service_account",
                "client_email": "sender@project.iam.gserviceaccount.com",
                "private_key_id": "1f",
                "private_key": pem.decode(),
                "token_uri": f"{self.url}/token",
            }
        )

    def a_refresh_token(self) -> str:
        """Give out a refresh token, as after a consent."""
        self.refresh_tokens.add(token := f"1//canary-refresh-{secrets.token_hex(8)}")
        return token

    def asked(self, path: str) -> int:
        """Count the requests for a path."""
        return sum(request.path == path for request in self.requests)

    @contextlib.asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator["FakeGoogle"]:
        self._scheme = "https" if tls else "http"
        server = await asyncio.start_server(self._serve, HOST, 0, ssl=tls, limit=2**20)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._connections.add(serving := asyncio.current_task())
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while await self._answer(await self._read(reader, writer), writer):
                    pass
        finally:
            self._connections.discard(serving)
            writer.transport.abort() if serving.cancelling() else writer.close()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        method, target, _ = head[0].split(" ")
        lines = (line.partition(":") for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in lines}
        length = int(headers.get("content-length", "0"))
        if self.breaks_after is not None and length > self.breaks_after:
            await reader.readexactly(self.breaks_after)
            writer.transport.abort()
        body = await reader.readexactly(length)
        parts = urlsplit(target)
        return Request(method, parts.path, dict(parse_qsl(parts.query)), headers, body)

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answer; say whether the connection stays."""
        self.requests.append(request)
        match request.method, request.path:
            case "GET", "/auth":
                answer = self._consent(request)
            case "POST", "/token":
                answer = self._token(request)
            case "POST", "/gmail/v1/users/me/messages/send" | "/upload/gmail/v1/users/me/messages/send":
                answer = self._send(request)
            case _:
                answer = error(404, "notFound", "Not Found")
        await asyncio.sleep(_STALLED if answer.stalls else answer.after_seconds)
        if not answer.silent:
            writer.write(_written(answer))
            await writer.drain()
        return not answer.hangs_up

    def _consent(self, request: Request) -> Answer:
        """Ask nobody, and send the browser back."""
        asked = request.query
        redirect_uri = asked["redirect_uri"]
        wrong = (
            asked["client_id"] != CLIENT_ID
            or asked["response_type"] != "code"
            or not re.fullmatch(r"http://(127\.0\.0\.1|localhost):\d+/?", redirect_uri)
            or asked["access_type"] != "offline"
            or asked["prompt"] != "consent"
            or asked["code_challenge_method"] != "S256"
            or not set(asked["scope"].split()) >= {"openid", SEND}
        )
        if wrong:
            return Answer(400, b"Error 400: invalid_request")
        back = {"state": asked["state"]}
        if self.consents:
            code = f"4/canary-code-{secrets.token_hex(8)}"
            self._codes[code] = asked["code_challenge"], redirect_uri
            back |= {"code": code, "scope": self.granted}
        else:
            back |= {"error": "access_denied"}
        return Answer(302, b"", {"location": f"{redirect_uri}?{urlencode(back)}"})

    def _token(self, request: Request) -> Answer:
        if self.token_answer is not None:
            return Answer(*self.token_answer)
        asked = dict(parse_qsl(request.body.decode()))
        grants = {
            "authorization_code": self._by_code,
            "refresh_token": self._by_refresh_token,
            "urn:ietf:params:oauth:grant-type:jwt-bearer": self._by_assertion,
        }
        if (grant := grants.get(asked["grant_type"])) is None:
            return Answer(400, {"error": "unsupported_grant_type"})
        if grant != self._by_assertion and _client(request, asked) != (CLIENT_ID, CLIENT_SECRET):
            return Answer(401, {"error": "invalid_client", "error_description": "Unauthorized"})
        return grant(asked)

    def _by_code(self, asked: dict[str, str]) -> Answer:
        challenge, redirect_uri = self._codes.pop(asked["code"], ("", ""))
        digest = hashlib.sha256(asked.get("code_verifier", "").encode()).digest()
        proven = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == challenge
        if not proven or asked["redirect_uri"] != redirect_uri:
            return Answer(400, {"error": "invalid_grant", "error_description": "Malformed auth code."})
        return self._granted(refresh_token=self.a_refresh_token())

    def _by_refresh_token(self, asked: dict[str, str]) -> Answer:
        if asked["refresh_token"] not in self.refresh_tokens:
            said = "Token has been expired or revoked."
            return Answer(400, {"error": "invalid_grant", "error_description": said})
        if not self.rotates:
            return self._granted()
        self.refresh_tokens.remove(asked["refresh_token"])
        return self._granted(refresh_token=self.a_refresh_token())

    def _by_assertion(self, asked: dict[str, str]) -> Answer:
        signed, _, signature = asked["assertion"].rpartition(".")
        claims = json.loads(_unpadded(signed.split(".")[1]))
        try:
            self._key.public_key().verify(
                _unpadded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            return Answer(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
        if "@" not in claims.get("sub", ""):
            return Answer(400, {"error": "invalid_grant", "error_description": "Invalid email or User ID"})
        if (claims["sub"], claims["scope"]) not in self.delegated:
            said = f"Client is unauthorized to retrieve access tokens using this method: {claims['sub']}"
            return Answer(401, {"error": "unauthorized_client", "error_description": said})
        return self._granted(scope=SEND)

    def _granted(self, **more: str) -> Answer:
        self.access_tokens.add(token := f"ya29.canary-access-{secrets.token_hex(8)}")
        given = {"access_token": token, "expires_in": self.token_seconds, "token_type": "Bearer"}
        scope = more.setdefault("scope", self.granted)
        if EMAIL in scope:
            claims = base64.urlsafe_b64encode(json.dumps({"email": MAILBOX}).encode()).rstrip(b"=").decode()
            given["id_token"] = f"e30.{claims}.c2ln"
        return Answer(200, given | more)

    def _send(self, request: Request) -> Answer:
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.access_tokens:
            return error(401, "authError", "Invalid Credentials")
        answer = self.answers.pop(0) if self.answers else self.always
        takes = answer.status < 300 or answer.keeps
        if takes and (refusal := self._take(request)) is not None:
            return refusal
        return answer

    def _take(self, request: Request) -> Answer | None:
        if request.path.startswith("/upload/"):
            assert request.query["uploadType"] == "media"
            assert request.headers["content-type"] == "message/rfc822"
            content = request.body
        else:
            if len(request.body) > MOST_IN_JSON:
                said = f"Request payload size exceeds the limit: {MOST_IN_JSON} bytes."
                return error(400, "badRequest", said)
            raw = json.loads(request.body).get("raw", "")
            if not raw:
                said = "'raw' RFC822 payload message string or uploading message via /upload/* URL required"
                return error(400, "invalidArgument", said)
            if not re.fullmatch(r"[A-Za-z0-9_-]+={0,2}", raw):
                return error(400, "invalidArgument", "Invalid value for ByteString")
            content = base64.urlsafe_b64decode(raw)
        message = BytesParser(EmailMessage, policy=SMTP).parsebytes(content)
        if not _ADDRESS.search(message.get("To", "")):
            return error(400, "invalidArgument", "Recipient address required")
        self.messages.append(message)
        return None


async def end_of(page: str) -> str:
    """Open the consent page as a browser on another machine does; return the address that it ends at."""
    parts = urlsplit(page)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    writer.close()
    return re.search(r"location: (\S+)", head)[1]


def _client(request: Request, asked: dict[str, str]) -> tuple[str, ...]:
    """Return a client's name and secret, from either place where they may stand (RFC 6749 2.3.1)."""
    basic = request.headers.get("authorization", "").removeprefix("Basic ")
    if basic:
        return tuple(base64.b64decode(basic).decode().split(":"))
    return asked.get("client_id", ""), asked.get("client_secret", "")


def _written(answer: Answer) -> bytes:
    body = answer.body
    if body is None:
        body = {"id": secrets.token_hex(8), "threadId": "1f", "labelIds": ["SENT"]}
    headers = {"content-type": "text/html"} | answer.headers
    if isinstance(body, dict):
        body = json.dumps(body).encode()
        headers["content-type"] = "application/json; charset=UTF-8"
    headers.setdefault("content-length", str(len(body)))
    lines = [f"HTTP/1.1 {answer.status} Said", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _unpadded(value: str) -> bytes:
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
